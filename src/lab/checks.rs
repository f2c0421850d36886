//! Questions with a yes or no: is a container where it should be, and nowhere else? Each has a positive control in
//! it or beside it, so that a lab in which nothing works does not pass.

use super::build::Lab;
use super::error::{During, Result};
use super::measure::{connects, echo_requests_received, whoami};
use super::netns::Netns;
use super::packet::{ETHERTYPE_IPV4, gre, icmp_echo, ipv4, udp};
use super::process::poll_until;
use super::topology::{Container, METADATA, PLATFORM, PLATFORM_ADDRESS, port};
use crate::config::TunnelKind;
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

/// How long something that must not answer is waited for.
const SILENCE: Duration = Duration::from_millis(400);
/// How long something that must answer may take.
const ANSWER: Duration = Duration::from_secs(3);
const ICMP: u8 = 1;
const GRE: u8 = 47;
const UDP: u8 = 17;
/// IPv4 packets with our own header (socket(7), raw(7)).
const RAW: i32 = 255;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What must hold; checks of one claim are counted together.
    pub claim: String,
    /// For whom it was asked; empty when the claim says it.
    pub subject: String,
    pub held: bool,
    /// Something arrived or answered where it must not: worse than nothing working.
    pub leaked: bool,
    /// What was seen.
    pub detail: String,
}

impl Check {
    pub fn new(claim: impl Into<String>, subject: impl Into<String>, held: bool, detail: impl Into<String>) -> Self {
        Self { claim: claim.into(), subject: subject.into(), held, leaked: false, detail: detail.into() }
    }

    /// As [`Check::new`], for what must be silent.
    pub fn silent(claim: impl Into<String>, subject: impl Into<String>, reached: bool) -> Self {
        let detail = if reached { "it answered" } else { "no answer" };
        Self { leaked: reached, ..Self::new(claim, subject, !reached, detail) }
    }
}

/// The server that answers at the address all VPCs share is the container's own tenant's.
pub fn right_tenant(lab: &Lab, c: &Container) -> Result<Check> {
    let tenant = tenant(lab, c);
    let claim = format!("a container reaches its own tenant's server at {}, the address in all VPCs", tenant.server);
    Ok(match whoami(lab.node(&c.node)?, tenant.server, ANSWER) {
        Ok(seen) => {
            let right = seen.tenant == c.tenant;
            let detail = format!("{} answered", seen.tenant);
            Check { leaked: !right, ..Check::new(claim, format!("{} of {}", c.node, c.tenant), right, detail) }
        }
        Err(e) => Check::new(claim, &c.node, false, e.to_string()),
    })
}

/// What a container must not reach: other tenants' servers, ports that nobody allowed, cloud metadata.
pub fn unreachable(lab: &Lab, c: &Container) -> Result<Vec<Check>> {
    let node = lab.node(&c.node)?;
    let own = tenant(lab, c);
    let mut targets: Vec<(&str, SocketAddr)> = lab
        .topology
        .tenants
        .iter()
        .filter(|t| t.name != c.tenant)
        .map(|t| ("an address that only another tenant's VPC has", SocketAddr::from((t.own, port::HTTP))))
        .collect();
    targets.push(("a port of its own server that is not allowed", SocketAddr::from((own.server, port::FORBIDDEN))));
    targets.push(("cloud metadata", SocketAddr::from((METADATA, port::HTTP))));
    std::thread::scope(|scope| {
        let asked: Vec<_> = targets.iter().map(|(name, to)| scope.spawn(move || (name, *to, connects(node, *to, SILENCE)))).collect();
        let answers = asked.into_iter().map(|a| a.join().expect("a connection attempt does not panic"));
        Ok(answers
            .map(|(what, to, reached)| Check::silent(format!("no container reaches {what}"), format!("{} to {to}", c.node), reached))
            .collect())
    })
}

/// A container that is attached to nobody reaches nobody's server.
pub fn unattached(lab: &Lab, c: &Container) -> Result<Check> {
    let to = SocketAddr::from((tenant(lab, c).server, port::HTTP));
    Ok(Check::silent("a container reaches nothing while it is not attached", &c.node, connects(lab.node(&c.node)?, to, SILENCE)))
}

/// An echo request with a neighbour's source address arrives at no server; with its own it does.
pub fn spoofed(lab: &Lab, spoofer: &Container, victim: &Container) -> Result<Check> {
    let node = lab.node(&spoofer.node)?;
    let server = tenant(lab, spoofer).server;
    let subject = format!("{} of {} as {} of {}", spoofer.node, spoofer.tenant, victim.node, victim.tenant);
    let echo = |source| Shot { from: node, to: server, protocol: RAW, packet: ipv4(source, server, ICMP, &icmp_echo(0x5350, 1, b"spoof")) };
    let check = attack(
        lab,
        "a container gets nothing by using a neighbour's address",
        &spoofer.tenant,
        &echo(victim.address),
        &echo(spoofer.address),
    )?;
    Ok(Check { subject, ..check })
}

/// Packets that a compromised function host, or a stranger on the platform's network, may write into a gateway's tunnel by hand.
pub fn forged(lab: &Lab) -> Result<Vec<Check>> {
    let topology = &lab.topology;
    let (Some(tenant), [host, rest @ ..]) = (topology.tenants.first(), topology.hosts.as_slice()) else { return Ok(vec![]) };
    let Some((_, eni)) = topology.gateways_of(&tenant.name).next() else { return Ok(vec![]) };
    let Some(gateway) = topology.shards_of(&tenant.name).first().map(|s| s.gateway) else { return Ok(vec![]) };
    if topology.tunnel == TunnelKind::Wireguard {
        return unsealed(lab, &tenant.name, gateway);
    }
    let (node, inner) = (lab.node(&host.node)?, topology.inner(tenant, 0, host));
    let ping = |source, to| ipv4(source, to, ICMP, &icmp_echo(0x4647, 1, b"forged"));
    let tunnelled = |from, key, packet: &[u8]| Shot { from, to: gateway, protocol: GRE.into(), packet: gre(key, ETHERTYPE_IPV4, packet) };
    let good = tunnelled(node, tenant.key, &ping(inner, tenant.server));
    let stranger = lab.node(PLATFORM)?;
    let nested = ipv4(inner, gateway, GRE, &gre(tenant.key, ETHERTYPE_IPV4, &ping(inner, tenant.server)));
    let mut attacks = vec![
        ("a key that no tenant has", tunnelled(node, 0xdead, &ping(inner, tenant.server))),
        ("an inner source that is not the host's", tunnelled(node, tenant.key, &ping(Ipv4Addr::new(8, 8, 8, 8), tenant.server))),
        ("cloud metadata as destination", tunnelled(node, tenant.key, &ping(inner, METADATA))),
        ("the gateway's own address as destination", tunnelled(node, tenant.key, &ping(inner, eni.address))),
        ("a tunnel within the tunnel", tunnelled(node, tenant.key, &nested)),
        ("an outer source that is on no list", tunnelled(stranger, tenant.key, &ping(inner, tenant.server))),
    ];
    if let Some(other) = rest.first() {
        let theirs = topology.inner(tenant, 0, other);
        attacks.push(("another host's inner address", tunnelled(node, tenant.key, &ping(theirs, tenant.server))));
        // The outer header by hand too: the source is a listed host's, the inner address is not that host's.
        let outer = ipv4(other.outer, gateway, GRE, &good.packet);
        attacks.push(("another host's outer address", Shot { from: node, to: gateway, protocol: RAW, packet: outer }));
    }
    debug_assert_ne!(host.outer, PLATFORM_ADDRESS, "the stranger is on no list");
    attacks
        .iter()
        .map(|(name, shot)| attack(lab, &format!("a gateway drops a tunnel packet with {name}"), &tenant.name, shot, &good))
        .collect()
}

/// The same where tunnels are encrypted: nobody gets in without a host's key.
fn unsealed(lab: &Lab, tenant: &str, gateway: Ipv4Addr) -> Result<Vec<Check>> {
    let topology = &lab.topology;
    let (Some(host), Some(of)) = (topology.hosts.first(), topology.tenant(tenant)) else { return Ok(vec![]) };
    let Some(container) = topology.containers.iter().find(|c| c.tenant == tenant && c.host == host.node) else { return Ok(vec![]) };
    let (inner, honest) = (topology.inner(of, 0, host), icmp_echo(0x4647, 2, b"honest"));
    let good = Shot { from: lab.node(&container.node)?, to: of.server, protocol: ICMP.into(), packet: honest };
    let ping = ipv4(inner, of.server, ICMP, &icmp_echo(0x4647, 1, b"forged"));
    let to_port = udp(51821, topology.port(tenant, 0), &ping);
    let attacks = [
        ("GRE", Shot { from: lab.node(&host.node)?, to: gateway, protocol: GRE.into(), packet: gre(of.key, ETHERTYPE_IPV4, &ping) }),
        ("no seal", Shot { from: lab.node(&host.node)?, to: gateway, protocol: RAW, packet: ipv4(host.outer, gateway, UDP, &to_port) }),
    ];
    attacks.iter().map(|(name, shot)| attack(lab, &format!("a gateway drops a packet with {name}"), tenant, shot, &good)).collect()
}

/// One packet by a raw socket of a namespace.
struct Shot<'a> {
    from: &'a Netns,
    to: Ipv4Addr,
    protocol: i32,
    packet: Vec<u8>,
}

impl Shot<'_> {
    fn send(&self) -> Result<()> {
        let address = SocketAddr::from(SocketAddrV4::new(self.to, 0));
        self.from
            .run(|| {
                let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(self.protocol)))?;
                socket.send_to(&self.packet, &address.into())
            })
            .map(drop)
            .during(format!("send a raw packet to {}", self.to))
    }
}

/// Sends `bad`, then `good` the same way: the tenant's server must receive exactly one echo request, all others none.
/// The good one arriving after the bad one makes waiting for silence unnecessary.
fn attack(lab: &Lab, claim: &str, tenant: &str, bad: &Shot<'_>, good: &Shot<'_>) -> Result<Check> {
    let received = |name: &str| echo_requests_received(lab.node(&format!("db-{name}"))?);
    // A gateway that answers from its own address was reached too.
    let gateways = || lab.topology.gateways.iter().map(|g| echo_requests_received(lab.node(&g.node)?)).sum::<Result<u64>>();
    let others = || lab.topology.tenants.iter().filter(|t| t.name != tenant).map(|t| received(&t.name)).sum::<Result<u64>>();
    let before = (received(tenant)?, others()? + gateways()?);
    // A route that refuses the packet at once has stopped it as well.
    let refused = bad.send().err();
    good.send()?;
    let arrived = poll_until(claim, ANSWER, || Ok(received(tenant)? > before.0)).is_ok();
    let after = (received(tenant)? - before.0, others()? + gateways()? - before.1);
    let detail = match (arrived, after) {
        (false, _) => "not even the honest packet arrived".to_owned(),
        (true, (1, 0)) => refused.map_or_else(|| "dropped".to_owned(), |_| "refused at once".to_owned()),
        (true, (own, others)) => format!("it arrived ({own} at {tenant}'s server, {others} elsewhere)"),
    };
    let held = arrived && after == (1, 0);
    Ok(Check { leaked: arrived && !held, ..Check::new(claim, "", held, detail) })
}

fn tenant<'a>(lab: &'a Lab, c: &Container) -> &'a super::topology::Tenant {
    lab.topology.tenant(&c.tenant).expect("a container's tenant is in the topology")
}
