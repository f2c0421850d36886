// Elements are kept from one answer to the next and touched only where they differ, so that a selection stays and a screen reader is told what is new. All text goes
// in as text: a name can be anything and is never markup.

const SVG = "http://www.w3.org/2000/svg";

function attributed(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

export function element(tag, attributes = {}, ...children) {
  const node = attributed(document.createElement(tag), attributes);
  node.append(...children);
  return node;
}

export function shape(tag, attributes = {}) {
  return attributed(document.createElementNS(SVG, tag), attributes);
}

export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function set(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// What stands in a parent, by key.
const standing = new WeakMap();

// Makes the children of `parent` those of `items`, in their order: `make` for a key that is new, `fill` for every one.
export function keyed(parent, items, make, fill) {
  const before = standing.get(parent) ?? new Map();
  const now = new Map();
  items.forEach((item, place) => {
    let key = String(item.key);
    while (now.has(key)) key += "'";
    const node = before.get(key) ?? make(item);
    fill(node, item);
    now.set(key, node);
    if (parent.children[place] !== node) parent.insertBefore(node, parent.children[place] ?? null);
  });
  for (const [key, node] of before) if (now.get(key) !== node) node.remove();
  standing.set(parent, now);
}

// A tile: { key, value, note }.
export function tiles(parent, all) {
  const make = () => element("div", { class: "tile" }, element("dt"), element("dd", { class: "value" }), element("dd", { class: "note" }));
  keyed(parent, all, make, (node, { key, value, note = "" }) => {
    [key, value, note].forEach((text, place) => say(node.children[place], text));
    node.children[2].hidden = !note;
  });
}

export function list(parent, lines) {
  keyed(parent, lines.map((line) => ({ key: line })), () => element("li"), (node, { key }) => say(node, key));
}

// Fills a pill: a word and a kind, of which the colour and the shape of the dot tell once more.
export function pill(node, { text, kind }) {
  set(node, "class", `pill ${kind}`);
  say(node.lastChild, text);
}

export function pillNode() {
  return element("span", { class: "pill" }, element("span", { class: "dot", "aria-hidden": "true" }), element("span"));
}

// Tables: { key, title, columns: [{ name, number, code }], rows: [{ key, cells }], empty }. A cell is a text, or { text, kind }. Roles are
// said, for on narrow screens rows are laid out as blocks.
export function tables(parent, all) {
  keyed(parent, all, makeTable, fillTable);
}

function makeTable({ key, title, columns }) {
  const heading = { scope: "col", role: "columnheader" };
  const names = columns.map(({ name, number }) => element("th", number ? { ...heading, class: "number" } : heading, name));
  const head = element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...names));
  const id = `table-${key}`;
  const table = element("table", { role: "table", "aria-labelledby": id }, head, element("tbody", { role: "rowgroup" }));
  const heads = element("h2", { id }, `${title} `, element("span", { class: "count" }));
  return element("section", { id: key, "aria-labelledby": id }, heads, element("div", { class: "card" }, table, element("p", { class: "empty" })));
}

function fillTable(section, { columns, rows, empty }) {
  const [heading, card] = section.children;
  const [table, nothing] = card.children;
  say(heading.lastChild, rows.length ? String(rows.length) : "");
  table.hidden = !rows.length;
  nothing.hidden = rows.length > 0;
  say(nothing, empty ?? "None.");
  const make = () => element("tr", { role: "row" }, ...columns.map(makeCell));
  keyed(table.tBodies[0], rows, make, (row, { cells }) => cells.forEach((cell, place) => fillCell(row.children[place], cell)));
}

function makeCell({ name, number, code }) {
  const cell = element("td", { role: "cell", "data-label": name });
  if (number) cell.className = "number";
  cell.append(code ? element("code") : element("span"));
  return cell;
}

function fillCell(cell, value) {
  if (value !== null && typeof value === "object") {
    if (cell.firstChild.className?.startsWith("pill") !== true) cell.replaceChildren(pillNode());
    pill(cell.firstChild, value);
  } else {
    if (cell.firstChild.className?.startsWith("pill") === true) cell.replaceChildren(element("span"));
    say(cell.firstChild, value === null || value === undefined || value === "" ? "–" : String(value));
  }
}
