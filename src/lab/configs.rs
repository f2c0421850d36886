//! The daemons' configuration files for a topology, as text.

use super::topology::{Gateway, Host, PLATFORM_IF, Topology, port};
use crate::config::Backend;
use std::fmt::Write;
use std::path::Path;

pub fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Auto => "auto",
        Backend::Kernel => "kernel",
        Backend::Userspace => "userspace",
    }
}

pub fn gateway(lab: &Topology, gateway: &Gateway, backend: Backend, runtime_dir: &Path) -> String {
    let mut yaml = String::new();
    let out = &mut yaml;
    head(out, "gateway", &gateway.node, &gateway.outer.to_string(), backend, runtime_dir, 9470);
    for eni in &gateway.enis {
        let tenant = lab.tenant(&eni.tenant).expect("an interface's tenant is in the topology");
        line(out, 4, format_args!("- name: {}", tenant.name));
        line(out, 6, format_args!("key: {}", tenant.key));
        line(out, 6, format_args!("interface: {}", eni.interface));
        line(out, 6, format_args!("allow:"));
        let many = format!("\"{}-{}\"", port::IPERF, port::IPERF + 9);
        line(out, 8, format_args!("- {{ to: {}, tcp: [{}, {many}], udp: [{many}], icmp: true }}", tenant.vpc, port::HTTP));
        line(out, 6, format_args!("snat: {{ address: {}, ports: 1024-65535 }}", eni.snat));
        line(out, 6, format_args!("inner: {}", tenant.inner));
    }
    line(out, 0, format_args!("peers:"));
    line(out, 2, format_args!("static:"));
    for host in &lab.hosts {
        let inner: Vec<String> = gateway
            .enis
            .iter()
            .filter_map(|eni| {
                let shard = lab.gateways_of(&eni.tenant).position(|(g, _)| g.node == gateway.node)?;
                Some(format!("{}: [{}]", eni.tenant, lab.inner(lab.tenant(&eni.tenant)?, shard, host)))
            })
            .collect();
        line(out, 4, format_args!("- {{ host: {}, outer: {}, inner: {{ {} }} }}", host.node, host.outer, inner.join(", ")));
    }
    yaml
}

pub fn host(lab: &Topology, host: &Host, backend: Backend, runtime_dir: &Path) -> String {
    let mut yaml = String::new();
    let out = &mut yaml;
    head(out, "host", &host.node, &host.outer.to_string(), backend, runtime_dir, 9471);
    for tenant in &lab.tenants {
        line(out, 4, format_args!("- name: {}", tenant.name));
        line(out, 6, format_args!("key: {}", tenant.key));
        line(out, 6, format_args!("cidrs: [{}]", tenant.vpc));
        line(out, 6, format_args!("shards:"));
        for (shard, (gateway, _)) in lab.gateways_of(&tenant.name).enumerate() {
            let inner = lab.inner(tenant, shard, host);
            line(out, 8, format_args!("- {{ shard: {shard}, gateway: {}, inner: {inner} }}", gateway.outer));
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
    line(out, 2, format_args!("tenants:"));
}

fn line(out: &mut String, indent: usize, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{:indent$}{text}", "").expect("writing to a String cannot fail");
}
