//! Interfaces, addresses and paths, as the configuration wants them.

use super::{Facts, Finding, Severity};
use crate::config::{Config, MIN_INNER_MTU, Platform};
use crate::model::IfName;
use crate::plan::facts::LinkFacts;
use ipnet::IpNet;
use std::net::IpAddr;

/// rp_filter: only what would be answered through the same interface (RFC 3704 section 2.2) ...
const STRICT: u64 = 1;
/// ... and, the larger number, whatever could be answered through any.
const LOOSE: u64 = 2;

pub fn findings(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    let Some((config, platform)) = config.and_then(|config| Some((config, config.node_platform()?))) else {
        let strict = facts.number("ipv4/conf/all/rp_filter") == Some(STRICT);
        return strict.then(|| Finding::note(format!("net.ipv4.conf.all.rp_filter is strict: {TUNNELS_PASS}"))).into_iter().collect();
    };
    let mut findings = interface(facts, &platform.interface);
    if let Some(link) = facts.network.link(&platform.interface) {
        findings.push(mtu(platform, link));
        findings.push(address(facts, platform, link));
        findings.extend(reverse_path(facts, config, &platform.interface));
    }
    let mut seen = vec![&platform.interface];
    for (name, router) in config.tenant_interfaces() {
        if !seen.contains(&name) {
            // What the gateway has to attach before it is here, the cloud's findings say.
            if !(config.attaches(name) && facts.network.link(name).is_none()) {
                findings.extend(interface(facts, name));
            }
            findings.extend(strict_tenant(facts, name));
            seen.push(name);
        }
        findings.extend(router.and_then(|router| unreachable(facts, name, router)));
    }
    findings
}

const TUNNELS_PASS: &str = "Portway sets src_valid_mark, so that answers are looked up in their tenant's own table and pass";

fn interface(facts: &Facts, name: &IfName) -> Vec<Finding> {
    let Some(link) = facts.network.link(name) else {
        let have: Vec<&str> = facts.network.links.keys().map(IfName::as_str).filter(|name| *name != "lo").collect();
        let have = if have.is_empty() { "there is none but lo".into() } else { format!("there are: {}", have.join(", ")) };
        let remedy = format!("attach it to this machine, or correct its name in the configuration; {have}");
        return vec![Finding::broken(format!("there is no interface {name}"), remedy)];
    };
    if !link.up {
        return vec![Finding::broken(format!("{name} is down"), format!("ip link set dev {name} up"))];
    }
    if !link.running {
        return vec![Finding::warning(
            format!("{name} has no carrier"),
            format!("look at its other end: ip -details link show dev {name}"),
        )];
    }
    Vec::new()
}

fn mtu(platform: &Platform, link: &LinkFacts) -> Finding {
    let overhead = platform.tunnel.overhead();
    let (name, least) = (&platform.interface, MIN_INNER_MTU + overhead);
    let raise = |to: u32| format!("ip link set dev {name} mtu {to}");
    if link.mtu < least {
        let what =
            format!("{name} has an MTU of {}: the tunnel takes {overhead} and must leave {MIN_INNER_MTU}, so {least} at least", link.mtu);
        return Finding::broken(what, raise(platform.mtu.unwrap_or(1500)));
    }
    match platform.mtu {
        Some(wanted) if wanted > link.mtu => {
            let what = format!("`platform.mtu` is {wanted}, but {name} has {}: full packets would not leave", link.mtu);
            Finding::broken(what, format!("{}, or write `mtu: {}`", raise(wanted), link.mtu))
        }
        wanted => Finding::ok(format!("{name}: MTU {}, {} inside tunnels", link.mtu, wanted.unwrap_or(link.mtu) - overhead)),
    }
}

fn address(facts: &Facts, platform: &Platform, link: &LinkFacts) -> Finding {
    let Platform { interface, address, .. } = platform;
    let has = |link: &LinkFacts| link.addresses.iter().any(|net| net.addr() == *address);
    if has(link) {
        return Finding::ok(format!("{interface} has the platform address {address}"));
    }
    let remedy = format!("ip address add {} dev {interface}", IpNet::from(*address));
    match facts.network.links.iter().find(|(_, link)| has(link)) {
        Some((other, _)) => Finding::broken(
            format!("the platform address {address} is on {other} and not on {interface}"),
            format!("write `interface: {other}`, or: {remedy}"),
        ),
        None => Finding::broken(format!("{interface} does not have the platform address {address}"), remedy),
    }
}

/// What the kernel goes by: the larger of the interface's own and everyone's.
fn rp_filter(facts: &Facts, name: &IfName) -> u64 {
    ["all", name.as_str()].into_iter().filter_map(|at| facts.number(&format!("ipv4/conf/{at}/rp_filter"))).max().unwrap_or(0)
}

fn strict_tenant(facts: &Facts, name: &IfName) -> Option<Finding> {
    (rp_filter(facts, name) == STRICT).then(|| Finding::note(format!("rp_filter is strict on {name}: {TUNNELS_PASS}")))
}

/// Outer packets are checked as any others: one that comes in here and would be answered elsewhere is dropped.
fn reverse_path(facts: &Facts, config: &Config, name: &IfName) -> Vec<Finding> {
    if rp_filter(facts, name) != STRICT {
        return Vec::new();
    }
    let longest =
        |name: &IfName, to: IpAddr| facts.network.connected(name).filter(|net| net.contains(&to)).map(|net| net.prefix_len()).max();
    let elsewhere = |to: IpAddr| {
        let here = longest(name, to);
        facts.network.links.keys().filter(|other| *other != name).find(|other| longest(other, to).is_some_and(|there| here <= Some(there)))
    };
    let mut clashes = config.others().into_iter().filter_map(|(whose, outer)| Some((elsewhere(outer)?, whose, outer)));
    let Some((other, whose, outer)) = clashes.next() else {
        return vec![Finding::note(format!("rp_filter is strict on {name}: the other ends of tunnels must be reached through {name} too"))];
    };
    let more = match clashes.count() {
        0 => String::new(),
        more => format!(", and {more} like it"),
    };
    // Loose is the larger number, so it counts whatever `all` says.
    let remedy = format!("sysctl -w net.ipv4.conf.{}.rp_filter={LOOSE}", name.as_str().replace('.', "/"));
    let what =
        format!("rp_filter is strict on {name}, but {whose} ({outer}) is on {other}'s subnet too{more}: what it sends may be dropped");
    vec![Finding::warning(what, remedy)]
}

fn unreachable(facts: &Facts, name: &IfName, router: IpAddr) -> Option<Finding> {
    facts.network.link(name)?;
    let on_link = facts.network.connected(name).any(|net| net.contains(&router));
    (!on_link).then(|| Finding {
        severity: Severity::Note,
        what: format!("the router {router} is in no subnet of {name}: it is taken to be on the link"),
        remedy: Some(format!("see whether it answers: arping -I {name} {router}")),
    })
}
