//! What the gateway itself asks in a tenant's VPC (`track:`): it goes out by the tenant's table under the node's own address.
//!
//! Function's packets of the same mark are translated to the HaVip, which a Backup does not have; a probe has a conntrack zone of its own
//! and is not translated. Two tenants' servers may have one address and so may the node in both networks: the zone keeps them apart, and the mark on
//! what comes back lets a strict reverse path check (rp_filter 1) look into the right table.

use super::ruleset::set;
use super::{GatewayTenant, Served, Slot};
use crate::config::{Target, Watched};
use crate::model::TenantName;
use crate::plan::ruleset::line;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Whom a tenant's probes ask, as elements of nft's sets.
struct Asked {
    tcp: Option<String>,
    icmp: Option<String>,
}

fn asked(tenant: &GatewayTenant) -> Option<Asked> {
    let (mut tcp, mut icmp): (Vec<(IpAddr, u16)>, Vec<IpAddr>) = (vec![], vec![]);
    for tracked in &tenant.track {
        let Watched::Probe(probe) = &tracked.watched else { continue };
        match &probe.target {
            Target::Tcp(at) => tcp.push((at.ip(), at.port())),
            Target::Http(check) => tcp.push((check.at.ip(), check.at.port())),
            Target::Icmp(address) => icmp.push(*address),
            Target::Script { .. } => {}
        }
    }
    let tcp = set(tcp.into_iter().map(|(address, port)| format!("{address} . {port}")));
    let asked = Asked { tcp, icmp: set(icmp.into_iter()) };
    (asked.tcp.is_some() || asked.icmp.is_some()).then_some(asked)
}

/// The tenants with probes, with the slot that probes go by: that of the first of the tenant's shards here.
fn probing<'a>(all: &'a [Served<'a>]) -> Vec<(Slot, &'a GatewayTenant, Asked)> {
    let mut first: BTreeMap<&str, &Served> = BTreeMap::new();
    for served in all.iter().filter(|served| served.shard.havip.is_some()) {
        first.entry(served.tenant.name.as_str()).or_insert(served);
    }
    first.into_values().filter_map(|served| Some((served.slot, served.tenant, asked(served.tenant)?))).collect()
}

/// The slots by which the tenants' probes go: answers have chains of these numbers.
pub(super) fn slots<'a>(all: &'a [Served<'a>]) -> BTreeMap<&'a TenantName, Slot> {
    probing(all).into_iter().map(|(slot, tenant, _)| (&tenant.name, slot)).collect()
}

/// What comes back, for an address that is no HaVip.
pub(super) fn answers(out: &mut String, all: &[Served]) {
    for (slot, _, Asked { tcp, icmp }) in probing(all) {
        line(out, format_args!("chain answers_{slot} {{"));
        let ours = format!("meta mark set {:#x} ct zone set {}", slot.bits(), slot.probe_zone());
        if let Some(tcp) = tcp {
            line(out, format_args!("ip saddr . tcp sport {tcp} {ours}"));
        }
        if let Some(icmp) = icmp {
            line(out, format_args!("ip saddr {icmp} icmp type echo-reply {ours}"));
        }
        line(out, format_args!("}}"));
    }
}

/// In the output chain before conntrack. What goes out because of a function's packet has its sender in the mark, too, and is none of it.
pub(super) fn questions(out: &mut String, all: &[Served]) {
    for (slot, tenant, Asked { tcp, icmp }) in probing(all) {
        let ours = format!("meta mark {:#x} oifname \"{}\"", slot.bits(), tenant.interface);
        if let Some(tcp) = tcp {
            line(out, format_args!("{ours} ip daddr . tcp dport {tcp} ct zone set {}", slot.probe_zone()));
        }
        if let Some(icmp) = icmp {
            line(out, format_args!("{ours} ip daddr {icmp} icmp type echo-request ct zone set {}", slot.probe_zone()));
        }
    }
}

/// Before anything is translated.
pub(super) fn untranslated(out: &mut String, all: &[Served]) {
    for (slot, tenant, _) in probing(all) {
        line(out, format_args!("oifname \"{}\" ct zone {} accept", tenant.interface, slot.probe_zone()));
    }
}
