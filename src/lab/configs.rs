//! The daemons' configuration files for a topology, as text.

use super::topology::{Eni, Gateway, Group, Host, PLATFORM_IF, Tenant, Topology, port};
use crate::config::Backend;
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
    head(out, "gateway", &gateway.node, &gateway.outer.to_string(), backend, runtime_dir, 9470);
    if let Some(group) = &lab.group {
        ha(out, lab, group, runtime_dir);
    }
    line(out, 2, format_args!("tenants:"));
    for eni in &gateway.enis {
        let tenant = lab.tenant(&eni.tenant).expect("an interface's tenant is in the topology");
        line(out, 4, format_args!("- name: {}", tenant.name));
        line(out, 6, format_args!("key: {}", tenant.key));
        line(out, 6, format_args!("interface: {}", eni.interface));
        line(out, 6, format_args!("allow:"));
        let many = format!("\"{}-{}\"", port::IPERF, port::IPERF + 9);
        line(out, 8, format_args!("- {{ to: {}, tcp: [{}, {many}], udp: [{many}], icmp: true }}", tenant.vpc, port::HTTP));
        let address = if lab.group.is_some() { String::new() } else { format!("address: {}, ", eni.snat) };
        line(out, 6, format_args!("snat: {{ {address}ports: 1024-65535 }}"));
        line(out, 6, format_args!("inner: {}", tenant.inner));
        if let Some(group) = &lab.group {
            shards(out, lab, group, gateway, tenant);
        }
    }
    line(out, 0, format_args!("peers:"));
    line(out, 2, format_args!("static:"));
    for host in &lab.hosts {
        let inner: Vec<String> = gateway.enis.iter().flat_map(|eni| inner(lab, gateway, eni, host)).collect();
        line(out, 4, format_args!("- {{ host: {}, outer: {}, inner: {{ {} }} }}", host.node, host.outer, inner.join(", ")));
    }
    yaml
}

fn ha(out: &mut String, lab: &Topology, group: &Group, runtime_dir: &Path) {
    let nodes: Vec<String> = lab.gateways.iter().map(|g| format!("{}: {}", g.node, g.outer)).collect();
    line(out, 2, format_args!("ha:"));
    line(out, 4, format_args!("nodes: {{ {} }}", nodes.join(", ")));
    line(out, 4, format_args!("keys: [{{ id: 1, file: {:?} }}]", key_file(runtime_dir).display().to_string()));
    line(out, 4, format_args!("interval: {}ms", group.interval_ms));
    if group.preempt_ms > 0 {
        line(out, 4, format_args!("preempt: {}ms", group.preempt_ms));
    }
}

fn shards(out: &mut String, lab: &Topology, group: &Group, gateway: &Gateway, tenant: &Tenant) {
    line(out, 6, format_args!("shards:"));
    for s in group.shards.iter().filter(|s| s.tenant == tenant.name) {
        let priority = lab.priority(gateway, &tenant.name).map(|p| format!(", priority: {p}")).unwrap_or_default();
        let addresses = format!("platform: {}, tenant: {}", s.platform, s.inside);
        line(out, 8, format_args!("- {{ shard: {}, vrid: {}, {addresses}{priority} }}", s.shard, s.vrid));
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
    head(out, "host", &host.node, &host.outer.to_string(), backend, runtime_dir, 9471);
    line(out, 2, format_args!("tenants:"));
    for tenant in &lab.tenants {
        line(out, 4, format_args!("- name: {}", tenant.name));
        line(out, 6, format_args!("key: {}", tenant.key));
        line(out, 6, format_args!("cidrs: [{}]", tenant.vpc));
        line(out, 6, format_args!("shards:"));
        for s in lab.shards_of(&tenant.name) {
            let inner = lab.inner(tenant, s.shard, host);
            line(out, 8, format_args!("- {{ shard: {}, gateway: {}, inner: {inner} }}", s.shard, s.gateway));
        }
    }
    yaml
}

fn head(out: &mut String, role: &str, node: &str, address: &str, backend: Backend, runtime_dir: &Path, admin: u16) {
    line(out, 0, format_args!("{role}:"));
    line(out, 2, format_args!("node: {node}"));
    line(out, 2, format_args!("platform: {{ interface: {PLATFORM_IF}, address: {address} }}"));
    line(out, 2, format_args!("backend: {}", backend_name(backend)));
    line(out, 2, format_args!("runtime_dir: {:?}", runtime_dir.display().to_string()));
    line(out, 2, format_args!("admin: 127.0.0.1:{admin}"));
}

fn line(out: &mut String, indent: usize, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{:indent$}{text}", "").expect("writing to a String cannot fail");
}
