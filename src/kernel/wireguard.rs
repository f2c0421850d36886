//! WireGuard devices of the kernel, over generic netlink (include/uapi/linux/wireguard.h): their keys, ports and peers. That they exist, and
//! are up, is rtnetlink's business ([`super::link`]).

use super::netlink::{Answer, Netlink, Refused, Request};
use super::{KernelError, attr};
use crate::model::{IfName, PrivateKey, PublicKey};
use crate::plan::{Endpoint, WireguardPeer};
use ipnet::IpNet;
use netlink_packet_core::{Emitable, NLM_F_DUMP, ParseableParametrized};
use netlink_packet_generic::GenlHeader;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd, WireguardMessage,
    WireguardPeer as PeerMessage, WireguardPeerAttribute, WireguardPeerFlags,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

// include/uapi/linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// struct genlmsghdr: command, version, two reserved bytes.
const HEADER: usize = 4;
const VERSION: u8 = 1;

/// A device as it stands.
#[derive(Debug)]
pub struct Device {
    /// None: it has none yet.
    pub key: Option<PrivateKey>,
    pub port: u16,
    pub peers: BTreeMap<PublicKey, WireguardPeer>,
}

/// A peer as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerSeen {
    pub key: PublicKey,
    pub endpoint: Option<SocketAddr>,
    /// When the last session was agreed on, by the machine's clock.
    pub agreed: Option<SystemTime>,
    /// Bytes that came from it, as they came.
    pub received: u64,
}

#[derive(Debug)]
pub struct Wireguard {
    netlink: Netlink,
    /// The number of the family, once it has been asked for and was there.
    family: Option<u16>,
}

impl Wireguard {
    pub fn open() -> Result<Self, KernelError> {
        let netlink = Netlink::open(libc::NETLINK_GENERIC).map_err(|source| KernelError::Open { what: "for WireGuard", source })?;
        Ok(Self { netlink, family: None })
    }

    /// Whether this kernel has WireGuard, loading the module if it may.
    pub fn is_there(&mut self) -> bool {
        self.family().is_ok()
    }

    /// Who this end is, and where it listens. Peers stay.
    pub fn set_device(&mut self, name: &IfName, key: &PrivateKey, port: u16) -> Answer {
        let family = self.family()?;
        let attributes = [WireguardAttribute::PrivateKey(*key.expose()), WireguardAttribute::ListenPort(port)];
        self.netlink.execute(vec![set(family, name, attributes.into())]).pop().unwrap_or(Ok(()))
    }

    /// Adds peers or changes them, each with the interface that it is of; the others stay as they are.
    pub fn set_peers<'p>(&mut self, peers: impl Iterator<Item = (&'p IfName, &'p PublicKey, &'p WireguardPeer)>) -> Vec<Answer> {
        let peers: Vec<_> = peers.map(|(name, key, peer)| (name, peer_message(key, peer))).collect();
        self.change(peers)
    }

    /// One that is gone counts as removed.
    pub fn remove_peers<'p>(&mut self, peers: impl Iterator<Item = (&'p IfName, &'p PublicKey)>) -> Vec<Answer> {
        let gone = |key: &PublicKey| {
            PeerMessage(vec![
                WireguardPeerAttribute::PublicKey(*key.bytes()),
                WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe | WireguardPeerFlags::UpdateOnly),
            ])
        };
        let peers: Vec<_> = peers.map(|(name, key)| (name, gone(key))).collect();
        self.change(peers).into_iter().map(removed).collect()
    }

    fn change(&mut self, peers: Vec<(&IfName, PeerMessage)>) -> Vec<Answer> {
        let family = match self.family() {
            Ok(family) => family,
            Err(refused) => return vec![Err(refused); peers.len()],
        };
        let requests = peers.into_iter().map(|(name, peer)| set(family, name, vec![WireguardAttribute::Peers(vec![peer])]));
        self.netlink.execute(requests.collect())
    }

    /// None: there is no such device.
    pub fn read(&mut self, name: &IfName) -> Result<Option<Device>, Refused> {
        let mut device = Device { key: None, port: 0, peers: BTreeMap::new() };
        Ok(self.dump(name, |attribute| device.take(attribute))?.then_some(device))
    }

    /// The peers of a device, as far as they have done something; none if it is not there.
    pub fn peers(&mut self, name: &IfName) -> Result<Vec<PeerSeen>, Refused> {
        let mut peers = Vec::new();
        self.dump(name, |attribute| {
            if let WireguardAttribute::Peers(more) = attribute {
                peers.extend(more.iter().filter_map(seen));
            }
        })?;
        Ok(peers)
    }

    /// Whether there is such a device.
    fn dump(&mut self, name: &IfName, mut take: impl FnMut(WireguardAttribute)) -> Result<bool, Refused> {
        let family = self.family()?;
        let request = message(family, NLM_F_DUMP, WireguardCmd::GetDevice, vec![WireguardAttribute::IfName(name.to_string())]);
        let entries = match self.netlink.dump(request) {
            Err(Refused { errno: libc::ENODEV | libc::EOPNOTSUPP, .. }) => return Ok(false),
            other => other?,
        };
        for (_, payload) in entries {
            let payload = Zeroizing::new(payload);
            let Some(attributes) = payload.get(HEADER..) else { continue };
            let header = GenlHeader { cmd: payload[0], version: payload[1] };
            match WireguardMessage::parse_with_param(attributes, header) {
                Ok(message) => message.attributes.into_iter().for_each(&mut take),
                // The error is about a place in the message; what stands there is not shown.
                Err(_) => {
                    return Err(Refused { errno: libc::EBADMSG, text: Some(format!("what the kernel says of {name} cannot be read")) });
                }
            }
        }
        Ok(true)
    }

    fn family(&mut self) -> Result<u16, Refused> {
        if let Some(family) = self.family {
            return Ok(family);
        }
        let mut payload = vec![CTRL_CMD_GETFAMILY, VERSION, 0, 0];
        attr::put_name(&mut payload, CTRL_ATTR_FAMILY_NAME, "wireguard");
        let answer = self.netlink.get(Request::new(GENL_ID_CTRL, 0, &payload))?;
        let id = attr::find(answer.get(HEADER..).unwrap_or_default(), CTRL_ATTR_FAMILY_ID).and_then(|id| id.try_into().ok());
        let family = id.map(u16::from_ne_bytes).ok_or(Refused { errno: libc::EBADMSG, text: None })?;
        Ok(*self.family.insert(family))
    }
}

impl Device {
    fn take(&mut self, attribute: WireguardAttribute) {
        match attribute {
            WireguardAttribute::PrivateKey(key) => self.key = Some(PrivateKey::new(key)),
            WireguardAttribute::ListenPort(port) => self.port = port,
            WireguardAttribute::Peers(peers) => peers.into_iter().for_each(|peer| self.take_peer(peer)),
            _ => {}
        }
    }

    /// One with many prefixes comes in several pieces, of which the later have nothing but its key and more of them.
    fn take_peer(&mut self, PeerMessage(attributes): PeerMessage) {
        let key = attributes.iter().find_map(|a| if let WireguardPeerAttribute::PublicKey(key) = a { Some(*key) } else { None });
        let Some(key) = key.and_then(|key| PublicKey::try_from(key).ok()) else { return };
        let nobody = WireguardPeer { allowed: BTreeSet::new(), endpoint: Endpoint::Roams(None), keepalive: 0 };
        let peer = self.peers.entry(key).or_insert(nobody);
        for attribute in attributes {
            match attribute {
                WireguardPeerAttribute::Endpoint(at) => peer.endpoint = Endpoint::Roams(Some(at)),
                WireguardPeerAttribute::PersistentKeepalive(seconds) => peer.keepalive = seconds,
                WireguardPeerAttribute::AllowedIps(all) => peer.allowed.extend(all.iter().filter_map(allowed)),
                _ => {}
            }
        }
    }
}

/// The later pieces of one with many prefixes say nothing of this.
fn seen(PeerMessage(attributes): &PeerMessage) -> Option<PeerSeen> {
    let (mut key, mut endpoint, mut agreed, mut received) = (None, None, None, 0);
    for attribute in attributes {
        match attribute {
            WireguardPeerAttribute::PublicKey(bytes) => key = PublicKey::try_from(*bytes).ok(),
            WireguardPeerAttribute::Endpoint(at) => endpoint = Some(*at),
            WireguardPeerAttribute::RxBytes(bytes) => received = *bytes,
            WireguardPeerAttribute::LastHandshake(at) if at.seconds > 0 => {
                let since = Duration::new(at.seconds.cast_unsigned(), u32::try_from(at.nano_seconds).unwrap_or(0));
                agreed = SystemTime::UNIX_EPOCH.checked_add(since);
            }
            _ => {}
        }
    }
    Some(PeerSeen { key: key?, endpoint, agreed, received }).filter(|seen| seen.endpoint.is_some() || seen.agreed.is_some())
}

fn peer_message(key: &PublicKey, peer: &WireguardPeer) -> PeerMessage {
    let mut attributes =
        vec![WireguardPeerAttribute::PublicKey(*key.bytes()), WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps)];
    let endpoint: Option<SocketAddr> = match peer.endpoint {
        Endpoint::Roams(first) => first,
        Endpoint::Fixed(at) => Some(at),
    };
    attributes.extend(endpoint.map(WireguardPeerAttribute::Endpoint));
    attributes.push(WireguardPeerAttribute::PersistentKeepalive(peer.keepalive));
    let nets = peer.allowed.iter().map(|net| {
        let family = if net.addr().is_ipv4() { WireguardAddressFamily::Ipv4 } else { WireguardAddressFamily::Ipv6 };
        WireguardAllowedIp(vec![
            WireguardAllowedIpAttr::Family(family),
            WireguardAllowedIpAttr::IpAddr(net.network()),
            WireguardAllowedIpAttr::Cidr(net.prefix_len()),
        ])
    });
    attributes.push(WireguardPeerAttribute::AllowedIps(nets.collect()));
    PeerMessage(attributes)
}

fn allowed(WireguardAllowedIp(attributes): &WireguardAllowedIp) -> Option<IpNet> {
    let (mut address, mut length) = (None::<IpAddr>, None);
    for attribute in attributes {
        match attribute {
            WireguardAllowedIpAttr::IpAddr(ip) => address = Some(*ip),
            WireguardAllowedIpAttr::Cidr(bits) => length = Some(*bits),
            _ => {}
        }
    }
    IpNet::new(address?, length?).ok()
}

fn set(family: u16, name: &IfName, attributes: Vec<WireguardAttribute>) -> Request {
    let attributes = [WireguardAttribute::IfName(name.to_string())].into_iter().chain(attributes).collect();
    message(family, 0, WireguardCmd::SetDevice, attributes)
}

fn message(family: u16, flags: u16, cmd: WireguardCmd, attributes: Vec<WireguardAttribute>) -> Request {
    let message = WireguardMessage { cmd, attributes };
    let mut payload = Zeroizing::new(vec![0; HEADER + message.buffer_len()]);
    payload[..2].copy_from_slice(&[cmd.into(), VERSION]);
    message.emit(&mut payload[HEADER..]);
    Request::new(family, flags, &payload)
}

fn removed(answer: Answer) -> Answer {
    match answer {
        Err(Refused { errno: libc::ENOENT | libc::ENODEV, .. }) => Ok(()),
        other => other,
    }
}
