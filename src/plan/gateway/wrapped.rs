//! The packets of tunnels, still wrapped, in the gateway's rules.

use super::ruleset::set;
use super::{Inputs, Served};
use crate::config::{GatewayTunnel, TunnelKind};
use crate::plan::ruleset::{line, wrapped_in};

/// In the prerouting chain: to the chain `outer`, if they came in at the platform's interface.
pub(super) fn taken(out: &mut String, inputs: &Inputs, all: &[Served]) {
    let (interface, facts) = (&inputs.config.platform.interface, inputs.facts);
    match inputs.config.platform.tunnel {
        TunnelKind::Gre => {
            let Some(locals) = locals(all) else { return };
            wrapped_in(out, interface, facts, format_args!("ip protocol gre ip daddr {locals}"), "goto outer");
        }
        TunnelKind::Wireguard => {
            let (Some(ends), Some(ports)) = (ends(all), set(all.iter().flat_map(ports))) else { return };
            if brings(inputs) {
                // No other program can send so: it takes CAP_NET_RAW.
                line(out, format_args!("iif \"lo\" ip daddr . udp dport {ends} fib saddr type != local notrack accept"));
            }
            wrapped_in(out, interface, facts, format_args!("ip daddr . udp dport {ends}"), "goto outer");
            // The kernel's WireGuard takes what is for its port at any address of the machine.
            line(out, format_args!("udp dport {ports} fib daddr type local counter name drop_wrong_interface drop"));
        }
    }
}

/// In the output chain. `fenced`: there are addresses that may leave by their own interface only.
pub(super) fn sent(out: &mut String, inputs: &Inputs, all: &[Served], fenced: bool) {
    let interface = if fenced { format!(" oifname \"{}\"", inputs.config.platform.interface) } else { String::new() };
    match inputs.config.platform.tunnel {
        TunnelKind::Gre => {
            let Some(locals) = locals(all) else { return };
            line(out, format_args!("ip saddr {locals}{interface} ip protocol gre notrack accept"));
        }
        TunnelKind::Wireguard => {
            let Some(ends) = ends(all) else { return };
            line(out, format_args!("ip saddr . udp sport {ends}{interface} notrack accept"));
            if inputs.config.ha.is_some() {
                // A copy for the node before ([`super::pass_back`]), whose source is a host's.
                line(out, format_args!("ip daddr . udp dport {ends}{interface} notrack accept"));
            }
            if brings(inputs) {
                // Its source is a peer's, whose port may be equal to ours.
                line(out, format_args!("oif \"lo\" ip daddr . udp dport {ends} notrack accept"));
            }
            // The kernel's WireGuard sends from the address that it was asked at, and to whom it has not heard of, from the one that routing
            // chooses: the node's own, to which no other node could ever bring the answers. Nobody else has the port.
            for (served, port) in all.iter().flat_map(|served| ports(served).map(move |port| (served, port))) {
                let local = served.shard.local;
                line(out, format_args!("udp sport {port} ip saddr != {local}{interface} ip saddr set {local} notrack accept"));
            }
        }
    }
}

/// First in the input chain: what came over loopback has been looked at before routing.
pub(super) fn brought(out: &mut String, inputs: &Inputs, all: &[Served]) {
    if brings(inputs)
        && let Some(ends) = ends(all)
    {
        line(out, format_args!("iif \"lo\" ip daddr . udp dport {ends} accept"));
    }
}

/// In the input chain: nothing else is for the platform HaVip of this shard.
pub(super) fn alone(out: &mut String, served: &Served) {
    let local = served.shard.local;
    let other = match served.shard.tunnel {
        GatewayTunnel::Gre { .. } => "ip protocol != gre".to_owned(),
        GatewayTunnel::Wireguard { .. } => match set(ports(served).map(|port| format!("udp . {port}"))) {
            Some(ends) => format!("meta l4proto . th dport != {ends}"),
            None => String::new(),
        },
    };
    line(out, format_args!("ip daddr {local} {other} counter name drop_to_node drop"));
}

/// Whether initiations are brought before the interface once more, over loopback (`kernel::knock_socket::Again`).
fn brings(inputs: &Inputs) -> bool {
    inputs.carrier.is_kernel_wireguard(inputs.config.platform.tunnel)
}

/// The outer addresses of our tunnels.
fn locals(all: &[Served]) -> Option<String> {
    set(all.iter().map(|served| served.shard.local))
}

/// Address and port of each shard's WireGuard.
pub(super) fn ends(all: &[Served]) -> Option<String> {
    set(all.iter().flat_map(|served| ports(served).map(|port| format!("{} . {port}", served.shard.local))))
}

/// Those of its WireGuard.
fn ports(served: &Served) -> impl Iterator<Item = u16> {
    served.ends.iter().map(|end| end.port)
}
