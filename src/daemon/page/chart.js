// A line for each of one or two figures over the last minutes, kept in this page.

import { element, say, set, shape } from "./draw.js";
import { known } from "./format.js";

const SPAN = 300; // seconds
const HOLE = 5; // seconds without a figure: the line is broken
const [WIDTH, HEIGHT] = [300, 100];

export class Chart {
  #points = [];
  #series;
  #format;
  #title;

  constructor({ title, series, format }) {
    [this.#title, this.#series, this.#format] = [title, series, format];
    const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" };
    this.svg = shape("svg", box);
    for (const y of [0, HEIGHT / 2, HEIGHT]) this.svg.append(shape("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
    this.area = this.svg.appendChild(shape("path", { class: "area" }));
    this.lines = series.map((_, place) => this.svg.appendChild(shape("path", { class: place ? "line second" : "line" })));
    this.top = element("span", { class: "top" });
    this.values = series.map(() => element("b"));
    const legend = series.map((name, place) => {
      const key = element("span", { class: place ? "key second" : "key", "aria-hidden": "true" });
      return element("span", {}, key, `${name} `, this.values[place]);
    });
    const caption = element("figcaption", {}, element("h3", {}, title), element("div", { class: "legend" }, ...legend));
    const axis = element("div", { class: "axis", "aria-hidden": "true" }, element("span", {}, "5 min ago"), element("span", {}, "now"));
    this.node = element("figure", { class: "chart" }, caption, element("div", { class: "plot" }, this.svg, this.top), axis);
  }

  // `at`: seconds.
  add(at, values) {
    this.#points.push({ at, values });
    while (this.#points[0].at < at - SPAN - HOLE) this.#points.shift();
  }

  draw(now) {
    const all = this.#points.flatMap(({ values }) => values.filter(known));
    const top = ceiling(Math.max(0, ...all));
    const last = this.#points.at(-1)?.values ?? [];
    this.lines.forEach((line, place) => set(line, "d", this.#path(place, now, top, false)));
    set(this.area, "d", this.#path(0, now, top, true));
    say(this.top, this.#format(top));
    this.values.forEach((node, place) => say(node, this.#format(last[place])));
    const said = this.#series.map((name, place) => `${name} ${this.#format(last[place])}`).join(", ");
    set(this.svg, "aria-label", `${this.#title}: ${said}; top of the scale ${this.#format(top)}`);
  }

  #path(place, now, top, closed) {
    let path = "";
    let run = [];
    const end = () => {
      if (run.length) path += line(run, closed);
      run = [];
    };
    let before = null;
    for (const { at, values } of this.#points) {
      if (!known(values[place])) end();
      else {
        if (before !== null && at - before > HOLE) end();
        run.push([WIDTH * (1 - (now - at) / SPAN), HEIGHT * (1 - values[place] / top)]);
        before = at;
      }
    }
    end();
    return path;
  }
}

const fixed = ([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`;

function line(run, closed) {
  const path = `M${run.map(fixed).join("L")}`;
  return closed ? `${path}L${fixed([run.at(-1)[0], HEIGHT])}L${fixed([run[0][0], HEIGHT])}Z` : path;
}

// 1, 2 or 5 times a power of ten, and not below the highest.
function ceiling(highest) {
  if (highest <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(highest));
  return [1, 2, 5, 10].map((times) => times * power).find((round) => round >= highest);
}
