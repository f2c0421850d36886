//! The daemons' configuration files for a topology, as text.

use super::directory;
use super::keys;
use super::swarm;
use super::topology::{Eni, Gateway, Group, Host, PLATFORM_IF, Tenant, Topology, port};
use crate::config::{Backend, TunnelKind};
use std::fmt::Write;
use std::path::{Path, PathBuf};

pub fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Auto => "auto",
        Backend::Kernel => "kernel",
        Backend::Userspace => "userspace",
    }
}

/// The file of the key that a group's gateways share, beside their runtime directories. The lab writes it.
pub fn key_file(runtime_dir: &Path) -> PathBuf {
    runtime_dir.with_file_name("ha.key")
}

pub fn gateway(lab: &Topology, gateway: &Gateway, backend: Backend, runtime_dir: &Path) -> String {
    let mut yaml = String::new();
    let out = &mut yaml;
    head(out, lab, ("gateway", &gateway.node, &gateway.outer.to_string()), backend, runtime_dir, (9470, lab.directory));
    if let Some(group) = &lab.group {
        ha(out, lab, group, runtime_dir);
    }
    if lab.directory {
        let [token, ca] = [directory::token(runtime_dir, &gateway.node), directory::ca(runtime_dir)];
        let state = directory::state_dir(runtime_dir, &gateway.node);
        let (url, token, ca) = (directory::url(), token.display().to_string(), ca.display().to_string());
        let state = state.display().to_string();
        line(out, 2, format_args!("directory: {{ url: {url:?}, token_file: {token:?}, ca: {ca:?}, state_dir: {state:?} }}"));
    }
    line(out, 2, format_args!("tenants:"));
    for eni in &gateway.enis {
        let tenant = lab.tenant(&eni.tenant).expect("an interface's tenant is in the topology");
        line(out, 4, format_args!("- name: {}", tenant.name));
        match lab.tunnel {
            TunnelKind::Gre => line(out, 6, format_args!("key: {}", tenant.key)),
            TunnelKind::Wireguard if lab.group.is_none() => line(out, 6, format_args!("{}", shards_key(lab, tenant, 0, runtime_dir))),
            TunnelKind::Wireguard => {}
        }
        line(out, 6, format_args!("interface: {}", eni.interface));
        line(out, 6, format_args!("allow:"));
        let many = format!("\"{}-{}\"", port::IPERF, port::IPERF + 9);
        line(out, 8, format_args!("- {{ to: {}, tcp: [{}, {many}], udp: [{many}], icmp: true }}", tenant.vpc, port::HTTP));
        let address = if lab.group.is_some() { String::new() } else { format!("address: {}, ", eni.snat) };
        line(out, 6, format_args!("snat: {{ {address}ports: 1024-65535 }}"));
        line(out, 6, format_args!("inner: {}", tenant.inner));
        if let Some(group) = &lab.group {
            shards(out, lab, group, gateway, tenant, runtime_dir);
        }
    }
    if lab.directory {
        return yaml;
    }
    line(out, 0, format_args!("peers:"));
    line(out, 2, format_args!("static:"));
    for host in &lab.hosts {
        let inner: Vec<String> = gateway.enis.iter().flat_map(|eni| inner(lab, gateway, eni, host)).collect();
        let end = match lab.tunnel {
            TunnelKind::Gre => format!("outer: {}", host.outer),
            TunnelKind::Wireguard => format!("public_key: {}", keys::of_host(&host.node).public()),
        };
        line(out, 4, format_args!("- {{ host: {}, {end}, inner: {{ {} }} }}", host.node, inner.join(", ")));
    }
    for member in 0..lab.swarm {
        let (host, tenant) = (swarm::name(member), &lab.tenants[0]);
        let (key, inner) = (keys::of_host(&host).public(), swarm::inner(tenant, member));
        line(out, 4, format_args!("- {{ host: {host}, public_key: {key}, inner: {{ {}: [{inner}] }} }}", tenant.name));
    }
    yaml
}

fn ha(out: &mut String, lab: &Topology, group: &Group, runtime_dir: &Path) {
    let nodes: Vec<String> = lab.members().map(|g| format!("{}: {}", g.node, g.outer)).collect();
    line(out, 2, format_args!("ha:"));
    if group.by_directory {
        line(out, 4, format_args!("nodes: directory"));
    } else {
        line(out, 4, format_args!("nodes: {{ {} }}", nodes.join(", ")));
    }
    if !group.by_directory && !group.leaving.is_empty() {
        line(out, 4, format_args!("leaving: [{}]", group.leaving.iter().cloned().collect::<Vec<_>>().join(", ")));
    }
    line(out, 4, format_args!("keys: [{{ id: 1, file: {:?} }}]", key_file(runtime_dir).display().to_string()));
    line(out, 4, format_args!("interval: {}ms", group.interval_ms));
    if group.preempt_ms > 0 {
        line(out, 4, format_args!("preempt: {}ms", group.preempt_ms));
    }
}

fn shards(out: &mut String, lab: &Topology, group: &Group, gateway: &Gateway, tenant: &Tenant, runtime_dir: &Path) {
    line(out, 6, format_args!("shards:"));
    for s in group.shards.iter().filter(|s| s.tenant == tenant.name) {
        let priority = lab.priority(gateway, &tenant.name).map(|p| format!(", priority: {p}")).unwrap_or_default();
        let addresses = format!("platform: {}, tenant: {}", s.platform, s.inside);
        let key = match lab.tunnel {
            TunnelKind::Gre => String::new(),
            TunnelKind::Wireguard => format!(", {}", shards_key(lab, tenant, s.shard, runtime_dir)),
        };
        line(out, 8, format_args!("- {{ shard: {}, vrid: {}, {addresses}{priority}{key} }}", s.shard, s.vrid));
    }
}

/// A host's inner addresses at one gateway: `TENANT: [ADDRESS]`, and `TENANT/SHARD: [ADDRESS]` for a group's further shards.
fn inner(lab: &Topology, gateway: &Gateway, eni: &Eni, host: &Host) -> Vec<String> {
    let Some(tenant) = lab.tenant(&eni.tenant) else { return vec![] };
    let mine = lab.shards_of(&eni.tenant).into_iter().filter(|s| s.nodes.contains(&gateway.node));
    mine.map(|s| {
        let name = if lab.group.is_some() && s.shard > 0 { format!("{}/{}", eni.tenant, s.shard) } else { eni.tenant.clone() };
        format!("{name}: [{}]", lab.inner(tenant, s.shard, host))
    })
    .collect()
}

pub fn host(lab: &Topology, host: &Host, backend: Backend, runtime_dir: &Path) -> String {
    let mut yaml = String::new();
    let out = &mut yaml;
    head(out, lab, ("host", &host.node, &host.outer.to_string()), backend, runtime_dir, (9471, false));
    if lab.directory {
        let (ca, state) = (directory::ca(runtime_dir), directory::state_dir(runtime_dir, &host.node));
        let (url, ca, state) = (directory::url(), ca.display().to_string(), state.display().to_string());
        let cidrs: Vec<String> = lab.tenants.iter().map(|tenant| tenant.vpc.to_string()).collect();
        line(out, 2, format_args!("directory: {{ url: {url:?}, ca: {ca:?}, state_dir: {state:?}, cidrs: [{}] }}", cidrs[0]));
        return yaml;
    }
    if lab.tunnel == TunnelKind::Wireguard {
        line(out, 2, format_args!("wireguard: {{ private_key: {:?} }}", keys::file(runtime_dir, &host.node).display().to_string()));
    }
    line(out, 2, format_args!("tenants:"));
    for tenant in &lab.tenants {
        line(out, 4, format_args!("- name: {}", tenant.name));
        if lab.tunnel == TunnelKind::Gre {
            line(out, 6, format_args!("key: {}", tenant.key));
        }
        line(out, 6, format_args!("cidrs: [{}]", tenant.vpc));
        line(out, 6, format_args!("shards:"));
        for s in lab.shards_of(&tenant.name) {
            let inner = lab.inner(tenant, s.shard, host);
            let key = match lab.tunnel {
                TunnelKind::Gre => String::new(),
                TunnelKind::Wireguard => {
                    let (key, port) = (keys::of_shard(&tenant.name, s.shard).public(), lab.port(&tenant.name, s.shard));
                    format!(", wireguard: {{ public_key: {key}, port: {port} }}")
                }
            };
            line(out, 8, format_args!("- {{ shard: {}, gateway: {}, inner: {inner}{key} }}", s.shard, s.gateway));
        }
    }
    yaml
}

/// A shard's own key and port, on a gateway.
fn shards_key(lab: &Topology, tenant: &Tenant, shard: u8, runtime_dir: &Path) -> String {
    let file = keys::file(runtime_dir, &keys::shard(&tenant.name, shard)).display().to_string();
    format!("wireguard: {{ private_key: {file:?}, port: {} }}", lab.port(&tenant.name, shard))
}

/// `admin`: its port, and whether others than the node itself may ask it.
fn head(
    out: &mut String,
    lab: &Topology,
    (role, node, address): (&str, &str, &str),
    backend: Backend,
    runtime_dir: &Path,
    (admin, open): (u16, bool),
) {
    line(out, 0, format_args!("{role}:"));
    line(out, 2, format_args!("node: {node}"));
    line(out, 2, format_args!("platform: {{ interface: {PLATFORM_IF}, address: {address} }}"));
    if lab.tunnel == TunnelKind::Wireguard {
        line(out, 2, format_args!("tunnel: wireguard"));
    }
    line(out, 2, format_args!("backend: {}", backend_name(backend)));
    line(out, 2, format_args!("runtime_dir: {:?}", runtime_dir.display().to_string()));
    line(out, 2, format_args!("admin: {}:{admin}", if open { "0.0.0.0" } else { "127.0.0.1" }));
}

fn line(out: &mut String, indent: usize, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{:indent$}{text}", "").expect("writing to a String cannot fail");
}
