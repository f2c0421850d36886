//! What carries packets between function hosts and gateways: `tunnel:`, and what either side writes for it.

use super::common::{PlatformParts, Seen};
use super::decode::{At, Decoder, Field, Shape, Table};
use super::fault::Span;
use super::node::Node;
use crate::model::{GreKey, PublicKey, ShardId, Slot};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The kind of all tunnels of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelKind {
    /// Neither encrypted nor authenticated: whoever can send from a host's outer address is believed (RFC 2784, RFC 2890).
    #[default]
    Gre,
    Wireguard,
}

impl TunnelKind {
    /// Bytes that a tunnel over IPv4 adds to a packet. GRE: IPv4 header 20 (RFC 791), GRE header with a key 8 (RFC 2890 section 2).
    /// WireGuard: IPv4 header 20, UDP header 8, message header 16, authentication tag 16 (WireGuard's paper, section 5.4.6).
    pub fn overhead(self) -> u32 {
        match self {
            TunnelKind::Gre => 20 + 8,
            TunnelKind::Wireguard => 20 + 8 + 16 + 16,
        }
    }
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TunnelKind::Gre => "GRE",
            TunnelKind::Wireguard => "WireGuard",
        })
    }
}

/// How a gateway ends the tunnels of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayTunnel {
    /// The key is the tenant's, the same on its function hosts. No two tenants of a node share one.
    Gre { key: GreKey },
    /// The private key is the shard's, on all its candidates: hosts see one gateway, whoever is Active. The UDP port is no other shard's of
    /// the node, for the kernel's WireGuard takes it at all addresses. Default 51820 + the shard's number.
    Wireguard { private_key: PathBuf, port: u16, next: Option<NextKey> },
}

/// The key of a shard that is to come after the present one: answered beside it, and told to hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextKey {
    pub private_key: PathBuf,
    /// Default 51819 - the shard's number; if the present key has that, 51820 + the shard's number.
    pub port: u16,
}

/// How a function host ends the tunnel to a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostTunnel {
    Gre {
        key: GreKey,
    },
    /// The gateway's: its public key, and its UDP port, by default 51820 + the shard's number.
    Wireguard {
        public_key: PublicKey,
        port: u16,
    },
}

/// What a function host has for all its WireGuard tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    pub private_key: PathBuf,
    /// The UDP port of the first tunnel; the others' follow by slot. Default 51820.
    pub port: u16,
}

/// The other end of a gateway's tunnels: how a function host is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PeerEnd {
    /// The only source that this host's tunnel packets may have.
    Gre { outer: IpAddr },
    /// Wherever it is: whoever has the key is this host, and says so itself.
    Wireguard { public_key: PublicKey },
}

impl PeerEnd {
    pub fn kind(&self) -> TunnelKind {
        match self {
            PeerEnd::Gre { .. } => TunnelKind::Gre,
            PeerEnd::Wireguard { .. } => TunnelKind::Wireguard,
        }
    }

    /// With WireGuard.
    pub fn public_key(&self) -> Option<PublicKey> {
        if let PeerEnd::Wireguard { public_key } = self { Some(*public_key) } else { None }
    }

    /// What no two hosts share.
    pub fn identity(&self) -> Identity {
        match self {
            PeerEnd::Gre { outer } => Identity::Outer(*outer),
            PeerEnd::Wireguard { public_key } => Identity::Key(*public_key),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    Outer(IpAddr),
    Key(PublicKey),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Outer(address) => address.fmt(f),
            Identity::Key(key) => key.fmt(f),
        }
    }
}

/// Of the first tunnel.
pub const FIRST_PORT: u16 = 51820;

/// In the state directory of a host that has enrolled.
pub const ENROLLED_KEY: &str = "host.key";

const GATEWAY_KEY: Shape = Shape {
    what: "`wireguard`",
    fields: &[
        Field::required("private_key", "private_key: /etc/portway/acme.key"),
        Field::optional("port", "port: 51820"),
        Field::optional("next", "next: { private_key: /etc/portway/acme.next.key }"),
    ],
};

const NEXT_KEY: Shape = Shape {
    what: "`next`",
    fields: &[Field::required("private_key", "private_key: /etc/portway/acme.next.key"), Field::optional("port", "port: 51819")],
};

const HOST_KEY: Shape = Shape {
    what: "`wireguard`",
    fields: &[Field::optional("private_key", "private_key: /etc/portway/host.key"), Field::optional("port", "port: 51820")],
};

const HOST_TUNNEL: Shape = Shape {
    what: "`wireguard`",
    fields: &[
        Field::required("public_key", "public_key: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="),
        Field::optional("port", "port: 51820"),
    ],
};

/// What `wireguard` of a tenant or a shard looks like on a gateway.
pub(super) const WIREGUARD: &str = "wireguard: { private_key: /etc/portway/acme.key }";

impl Decoder {
    pub fn tunnel(&mut self, role: &Table<'_>) -> Option<TunnelKind> {
        let words = [("gre", TunnelKind::Gre), ("wireguard", TunnelKind::Wireguard)];
        self.field_or(role, "tunnel", TunnelKind::default(), |d, node| d.word(node, "tunnel", &words))
    }

    /// The GRE key of a tenant. With WireGuard there is none.
    pub fn tenant_key(&mut self, tenant: &Table<'_>, platform: &PlatformParts) -> Option<At<GreKey>> {
        match platform.tunnel? {
            TunnelKind::Gre => {
                if !tenant.written("key") {
                    self.fault(tenant.span, "this tenant lacks `key`", "add `key: 7`");
                }
                self.field(tenant, "key", Self::gre_key)
            }
            TunnelKind::Wireguard => {
                if tenant.written("key") {
                    self.fault(
                        tenant.place("key"),
                        "`key` goes with `tunnel: gre` only",
                        "remove it: WireGuard knows who sends by public keys",
                    );
                }
                None
            }
        }
    }

    /// A gateway's end of a shard, as its tenant's key or the `wireguard` of this table say. `ports`: those of other shards.
    pub fn gateway_tunnel(
        &mut self,
        (whose, table): (&str, &Table<'_>),
        platform: &PlatformParts,
        key: Option<GreKey>,
        shard: Option<ShardId>,
        ports: &mut Seen<u16>,
    ) -> Option<GatewayTunnel> {
        match platform.tunnel? {
            TunnelKind::Gre => {
                self.without_wireguard(table);
                Some(GatewayTunnel::Gre { key: key? })
            }
            TunnelKind::Wireguard => {
                let place = table.place("wireguard");
                let node = self.wireguard(table, whose, WIREGUARD)?;
                let table = self.table(node, &GATEWAY_KEY, place)?;
                let private_key = self.field(&table, "private_key", |d, node| d.absolute(node, "private_key", "/etc/portway/acme.key"));
                let place = if table.written("port") { table.place("port") } else { place };
                let missing = if table.written("port") { None } else { shard.map(port_of) };
                let port = self.field_or(&table, "port", missing, |d, node| d.port(node).map(Some))?;
                let at = port.map(|value| At { value, span: place });
                self.unique(ports, at.as_ref(), ANOTHER_PORT);
                let next = match table.get("next") {
                    Some(node) => Some(self.next_key(node, table.place("next"), (port?, shard), ports)?),
                    None => None,
                };
                Some(GatewayTunnel::Wireguard { private_key: private_key?.value, port: port?, next })
            }
        }
    }

    fn next_key(&mut self, node: &Node, place: Span, (present, shard): (u16, Option<ShardId>), ports: &mut Seen<u16>) -> Option<NextKey> {
        let table = self.table(node, &NEXT_KEY, place)?;
        let private_key = self.field(&table, "private_key", |d, node| d.absolute(node, "private_key", "/etc/portway/acme.next.key"));
        let place = if table.written("port") { table.place("port") } else { place };
        let missing = if table.written("port") { None } else { shard.map(|shard| next_port_of(shard, present)) };
        let port = self.field_or(&table, "port", missing, |d, node| d.port(node).map(Some))?;
        let at = port.map(|value| At { value, span: place });
        self.unique(ports, at.as_ref(), ANOTHER_PORT);
        Some(NextKey { private_key: private_key?.value, port: port? })
    }

    /// `state_dir`: where `portway enroll` left the key, if a directory is asked.
    pub fn host_key(&mut self, role: &Table<'_>, kind: Option<TunnelKind>, state_dir: Option<&Path>) -> Option<Option<HostKey>> {
        if kind? == TunnelKind::Gre {
            self.without_wireguard(role);
            return Some(None);
        }
        let place = role.place("wireguard");
        let enrolled = state_dir.map(|dir| dir.join(ENROLLED_KEY));
        if let (Some(private_key), false) = (&enrolled, role.written("wireguard")) {
            return Some(Some(HostKey { private_key: private_key.clone(), port: FIRST_PORT }));
        }
        let node = self.wireguard(role, "`host`", "wireguard: { private_key: /etc/portway/host.key }")?;
        let table = self.table(node, &HOST_KEY, place)?;
        if enrolled.is_none() && !table.written("private_key") {
            self.fault(place, "`wireguard` lacks `private_key`", "add `private_key: /etc/portway/host.key`");
        }
        let private_key = self.field_or(&table, "private_key", enrolled, |d, node| {
            d.absolute(node, "private_key", "/etc/portway/host.key").map(|at| Some(at.value))
        });
        // Room for those of all slots.
        let last = u16::MAX - (Slot::MAX.get() - Slot::MIN.get());
        let port = self.field_or(&table, "port", FIRST_PORT, |d, node| {
            u16::try_from(d.number(node, "port", 1..=u64::from(last), ": tunnels' ports follow it")?.value).ok()
        });
        Some(Some(HostKey { private_key: private_key??, port: port? }))
    }

    pub fn host_tunnel(
        &mut self,
        table: &Table<'_>,
        kind: Option<TunnelKind>,
        key: Option<GreKey>,
        shard: Option<ShardId>,
    ) -> Option<HostTunnel> {
        if kind? == TunnelKind::Gre {
            self.without_wireguard(table);
            return Some(HostTunnel::Gre { key: key? });
        }
        let place = table.place("wireguard");
        let node = self.wireguard(table, "this shard", "wireguard: { public_key: KEY }")?;
        let table = self.table(node, &HOST_TUNNEL, place)?;
        let public_key = self.field(&table, "public_key", Self::public_key);
        let port = self.field_or(&table, "port", shard.map(port_of), |d, node| d.port(node).map(Some));
        Some(HostTunnel::Wireguard { public_key: public_key?.value, port: port?? })
    }

    pub fn public_key(&mut self, node: &Node) -> Option<At<PublicKey>> {
        self.parsed(node, "`public_key`", "public_key: what `wg pubkey` prints")
    }

    fn port(&mut self, node: &Node) -> Option<u16> {
        u16::try_from(self.number(node, "port", 1..=u64::from(u16::MAX), "")?.value).ok()
    }

    /// The node of `wireguard`, which must be there.
    fn wireguard<'n>(&mut self, table: &Table<'n>, whose: &str, example: &str) -> Option<&'n Node> {
        if !table.written("wireguard") {
            self.fault(table.span, format!("{whose} lacks `wireguard`, which `tunnel: wireguard` needs"), format!("add `{example}`"));
        }
        table.get("wireguard")
    }

    fn without_wireguard(&mut self, table: &Table<'_>) {
        if table.written("wireguard") {
            self.fault(table.place("wireguard"), "`wireguard` goes with `tunnel: wireguard` only", "write that, or remove it");
        }
    }
}

/// Of a shard's WireGuard, unless another is written.
fn port_of(shard: ShardId) -> u16 {
    FIRST_PORT.saturating_add(shard.0)
}

/// Of the next key of a shard, unless another is written: below those of all shards, and the other way round the next time.
fn next_port_of(shard: ShardId, present: u16) -> u16 {
    let below = (FIRST_PORT - 1).saturating_sub(shard.0).max(1);
    if present == below { port_of(shard) } else { below }
}

const ANOTHER_PORT: &str = "write another `port` here: WireGuard takes one at all addresses of the node";
