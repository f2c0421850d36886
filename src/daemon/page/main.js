// Asks the daemon every second how it is (a directory every two, for a fleet is more to tell), and shows it. Nothing is asked while nobody looks.

import { Chart } from "./chart.js";
import { keyed, list, pill, say, tables, tiles } from "./draw.js";
import { duration } from "./format.js";
import { Rates } from "./rates.js";
import { view } from "./views.js";

const EVERY = 1000; // ms
const FLEET = 2000; // ms
const PATIENCE = 5000; // ms
const SILENT = 4; // seconds without an answer: what is shown is old

const at = (id) => document.getElementById(id);
const rates = new Rates();
const charts = new Map();
let token = null;
let answered = null; // seconds
let timer = null;
let every = EVERY;
let asking = false;

const now = () => performance.now() / 1000;

async function ask() {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch("/v1/status", { headers, cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(PATIENCE) });
  if (answer.status === 401) return { stranger: true };
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error ?? `status ${answer.status}`);
  return { status: body };
}

async function turn() {
  clearTimeout(timer);
  if (asking || document.hidden) return;
  asking = true;
  try {
    const { stranger, status } = await ask();
    if (stranger) return greet();
    const seen = view(status, rates);
    answered = now();
    every = status.gateways && status.role === "directory" ? FLEET : EVERY;
    show(seen);
    rates.turn();
    standing(status.ready ? { text: "Ready", kind: "good" } : { text: "Not ready", kind: "bad" });
  } catch (error) {
    failed(error);
  } finally {
    asking = false;
    if (at("token-form").hidden) timer = setTimeout(turn, every);
  }
}

// A directory tells nothing to strangers.
function greet() {
  const refused = token !== null;
  token = null;
  answered = null;
  at("token-form").hidden = false;
  for (const id of ["warnings", "tiles-section", "charts-section", "tables"]) at(id).hidden = true;
  say(at("token-error"), refused ? "The directory does not know this token." : "");
  say(at("about"), "directory");
  standing({ text: "Needs a token", kind: "unknown" });
  at("token").focus();
}

function failed(error) {
  const old = answered === null || now() - answered >= SILENT;
  if (!old) return;
  standing({ text: answered === null ? "No answer" : "Silent", kind: "bad" });
  say(at("about"), answered === null ? `No answer that can be shown: ${error.message}` : "Nothing new is heard; this is what was said last.");
}

function age() {
  say(at("age"), answered === null ? "" : now() - answered < SILENT ? "live" : `${duration(now() - answered)} old`);
}

function standing(how) {
  pill(at("standing"), how);
  age();
  at("main").classList.toggle("stale", how.kind === "bad" && how.text === "Silent");
}

function show({ name, about, tiles: figures, charts: lines, warnings, tables: all }) {
  say(at("name"), name);
  say(at("about"), about);
  if (document.title !== `${name} – Portway`) document.title = `${name} – Portway`;
  tiles(at("tiles"), figures);
  list(at("warning-list"), warnings);
  at("warnings").hidden = !warnings.length;
  for (const line of lines) plot(line);
  keyed(at("charts"), lines, ({ key }) => charts.get(key).node, () => {});
  tables(at("tables"), all);
  for (const id of ["tiles-section", "charts-section", "tables"]) at(id).hidden = false;
}

function plot({ key, title, series, format, values }) {
  if (!charts.has(key)) charts.set(key, new Chart({ title, series, format }));
  const chart = charts.get(key);
  chart.add(now(), values);
  chart.draw(now());
}

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  at("token-form").hidden = true;
  rates.clear();
  turn();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  // A rate since before the pause would be its mean.
  rates.clear();
  turn();
});

setInterval(() => document.hidden || age(), EVERY);

say(at("foot"), "This page only reads. It asks the daemon that it came from and nobody else.");
turn();
