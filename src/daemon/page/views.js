// A status as what is shown of it: { name, about, ready, tiles, warnings, charts, tables }.

import { ago, bits, clock, count, decimal, duration, known, milliseconds, packets, percent, perSecond } from "./format.js";
import { sum } from "./rates.js";
import { directory } from "./fleet.js";

const STATES = {
  active: "good", alone: "good", backup: "calm", offering: "warn", releasing: "warn", initialize: "warn",
};
const FULL = 0.7; // of the ports towards one destination
const TRACKED = 0.8; // of the connections that a kernel can track

export function view(status, rates) {
  const all = { gateway, host, autoscaler, directory };
  if (!Object.hasOwn(all, status.role)) throw new Error(`this page knows no role ${status.role}`);
  return all[status.role](status, rates);
}

export const state = (word) => ({ text: word, kind: STATES[word] ?? "unknown" });
export const yes = (is, [good, bad] = ["yes", "no"]) => (is ? { text: good, kind: "good" } : { text: bad, kind: "warn" });
const packetsNote = (rate) => (known(rate) ? packets(rate).replace("/s", "packets/s") : "");
const entries = (map) => Object.entries(map ?? {});

// What tunnels have counted, and when.
function counted(status) {
  const own = status.userspace?.tunnels;
  return own ? { clock: status.traffic?.clock_s, all: own } : { clock: status.traffic?.tunnels_clock_s, all: status.traffic?.tunnels ?? {} };
}

// Rates of each tunnel, and of all together.
function flow(status, rates) {
  const { clock: at, all } = counted(status);
  const names = ["received_bytes", "sent_bytes", "received_packets", "sent_packets"];
  const each = entries(all).map(([tunnel, traffic]) => [tunnel, names.map((name) => rates.of(`${tunnel} ${name}`, traffic[name], at))]);
  const total = names.map((_, place) => sum(each.map(([, one]) => one[place])));
  const [receivedBytes, sentBytes, receivedPackets, sentPackets] = total;
  const eight = (number) => (number === null ? null : number * 8);
  const of = (tunnels, place) => eight(sum(tunnels.map((tunnel) => Object.fromEntries(each)[tunnel]?.[place])));
  return { bits: [eight(receivedBytes), eight(sentBytes)], packets: [receivedPackets, sentPackets], of };
}

function drops(status, rates) {
  const all = [...entries(status.drops), ...entries(status.userspace?.drops)];
  const rate = rates.of("drops", sum(all.map(([, packets_]) => packets_)), status.traffic?.clock_s);
  const rows = all.filter(([, packets_]) => packets_ > 0).sort((a, b) => b[1] - a[1]);
  const columns = [{ name: "Reason" }, { name: "Packets", number: true }];
  const table = { key: "drops", title: "Dropped packets", columns, rows: rows.map(([why, n]) => ({ key: why, cells: [why, count(n)] })), empty: "None so far." };
  return { rate, table };
}

// Of the machine and the daemon, whatever its role.
function machine(status) {
  const warnings = [...(status.failures ?? [])];
  const { entries: tracked, limit } = status.conntrack ?? {};
  if (known(tracked) && known(limit) && tracked >= TRACKED * limit) warnings.push(`most of the ${count(limit)} connections that can be tracked are taken: raise net.netfilter.nf_conntrack_max, or add a node`);
  for (const [interface_, counters] of entries(status.exceeded)) {
    const held = entries(counters).filter(([, packets_]) => packets_ > 0).map(([name]) => name);
    if (held.length) warnings.push(`the cloud has held back packets of ${interface_}, which is more than the instance may: ${held.join(", ")}`);
  }
  const tiles = [{ key: "Tracked connections", value: count(tracked), note: known(limit) ? `of ${count(limit)}` : "" }];
  return { warnings, tiles };
}

function asked(told) {
  if (!told) return { warnings: [], tables: [] };
  const why = told.failed ?? told.error;
  const warnings = why ? [`the directory is of no help: ${why}`] : [];
  for (const [of, how] of entries(told.shards)) if (how !== "told") warnings.push(`the directory does not know ${of} as it is: ${how}`);
  const how = why ? { text: "fails", kind: "bad" } : told.reachable ? { text: "answers", kind: "good" } : { text: "not asked yet", kind: "unknown" };
  const columns = [{ name: "Directory", code: true }, { name: "State" }, { name: "Heard" }, { name: "Revision", number: true }];
  const rows = [{ key: "it", cells: [told.url, how, ago(told.heard_s), count(told.revision)] }];
  return { warnings, tables: [{ key: "directory", title: "Directory", columns, rows }] };
}

function common(status) {
  const about = `${status.role} · version ${status.version} · up ${duration(status.up_s)} · ${status.backend} tunnels at ${status.platform_address}`;
  return { name: status.node, about, ready: status.ready };
}

function gateway(status, rates) {
  const [traffic, dropped, own] = [flow(status, rates), drops(status, rates), machine(status)];
  const ha = status.ha;
  const shards = ha?.shards ?? [];
  const here = shards.filter((shard) => ["active", "offering", "releasing"].includes(shard.state));
  const fresh = shards.map((shard) => rates.of(`begun ${shard.tenant}/${shard.shard}`, shard.nat?.begun, status.traffic?.clock_s));
  const connections = ha ? sum(here.map((shard) => shard.nat?.connections)) : status.conntrack?.entries;
  const [told, claims] = [asked(status.jit?.directory), claimed(ha?.cloud)];
  const tiles = [
    ha ? { key: "Shards here", value: `${here.length} of ${shards.length}`, note: "active on this gateway" } : { key: "Shards", value: count(status.tenants.length), note: "no other gateway" },
    { key: "Function hosts", value: count(status.peers), note: status.admitted ? `${count(status.admitted)} let in just in time` : "" },
    { key: "From hosts", value: bits(traffic.bits[0]), note: packetsNote(traffic.packets[0]) },
    { key: "To hosts", value: bits(traffic.bits[1]), note: packetsNote(traffic.packets[1]) },
    ...own.tiles,
    { key: "Tunnel MTU", value: count(status.tunnel_mtu), note: "bytes" },
  ];
  const charts = [
    { key: "bits", title: "Traffic", series: ["from hosts", "to hosts"], format: bits, values: traffic.bits },
    { key: "packets", title: "Packets", series: ["from hosts", "to hosts"], format: packets, values: traffic.packets },
    { key: "connections", title: "Connections", series: ["standing"], format: count, values: [connections] },
    ha ? { key: "begun", title: "New connections", series: ["begun"], format: perSecond, values: [sum(fresh)] } : null,
    { key: "peers", title: "Function hosts", series: ["that may send"], format: count, values: [status.peers] },
    { key: "drops", title: "Dropped packets", series: ["dropped"], format: packets, values: [dropped.rate] },
  ];
  const columns = [{ name: "Shard" }, { name: "Tunnel", code: true }, { name: "Interface", code: true }, { name: "Hosts", number: true }, { name: "From hosts", number: true }, { name: "To hosts", number: true }, { name: "Seen by the tenant as", code: true }];
  const tunnels = status.tenants.map((tenant) => {
    const names = [tenant.tunnel, tenant.beside?.tunnel].filter(Boolean);
    const key = `${tenant.name}/${tenant.shard}`;
    return { key, cells: [key, names.join(" "), tenant.interface, count(tenant.peers), bits(traffic.of(names, 0)), bits(traffic.of(names, 1)), tenant.snat] };
  });
  return {
    ...common(status), tiles, charts: charts.filter(Boolean), warnings: [...own.warnings, ...going(ha?.lifecycle), ...shared(ha), ...claims.warnings, ...told.warnings],
    tables: [
      ...(ha ? [owners(status), takeovers(ha)] : []),
      { key: "tunnels", title: "Tenants and tunnels", columns, rows: tunnels },
      ...claims.tables, ...tracked(shards), ...justInTime(status.jit?.peers), ...told.tables, dropped.table,
    ],
  };
}

function node(ha, address) {
  return entries(ha.nodes).find(([, at]) => at === address)?.[0] ?? address;
}

function owners(status) {
  const { ha } = status;
  const columns = [{ name: "Shard" }, { name: "Here" }, { name: "Owner" }, { name: "For" }, { name: "Priority", number: true }, { name: "In sync" }, { name: "Connections", number: true }, { name: "Fullest destination", number: true }];
  const rows = ha.shards.map((shard) => {
    const mine = ["active", "offering", "releasing"].includes(shard.state);
    const owner = mine ? status.node : shard.heard ? node(ha, shard.heard.from) : "nobody heard";
    const lag = Math.max(0, ...(shard.sync ?? []).filter((one) => one.in_sync).map((one) => one.lag_ms));
    const sync = shard.in_sync ? { text: milliseconds(lag), kind: "good" } : { text: "no", kind: "warn" };
    const word = [shard.state, shard.drained ? "drained" : "", shard.able ? "" : "unable"].filter(Boolean).join(", ");
    const full = shard.nat?.ports ? percent(shard.nat.ports_of_one === null ? null : shard.nat.ports_of_one / shard.nat.ports) : "–";
    const key = `${shard.tenant}/${shard.shard}`;
    return { key, cells: [key, { ...state(shard.state), text: word }, owner, duration(shard.for_s), count(shard.priority), sync, count(shard.nat?.connections ?? shard.copies), full] };
  });
  return { key: "shards", title: "Shards", columns, rows };
}

export const TAKEOVER = [{ name: "When" }, { name: "Shard" }, { name: "From" }, { name: "Gap", number: true }, { name: "Why" }];
export const gap = (ms) => (ms === null ? "none: planned" : `≤ ${milliseconds(ms)}`);

function takeovers(ha) {
  const rows = (ha.takeovers ?? []).map((one) => {
    const of = `${one.tenant}/${one.shard}`;
    return { key: `${of} ${one.from}`, cells: [ago(one.ago_s), of, node(ha, one.from), gap(one.gap_ms), one.why] };
  });
  return { key: "takeovers", title: "Taken over from others", columns: TAKEOVER, rows, empty: "None since this daemon was started." };
}

function tracked(shards) {
  const columns = [{ name: "Shard" }, { name: "Depends on", code: true }, { name: "State" }, { name: "For" }, { name: "Last failure" }];
  const rows = shards.flatMap((shard) => {
    const of = `${shard.tenant}/${shard.shard}`;
    const how = (up) => (up === null ? { text: "not known yet", kind: "unknown" } : yes(up, ["up", "down"]));
    return (shard.tracked ?? []).map((one) => ({ key: `${of} ${one.what}`, cells: [of, one.what, how(one.up), duration(one.since_s), one.last_error] }));
  });
  return rows.length ? [{ key: "tracked", title: "What shards depend on", columns, rows }] : [];
}

function justInTime(peers) {
  if (!peers) return [];
  const columns = [{ name: "Known", number: true }, { name: "Live", number: true }, { name: "Being let in", number: true }, { name: "Let in so far", number: true }, { name: "Idle, taken off", number: true }, { name: "Refused" }];
  const refused = entries(peers.refused).sort((a, b) => b[1] - a[1]).map(([why, n]) => `${count(n)} ${why}`).join(", ");
  const cells = [count(peers.known), count(peers.live), count(peers.installing), count(peers.admitted), count(peers.reaped), refused || "none"];
  return [{ key: "peers", title: "Peers just in time", columns, rows: [{ key: "all", cells }] }];
}

function shared(ha) {
  const warnings = [];
  for (const [other, skew] of entries(ha?.clocks)) if (skew.behind) warnings.push(`this clock is behind that of ${other}: see chronyc tracking on both`);
  for (const shard of ha?.shards ?? []) {
    const of = `${shard.tenant}/${shard.shard}`;
    for (const warning of shard.warnings ?? []) warnings.push(`${of}: ${warning}`);
    if (shard.held_back) warnings.push(`${of}: stays where it is until this clock is right`);
    if (shard.state === "active" && !shard.in_sync) warnings.push(`${of}: no other gateway has all of its connections`);
    if (shard.state === "initialize") warnings.push(`${of}: this gateway cannot serve it`);
    if (shard.nat?.ports_of_one >= FULL * shard.nat?.ports) warnings.push(`${of}: most source ports towards one destination are taken: give the tenant another shard`);
    for (const one of shard.tracked ?? []) if (one.up === false) warnings.push(`${of}: ${one.what} is down${one.last_error ? `: ${one.last_error}` : ""}`);
  }
  return warnings;
}

// Whether the machine is taken away.
function going(lifecycle) {
  const warnings = [];
  if (lifecycle?.going) {
    const over = lifecycle.kept ? `nobody took over some of its shards (${count(lifecycle.kept)})` : "its shards are handed over";
    const how = { under_way: "its shards are being handed over", over }[lifecycle.drain] ?? "the drain has been undone";
    warnings.push(`the Auto Scaling group takes this machine away: ${how}`);
  }
  if (lifecycle?.failure) warnings.push(`whether the Auto Scaling group takes this machine away is not known: ${lifecycle.failure}`);
  return warnings;
}

// What the cloud's API has been told of the shards that are here.
function claimed(cloud) {
  if (!cloud) return { warnings: [], tables: [] };
  const failed = entries(cloud.shards).filter(([, one]) => !one.claimed && one.failure);
  const warnings = failed.map(([of, one]) => `${of}: not all of its addresses lead here: ${one.failure}`);
  if (cloud.failure) warnings.unshift(`which network interfaces are this gateway's is not known: ${cloud.failure}`);
  const columns = [{ name: "Shard" }, { name: "Claimed" }, { name: "Took", number: true }, { name: "Missing", number: true }, { name: "Failures", number: true }, { name: "Last failure" }];
  const rows = entries(cloud.shards).map(([of, one]) => ({ key: of, cells: [of, yes(one.claimed, ["all of it", "not all yet"]), known(one.took) ? milliseconds(one.took * 1e3) : "–", count(one.missing), count(one.failures), one.failure ?? "none"] }));
  return { warnings, tables: [{ key: "cloud", title: "Claimed of the cloud", columns, rows, empty: "No shard is here." }] };
}

function host(status, rates) {
  const [traffic, dropped, own, told] = [flow(status, rates), drops(status, rates), machine(status), asked(status.directory)];
  const tiles = [
    { key: "Attachments", value: count(status.attachments), note: "containers, pods, microVMs" },
    { key: "Tunnels", value: count(status.tenants.length), note: "to shards of tenants" },
    { key: "To tenants", value: bits(traffic.bits[1]), note: packetsNote(traffic.packets[1]) },
    { key: "From tenants", value: bits(traffic.bits[0]), note: packetsNote(traffic.packets[0]) },
    ...own.tiles,
    { key: "Tunnel MTU", value: count(status.tunnel_mtu), note: "bytes" },
  ];
  const charts = [
    { key: "bits", title: "Traffic", series: ["to tenants", "from tenants"], format: bits, values: [...traffic.bits].reverse() },
    { key: "packets", title: "Packets", series: ["to tenants", "from tenants"], format: packets, values: [...traffic.packets].reverse() },
    { key: "attachments", title: "Attachments", series: ["standing"], format: count, values: [status.attachments] },
    { key: "drops", title: "Dropped packets", series: ["dropped"], format: packets, values: [dropped.rate] },
  ];
  const columns = [{ name: "Shard" }, { name: "Pools" }, { name: "Attachments", number: true }, { name: "Tunnel", code: true }, { name: "Gateway", code: true }, { name: "Inner address", code: true }, { name: "To tenant", number: true }, { name: "From tenant", number: true }];
  const rows = status.tenants.map((tenant) => {
    const names = [tenant.tunnel, tenant.coming, tenant.former].filter((name, place, all) => name && all.indexOf(name) === place);
    const key = `${tenant.name}/${tenant.shard}`;
    return { key, cells: [key, tenant.egress?.join(", ") || "–", count(tenant.attachments), names.join(" "), tenant.gateway, tenant.inner, bits(traffic.of(names, 1)), bits(traffic.of(names, 0))] };
  });
  const warnings = [...own.warnings, ...told.warnings, ...(status.left_out ?? [])];
  return { ...common(status), tiles, charts, warnings, tables: [{ key: "tunnels", title: "Tenants and tunnels", columns, rows }, ...told.tables, dropped.table] };
}

function autoscaler(status) {
  const used = status.gateways.map((one) => one.utilisation).filter(known);
  const mean = used.length ? used.reduce((all, one) => all + one, 0) / used.length : null;
  const tiles = [
    { key: "Gateways wanted", value: count(status.ordered), note: `${status.min} to ${status.max}${status.dry_run ? ", dry run" : ""}` },
    { key: "Carry traffic", value: count(status.serving), note: "gateways" },
    { key: "Load", value: decimal(status.demand), note: "in what one gateway can carry" },
    { key: "Target", value: percent(status.target), note: "of each used" },
  ];
  const charts = [
    { key: "nodes", title: "Gateways", series: ["wanted", "load"], format: decimal, values: [status.ordered, status.demand] },
    { key: "used", title: "How far gateways are used", series: ["the busiest", "mean"], format: percent, values: [used.length ? Math.max(...used) : null, mean] },
  ];
  const silent = status.gateways.filter((one) => !known(one.utilisation)).map((one) => `nothing current is known of ${one.name}${one.scrape?.failure ? `: ${one.scrape.failure}` : ""}`);
  const { directory } = status;
  const learned = directory?.failure ? [`which gateways there are is not told: ${directory.failure}; those ${known(directory.age) ? `of ${ago(directory.age)}` : "from before"} count`] : [];
  if (directory?.doubted?.length) learned.push(`not in the directory any more, which is believed only if it stays so: ${directory.doubted.join(", ")}`);
  const warnings = [...learned, ...silent, ...(status.held_because ? [`no other number: ${status.held_because}`] : [])];
  const gateways = status.gateways.map((one) => ({ key: one.name, cells: [one.name, percent(one.utilisation), one.dimension, ago(one.age), one.scrape?.failure ?? "none"] }));
  const decisions = status.decisions.map((one) => ({ key: `${one.time} ${one.from} ${one.to}`, cells: [clock(one.time), `${one.from} → ${one.to}`, one.because] }));
  return {
    name: "Autoscaler", about: `autoscaler · version ${status.version}${status.dry_run ? " · dry run" : ""}`, ready: status.ready, tiles, charts, warnings,
    tables: [
      { key: "gateways", title: "Gateways", columns: [{ name: "Gateway" }, { name: "Used", number: true }, { name: "By" }, { name: "Heard" }, { name: "Failure" }], rows: gateways },
      { key: "decisions", title: "Decisions", columns: [{ name: "When" }, { name: "Gateways" }, { name: "Because" }], rows: decisions, empty: "None yet." },
    ],
  };
}
