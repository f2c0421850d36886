//! What becomes of a packet in a VPC: it goes to whoever owns its destination, or is led there by a route, if source/destination checks and the security groups of both
//! interfaces let it. Each interface knows its own connections and nobody else's, wherever an address goes.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html>
//!
//! Whatever a rule lets through begins a connection, in the midst of one of TCP too, and is remembered for good: AWS forgets those that are silent, after 350 s and more.

use super::{Cloud, Ec2};
use crate::lab::packet::{ECHO_REPLY, ECHO_REQUEST};
use crate::model::{EniId, Permission, RouteTableId};
use crate::wire::ipv4::Header;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

#[cfg(test)]
mod tests;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// As much of a packet as rules are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub says: Says,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    Ports {
        source: u16,
        destination: u16,
    },
    /// `id`: of an echo, or its reply.
    Icmp {
        kind: u8,
        code: u8,
        id: Option<u16>,
    },
    /// Of a protocol that has no ports, or a fragment behind the first.
    Nothing,
}

/// An address and a port, or what stands for one: the identifier of an echo, 0 where there is none.
type End = (IpAddr, u16);
/// Protocol; this end and the other, as an interface has them.
type Connection = (u8, End, End);

/// What interfaces have seen, each for itself.
pub(super) type Tracked = BTreeMap<EniId, BTreeSet<Connection>>;

impl Packet {
    /// None: it is not IPv4, or cut short.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header = Header::parse(bytes).ok()?;
        let payload = bytes.get(header.header_len..header.total_len)?;
        let word = |at: usize| payload.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        let says = match header.protocol {
            _ if header.fragment_offset > 0 => Says::Nothing,
            TCP | UDP => Says::Ports { source: word(0)?, destination: word(2)? },
            ICMP => {
                let (kind, code) = (*payload.first()?, *payload.get(1)?);
                let is_echo = [ECHO_REQUEST, ECHO_REPLY].contains(&kind);
                Says::Icmp { kind, code, id: if is_echo { Some(word(4)?) } else { None } }
            }
            _ => Says::Nothing,
        };
        Some(Self { source: header.source.into(), destination: header.destination.into(), protocol: header.protocol, says })
    }

    /// As the interface has it at which it goes out, or comes in. None: it is nobody's answer and has none.
    fn connection(&self, out: bool) -> Option<Connection> {
        let (from, to) = match self.says {
            Says::Ports { source, destination } => (source, destination),
            Says::Icmp { id, .. } => (id?, id?),
            Says::Nothing => (0, 0),
        };
        let (from, to) = ((self.source, from), (self.destination, to));
        let (near, far) = if out { (from, to) } else { (to, from) };
        Some((self.protocol, near, far))
    }

    /// Whether a rule is about such packets, whoever the other end is.
    fn is_of(&self, rule: &Permission) -> bool {
        let protocol = match rule.protocol.as_str() {
            "-1" => return true,
            "tcp" => TCP,
            "udp" => UDP,
            "icmp" => ICMP,
            number => match number.parse() {
                Ok(number) => number,
                Err(_) => return false,
            },
        };
        let [from, to] = [rule.from, rule.to].map(|said| said.filter(|said| *said != -1));
        protocol == self.protocol
            && match self.says {
                Says::Ports { destination, .. } => {
                    let port = i32::from(destination);
                    from.is_none_or(|from| from <= port) && to.is_none_or(|to| port <= to)
                }
                Says::Icmp { kind, code, .. } => from.is_none_or(|of| of == i32::from(kind)) && to.is_none_or(|of| of == i32::from(code)),
                Says::Nothing => from.is_none() && to.is_none(),
            }
    }
}

/// A VPC: interfaces that reach each other, and the route table that they go by, if they have one.
#[derive(Debug, Clone, Default)]
pub struct Within {
    pub enis: BTreeSet<EniId>,
    pub table: Option<RouteTableId>,
}

/// Where a packet ended that reached nobody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropped {
    pub at: EniId,
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// From an address, or to one, that the interface does not have and whose source/destination check is on.
    Check,
    /// No rule lets it out.
    Egress,
    /// No interface has this address, and no route leads to one.
    NoOwner,
    /// No rule lets it in.
    Ingress,
}

impl Cloud {
    /// Whom a packet reaches that an interface sends.
    pub fn carry(&self, within: &Within, from: &EniId, packet: &Packet) -> Result<EniId, Dropped> {
        self.account().ec2.carry(within, from, packet)
    }

    /// Whom packets to an address reach.
    pub fn leads(&self, within: &Within, to: IpAddr) -> Option<EniId> {
        self.account().ec2.leads(within, to).cloned()
    }

    /// The interface with this hardware address, as `ip` writes it.
    pub fn eni_of(&self, mac: &str) -> Option<EniId> {
        self.account().ec2.enis.iter().find(|(_, eni)| eni.mac == mac).map(|(id, _)| id.clone())
    }
}

impl Ec2 {
    fn carry(&mut self, within: &Within, from: &EniId, packet: &Packet) -> Result<EniId, Dropped> {
        let dropped = |at: &EniId, why| Dropped { at: at.clone(), why };
        if !self.may_have(from, packet.source) {
            return Err(dropped(from, Why::Check));
        }
        if !self.lets(within, from, packet, true) {
            return Err(dropped(from, Why::Egress));
        }
        let to = self.leads(within, packet.destination).cloned().ok_or_else(|| dropped(from, Why::NoOwner))?;
        if !self.may_have(&to, packet.destination) {
            return Err(dropped(&to, Why::Check));
        }
        if !self.lets(within, &to, packet, false) {
            return Err(dropped(&to, Why::Ingress));
        }
        Ok(to)
    }

    /// Whoever owns an address, or is the target of the narrowest route to it.
    fn leads<'a>(&'a self, within: &'a Within, to: IpAddr) -> Option<&'a EniId> {
        let owner = within.enis.iter().find(|id| self.owns(id, to));
        let routes = within.table.iter().filter_map(|table| self.tables.get(table)).flatten();
        let route = || routes.filter(|(net, _)| net.contains(&to)).max_by_key(|(net, _)| net.prefix_len());
        owner.or_else(|| route().map(|(_, eni)| eni).filter(|eni| within.enis.contains(*eni)))
    }

    fn owns(&self, id: &EniId, address: IpAddr) -> bool {
        self.enis.get(id).is_some_and(|eni| eni.addresses.contains(&address))
    }

    fn may_have(&self, id: &EniId, address: IpAddr) -> bool {
        !self.described.is_checked(id) || self.owns(id, address)
    }

    /// Whether an interface lets a packet out or in, and with it all that belongs to it later. One that was put into no group lets everything.
    fn lets(&mut self, within: &Within, id: &EniId, packet: &Packet, out: bool) -> bool {
        let Some(groups) = self.described.groups_of(id) else { return true };
        let connection = packet.connection(out);
        let known = self.tracked.entry(id.clone()).or_default();
        if connection.is_some_and(|connection| known.contains(&connection)) {
            return true;
        }
        let far = if out { packet.destination } else { packet.source };
        let mut rules = groups.flat_map(|group| if out { &group.egress } else { &group.ingress });
        let lets = rules.any(|rule| packet.is_of(rule) && self.is_about(within, rule, far));
        if let Some(connection) = connection.filter(|_| lets) {
            self.tracked.entry(id.clone()).or_default().insert(connection);
        }
        lets
    }

    /// Whether the other end is one that a rule names: by its network, or as an address of an interface in a group. What is in a prefix list nobody knows here.
    fn is_about(&self, within: &Within, rule: &Permission, far: IpAddr) -> bool {
        let is_member = |id: &&EniId| self.described.is_in(id, &rule.groups);
        rule.networks.iter().any(|net| net.contains(&far)) || within.enis.iter().filter(is_member).any(|id| self.owns(id, far))
    }
}
