// What a state timeline shows, in the colours and texts that the panel's settings give: a row a series, a bar for as long as a value stays.

import { dateTimeFormat, FieldType, getFieldDisplayName } from "@grafana/data";

const AXIS = 20;

function bars(frame, run) {
  const time = frame.fields.find((field) => field.type === FieldType.time);
  const field = frame.fields.find((field) => field.type === FieldType.number);
  const step = time.config.interval;
  const found = [];
  field.values.forEach((value, n) => {
    const [from, last] = [time.values[n], found.at(-1)];
    if (last && last.value === value && from <= last.to) {
      last.to = from + step;
    } else {
      found.push({ value, from, to: from + step, ...field.display(value) });
    }
  });
  const part = (at) => (100 * Math.min(Math.max(at / 1000 - run.from, 0), run.to - run.from)) / (run.to - run.from);
  return found.map((bar) => ({ ...bar, left: part(bar.from), width: part(bar.to) - part(bar.from) }));
}

export function StateTimeline({ panel, data, run, width, height, theme }) {
  const row = (height - AXIS) / data.length;
  const ticks = [0, 1, 2, 3, 4].map((n) => run.from + (n * (run.to - run.from)) / 4);
  const label = { ...theme.typography.bodySmall, color: theme.colors.text.primary };
  const cell = { height: row * panel.options.rowHeight, alignSelf: "center", position: "relative" };
  return (
    <div style={{ width, height, display: "grid", gridTemplateColumns: "max-content 1fr", gridAutoRows: row, columnGap: 8 }}>
      {data.flatMap((frame, n) => [
        <div key={`name-${n}`} style={{ ...label, alignSelf: "center", textAlign: "right" }}>
          {getFieldDisplayName(frame.fields[1], frame, data)}
        </div>,
        <div key={`bars-${n}`} style={cell}>
          {bars(frame, run).map((bar) => (
            <div
              key={bar.from}
              style={{ position: "absolute", height: "100%", left: `${bar.left}%`, width: `${bar.width}%`, background: bar.color, opacity: panel.fieldConfig.defaults.custom.fillOpacity / 100, overflow: "hidden", display: "flex", alignItems: "center", paddingLeft: 4, fontSize: 11, color: theme.colors.getContrastText(theme.visualization.getColorByName("green")) }}
            >
              {bar.width > 6 ? bar.text : ""}
            </div>
          ))}
        </div>,
      ])}
      <div />
      <div style={{ ...label, color: theme.colors.text.secondary, display: "flex", justifyContent: "space-between", height: AXIS }}>
        {ticks.map((at) => (
          <span key={at}>{dateTimeFormat(at * 1000, { timeZone: "utc", format: "HH:mm:ss" })}</span>
        ))}
      </div>
    </div>
  );
}
