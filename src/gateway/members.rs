//! Which nodes the group has, where the directory says so (`ha.nodes: directory`). Pure.
//!
//! ```text
//!  directory's list --> offer --> take --> lists in force --> `Ha`, as a reload of a file's lists
//!                                   ^            |
//!         others have taken it up --+            +--> "taken up" --> directory --> others
//! ```
//! What is said of others is in force at once. What is said of this node only when all others have taken it up: who comes must be heard of before it
//! listens for an Active, or it hears nobody and becomes one; and who leaves is told last (`ha/routers/simulation.rs`).

#[cfg(test)]
mod tests;

use crate::config::{Gateway, Ha};
use crate::directory::types::Member;
use crate::model::{NodeName, TenantName, TenantShard};
use crate::plan::gateway::havips;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Who has not said by then that it has taken up a list is dead, or cut off from the directory: a watch ends after 10 s, and the longest pause until it
/// is begun anew is 5 s.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// A list that was in force so long ago may be out of date, and serves only if the directory says nothing within [`FIRST`].
const RECENT: Duration = Duration::from_secs(120);
/// Seconds.
const FIRST: Duration = Duration::from_secs(5);
/// One that was in force this long ago serves no more: the group may be other machines altogether.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Nodes of a group. Each tells all others of each of its shards, many times a second.
const MOST: usize = 64;

/// What this node is to its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    pub leaving: bool,
    /// Those that it may serve.
    pub shards: BTreeSet<TenantShard>,
}

/// What is kept for the next process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub members: Vec<Member>,
    /// As it was in force; none: this node had no part yet.
    pub own: Option<Own>,
}

/// Why a list is not taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("this node, {0}, is not on it: does the directory take what it says of itself (`jit.directory.member` in the status)?")]
    NotListed(NodeName),
    #[error("it has this node at {listed}, and `platform.address` is {own}: is another machine's gateway of the same name?")]
    Elsewhere { listed: IpAddr, own: IpAddr },
    #[error("{one} and {other} have one address, {address}: give every node its own `platform.address`")]
    Twice { one: NodeName, other: NodeName, address: IpAddr },
    #[error("{node} has {address}, of another family than this node's {own}: a group has addresses of one")]
    Family { node: NodeName, address: IpAddr, own: IpAddr },
    #[error("{node} has {address}, which is a HaVip of {of} here: give it an address of its own")]
    HaVip { node: NodeName, address: IpAddr, of: TenantShard },
    #[error("{node} has {address}, which lies in {net}, a network of tenant {tenant}: write that without it in `allow` and `inner`")]
    Routed { node: NodeName, address: IpAddr, net: IpNet, tenant: TenantName },
    #[error("it has {0} nodes, more than the {MOST} of which a group may consist: take dead ones off (`portway directory gateway rm`)")]
    TooMany(usize),
    #[error("{0}")]
    Keys(String),
}

impl Refused {
    pub const LABELS: [&str; 8] = ["not_listed", "elsewhere", "twice", "family", "havip", "routed", "too_many", "keys"];

    /// Among [`Refused::LABELS`].
    pub fn place(&self) -> usize {
        match self {
            Refused::NotListed(_) => 0,
            Refused::Elsewhere { .. } => 1,
            Refused::Twice { .. } => 2,
            Refused::Family { .. } => 3,
            Refused::HaVip { .. } => 4,
            Refused::Routed { .. } => 5,
            Refused::TooMany(_) => 6,
            Refused::Keys(_) => 7,
        }
    }
}

/// Whether a list can be this gateway's group.
pub fn check(config: &Gateway, members: &[Member]) -> Result<(), Refused> {
    let own = config.platform.address;
    let listed = members.iter().find(|member| member.name == config.node).ok_or_else(|| Refused::NotListed(config.node.clone()))?;
    if listed.address != own {
        return Err(Refused::Elsewhere { listed: listed.address, own });
    }
    if members.len() > MOST {
        return Err(Refused::TooMany(members.len()));
    }
    let mut seen: BTreeMap<IpAddr, &NodeName> = BTreeMap::new();
    for Member { name, address, .. } in members {
        let (node, address) = (name.clone(), *address);
        if let Some(other) = seen.insert(address, name) {
            return Err(Refused::Twice { one: other.clone(), other: node, address });
        }
        if address.is_ipv4() != own.is_ipv4() {
            return Err(Refused::Family { node, address, own });
        }
        for tenant in &config.tenants {
            let mut shards = tenant.shards.iter();
            if let Some(shard) = shards.find(|shard| havips(&config.platform, tenant, shard).any(|(_, havip)| havip == address)) {
                return Err(Refused::HaVip { node, address, of: tenant.of(shard.shard) });
            }
            let mut routed = tenant.allow.iter().map(|allow| allow.to).chain([tenant.inner]);
            if let Some(net) = routed.find(|net| net.contains(&address)) {
                return Err(Refused::Routed { node, address, net, tenant: tenant.name.clone() });
            }
        }
    }
    Ok(())
}

/// The lists of a node whose directory knows its group.
#[derive(Debug)]
pub struct Members {
    node: NodeName,
    /// As the directory last said, if it could be taken up; empty: nothing is known yet.
    members: Vec<Member>,
    /// What of its own entry is in force; none: nobody need know this node yet.
    own: Option<Own>,
    /// The others do not know yet what its own entry has become in that revision; and until when that is waited for.
    waits: Option<(u64, Instant)>,
    /// What a process before this one knew, to be taken then if the directory has said nothing.
    shelved: Option<(Instant, Known)>,
    /// What the directory has said and could not be taken up so far.
    offered: Option<Vec<Member>>,
    refused: Option<Refused>,
}

impl Members {
    /// `known`: of a process before this one, and how long ago it was in force.
    pub fn new(node: NodeName, known: Option<(Known, Duration)>, now: Instant) -> Self {
        let shelved = known.filter(|(_, age)| *age <= LONGEST).map(|(known, age)| (if age <= RECENT { now } else { now + FIRST }, known));
        let mut members = Self { node, members: Vec::new(), own: None, waits: None, shelved, offered: None, refused: None };
        members.advance(now);
        members
    }

    /// The directory has said who there is. To be taken up by [`Members::take`].
    pub fn offer(&mut self, members: Vec<Member>) {
        self.offered = Some(members);
    }

    /// Takes up what can be.
    pub fn take(&mut self, config: &Gateway, now: Instant) {
        self.refused = None;
        if let Some(offered) = self.offered.take() {
            match check(config, &offered) {
                Ok(()) => {
                    self.members = offered;
                    self.shelved = None;
                }
                Err(refused) => {
                    self.offered = Some(offered);
                    self.refused = Some(refused);
                }
            }
        }
        self.advance(now);
    }

    /// What was taken up cannot be in force.
    pub fn refuse(&mut self, refused: Refused) {
        self.refused = Some(refused);
    }

    fn advance(&mut self, now: Instant) {
        if let Some((_, known)) = self.shelved.take_if(|(at, _)| *at <= now) {
            (self.members, self.own) = (known.members, known.own);
        }
        let Some(me) = self.members.iter().find(|member| member.name == self.node) else { return };
        let is_so = self.own.as_ref().is_some_and(|own| (own.leaving, &own.shards) == (me.leaving, &me.shards));
        if is_so {
            self.waits = None;
            return;
        }
        let mut others = self.members.iter().filter(|member| member.name != self.node);
        let until = self.waits.filter(|(since, _)| *since == me.since).map_or(now + PATIENCE, |(_, until)| until);
        if others.all(|other| other.heeds >= me.since) || until <= now {
            self.own = Some(Own { leaving: me.leaving, shards: me.shards.clone() });
            self.waits = None;
        } else {
            self.waits = Some((me.since, until));
        }
    }

    /// What is in force: of a configuration these lists, and all else as it is.
    pub fn applied(&self, ha: &Ha) -> Ha {
        let mut ha = ha.clone();
        if self.members.is_empty() {
            return ha;
        }
        let others = || self.members.iter().filter(|member| member.name != self.node);
        ha.nodes = self.members.iter().map(|member| (member.name.clone(), member.address)).collect();
        ha.leaving = others().filter(|other| other.leaving).map(|other| other.name.clone()).collect();
        let mut eligible: BTreeMap<NodeName, BTreeSet<TenantShard>> =
            others().map(|other| (other.name.clone(), other.shards.clone())).collect();
        eligible.insert(self.node.clone(), self.own.as_ref().map(|own| own.shards.clone()).unwrap_or_default());
        ha.eligible = Some(eligible);
        ha.leaving.extend(self.own.as_ref().filter(|own| own.leaving).map(|_| self.node.clone()));
        ha
    }

    /// What others wait for: the last change of any of them that is in force here.
    pub fn heeds(&self) -> u64 {
        self.members.iter().map(|member| member.since).max().unwrap_or(0)
    }

    /// For the next process; none: nothing is known.
    pub fn known(&self) -> Option<Known> {
        (!self.members.is_empty()).then(|| Known { members: self.members.clone(), own: self.own.clone() })
    }

    /// When there is something to be done at the latest.
    pub fn due(&self) -> Option<Instant> {
        self.shelved.iter().map(|(at, _)| *at).chain(self.waits.iter().map(|(_, until)| *until)).min()
    }

    /// As the directory has it, whether that is in force already or not.
    pub fn leaves(&self) -> bool {
        self.members.iter().any(|member| member.name == self.node && member.leaving)
    }

    pub fn refused(&self) -> Option<&Refused> {
        self.refused.as_ref()
    }

    /// A word for it.
    pub fn part(&self) -> &'static str {
        match (&self.own, self.members.is_empty()) {
            (_, true) => "unknown",
            (None, false) => "coming",
            (Some(own), false) if own.leaving => "leaving",
            (Some(_), false) if self.leaves() => "about to leave",
            (Some(_), false) => "member",
        }
    }
}
