//! The words of the domain as types: a value of one of these has been checked once and stays right.
//!
//! Nothing here does I/O or knows of the other modules.

mod addresses;
mod admin;
mod ec2;
mod failure;
mod flow;
mod flow_life;
mod host_name;
mod mark;
mod name;
mod pools;
mod port;
mod registered;
mod rendezvous;
mod secret;
mod security_group;
mod text;
mod topic;
mod track;
mod vrrp;
mod wireguard;

pub use addresses::{AddressList, Addresses};
pub use admin::AdminAt;
pub use ec2::{AllocationId, EniId, InstanceId, RouteTableId, SecurityGroupId};
pub use failure::{Failure, Why};
pub use flow::{Flow, FlowChange, FlowKey, FlowProtocol, FlowStatus, FlowStep, NatSource, TcpState};
pub use flow_life::{FlowCount, FlowEnd, FlowLife, FlowTimeouts};
pub use host_name::HostName;
pub use mark::{MARK_MASK, Mark, SLOT_MASK, SLOT_PRESENT, Slot, WHO_MASK, Who};
pub use name::{AttachmentName, AutoscalerName, IfName, Lane, NodeName, PoolName, SourceName, TenantName};
pub use pools::Pools;
pub use port::PortRange;
pub use registered::Registered;
pub use rendezvous::rendezvous;
pub use secret::{KeyId, Secret};
pub use security_group::{Permission, SecurityGroup};
pub use topic::TopicArn;
pub use track::Cost;
pub use vrrp::{AdvertInterval, ChecksumForm, Priority, Vrid, VrrpVersion};
pub use wireguard::{PrivateKey, PublicKey};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a value was refused, and what would be right: shown to the operator as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// A GRE key (RFC 2890 section 2.1): 32 bits that tell tunnels between the same two outer addresses apart.
/// It is a tag and no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GreKey(pub u32);

impl fmt::Display for GreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a shard within its tenant, 0 to 65,535.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u16);

impl FromStr for ShardId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(ShardId).map_err(|_| Invalid(format!("{text:?} is no number of a shard: write 0 to 65535")))
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One shard of one tenant: what a tunnel, a mark and a route table belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantShard {
    pub tenant: TenantName,
    pub shard: ShardId,
}

impl fmt::Display for TenantShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.shard)
    }
}

/// `acme/1`; a tenant alone means its shard 0.
impl std::str::FromStr for TenantShard {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let Some((tenant, shard)) = s.rsplit_once('/') else { return Ok(Self { tenant: s.parse()?, shard: ShardId::default() }) };
        let shard = shard.parse().map_err(|_| Invalid(format!("{s:?} is not TENANT or TENANT/SHARD, with a shard from 0 to 65535")))?;
        Ok(Self { tenant: tenant.parse()?, shard: ShardId(shard) })
    }
}

impl TryFrom<String> for TenantShard {
    type Error = Invalid;
    fn try_from(s: String) -> Result<Self, Invalid> {
        s.parse()
    }
}

impl From<TenantShard> for String {
    fn from(of: TenantShard) -> String {
        if of.shard == ShardId::default() { of.tenant.into() } else { of.to_string() }
    }
}
