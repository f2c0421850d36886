// What Prometheus answered, as the frames that Grafana's components take.

import { FieldConfigOptionsRegistry, FieldType, applyFieldOverrides, standardTransformers, toDataFrame } from "@grafana/data";
import { firstValueFrom, of } from "rxjs";

// Paths of settings that the dashboard's panels use: Grafana has them from an editor that is no package.
const STANDARD = ["unit", "min", "max", "decimals", "thresholds", "mappings", "color", "noValue"];

function registry({ defaults, overrides }) {
  const overridden = overrides.flatMap((rule) => rule.properties.map((property) => property.id)).filter((id) => id.startsWith("custom."));
  const custom = new Set([...Object.keys(defaults.custom ?? {}), ...overridden.map((id) => id.slice("custom.".length))]);
  const item = (path, isCustom) => ({ id: isCustom ? `custom.${path}` : path, path, name: path, isCustom, process: (value) => value, shouldApply: () => true });
  const items = [...STANDARD.map((path) => item(path, false)), ...[...custom].map((path) => item(path, true))];
  return new FieldConfigOptionsRegistry(() => items);
}

function legend(format, labels) {
  if (format && format !== "__auto") {
    return format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label) => labels[label] ?? "");
  }
  const { __name__: name = "", ...rest } = labels;
  const pairs = Object.entries(rest).map(([label, value]) => `${label}="${value}"`);
  return pairs.length > 0 ? `${name}{${pairs.join(", ")}}` : name || "Value";
}

// Where Prometheus had nothing there is a gap and no line.
function gaps(values, step) {
  return values.flatMap((point, n) => (n > 0 && point[0] - values[n - 1][0] > 1.5 * step ? [[values[n - 1][0] + step, "NaN"], point] : [point]));
}

function series(target, step, { metric, values: known }) {
  const { __name__: _, ...labels } = metric;
  const values = gaps(known, step);
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: "Time", type: FieldType.time, config: { interval: step * 1000 }, values: values.map(([at]) => at * 1000) },
      {
        name: "Value",
        type: FieldType.number,
        labels,
        config: { displayNameFromDS: legend(target.legendFormat, metric) },
        values: values.map(([, value]) => (value === "NaN" ? null : Number(value))),
      },
    ],
  });
}

function table(target, result) {
  const labels = [...new Set(result.flatMap((one) => Object.keys(one.metric)))].sort();
  const column = (name, type, values) => ({ name, type, config: {}, values });
  return toDataFrame({
    refId: target.refId,
    fields: [
      column("Time", FieldType.time, result.map((one) => one.value[0] * 1000)),
      ...labels.map((label) => column(label, FieldType.string, result.map((one) => one.metric[label] ?? ""))),
      column("Value", FieldType.number, result.map((one) => Number(one.value[1]))),
    ],
  });
}

async function transformed(panel, frames) {
  const known = { organize: standardTransformers.organizeFieldsTransformer };
  for (const { id, options } of panel.transformations ?? []) {
    const context = { interpolate: (text) => text };
    frames = await firstValueFrom(of(frames).pipe(known[id].operator({ ...known[id].defaultOptions, ...options }, context)));
  }
  return frames;
}

// Frames of a panel, each field with its settings and with `display`, which says a value's text and colour.
export async function frames(panel, { step, results }, theme) {
  const plain = panel.targets.flatMap((target) => {
    const result = results[target.refId];
    return target.format === "table" ? (result.length > 0 ? [table(target, result)] : []) : result.map((one) => series(target, step, one));
  });
  const data = await transformed(panel, plain);
  const replaceVariables = (text) => text;
  const fieldConfigRegistry = registry(panel.fieldConfig);
  return applyFieldOverrides({ data, fieldConfig: panel.fieldConfig, replaceVariables, theme, timeZone: "utc", fieldConfigRegistry });
}
