//! Interfaces: ours, made and changed; all others, read as facts.

use super::netlink::{Answer, Netlink, Refused, Request};
use super::wireguard::Wireguard;
use super::{attr, lock, tun};
use crate::model::{GreKey, IfName};
use crate::plan::facts::{Facts, LinkFacts};
use crate::plan::{Link, LinkKind};
use crate::wire::arp::Mac;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{GreIOFlags, InfoData, InfoGre, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

/// The kind of such interfaces. Of them, rtnetlink tells nothing else.
pub const WIREGUARD: &str = "wireguard";

/// Hops that an outer packet may take: that of Linux's own packets.
const TTL: u8 = 64;
// include/uapi/linux/rtnetlink.h, if_link.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;

/// Makes an interface as it shall be.
pub fn add(netlink: &mut Netlink, wireguard: &Mutex<Wireguard>, name: &IfName, link: &Link) -> Answer {
    match &link.kind {
        LinkKind::Gre { local: IpAddr::V4(local), remote, key } => {
            let remote = match remote {
                None => None,
                Some(IpAddr::V4(remote)) => Some(*remote),
                Some(IpAddr::V6(_)) => return Err(unsupported("a GRE tunnel from an IPv4 to an IPv6 address")),
            };
            let mut message = named(name);
            message.attributes.push(LinkAttribute::LinkInfo(gre(*local, remote, *key)));
            exists_is_fine(one(netlink, Request::route(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)))?;
        }
        LinkKind::Gre { .. } => return Err(unsupported("GRE over IPv6")),
        LinkKind::Wireguard { .. } => {
            let mut message = named(name);
            message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]));
            exists_is_fine(one(netlink, Request::route(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)))?;
        }
        // A queue more, even for a moment, takes packets that nobody reads: never open a device that stands.
        LinkKind::Tun if index(netlink, name)?.is_none() => tun::create_persistent(name)?,
        LinkKind::Tun => {}
        LinkKind::Other(kind) => return Err(unsupported(&format!("an interface of kind {kind}"))),
    }
    quiet(name);
    change(netlink, wireguard, name, link)
}

/// Sets what can be set on an interface that stands.
pub fn change(netlink: &mut Netlink, wireguard: &Mutex<Wireguard>, name: &IfName, link: &Link) -> Answer {
    if let LinkKind::Wireguard { key, port } = &link.kind {
        lock(wireguard).set_device(name, key, *port)?;
    }
    let mut message = named(name);
    message.header.change_mask = LinkFlags::Up;
    if link.up {
        message.header.flags = LinkFlags::Up;
    }
    message.attributes.extend([LinkAttribute::Mtu(link.mtu), LinkAttribute::Group(link.group), LinkAttribute::IfAlias(link.alias.clone())]);
    one(netlink, Request::route(RouteNetlinkMessage::NewLink(message), 0))
}

pub fn remove(netlink: &mut Netlink, name: &IfName) -> Answer {
    match one(netlink, Request::route(RouteNetlinkMessage::DelLink(named(name)), 0)) {
        Err(Refused { errno: libc::ENODEV, .. }) => Ok(()),
        other => other,
    }
}

/// The index of an interface, if there is one of this name.
pub fn index(netlink: &mut Netlink, name: &IfName) -> Result<Option<u32>, Refused> {
    let mut payload = vec![0; 16];
    attr::put_name(&mut payload, IFLA_IFNAME, name.as_str());
    match netlink.get(Request::new(RTM_GETLINK, 0, &payload)) {
        // struct ifinfomsg: family, padding, type, index, flags, change mask
        Ok(link) => Ok(link.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)),
        Err(Refused { errno: libc::ENODEV, .. }) => Ok(None),
        Err(refused) => Err(refused),
    }
}

/// The index of an interface, if there is one of this name, and its MAC, if it is Ethernet.
pub fn ethernet(netlink: &mut Netlink, name: &IfName) -> Result<Option<(u32, Option<Mac>)>, Refused> {
    let mut payload = vec![0; 16];
    attr::put_name(&mut payload, IFLA_IFNAME, name.as_str());
    let link = match netlink.get(Request::new(RTM_GETLINK, 0, &payload)) {
        Err(Refused { errno: libc::ENODEV, .. }) => return Ok(None),
        answer => answer?,
    };
    // struct ifinfomsg: family, padding, type, index, flags, change mask
    let Some((&[_, _, t0, t1, i0, i1, i2, i3, ..], list)) = link.split_first_chunk::<16>() else { return Ok(None) };
    let mac = attr::find(list, IFLA_ADDRESS).filter(|_| u16::from_ne_bytes([t0, t1]) == libc::ARPHRD_ETHER);
    Ok(Some((u32::from_ne_bytes([i0, i1, i2, i3]), mac.and_then(|mac| mac.try_into().ok()))))
}

/// Whether this kernel has GRE devices, loading the module if it may. Makes none: the probe asks for one with flags that
/// the GRE driver refuses (`ipgre_tunnel_validate`), and a kernel without that driver refuses otherwise.
pub fn has_gre(netlink: &mut Netlink) -> bool {
    /// `GRE_VERSION`, which no tunnel may set.
    const IMPOSSIBLE: u16 = 0x0007;
    const IFLA_GRE_IFLAGS: u16 = 2;
    let mut payload = vec![0; 16];
    attr::put_name(&mut payload, IFLA_IFNAME, "pw-probe");
    attr::nest(&mut payload, IFLA_LINKINFO, |info| {
        attr::put(info, IFLA_INFO_KIND, b"gre");
        attr::nest(info, IFLA_INFO_DATA, |data| attr::put(data, IFLA_GRE_IFLAGS, &IMPOSSIBLE.to_be_bytes()));
    });
    let answer = one(netlink, Request::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &payload));
    matches!(answer, Err(Refused { errno: libc::EINVAL, .. }))
}

/// All interfaces: ours as links, the others as facts; and the names of all indices.
pub struct Links {
    pub ours: BTreeMap<IfName, Link>,
    pub facts: Facts,
    pub names: HashMap<u32, IfName>,
}

pub fn list(netlink: &mut Netlink) -> Result<Links, Refused> {
    let mut links = Links { ours: BTreeMap::new(), facts: Facts::default(), names: HashMap::new() };
    for (kind, payload) in netlink.dump(Request::route(RouteNetlinkMessage::GetLink(LinkMessage::default()), 0))? {
        let Some((index, flags, name, seen)) = read(kind, &payload) else { continue };
        links.names.insert(index, name.clone());
        if name.is_ours() {
            let kind = seen.link_kind();
            let up = flags.contains(LinkFlags::Up);
            links.ours.insert(name, Link { kind, mtu: seen.mtu, alias: seen.alias, group: seen.group, up });
        } else {
            links.facts.links.insert(name, seen.facts(index, flags));
        }
    }
    Ok(links)
}

/// How to ask for one interface.
pub enum Which<'a> {
    Name(&'a IfName),
    Index(u32),
}

/// One interface as facts, without its addresses.
pub fn find(netlink: &mut Netlink, which: Which) -> Result<Option<(IfName, LinkFacts)>, Refused> {
    let mut payload = vec![0; 16];
    match which {
        Which::Name(name) => attr::put_name(&mut payload, IFLA_IFNAME, name.as_str()),
        Which::Index(index) => payload[4..8].copy_from_slice(&index.to_ne_bytes()),
    }
    match netlink.get(Request::new(RTM_GETLINK, 0, &payload)) {
        Ok(link) => Ok(read(RTM_NEWLINK, &link).map(|(index, flags, name, seen)| (name, seen.facts(index, flags)))),
        Err(Refused { errno: libc::ENODEV, .. }) => Ok(None),
        Err(refused) => Err(refused),
    }
}

/// Index, flags, name and the rest. A name that `IfName` refuses cannot stand in a configuration either.
fn read(kind: u16, payload: &[u8]) -> Option<(u32, LinkFlags, IfName, Seen)> {
    let RouteNetlinkMessage::NewLink(message) = super::route_message(kind, payload)? else { return None };
    let mut seen = Seen::default();
    message.attributes.into_iter().for_each(|attribute| seen.take(attribute));
    Some((message.header.index, message.header.flags, seen.name.parse().ok()?, seen))
}

#[derive(Default)]
struct Seen {
    name: String,
    alias: String,
    kind: Option<String>,
    mtu: u32,
    group: u32,
    master: Option<u32>,
    link_netnsid: Option<i32>,
    data: Option<InfoData>,
}

impl Seen {
    fn take(&mut self, attribute: LinkAttribute) {
        match attribute {
            LinkAttribute::IfName(name) => self.name = name,
            LinkAttribute::IfAlias(alias) => self.alias = alias,
            LinkAttribute::Mtu(mtu) => self.mtu = mtu,
            LinkAttribute::Group(group) => self.group = group,
            LinkAttribute::Controller(index) => self.master = Some(index),
            LinkAttribute::LinkNetNsId(id) => self.link_netnsid = Some(id),
            LinkAttribute::LinkInfo(infos) => infos.into_iter().for_each(|info| match info {
                LinkInfo::Kind(kind) => self.kind = Some(kind.to_string()),
                LinkInfo::Data(data) => self.data = Some(data),
                _ => {}
            }),
            _ => {}
        }
    }

    fn facts(self, index: u32, flags: LinkFlags) -> LinkFacts {
        LinkFacts {
            index,
            mtu: self.mtu,
            kind: self.kind,
            master: self.master,
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Running),
            peer_namespace: self.link_netnsid,
            addresses: Vec::new(),
        }
    }

    /// A tunnel that is not altogether as we make it is `Other`, and so made anew.
    fn link_kind(&self) -> LinkKind {
        let kind = self.kind.as_deref().unwrap_or("physical");
        let known = match (kind, &self.data) {
            ("gre", Some(InfoData::GreTun(data))) => gre_kind(data),
            ("tun", Some(InfoData::Tun(data))) => tun_kind(data),
            _ => None,
        };
        known.unwrap_or_else(|| LinkKind::Other(kind.to_owned()))
    }
}

fn gre(local: Ipv4Addr, remote: Option<Ipv4Addr>, key: GreKey) -> Vec<LinkInfo> {
    let mut data = vec![
        InfoGre::IKey(key.0),
        InfoGre::OKey(key.0),
        InfoGre::IFlags(GreIOFlags::Key),
        InfoGre::OFlags(GreIOFlags::Key),
        InfoGre::Local(local),
    ];
    data.extend(remote.map(InfoGre::Remote));
    data.extend([InfoGre::PathMTUDiscovery(true), InfoGre::Ttl(TTL)]);
    vec![LinkInfo::Kind(InfoKind::GreTun), LinkInfo::Data(InfoData::GreTun(data))]
}

fn gre_kind(data: &[InfoGre]) -> Option<LinkKind> {
    let (mut local, mut remote, mut keys, mut as_made) = (None, None, (None, None), 0);
    for info in data {
        match info {
            InfoGre::Local(address) => local = Some(*address),
            InfoGre::Remote(address) if !address.is_unspecified() => remote = Some(IpAddr::V4(*address)),
            InfoGre::IKey(key) => keys.0 = Some(*key),
            InfoGre::OKey(key) => keys.1 = Some(*key),
            InfoGre::IFlags(GreIOFlags::Key) | InfoGre::OFlags(GreIOFlags::Key) => as_made += 1,
            InfoGre::Ttl(TTL) | InfoGre::PathMTUDiscovery(true) => as_made += 1,
            InfoGre::CollectMetadata => return None,
            _ => {}
        }
    }
    match (local, keys) {
        (Some(local), (Some(key), Some(okey))) if key == okey && as_made == 4 => {
            Some(LinkKind::Gre { local: IpAddr::V4(local), remote, key: GreKey(key) })
        }
        _ => None,
    }
}

/// Whether a TUN was made with [`tun::FLAGS`] and is persistent.
fn tun_kind(data: &[netlink_packet_route::link::InfoTun]) -> Option<LinkKind> {
    use netlink_packet_core::Nla;
    // IFLA_TUN_TYPE = IFF_TUN, IFLA_TUN_PI, IFLA_TUN_VNET_HDR, IFLA_TUN_PERSIST, IFLA_TUN_MULTI_QUEUE: one byte each
    const AS_MADE: [(u16, u8); 5] = [(3, 1), (4, 0), (5, 1), (6, 1), (7, 1)];
    let byte = |kind| {
        data.iter().find(|info| info.kind() == kind && info.value_len() == 1).map(|info| {
            let mut value = [0];
            info.emit_value(&mut value);
            value[0]
        })
    };
    AS_MADE.iter().all(|(kind, value)| byte(*kind) == Some(*value)).then_some(LinkKind::Tun)
}

/// No IPv6 on a tunnel, before it is up for the first time: its solicitations and listener reports would go into it. Where
/// the kernel has no IPv6 there is nothing to set.
fn quiet(name: &IfName) {
    if let Err(error) = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(interface = %name, %error, "IPv6 stays on: what it sends is dropped and counted");
    }
}

fn named(name: &IfName) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    message
}

fn one(netlink: &mut Netlink, request: Request) -> Answer {
    netlink.execute(vec![request]).pop().unwrap_or(Ok(()))
}

fn exists_is_fine(answer: Answer) -> Answer {
    match answer {
        Err(Refused { errno: libc::EEXIST, .. }) => Ok(()),
        other => other,
    }
}

fn unsupported(what: &str) -> Refused {
    Refused { errno: libc::EOPNOTSUPP, text: Some(format!("{what} is not supported")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;

    /// What `ip link add gre1 type gre local 192.0.2.1 key 7 ttl 64` sends, as linux/if_tunnel.h lays it out.
    #[test]
    fn a_gre_tunnel_is_asked_for_as_the_kernel_reads_it() {
        let infos = gre(Ipv4Addr::new(192, 0, 2, 1), None, GreKey(7));
        let mut bytes = vec![0; infos.as_slice().buffer_len()];
        infos.as_slice().emit(&mut bytes);
        assert_eq!(attr::find(&bytes, IFLA_INFO_KIND).map(attr::name), Some("gre".into()));
        let data = attr::find(&bytes, IFLA_INFO_DATA).unwrap();
        let expected: [(u16, &[u8]); 7] =
            [(4, &[0, 0, 0, 7]), (5, &[0, 0, 0, 7]), (2, &[0x20, 0]), (3, &[0x20, 0]), (6, &[192, 0, 2, 1]), (10, &[1]), (8, &[64])];
        assert_eq!(attr::each(data).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_gre_tunnel_reads_back_as_it_was_asked_for() {
        for remote in [None, Some(Ipv4Addr::new(198, 51, 100, 2))] {
            let local = Ipv4Addr::new(192, 0, 2, 1);
            let Some(LinkInfo::Data(InfoData::GreTun(mut data))) = gre(local, remote, GreKey(7)).pop() else { panic!("no data") };
            let kind = LinkKind::Gre { local: local.into(), remote: remote.map(IpAddr::V4), key: GreKey(7) };
            assert_eq!(gre_kind(&data), Some(kind));
            data.retain(|info| !matches!(info, InfoGre::IFlags(_)));
            assert_eq!(gre_kind(&data), None, "a tunnel that takes packets without a key is not ours");
        }
    }
}
