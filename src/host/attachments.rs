//! Which containers are bound to which tenant. Pure: the shell resolves interfaces and carries out the effects.

mod placing;

use crate::config::Host;
use crate::model::{AttachmentName, IfName, Invalid, PoolName, ShardId, TenantName, TenantShard, Who};
use crate::plan::host::Attached;
use crate::plan::{Element, SetName};
use ipnet::IpNet;
use placing::shard_for;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// What a caller asks for: a tenant, and where the function's packets come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub tenant: TenantName,
    /// The host's end of the container's link, or the port of a bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<IfName>,
    /// Instead of `interface`: the container's network namespace, by path; its link's other end is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// Only packets from this address or network. IPv4; a bare address means itself.
    #[serde(default, deserialize_with = "address_or_network", skip_serializing_if = "Option::is_none")]
    pub source: Option<IpNet>,
    /// Pins the attachment to a shard. Otherwise the name decides, and always the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardId>,
    /// A pool of outbound addresses: the name decides among its shards. It is kept in the [`Attachment`], as programs of before there were pools read this as it was.
    #[serde(default, skip_serializing)]
    pub egress: Option<PoolName>,
}

fn address_or_network<'de, D: Deserializer<'de>>(d: D) -> Result<Option<IpNet>, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
    parse_source(&text).map(Some).map_err(serde::de::Error::custom)
}

/// `10.88.0.7` or `10.88.0.0/28`.
pub fn parse_source(text: &str) -> Result<IpNet, Invalid> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| Invalid(format!("source {text:?} is neither an address nor a network: write 10.88.0.7 or 10.88.0.0/28")))?;
    match net {
        IpNet::V6(_) => Err(Invalid(format!("source {text} is IPv6, which tunnels do not carry yet: give the IPv4 address"))),
        IpNet::V4(v4) if v4.trunc() != v4 => {
            Err(Invalid(format!("source {text} has host bits set: write {} or {}/32", v4.trunc(), v4.addr())))
        }
        IpNet::V4(_) => Ok(net),
    }
}

/// An attachment as it stands and as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub name: AttachmentName,
    /// Without `egress`.
    pub spec: Spec,
    pub attached: Attached,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<PoolName>,
}

/// Why an attachment was refused; each has its status code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Invalid(String),
    #[error("tenant {0} is not served here: add it to `tenants` in this host's configuration, or to this host in the directory")]
    UnknownTenant(TenantName),
    #[error("shard {0} is not served here: add it to the tenant's `shards` in this host's configuration, or in the directory")]
    UnknownShard(TenantShard),
    #[error("tenant {tenant} has no pool {pool}: {remedy}")]
    UnknownPool { tenant: TenantName, pool: PoolName, remedy: String },
    #[error("all shards of tenant {tenant} are in pools of outbound addresses: name one with `egress` ({pools})")]
    NoPool { tenant: TenantName, pools: String },
    #[error("shard {of} is not in the pool {pool}: give `egress` or `shard` alone")]
    OutsidePool { of: TenantShard, pool: PoolName },
    #[error("none of the shards of {tenant}'s pool {pool} is served here: see `left_out` in `portway status --json`")]
    PoolAway { tenant: TenantName, pool: PoolName },
    #[error("none of the shards of tenant {0} that are in no pool is served here for now: see `left_out` in `portway status --json`")]
    Away(TenantName),
    #[error("{0}")]
    NoInterface(String),
    #[error("there is no attachment {0}")]
    Unknown(AttachmentName),
    #[error("{name} is attached already with other values ({stands}): detach it first")]
    Different { name: AttachmentName, stands: String },
    #[error("these packets belong to attachment {0} already: detach that one first, or give a narrower `source`")]
    Taken(AttachmentName),
    #[error("65535 attachments stand, the most that a host can hold")]
    Full,
}

/// What an attach call comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Attach {
    /// It stands already, with these very values.
    Stands(Attachment),
    /// It can be made. Nothing is recorded until [`Attachments::insert`].
    New(Attachment),
}

/// Where a function's packets come from, as found in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub interface: IfName,
    pub index: u32,
    pub port: bool,
}

/// All attachments of this host.
#[derive(Debug, Default)]
pub struct Attachments {
    by_name: BTreeMap<AttachmentName, Attachment>,
    by_element: HashMap<(SetName, Element), AttachmentName>,
    by_who: HashMap<Who, AttachmentName>,
    by_shard: BTreeMap<TenantShard, usize>,
    last: u16,
}

impl Attachments {
    /// Decides on a call, without changing anything.
    pub fn decide(&self, config: &Host, name: &AttachmentName, spec: &Spec, found: &Found) -> Result<Attach, Refusal> {
        let asked = Spec { egress: None, ..spec.clone() };
        if let Some(stands) = self.by_name.get(name) {
            let there = &stands.attached;
            // Asked for as before it stays where it was put, whatever the pools are by now.
            if stands.spec == asked
                && stands.egress == spec.egress
                && (&there.interface, there.index, there.port) == (&found.interface, found.index, found.port)
            {
                return Ok(Attach::Stands(stands.clone()));
            }
        }
        let to = shard_for(config, name, spec)?;
        let like = |who| Attached {
            who,
            to: to.clone(),
            interface: found.interface.clone(),
            index: found.index,
            source: spec.source,
            port: found.port,
        };
        if let Some(stands) = self.by_name.get(name) {
            if stands.attached == like(stands.attached.who) && stands.egress == spec.egress {
                return Ok(Attach::Stands(stands.clone()));
            }
            return Err(Refusal::Different { name: name.clone(), stands: stands.describe() });
        }
        let attached = like(self.free().ok_or(Refusal::Full)?);
        if let Some(owner) = self.by_element.get(&attached.element()).or_else(|| self.overlapping(&attached)) {
            return Err(Refusal::Taken(owner.clone()));
        }
        Ok(Attach::New(Attachment { name: name.clone(), spec: asked, attached, egress: spec.egress.clone() }))
    }

    /// An attachment whose network on the same interface has addresses in common with this one's: an interval set
    /// cannot hold both.
    fn overlapping(&self, new: &Attached) -> Option<&AttachmentName> {
        let wide = |attached: &Attached| attached.source.filter(|net| net.prefix_len() < net.max_prefix_len());
        let net = wide(new)?;
        let clash = |other: &&Attachment| {
            other.attached.index == new.index && wide(&other.attached).is_some_and(|theirs| theirs.contains(&net) || net.contains(&theirs))
        };
        self.iter().find(clash).map(|attachment| &attachment.name)
    }

    /// The next number after the last one given, so that a number rests as long as possible before it serves again.
    fn free(&self) -> Option<Who> {
        let mut number = self.last;
        (0..u32::from(u16::MAX)).find_map(|_| {
            number = if number == u16::MAX { 1 } else { number + 1 };
            Who::try_from(number).ok().filter(|who| !self.by_who.contains_key(who))
        })
    }

    pub fn insert(&mut self, attachment: Attachment) {
        let Attachment { name, attached, .. } = &attachment;
        self.last = attached.who.get();
        self.by_element.insert(attached.element(), name.clone());
        self.by_who.insert(attached.who, name.clone());
        *self.by_shard.entry(attached.to.clone()).or_default() += 1;
        self.by_name.insert(name.clone(), attachment);
    }

    pub fn remove(&mut self, name: &AttachmentName) -> Option<Attachment> {
        let gone = self.by_name.remove(name)?;
        self.by_element.remove(&gone.attached.element());
        self.by_who.remove(&gone.attached.who);
        if let Some(count) = self.by_shard.get_mut(&gone.attached.to) {
            *count -= 1;
            if *count == 0 {
                self.by_shard.remove(&gone.attached.to);
            }
        }
        Some(gone)
    }

    pub fn get(&self, name: &AttachmentName) -> Option<&Attachment> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Attachment> {
        self.by_name.values()
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many lead to each shard.
    pub fn by_shard(&self) -> &BTreeMap<TenantShard, usize> {
        &self.by_shard
    }

    /// Whether some attachment needs this interface.
    pub fn uses(&self, index: u32) -> bool {
        self.iter().any(|attachment| attachment.attached.index == index)
    }
}

impl Attachment {
    fn describe(&self) -> String {
        let Attached { to, interface, source, .. } = &self.attached;
        let source = source.map(|net| format!(" source {net}")).unwrap_or_default();
        let egress = self.egress.as_ref().map(|pool| format!(" egress {pool}")).unwrap_or_default();
        format!("tenant {} shard {} interface {interface}{source}{egress}", to.tenant, to.shard)
    }
}

#[cfg(test)]
mod tests;
