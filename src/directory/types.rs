//! What is said over the API, in both directions: bodies of calls and of answers.

use crate::model::{AdminAt, NodeName, Pools, PublicKey, ShardId, TenantName, TenantShard};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// What an operator says of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSpec {
    /// Where its inner addresses come from. It can be changed as long as no host has one.
    pub inner: IpNet,
    /// Bits of the prefix that a host gets in each shard: two more than those of `inner`, up to 32. Default 32: one address.
    #[serde(default = "one_address")]
    pub host_prefix: u8,
    /// The shards that there are. Default: shard 0.
    #[serde(default = "one_shard")]
    pub shards: BTreeSet<ShardId>,
    /// Names for some of them. Default: as before; a new tenant has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Pools>,
}

fn one_address() -> u8 {
    32
}

fn one_shard() -> BTreeSet<ShardId> {
    [ShardId::default()].into()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    pub name: TenantName,
    pub inner: IpNet,
    pub host_prefix: u8,
    pub shards: BTreeSet<ShardId>,
    pub hosts: u64,
    #[serde(default)]
    pub egress: Pools,
}

/// What a gateway (or an operator) says of a shard that it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardSpec {
    /// The platform HaVip and the port of its tunnels.
    pub endpoint: SocketAddr,
    pub public_key: PublicKey,
    /// While the shard's key is changed: the one that hosts must accept beside the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key: Option<PublicKey>,
    /// Where that one is answered, at the same address. None: nowhere yet, and no host goes there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    pub of: TenantShard,
    /// None until a gateway has brought it; the key too.
    pub endpoint: Option<SocketAddr>,
    pub public_key: Option<PublicKey>,
    pub next_key: Option<PublicKey>,
    #[serde(default)]
    pub next_port: Option<u16>,
    pub gateways: BTreeSet<NodeName>,
}

/// What an operator says of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySpec {
    pub shards: BTreeSet<TenantShard>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    pub name: NodeName,
    /// The revision in which its shards last became others.
    pub epoch: u64,
    pub shards: BTreeSet<TenantShard>,
    /// Where it advertises from; none: it is in no group.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// It is about to go, and candidate for no shard.
    #[serde(default)]
    pub leaving: bool,
}

/// What a gateway says of itself as a node of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberSpec {
    /// Where it advertises from: its platform address.
    pub address: IpAddr,
    /// Whether it is about to go. None: as before; who is new stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<bool>,
    /// The latest [`Member::since`] that it goes by.
    #[serde(default)]
    pub heeds: u64,
}

/// A node of a group, as the others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: NodeName,
    pub address: IpAddr,
    pub leaving: bool,
    /// The revision in which all of this but `heeds` last became what it is.
    pub since: u64,
    pub heeds: u64,
    /// Those that it may serve; only of tenants that the caller may see.
    pub shards: BTreeSet<TenantShard>,
}

/// All nodes that share a tenant with the caller, itself among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    pub members: Vec<Member>,
    pub revision: u64,
}

/// What an operator says of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSpec {
    /// Those that it may serve.
    pub tenants: BTreeSet<TenantName>,
    /// For a host that does not enrol, such as one that is set up by wg(8). It becomes the host's only key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
}

/// A host, as far as the caller may see it: its other tenants are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub name: NodeName,
    /// The present one last. Empty: it has not enrolled yet.
    pub keys: Vec<HostKey>,
    pub inner: BTreeMap<TenantShard, Vec<IpNet>>,
    /// As of which everything here is true.
    pub revision: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostKey {
    pub public_key: PublicKey,
    /// Seconds since 1970; none: it is the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
}

/// All that a host needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub host: Host,
    pub shards: Vec<Shard>,
    /// Of tenants that have some. None: whoever said so knows nothing of pools, as before version 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<BTreeMap<TenantName, Pools>>,
}

/// All that a gateway needs to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub gateway: Gateway,
    pub shards: Vec<Shard>,
    /// The nodes of its group, by name.
    #[serde(default)]
    pub members: Vec<Member>,
    pub revision: u64,
}

/// What a gateway says of itself every few seconds. It is kept in memory, and stands in the status of the directory. What a newer one says more is let be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GatewayReport {
    pub version: String,
    /// On the platform's side: function hosts and their tunnels.
    pub traffic: Option<TrafficReport>,
    pub shards: BTreeMap<TenantShard, ShardReport>,
    /// The latest first.
    pub takeovers: Vec<TakeoverReport>,
    /// Where its `admin` listener is asked from elsewhere; none: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminAt>,
}

/// What an interface has counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// The gateway's monotonic clock at that time, in seconds.
    pub clock_s: f64,
    pub received_packets: u64,
    pub received_bytes: u64,
    pub sent_packets: u64,
    pub sent_bytes: u64,
}

/// A shard as it is at one gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardReport {
    pub state: ShardState,
    /// How long it has been so, in seconds; none: it is not known.
    pub for_s: Option<f64>,
    pub in_sync: Option<bool>,
    /// Of an Active that knows them.
    pub connections: Option<u64>,
    /// Function hosts that may send through it: named, or let in just in time.
    #[serde(default)]
    pub peers: Option<u64>,
    pub warnings: Vec<String>,
}

/// What a host says of itself. It is kept in memory, and stands in the status of the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    pub version: String,
    /// How many attachments lead to each shard that it serves.
    pub attachments: BTreeMap<TenantShard, u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardState {
    Initialize,
    Backup,
    Active,
    Offering,
    Releasing,
    /// No other gateway could have it.
    Alone,
}

/// A shard came from another node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TakeoverReport {
    pub of: TenantShard,
    pub from: IpAddr,
    /// Seconds.
    pub ago_s: f64,
    pub why: String,
    /// From the last advertisement of the node before to the first announcement of this one; none: the other one went on forwarding.
    pub gap_ms: Option<f64>,
}

/// The directory and the fleet, as far as the caller may see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    /// `directory`.
    pub role: String,
    pub version: String,
    pub ready: bool,
    pub revision: u64,
    /// Calls that wait for changes.
    pub watchers: u64,
    pub tenants: Vec<Tenant>,
    pub shards: Vec<Shard>,
    pub gateways: Vec<FleetGateway>,
    /// Of shards that a host serves that has said something lately.
    #[serde(default)]
    pub attachments: BTreeMap<TenantShard, Attachments>,
}

/// What hosts say of a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachments {
    /// Those that have said something lately.
    pub hosts: u64,
    /// All that lead to it, at these.
    pub attachments: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetGateway {
    pub name: NodeName,
    pub shards: BTreeSet<TenantShard>,
    /// Seconds since it last said something; none: nothing since this directory was started.
    pub heard_s: Option<f64>,
    pub report: Option<GatewayReport>,
}

/// What whoever asks gateways for their numbers needs of each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reach {
    pub name: NodeName,
    /// Seconds since it last said something; none: nothing since this directory was started, or for an hour.
    pub heard_s: Option<f64>,
    /// What it is; none: it has said nothing.
    pub version: Option<String>,
    /// Where it is asked; none: it has said nothing, or nobody but its own machine may ask it.
    pub admin: Option<AdminAt>,
}

/// A page of a long list, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosts {
    pub hosts: Vec<Host>,
    /// Where the next page begins; none: this was the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<NodeName>,
    pub revision: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Operator,
    Gateway,
    Host,
    /// A host to be, once.
    Enroll,
    /// Whoever looks: at the fleet, and at nothing else.
    Observer,
}

impl Role {
    pub const ALL: [Role; 5] = [Role::Operator, Role::Gateway, Role::Host, Role::Enroll, Role::Observer];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Operator => "operator",
            Role::Gateway => "gateway",
            Role::Host => "host",
            Role::Enroll => "enroll",
            Role::Observer => "observer",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// Not `host`: hosts get theirs when they enrol.
    pub role: Role,
    /// Operator, observer: what it may see, and the operator change (none: everything). Enrolment: what the host may serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<BTreeSet<TenantName>>,
    /// Gateway: whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<NodeName>,
    /// Enrolment: the only name that it is good for. Such a token may give a host that there is a new key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<NodeName>,
    /// Seconds from now. Default: enrolment 1 h; others never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u32>,
}

/// A token, without what makes it one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: String,
    pub role: Role,
    /// None: all.
    pub tenants: Option<BTreeSet<TenantName>>,
    pub gateway: Option<NodeName>,
    pub host: Option<NodeName>,
    /// Seconds since 1970.
    pub created: i64,
    pub expires: Option<i64>,
    /// Enrolment: the host that used it.
    pub used_by: Option<NodeName>,
}

/// A new token. Its text is told this once and kept nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minted {
    pub id: String,
    pub token: String,
    pub expires: Option<i64>,
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted").field("id", &self.id).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Whom the directory takes the caller for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whoami {
    pub role: Role,
    pub name: Option<NodeName>,
    /// None: all.
    pub tenants: Option<BTreeSet<TenantName>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeSpec {
    pub public_key: PublicKey,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Base64: an expiry and random bytes.
    pub nonce: String,
    pub server_key: PublicKey,
    /// Seconds.
    pub expires_s: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollSpec {
    pub name: NodeName,
    pub public_key: PublicKey,
    pub nonce: String,
    /// Base64 of HMAC-SHA256; docs/directory.md says of what.
    pub proof: String,
    /// Only these tenants of those that the token allows. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<BTreeSet<TenantName>>,
    /// What the host believes to have: the enrolment is refused if it would get anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<BTreeMap<TenantShard, Vec<IpNet>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The host's own token.
    pub credential: Minted,
    #[serde(flatten)]
    pub membership: Membership,
}

/// A host's new key. The former one is valid for `key_grace` longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    pub public_key: PublicKey,
    pub nonce: String,
    pub proof: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    Tenant,
    Shard,
    Gateway,
    /// A node of a group has come, gone, is about to go, or goes by another list.
    Member,
    Host,
    Token,
}

/// Something became different; what it is now is to be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub revision: u64,
    pub kind: ChangeKind,
    /// Of a shard `TENANT/SHARD`, of a token its id.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// It is not there any more, or not the tenant's any more.
    #[serde(default)]
    pub gone: bool,
    /// Of a host: all keys that this is about, those that have become invalid among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PublicKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// To ask from next.
    pub revision: u64,
    pub changes: Vec<Change>,
}
