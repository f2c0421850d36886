// The dashboard's panels at their places. Who draws: Grafana's components, but for state timelines, which are in none of its packages.

import "@fontsource/inter/latin-400.css";
import "@fontsource/inter/latin-500.css";
import "uplot/dist/uPlot.min.css";
import { createTheme, dateTime, getFieldDisplayValues } from "@grafana/data";
import { BigValue, GlobalStyles, Icon, PanelChrome, Table, ThemeContext, TimeSeries } from "@grafana/ui";
import { createRoot } from "react-dom/client";
import board from "../portway.json";
import { frames } from "./data.js";
import { StateTimeline } from "./timeline.jsx";

// Grafana's grid: 24 columns, rows of 30 pixels, 8 pixels between.
const [COLUMNS, CELL, GAP] = [24, 30, 8];
const wanted = new URLSearchParams(location.search);
const theme = createTheme({ colors: { mode: wanted.get("theme") } });

// A dashed line at each takeover, as Grafana marks annotations.
function marked(config, takeovers) {
  config.addHook("draw", (u) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.strokeStyle = theme.visualization.getColorByName("orange");
    ctx.setLineDash([5 * devicePixelRatio, 5 * devicePixelRatio]);
    for (const at of takeovers) {
      const x = Math.round(u.valToPos(at, "x", true));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  });
}

function Chart({ panel, data, run, width, height }) {
  const timeRange = { from: dateTime(run.from * 1000), to: dateTime(run.to * 1000), raw: { from: "", to: "" } };
  const mark = (config) => {
    marked(config, run.marks);
    return null;
  };
  return (
    <TimeSeries frames={data} structureRev={1} timeRange={timeRange} timeZone="utc" width={width} height={height} legend={panel.options.legend} options={panel.options}>
      {mark}
    </TimeSeries>
  );
}

function Stat({ panel, data, width, height }) {
  const { colorMode, graphMode, justifyMode, textMode, reduceOptions } = panel.options;
  const replaceVariables = (text) => text;
  const [{ display, sparkline }] = getFieldDisplayValues({ fieldConfig: panel.fieldConfig, reduceOptions, replaceVariables, theme, data, sparkline: graphMode !== "none", timeZone: "utc" });
  return <BigValue {...{ colorMode, graphMode, justifyMode, textMode, theme, width, height, sparkline }} value={display} count={1} />;
}

function Content({ panel, data, run, width, height }) {
  const drawn = { panel, data, run, width, height, theme };
  if (data.length === 0 && panel.type !== "stat") {
    const text = panel.fieldConfig.defaults.noValue ?? "No data";
    return <div style={{ height, display: "grid", placeItems: "center", color: theme.colors.text.secondary }}>{text}</div>;
  }
  switch (panel.type) {
    case "timeseries":
      return <Chart {...drawn} />;
    case "stat":
      return <Stat {...drawn} />;
    case "table":
      return <Table data={data[0]} width={width} height={height} cellHeight={panel.options.cellHeight} initialSortBy={panel.options.sortBy} />;
    case "state-timeline":
      return <StateTimeline {...drawn} />;
    default:
      throw new Error(`${panel.title}: nothing here draws a ${panel.type}`);
  }
}

// Rows that are wanted, with their panels, the first at the top.
function sections() {
  const rows = wanted.getAll("row");
  const all = board.panels.filter((panel) => panel.type === "row");
  let top = 0;
  return all.flatMap((row, n) => {
    const [begin, end] = [row.gridPos.y, all[n + 1]?.gridPos.y ?? Infinity];
    if (!rows.includes(row.title)) return [];
    const panels = board.panels.filter((panel) => panel.gridPos.y >= begin && panel.gridPos.y < end);
    const moved = panels.map((panel) => ({ ...panel, gridPos: { ...panel.gridPos, y: panel.gridPos.y - begin + top } }));
    top = Math.max(...moved.map(({ gridPos }) => gridPos.y + gridPos.h));
    return moved;
  });
}

function Board({ panels, run }) {
  const width = innerWidth - 2 * GAP;
  const column = (width + GAP) / COLUMNS;
  const place = ({ x, y, w, h }) => ({ left: Math.round(x * column), top: y * (CELL + GAP), width: Math.round(w * column) - GAP, height: h * (CELL + GAP) - GAP });
  const drawn = panels.map(({ panel, data }) => {
    const at = place(panel.gridPos);
    const inner =
      panel.type === "row" ? (
        <div style={{ ...theme.typography.h6, display: "flex", alignItems: "center", gap: GAP, height: at.height }}>
          <Icon name="angle-down" /> {panel.title}
        </div>
      ) : (
        <PanelChrome title={panel.title} description={panel.description} width={at.width} height={at.height} padding={panel.type === "stat" ? "none" : "md"}>
          {(width, height) => <Content {...{ panel, data, run, width, height }} />}
        </PanelChrome>
      );
    return (
      <div key={panel.id} style={{ position: "absolute", ...at }}>
        {inner}
      </div>
    );
  });
  const height = Math.max(...panels.map(({ panel: { gridPos } }) => gridPos.y + gridPos.h)) * (CELL + GAP) - GAP;
  return <main style={{ position: "relative", margin: GAP, height }}>{drawn}</main>;
}

async function main() {
  const run = await (await fetch("run.json")).json();
  run.marks = run.takeovers.flatMap(({ values }) => values.map(([at]) => at * 1000));
  const data = (panel) => (panel.type === "row" ? [] : frames(panel, run.panels[panel.id], theme));
  const panels = await Promise.all(sections().map(async (panel) => ({ panel, data: await data(panel) })));
  createRoot(document.getElementById("board")).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Board panels={panels} run={run} />
    </ThemeContext.Provider>,
  );
}

main();
