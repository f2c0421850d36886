//! Which tunnel a packet belongs to, and whether it may: no I/O.
//!
//! One structure answers both questions of a gateway: an inner prefix has one owner, to whom packets *to* it go and
//! from whom alone packets *from* it come.

use super::counters::DropReason;
use super::lpm::PrefixMap;
use crate::model::{GreKey, IfName, Invalid};
use ipnet::IpNet;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// One TUN device and the tunnel behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    pub interface: IfName,
    /// Our outer address: source of what is sent, destination of what is received. It may come to this machine later, and go.
    pub local: IpAddr,
    /// The same at both ends.
    pub key: GreKey,
    pub end: End,
}

impl Tunnel {
    /// Whether the data path can carry it: refused before anything is changed.
    pub fn check(&self) -> Result<(), Invalid> {
        match self.local {
            IpAddr::V4(_) => Ok(()),
            IpAddr::V6(local) => Err(Invalid(format!("the address {local} of {} is IPv6, which tunnels do not use yet", self.interface))),
        }
    }

    /// What packets of this tunnel from `remote` look like.
    fn received_from(&self, remote: IpAddr) -> Outer {
        Outer { source: remote, destination: self.local, key: self.key }
    }
}

/// Which end of the tunnel this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A gateway: many function hosts, set by [`Table::set_peer`].
    Gateway,
    /// A function host: one gateway.
    Host {
        gateway: IpAddr,
        /// The only destination that packets from the tunnel may have.
        inner: IpAddr,
        /// The tenant's CIDRs: the only sources that packets from the tunnel may have.
        cidrs: Vec<IpNet>,
    },
}

/// What an outer packet says of its tunnel. The same key may be in use at several local addresses: a tenant has one in all its shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outer {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub key: GreKey,
}

/// A tunnel's number: never used twice by one table.
pub type TunnelId = u64;

/// All tunnels of this node. `D` is what the shell keeps with each: its device.
///
/// It is changed in place under a lock that the data path takes once a batch: adding the 10,001st host is two hash
/// insertions, where an immutable snapshot would copy 10,000 entries (or need a persistent map, whose every look-up is dearer).
#[derive(Debug)]
pub struct Table<D> {
    tunnels: HashMap<TunnelId, Entry<D>>,
    /// As received -> tunnel: the only ones that are taken.
    points: HashMap<Outer, TunnelId>,
    /// How many points each pair of outer addresses has, (remote, local), to tell a stranger from a wrong key.
    pairs: HashMap<(IpAddr, IpAddr), usize>,
    /// How many tunnels a local address has, to tell one of them from any other address of this machine.
    locals: HashMap<IpAddr, usize>,
    names: HashMap<IfName, TunnelId>,
    gateway_keys: HashMap<(IpAddr, GreKey), TunnelId>,
    next: TunnelId,
}

#[derive(Debug)]
struct Entry<D> {
    tunnel: Tunnel,
    device: D,
    /// Gateway: inner prefix -> the outer address of the host that owns it.
    owners: PrefixMap<IpAddr>,
    /// Gateway: the prefixes of each host.
    peers: HashMap<IpAddr, Vec<IpNet>>,
}

impl<D> Default for Table<D> {
    fn default() -> Self {
        Self {
            tunnels: HashMap::new(),
            points: HashMap::new(),
            pairs: HashMap::new(),
            locals: HashMap::new(),
            names: HashMap::new(),
            gateway_keys: HashMap::new(),
            next: 1,
        }
    }
}

impl<D> Table<D> {
    /// The tunnel of a packet as it was received, if the inner addresses are ones that it may have.
    pub fn decapsulate(&self, outer: &Outer, source: IpAddr, destination: IpAddr) -> Result<(TunnelId, &D), DropReason> {
        let Some(id) = self.points.get(outer) else { return Err(self.nobodys(outer)) };
        let entry = self.tunnels.get(id).ok_or(DropReason::WrongKey)?;
        match &entry.tunnel.end {
            End::Gateway => match entry.owners.lookup(source) {
                Some(owner) if *owner == outer.source => Ok((*id, &entry.device)),
                _ => Err(DropReason::SpoofedInner),
            },
            End::Host { inner, .. } if *inner != destination => Err(DropReason::Unroutable),
            End::Host { cidrs, .. } if cidrs.iter().any(|c| c.contains(&source)) => Ok((*id, &entry.device)),
            End::Host { .. } => Err(DropReason::SpoofedInner),
        }
    }

    /// How a packet that came out of a tunnel's device is sent.
    pub fn encapsulate(&self, id: TunnelId, destination: IpAddr) -> Result<Outer, DropReason> {
        let Entry { tunnel, owners, .. } = self.tunnels.get(&id).ok_or(DropReason::Unroutable)?;
        let remote = match &tunnel.end {
            End::Gateway => *owners.lookup(destination).ok_or(DropReason::Unroutable)?,
            End::Host { gateway, .. } => *gateway,
        };
        Ok(Outer { source: tunnel.local, destination: remote, key: tunnel.key })
    }

    pub fn device(&self, id: TunnelId) -> Option<&D> {
        self.tunnels.get(&id).map(|e| &e.device)
    }

    pub fn find(&self, interface: &IfName) -> Option<(TunnelId, &Tunnel, &D)> {
        let id = self.names.get(interface)?;
        self.tunnels.get(id).map(|e| (*id, &e.tunnel, &e.device))
    }

    pub fn iter(&self) -> impl Iterator<Item = (TunnelId, &Tunnel, &D)> {
        self.tunnels.iter().map(|(id, e)| (*id, &e.tunnel, &e.device))
    }

    pub fn add(&mut self, tunnel: Tunnel, device: D) -> Result<TunnelId, Invalid> {
        let Tunnel { interface, local, key, end } = &tunnel;
        if self.names.contains_key(interface) {
            return Err(Invalid(format!("{interface} is a tunnel already: remove it first")));
        }
        let taken = match end {
            End::Gateway => self.gateway_keys.contains_key(&(*local, *key)),
            End::Host { gateway, .. } => self.points.contains_key(&tunnel.received_from(*gateway)),
        };
        if taken {
            return Err(Invalid(format!("key {key} of {interface} is another tunnel's: give each tenant its own")));
        }
        let id = self.next;
        self.next += 1;
        self.names.insert(interface.clone(), id);
        *self.locals.entry(*local).or_default() += 1;
        match end {
            End::Gateway => {
                self.gateway_keys.insert((*local, *key), id);
            }
            End::Host { gateway, .. } => self.add_point(tunnel.received_from(*gateway), id),
        }
        self.tunnels.insert(id, Entry { tunnel, device, owners: PrefixMap::new(), peers: HashMap::new() });
        Ok(id)
    }

    /// The device of the tunnel that is gone, with its peers.
    pub fn remove(&mut self, interface: &IfName) -> Option<D> {
        let id = self.names.remove(interface)?;
        let entry = self.tunnels.remove(&id)?;
        let tunnel = entry.tunnel;
        one_less(&mut self.locals, &tunnel.local);
        match tunnel.end {
            End::Gateway => {
                self.gateway_keys.remove(&(tunnel.local, tunnel.key));
            }
            End::Host { gateway, .. } => self.remove_point(&tunnel.received_from(gateway)),
        }
        for outer in entry.peers.into_keys() {
            self.remove_point(&tunnel.received_from(outer));
        }
        Some(entry.device)
    }

    /// Lets the function host at `outer` use a gateway's tunnel, from exactly these inner prefixes.
    pub fn set_peer(&mut self, interface: &IfName, outer: IpAddr, prefixes: &[IpNet]) -> Result<(), Invalid> {
        let (id, entry) = Self::gateway(&self.names, &mut self.tunnels, interface)?;
        if let Some((prefix, owner)) = prefixes.iter().find_map(|p| entry.owners.get(*p).filter(|o| **o != outer).map(|o| (p, o))) {
            return Err(Invalid(format!("inner prefix {prefix} on {interface} is {owner}'s already: it cannot be {outer}'s too")));
        }
        let former = entry.peers.insert(outer, prefixes.to_vec());
        let known = former.is_some();
        for gone in former.into_iter().flatten().filter(|p| !prefixes.contains(p)) {
            entry.owners.remove(gone);
        }
        for prefix in prefixes {
            entry.owners.insert(*prefix, outer);
        }
        let point = entry.tunnel.received_from(outer);
        if !known {
            self.add_point(point, id);
        }
        Ok(())
    }

    /// Whether there was such a peer.
    pub fn remove_peer(&mut self, interface: &IfName, outer: IpAddr) -> Result<bool, Invalid> {
        let (_, entry) = Self::gateway(&self.names, &mut self.tunnels, interface)?;
        let Some(prefixes) = entry.peers.remove(&outer) else { return Ok(false) };
        for prefix in prefixes {
            entry.owners.remove(prefix);
        }
        let point = entry.tunnel.received_from(outer);
        self.remove_point(&point);
        Ok(true)
    }

    /// The function hosts of a gateway's tunnel, with their inner prefixes.
    pub fn peers(&self, interface: &IfName) -> impl Iterator<Item = (IpAddr, &[IpNet])> {
        let entry = self.names.get(interface).and_then(|id| self.tunnels.get(id));
        entry.into_iter().flat_map(|e| e.peers.iter().map(|(outer, prefixes)| (*outer, prefixes.as_slice())))
    }

    fn gateway<'t>(
        names: &HashMap<IfName, TunnelId>,
        tunnels: &'t mut HashMap<TunnelId, Entry<D>>,
        interface: &IfName,
    ) -> Result<(TunnelId, &'t mut Entry<D>), Invalid> {
        let unknown = || Invalid(format!("{interface} is no tunnel here: add it first"));
        let id = *names.get(interface).ok_or_else(unknown)?;
        let entry = tunnels.get_mut(&id).ok_or_else(unknown)?;
        match entry.tunnel.end {
            End::Gateway => Ok((id, entry)),
            End::Host { .. } => Err(Invalid(format!("{interface} leads to a gateway: it has no function hosts"))),
        }
    }

    /// Why nobody has it.
    fn nobodys(&self, outer: &Outer) -> DropReason {
        if !self.locals.contains_key(&outer.destination) {
            DropReason::WrongLocal
        } else if self.pairs.contains_key(&(outer.source, outer.destination)) {
            DropReason::WrongKey
        } else {
            DropReason::UnlistedSource
        }
    }

    fn add_point(&mut self, point: Outer, id: TunnelId) {
        self.points.insert(point, id);
        *self.pairs.entry((point.source, point.destination)).or_default() += 1;
    }

    fn remove_point(&mut self, point: &Outer) {
        if self.points.remove(point).is_some() {
            one_less(&mut self.pairs, &(point.source, point.destination));
        }
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
