//! What gateways and function hosts have in common.

use super::decode::{At, Decoder, Field, Shape, Table};
use super::fault::Span;
use super::node::{Kind, Node};
use super::{Backend, KeyFile, MIN_INNER_MTU, Platform, TunnelKind};
use crate::model::{GreKey, HostName, IfName, Invalid, KeyId, ShardId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

const PLATFORM: Shape = Shape {
    what: "`platform`",
    fields: &[
        Field::required("interface", "interface: eth0"),
        Field::required("address", "address: 10.9.0.1"),
        Field::optional("mtu", "mtu: 1500"),
    ],
};

pub(super) const ADMIN_NAMES: &str = "admin_names: [gw-1.example.com]";

const KEY: Shape =
    Shape { what: "this key", fields: &[Field::required("id", "id: 1"), Field::required("file", "file: /etc/portway/ha.key")] };

/// What of `platform` could be decoded, so that the rest can be checked against it.
#[derive(Default)]
pub(super) struct PlatformParts {
    pub interface: Option<IfName>,
    pub address: Option<IpAddr>,
    pub mtu: Option<Option<u32>>,
    pub tunnel: Option<TunnelKind>,
}

impl PlatformParts {
    pub fn whole(self) -> Option<Platform> {
        Some(Platform { interface: self.interface?, address: self.address?, mtu: self.mtu?, tunnel: self.tunnel? })
    }
}

impl Decoder {
    pub fn platform(&mut self, role: &Table<'_>) -> PlatformParts {
        let place = role.place("platform");
        let tunnel = self.tunnel(role);
        let Some(table) = self.field(role, "platform", |d, node| d.table(node, &PLATFORM, place)) else {
            return PlatformParts { tunnel, ..PlatformParts::default() };
        };
        PlatformParts {
            interface: self.field(&table, "interface", Self::interface).map(|at| at.value),
            address: self.field(&table, "address", |d, node| d.address(node, "the platform address")).map(|at| at.value),
            mtu: self.field_or(&table, "mtu", None, |d, node| d.mtu(node, tunnel).map(Some)),
            tunnel,
        }
    }

    fn mtu(&mut self, node: &Node, tunnel: Option<TunnelKind>) -> Option<u32> {
        let overhead = tunnel.unwrap_or_default().overhead();
        let least = u64::from(MIN_INNER_MTU + overhead);
        let unit = format!(" bytes: the tunnel takes {overhead} and must leave {MIN_INNER_MTU}");
        let mtu = self.number(node, "MTU", least..=65535, &unit)?;
        u32::try_from(mtu.value).ok()
    }

    pub fn backend(&mut self, role: &Table<'_>) -> Option<Backend> {
        let words = [("auto", Backend::Auto), ("kernel", Backend::Kernel), ("userspace", Backend::Userspace)];
        self.field_or(role, "backend", Backend::default(), |d, node| d.word(node, "backend", &words))
    }

    pub fn runtime_dir(&mut self, role: &Table<'_>) -> Option<PathBuf> {
        self.field_or(role, "runtime_dir", PathBuf::from("/run/portway"), |d, node| d.path(node, "runtime_dir"))
    }

    /// Loopback at `port` if nothing is written.
    pub fn admin(&mut self, role: &Table<'_>, port: u16) -> Option<SocketAddr> {
        self.field_or(role, "admin", SocketAddr::from(([127, 0, 0, 1], port)), |d, node| d.socket(node, "admin"))
    }

    /// By which names `admin` is called, beside those that are good anywhere.
    pub fn admin_names(&mut self, role: &Table<'_>) -> Option<BTreeSet<HostName>> {
        self.field_or(role, "admin_names", BTreeSet::new(), |d, node| {
            let names = d.items(node, "`admin_names`", ADMIN_NAMES, |d, item| d.parsed(item, "the name", "gw-1.example.com"))?;
            Some(names.into_iter().map(|at: At<HostName>| at.value).collect())
        })
    }

    /// Keys with an id each; `remedy` for an id that is there twice.
    pub fn key_files(&mut self, node: &Node, example: &str, remedy: &str) -> Option<Vec<KeyFile>> {
        let mut seen = Seen::new("key id");
        self.items(node, "`keys`", example, |d, item| {
            let table = d.table(item, &KEY, item.span)?;
            let id = d.field(&table, "id", |d, node| {
                let id = d.number(node, "key id", 1..=u64::from(u8::MAX), "")?;
                Some(At { value: KeyId::try_from(u8::try_from(id.value).ok()?).ok()?, span: id.span })
            });
            d.unique(&mut seen, id.as_ref(), remedy);
            let file = d.field(&table, "file", |d, node| d.absolute(node, "file", "/etc/portway/ha.key"));
            Some(KeyFile { id: id?.value, file: file?.value })
        })
    }

    pub fn gre_key(&mut self, node: &Node) -> Option<At<GreKey>> {
        let key = self.number(node, "key", 0..=u64::from(u32::MAX), "")?;
        Some(At { value: GreKey(u32::try_from(key.value).ok()?), span: key.span })
    }

    pub fn shard(&mut self, node: &Node) -> Option<At<ShardId>> {
        let number = self.number(node, "shard", 0..=u64::from(u16::MAX), "")?;
        Some(At { value: ShardId(u16::try_from(number.value).ok()?), span: number.span })
    }

    /// A map from what can be written as text.
    pub fn keyed<K, V>(
        &mut self,
        node: &Node,
        name: &'static str,
        example: &'static str,
        mut decode: impl FnMut(&mut Self, &Node) -> Option<V>,
    ) -> Option<BTreeMap<K, V>>
    where
        K: FromStr<Err = Invalid> + Hash + Ord + Clone + Display,
    {
        let Kind::Map(entries) = &node.kind else {
            self.fault(node.span, format!("`{name}` must be a map, not {}", node.describe()), format!("write `{example}`"));
            return None;
        };
        let mut seen = Seen::new("the key");
        let mut all = BTreeMap::new();
        for (key, value) in entries {
            let key: Option<At<K>> = self.valid(&key.text, key.span, example);
            self.unique(&mut seen, key.as_ref(), "write each once");
            let value = decode(self, value);
            all.extend(key.map(|key| key.value).zip(value));
        }
        (all.len() == entries.len()).then_some(all)
    }

    /// A fault if the value was there before; `what` begins the sentence "... is that of line N too".
    pub fn unique<T: Hash + Eq + Clone + Display>(&mut self, seen: &mut Seen<T>, at: Option<&At<T>>, remedy: &str) {
        let Some(at) = at else { return };
        if let Some(first) = seen.first.get(&at.value) {
            let what = format!("{} {} is already used in line {}", seen.what, at.value, first.line);
            self.fault(at.span, what, remedy);
        } else {
            seen.first.insert(at.value.clone(), at.span);
        }
    }
}

/// Values that must be unique, and where each was seen first.
pub(super) struct Seen<T> {
    what: String,
    first: HashMap<T, Span>,
}

impl<T> Seen<T> {
    pub fn new(what: impl Into<String>) -> Self {
        Seen { what: what.into(), first: HashMap::new() }
    }
}
