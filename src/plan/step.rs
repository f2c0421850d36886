//! One change to the kernel, and a list of them that prints itself.

use super::{Element, Link, LinkKind, NftTable, Route, RouteKey, Rule, RuleAction, Ruleset, SetName, Sysctl, WireguardPeer};
use crate::model::{IfName, Mark, PublicKey};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// One change. Steps of one kind stand together in a plan, so that they can travel in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the chains and rules of a table exactly these, in one transaction; elements of its sets stay.
    ReplaceTable(NftTable, Ruleset),
    RemoveTable(NftTable),
    SetSysctl(Sysctl, String),
    /// Give a setting back the value that it had before us.
    RestoreSysctl(Sysctl),
    /// The interface does not exist.
    AddLink(IfName, Link),
    /// The interface exists with the same kind: set MTU, alias, up, and of WireGuard key and port.
    ChangeLink(IfName, Link),
    RemoveLink(IfName),
    AddAddress(IfName, IpNet),
    RemoveAddress(IfName, IpNet),
    /// Add or replace: (interface, inner next hop, outer address).
    SetNeighbour(IfName, IpAddr, IpAddr),
    RemoveNeighbour(IfName, IpAddr),
    /// Add or change a peer of a WireGuard interface, and none of the others.
    SetPeer(IfName, PublicKey, WireguardPeer),
    RemovePeer(IfName, PublicKey),
    /// Add or replace.
    SetRoute(RouteKey, Route),
    RemoveRoute(RouteKey),
    AddRule(Rule),
    RemoveRule(Rule),
    /// Add, or replace the value of.
    SetElement(SetName, Element, Option<Mark>),
    RemoveElement(SetName, Element),
    /// Let packets of established connections take the short way at this interface.
    AddFlowDevice(IfName),
    RemoveFlowDevice(IfName),
}

/// Steps in the order in which they are to be carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::ReplaceTable(t, r) => write!(f, "~ table {} portway (revision {})", t.family(), r.revision()),
            Step::RemoveTable(t) => write!(f, "- table {} portway", t.family()),
            Step::SetSysctl(s, v) => write!(f, "~ sysctl {s} = {v}"),
            Step::RestoreSysctl(s) => write!(f, "- sysctl {s}, back to its former value"),
            Step::AddLink(n, l) => write!(f, "+ link {n}: {l}"),
            Step::ChangeLink(n, l) => write!(f, "~ link {n}: {l}"),
            Step::RemoveLink(n) => write!(f, "- link {n}"),
            Step::AddAddress(n, a) => write!(f, "+ address {a} on {n}"),
            Step::RemoveAddress(n, a) => write!(f, "- address {a} on {n}"),
            Step::SetNeighbour(n, a, outer) => write!(f, "+ neighbour {a} on {n} at {outer}"),
            Step::RemoveNeighbour(n, a) => write!(f, "- neighbour {a} on {n}"),
            Step::SetPeer(n, k, p) => write!(f, "+ peer {k} on {n}: {p}"),
            Step::RemovePeer(n, k) => write!(f, "- peer {k} on {n}"),
            Step::SetRoute(k, r) => write!(f, "+ route {k} {r}"),
            Step::RemoveRoute(k) => write!(f, "- route {k}"),
            Step::AddRule(r) => write!(f, "+ rule {r}"),
            Step::RemoveRule(r) => write!(f, "- rule {r}"),
            Step::SetElement(s, e, Some(mark)) => write!(f, "+ element {s} {e} : {mark}"),
            Step::SetElement(s, e, None) => write!(f, "+ element {s} {e}"),
            Step::RemoveElement(s, e) => write!(f, "- element {s} {e}"),
            Step::AddFlowDevice(n) => write!(f, "+ flow table device {n}"),
            Step::RemoveFlowDevice(n) => write!(f, "- flow table device {n}"),
        }
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path().to_string_lossy().replace('/', "."))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            LinkKind::Gre { local, remote: Some(remote), key } => write!(f, "gre local {local} remote {remote} key {key}")?,
            LinkKind::Gre { local, remote: None, key } => write!(f, "gre local {local} remote any key {key}")?,
            LinkKind::Wireguard { key, port } => write!(f, "wireguard {} port {port}", key.public())?,
            LinkKind::Tun => write!(f, "tun")?,
            LinkKind::Other(kind) => write!(f, "{kind}")?,
        }
        write!(f, " mtu {} {} ({})", self.mtu, if self.up { "up" } else { "down" }, self.alias)
    }
}

impl fmt::Display for WireguardPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "allowed")?;
        self.allowed.iter().try_for_each(|net| write!(f, " {net}"))?;
        self.endpoint.address().iter().try_for_each(|endpoint| write!(f, " endpoint {endpoint}"))?;
        if self.keepalive > 0 { write!(f, " keepalive {} s", self.keepalive) } else { Ok(()) }
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} table {:#x} metric {}", self.destination, self.table, self.metric)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::Unreachable => write!(f, "unreachable"),
            Route::Throw => write!(f, "throw"),
            Route::Unicast { interface, via, mtu } => {
                write!(f, "dev {interface}")?;
                via.iter().try_for_each(|via| write!(f, " via {via} onlink"))?;
                mtu.iter().try_for_each(|mtu| write!(f, " mtu {mtu}"))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: fwmark {:#x}/{:#x} ", self.priority, self.mark, self.mask)?;
        match self.action {
            RuleAction::Table(t) => write!(f, "lookup {t:#x}"),
            RuleAction::Goto(p) => write!(f, "goto {p}"),
            RuleAction::Nop => write!(f, "nop"),
        }
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} portway @{}", self.table.family(), self.name)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Address(a) => write!(f, "{a}"),
            Element::Sender { outer, key, inner } => write!(f, "{outer} . key {key} . {inner}"),
            Element::SenderPrefix { outer, key, inner } => write!(f, "{outer} . key {key} . {inner}"),
            Element::Interface(i) => write!(f, "interface {i}"),
            Element::InterfaceAddress(i, a) => write!(f, "interface {i} . {a}"),
            Element::InterfacePrefix(i, p) => write!(f, "interface {i} . {p}"),
        }
    }
}
