// Draws target/dashboard/run.json, which the test `run` of tests/dashboards records, into docs/images: `make dashboard-picture`.

import { build } from "esbuild";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import sharp from "sharp";

const HERE = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);
const TOP = join(HERE, "..", "..");
const WIDTH = 1400;
// Name, theme, rows of the dashboard, and how high they are together, in rows of its grid.
const PICTURES = [
  ["dashboard", "light", ["At a glance", "Traffic"]],
  ["dashboard-failover", "dark", ["Connections and ports", "Drops", "Failover"]],
  ["dashboard-fleet", "light", ["Tunnels, peers and the directory", "How many gateways"]],
];
const HTML = `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css">
<style>* { box-sizing: border-box } body { margin: 0 }</style><div id="board"></div><script src="page.js"></script>`;

function height(board, titles) {
  const rows = board.panels.filter((panel) => panel.type === "row");
  const end = Math.max(...board.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  const cells = rows.map((row, n) => (titles.includes(row.title) ? (rows[n + 1]?.gridPos.y ?? end) - row.gridPos.y : 0));
  return cells.reduce((sum, one) => sum + one) * 38 + 8;
}

async function bundle() {
  const define = { "process.env.NODE_ENV": '"production"', global: "window" };
  // Grafana's modules for import take what CommonJS packages export as default for all of it.
  const alias = Object.fromEntries(["data", "ui"].map((name) => [`@grafana/${name}`, require.resolve(`@grafana/${name}`)]));
  const options = { entryPoints: [join(HERE, "page.jsx")], bundle: true, write: false, minify: true, jsx: "automatic", define, alias, logLevel: "error" };
  const loader = { ".svg": "text", ".png": "empty", ".ttf": "empty", ".woff": "empty", ".woff2": "dataurl" };
  const { outputFiles } = await build({ ...options, outdir: "/", loader });
  const of = (kind) => outputFiles.find((file) => extname(file.path) === kind).contents;
  return { script: of(".js"), style: of(".css") };
}

// A page on loopback: the program, what was recorded, and Grafana's icons.
async function serve() {
  const { script, style } = await bundle();
  const files = {
    "/": ["text/html; charset=utf-8", HTML],
    "/page.js": ["text/javascript", script],
    "/page.css": ["text/css", style],
    "/run.json": ["application/json", await readFile(join(TOP, "target", "dashboard", "run.json"))],
  };
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    try {
      const icon = pathname.startsWith("/public/img/icons/") && extname(pathname) === ".svg" && normalize(pathname) === pathname;
      const [type, body] = icon ? ["image/svg+xml", await readFile(join(HERE, "node_modules", "@grafana", "ui", "dist", pathname))] : files[pathname];
      response.writeHead(200, { "Content-Type": type }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return server;
}

const board = JSON.parse(await readFile(join(TOP, "dashboards", "portway.json")));
const [server, profile] = [await serve(), await mkdtemp(join(tmpdir(), "portway-picture-"))];
try {
  for (const [name, theme, rows] of PICTURES) {
    const query = new URLSearchParams([["theme", theme], ...rows.map((row) => ["row", row])]);
    const url = `http://127.0.0.1:${server.address().port}/?${query}`;
    const file = join(TOP, "docs", "images", `${name}.png`);
    const quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
    const look = [`--user-data-dir=${profile}`, `--window-size=${WIDTH},${height(board, rows)}`, "--virtual-time-budget=20000", `--screenshot=${file}`, url];
    const { stderr } = await promisify(execFile)("chromium", [...quiet, "--enable-logging=stderr", ...look], { timeout: 120_000 });
    const complaints = stderr.split("\n").filter((line) => line.includes("CONSOLE") && /Uncaught|Error/.test(line));
    if (complaints.length > 0) throw new Error(complaints.join("\n"));
    await writeFile(file, await sharp(file).png({ palette: true, effort: 10 }).toBuffer());
    console.log(file);
  }
} finally {
  server.close();
  await rm(profile, { recursive: true });
}
