//! Whether rules of security groups let something through: pure, and as EC2 does it, where rules only ever allow.
//! <https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html>

use crate::model::{Permission, SecurityGroupId};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Numbers of protocols (IANA).
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const GRE: u8 = 47;
pub const ICMPV6: u8 = 58;
pub const VRRP: u8 = 112;

pub const ALL: RangeInclusive<u16> = 0..=u16::MAX;

/// What is to pass, one way. All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic<'t> {
    pub protocol: u8,
    /// Ports that it is sent to. Of ICMP: 256 times the type, and the code. Of what has neither: [`ALL`].
    pub ports: RangeInclusive<u16>,
    pub far: Far<'t>,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Far<'t> {
    /// `groups`: those that the interface there is in. None: not known.
    Network { net: IpNet, groups: Option<&'t BTreeSet<SecurityGroupId>> },
    /// Some machine or other.
    Somebody,
}

/// From worst to best.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Blocked,
    /// It depends on what is in these: prefix lists, or groups.
    Open(BTreeSet<String>),
    Passes,
}

impl Traffic<'_> {
    pub fn judge<'r>(&self, rules: impl Iterator<Item = &'r Permission>) -> Verdict {
        let rules: Vec<(RangeInclusive<u16>, &Permission)> = rules.filter_map(|rule| Some((ports(rule, self.protocol)?, rule))).collect();
        let mut open = BTreeSet::new();
        // Between these nothing changes.
        let within = |port: &u16| self.ports.contains(port);
        let begins = rules.iter().flat_map(|(ports, _)| [Some(*ports.start()), ports.end().checked_add(1)]).flatten().filter(within);
        for port in begins.chain([*self.ports.start()]).collect::<BTreeSet<u16>>() {
            match self.far.judge(rules.iter().filter(|(ports, _)| ports.contains(&port)).map(|(_, rule)| *rule)) {
                Verdict::Blocked => return Verdict::Blocked,
                Verdict::Open(of) => open.extend(of),
                Verdict::Passes => {}
            }
        }
        if open.is_empty() { Verdict::Passes } else { Verdict::Open(open) }
    }
}

impl Far<'_> {
    fn judge<'r>(&self, rules: impl Iterator<Item = &'r Permission>) -> Verdict {
        let (mut networks, mut open) = (vec![], BTreeSet::new());
        for rule in rules {
            match self {
                Far::Somebody if !(rule.networks.is_empty() && rule.groups.is_empty() && rule.prefix_lists.is_empty()) => {
                    return Verdict::Passes;
                }
                Far::Network { groups: Some(groups), .. } if rule.groups.iter().any(|id| groups.iter().any(|own| own.as_str() == id)) => {
                    return Verdict::Passes;
                }
                Far::Network { groups: None, .. } => open.extend(rule.groups.iter().cloned()),
                Far::Network { groups: Some(_), .. } | Far::Somebody => {}
            }
            networks.extend(rule.networks.iter().copied());
            open.extend(rule.prefix_lists.iter().cloned());
        }
        // Neighbours that each have a part have the whole together.
        let has = |net: &IpNet| IpNet::aggregate(&networks).iter().any(|whole| whole.contains(net));
        match self {
            Far::Network { net, .. } if has(net) => Verdict::Passes,
            Far::Network { .. } if !open.is_empty() => Verdict::Open(open),
            Far::Network { .. } | Far::Somebody => Verdict::Blocked,
        }
    }
}

/// What a rule allows of a protocol.
fn ports(rule: &Permission, protocol: u8) -> Option<RangeInclusive<u16>> {
    let number = match rule.protocol.as_str() {
        "-1" => return Some(ALL),
        "icmp" => ICMP,
        "tcp" => TCP,
        "udp" => UDP,
        "icmpv6" => ICMPV6,
        other => other.parse().ok()?,
    };
    let written = |value: Option<i32>| value.and_then(|value| u16::try_from(value).ok());
    let (from, to) = (written(rule.from), written(rule.to));
    (number == protocol).then(|| match protocol {
        ICMP | ICMPV6 => match (from.and_then(|kind| u8::try_from(kind).ok()), to.and_then(|code| u8::try_from(code).ok())) {
            (None, _) => ALL,
            (Some(kind), None) => icmp(kind, None),
            (Some(kind), code) => icmp(kind, code),
        },
        TCP | UDP => from.unwrap_or(0)..=to.unwrap_or(u16::MAX),
        _ => ALL,
    })
}

/// As [`Traffic::ports`]. No code: all of them.
pub fn icmp(kind: u8, code: Option<u8>) -> RangeInclusive<u16> {
    let at = |code: u8| u16::from_be_bytes([kind, code]);
    code.map_or(at(0)..=at(u8::MAX), |code| at(code)..=at(code))
}

#[cfg(test)]
mod tests;
