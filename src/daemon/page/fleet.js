// A directory: to an operator the whole fleet, to others how much it holds.

import { ago, bits, count, duration, known, perSecond } from "./format.js";
import { sum } from "./rates.js";
import { gap, state, TAKEOVER } from "./views.js";

const SILENT = 15; // seconds: gateways say something every five

export function directory(status, rates) {
  return status.gateways ? fleet(status, rates) : summary(status, rates);
}

function summary(status, rates) {
  const now = performance.now() / 1000;
  const names = { tenants: "Tenants", shards: "Shards", gateways: "Gateways", hosts: "Function hosts", tokens: "Tokens" };
  const tiles = Object.entries(status.known ?? {}).map(([what, n]) => ({ key: names[what] ?? what, value: count(n) }));
  tiles.push({ key: "Watchers", value: count(status.watchers), note: "calls that wait for changes" }, { key: "Revision", value: count(status.revision), note: "counts all changes" });
  const charts = [
    { key: "answers", title: "Answers", series: ["calls answered"], format: perSecond, values: [rates.of("answers", status.answers, now)] },
    { key: "watchers", title: "Watchers", series: ["waiting"], format: count, values: [status.watchers] },
  ];
  const about = `directory · version ${status.version} · names are shown at the address where it listens, to operators`;
  return { name: "Directory", about, ready: status.ready, tiles, charts, warnings: status.ready ? [] : ["the database does not answer"], tables: [] };
}

function fleet(status, rates) {
  const gateways = status.gateways.map((gateway) => seen(gateway, rates));
  const fresh = gateways.filter((gateway) => gateway.fresh);
  const shards = status.shards.map((shard) => owned(shard, fresh, status.attachments?.[shard.of]));
  const kept = shards.filter((shard) => shard.owners.length === 1);
  const rate = (name) => sum(gateways.map((gateway) => gateway[name]));
  const [connections, attachments] = ["connections", "attachments"].map((what) => sum(shards.map((shard) => shard[what])));
  const tiles = [
    { key: "Tenants", value: count(status.tenants.length) },
    { key: "Shards", value: count(shards.length), note: `${count(kept.length)} with one owner` },
    { key: "Gateways", value: count(gateways.length), note: `${count(fresh.length)} heard` },
    { key: "Function hosts", value: count(sum(status.tenants.map((tenant) => tenant.hosts)) ?? 0), note: "of all tenants" },
    { key: "Attachments", value: count(attachments), note: "as function hosts say" },
    { key: "Connections", value: count(connections), note: "through all shards" },
  ];
  const charts = [
    { key: "bits", title: "Traffic of all gateways", series: ["from hosts", "to hosts"], format: bits, values: [rate("received"), rate("sent")] },
    { key: "connections", title: "Connections", series: ["standing"], format: count, values: [connections] },
    { key: "attachments", title: "Attachments", series: ["standing"], format: count, values: [attachments] },
  ];
  return {
    name: "Fleet", about: `directory · version ${status.version} · revision ${count(status.revision)}`, ready: status.ready, tiles, charts,
    warnings: [...gateways.flatMap(complaints), ...shards.flatMap((shard) => shard.warnings)],
    tables: [ownersTable(shards), takeoversTable(fresh), gatewaysTable(gateways, shards), tenantsTable(status, shards)],
  };
}

function seen({ name, shards, heard_s: heard, report }, rates) {
  const eight = (counter) => {
    const rate = rates.of(`${name} ${counter}`, report?.traffic?.[counter], report?.traffic?.clock_s);
    return rate === null ? null : rate * 8;
  };
  const fresh = known(heard) && heard < SILENT;
  // What a silent one carried last it may carry no more.
  return { name, shards, heard, report, fresh, received: fresh ? eight("received_bytes") : null, sent: fresh ? eight("sent_bytes") : null };
}

const complaints = (gateway) => (gateway.fresh ? [] : [known(gateway.heard) ? `gateway ${gateway.name} is silent` : `gateway ${gateway.name} has said nothing yet`]);

// A shard without a number is its tenant's first.
const whole = (of) => (of.includes("/") ? of : `${of}/0`);

// Two owners have the same hosts.
function most(numbers) {
  const all = numbers.filter(known);
  return all.length ? Math.max(...all) : null;
}

// A shard with what each of its gateways says of it, and its hosts.
function owned(shard, gateways, hosts) {
  const told = gateways.filter((gateway) => shard.gateways.includes(gateway.name)).flatMap((gateway) => {
    const at = gateway.report.shards[shard.of];
    return at ? [{ name: gateway.name, heard: gateway.heard, ...at, for_s: known(at.for_s) ? at.for_s + gateway.heard : null }] : [];
  });
  const of = whole(shard.of);
  const claims = told.filter((one) => ["active", "alone", "offering"].includes(one.state));
  // Whoever has said nothing since another took the shard has lost it.
  const owners = claims.filter((one) => !claims.some((other) => other !== one && known(other.for_s) && one.heard > other.for_s));
  const others = told.filter((one) => !claims.includes(one));
  const warnings = told.flatMap((one) => one.warnings.map((warning) => `${of} at ${one.name}: ${warning}`));
  if (!owners.length) warnings.unshift(`${of} has no owner that is heard`);
  if (owners.length > 1) warnings.unshift(`${of} has ${owners.length} owners: ${owners.map((one) => one.name).join(", ")}`);
  if (!shard.endpoint) warnings.push(`${of}: no gateway has told where its tunnels end`);
  return { of, endpoint: shard.endpoint, owners, others, warnings, connections: sum(owners.map((one) => one.connections)), peers: most(owners.map((one) => one.peers)), attachments: hosts?.attachments };
}

function ownersTable(shards) {
  const columns = [{ name: "Shard" }, { name: "Owner" }, { name: "State" }, { name: "For" }, { name: "Ready to take over" }, { name: "Connections", number: true }, { name: "Peers", number: true }, { name: "Attachments", number: true }, { name: "Endpoint", code: true }];
  const rows = shards.map(({ of, owners, others, connections, peers, attachments, endpoint }) => {
    const owner = owners.map((one) => one.name).join(", ") || "nobody heard";
    const how = owners.length === 1 ? state(owners[0].state) : { text: owners.length ? "contested" : "no owner", kind: "bad" };
    const ready = others.filter((one) => one.state === "backup" && one.in_sync).map((one) => one.name);
    const alone = owners.length === 1 && owners[0].state === "alone";
    const next = ready.length ? { text: ready.join(", "), kind: "good" } : alone ? "–" : { text: "nobody", kind: "warn" };
    return { key: of, cells: [of, owner, how, duration(owners[0]?.for_s), next, count(connections), count(peers), count(attachments), endpoint] };
  });
  return { key: "shards", title: "Shards", columns, rows };
}

function takeoversTable(gateways) {
  const all = gateways.flatMap((gateway) => gateway.report.takeovers.map((one) => ({ ...one, of: whole(one.of), by: gateway.name }))).sort((a, b) => a.ago_s - b.ago_s).slice(0, 20);
  const columns = [...TAKEOVER.slice(0, 2), { name: "By" }, ...TAKEOVER.slice(2)];
  const rows = all.map((one) => ({ key: `${one.of} ${one.by} ${one.from}`, cells: [ago(one.ago_s), one.of, one.by, one.from, gap(one.gap_ms), one.why] }));
  return { key: "takeovers", title: "Last failovers", columns, rows, empty: "None since the gateways were started." };
}

function gatewaysTable(gateways, shards) {
  const columns = [{ name: "Gateway" }, { name: "Heard" }, { name: "Owner of", number: true }, { name: "Candidate for", number: true }, { name: "From hosts", number: true }, { name: "To hosts", number: true }, { name: "Version" }];
  const rows = gateways.map((gateway) => {
    const heard = gateway.fresh ? { text: ago(gateway.heard), kind: "good" } : { text: known(gateway.heard) ? ago(gateway.heard) : "never", kind: "bad" };
    const owns = shards.filter((shard) => shard.owners.some((one) => one.name === gateway.name)).length;
    return { key: gateway.name, cells: [gateway.name, heard, count(owns), count(gateway.shards.length), bits(gateway.received), bits(gateway.sent), gateway.report?.version] };
  });
  return { key: "gateways", title: "Gateways", columns, rows };
}

function tenantsTable(status, shards) {
  const columns = [{ name: "Tenant" }, { name: "Shards", number: true }, { name: "Function hosts", number: true }, { name: "Attachments", number: true }, { name: "Connections", number: true }, { name: "Inner addresses", code: true }, { name: "Pools" }];
  const rows = status.tenants.map((tenant) => {
    const own = shards.filter((shard) => shard.of.startsWith(`${tenant.name}/`));
    const [connections, attachments] = ["connections", "attachments"].map((what) => sum(own.map((shard) => shard[what])));
    return { key: tenant.name, cells: [tenant.name, count(tenant.shards.length), count(tenant.hosts), count(attachments), count(connections), tenant.inner, Object.keys(tenant.egress ?? {}).join(", ") || "–"] };
  });
  return { key: "tenants", title: "Tenants", columns, rows };
}
