//! Which tunnel a packet belongs to, and whether it may: no I/O.
//!
//! One structure answers both questions of a gateway: an inner prefix has one owner, to whom packets *to* it go and
//! from whom alone packets *from* it come.

use super::counters::DropReason;
use super::lpm::PrefixMap;
use crate::model::{GreKey, IfName, Invalid};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;

/// One TUN device and the tunnel behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    pub interface: IfName,
    /// The same at both ends.
    pub key: GreKey,
    pub end: End,
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

/// A tunnel's number: never used twice by one table.
pub type TunnelId = u64;

/// All tunnels of this node. `D` is what the shell keeps with each: its device.
///
/// It is changed in place under a lock that the data path takes once a batch: adding the 10,001st host is two hash
/// insertions, where an immutable snapshot would copy 10,000 entries (or need a persistent map, whose every look-up is dearer).
#[derive(Debug)]
pub struct Table<D> {
    tunnels: HashMap<TunnelId, Entry<D>>,
    /// (outer source, key) -> tunnel: the only pairs from which packets are taken.
    points: HashMap<(IpAddr, GreKey), TunnelId>,
    /// How many points an outer address has, to tell a stranger from a wrong key.
    outers: HashMap<IpAddr, usize>,
    names: HashMap<IfName, TunnelId>,
    gateway_keys: HashMap<GreKey, TunnelId>,
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
            outers: HashMap::new(),
            names: HashMap::new(),
            gateway_keys: HashMap::new(),
            next: 1,
        }
    }
}

impl<D> Table<D> {
    /// The tunnel of a packet from `outer` with `key`, if the inner addresses are ones that it may have.
    pub fn decapsulate(&self, outer: IpAddr, key: GreKey, source: IpAddr, destination: IpAddr) -> Result<(TunnelId, &D), DropReason> {
        let Some(id) = self.points.get(&(outer, key)) else {
            return Err(if self.outers.contains_key(&outer) { DropReason::WrongKey } else { DropReason::UnlistedSource });
        };
        let entry = self.tunnels.get(id).ok_or(DropReason::WrongKey)?;
        match &entry.tunnel.end {
            End::Gateway => match entry.owners.lookup(source) {
                Some(owner) if *owner == outer => Ok((*id, &entry.device)),
                _ => Err(DropReason::SpoofedInner),
            },
            End::Host { inner, .. } if *inner != destination => Err(DropReason::Unroutable),
            End::Host { cidrs, .. } if cidrs.iter().any(|c| c.contains(&source)) => Ok((*id, &entry.device)),
            End::Host { .. } => Err(DropReason::SpoofedInner),
        }
    }

    /// Where a packet that came out of a tunnel's device goes: outer destination and key.
    pub fn encapsulate(&self, id: TunnelId, destination: IpAddr) -> Result<(IpAddr, GreKey), DropReason> {
        let entry = self.tunnels.get(&id).ok_or(DropReason::Unroutable)?;
        let outer = match &entry.tunnel.end {
            End::Gateway => *entry.owners.lookup(destination).ok_or(DropReason::Unroutable)?,
            End::Host { gateway, .. } => *gateway,
        };
        Ok((outer, entry.tunnel.key))
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
        let Tunnel { interface, key, end } = &tunnel;
        if self.names.contains_key(interface) {
            return Err(Invalid(format!("{interface} is a tunnel already: remove it first")));
        }
        let taken = match end {
            End::Gateway => self.gateway_keys.contains_key(key),
            End::Host { gateway, .. } => self.points.contains_key(&(*gateway, *key)),
        };
        if taken {
            return Err(Invalid(format!("key {key} of {interface} is another tunnel's: give each tenant its own")));
        }
        let id = self.next;
        self.next += 1;
        self.names.insert(interface.clone(), id);
        match end {
            End::Gateway => {
                self.gateway_keys.insert(*key, id);
            }
            End::Host { gateway, .. } => self.add_point(*gateway, *key, id),
        }
        self.tunnels.insert(id, Entry { tunnel, device, owners: PrefixMap::new(), peers: HashMap::new() });
        Ok(id)
    }

    /// The device of the tunnel that is gone, with its peers.
    pub fn remove(&mut self, interface: &IfName) -> Option<D> {
        let id = self.names.remove(interface)?;
        let entry = self.tunnels.remove(&id)?;
        let key = entry.tunnel.key;
        match entry.tunnel.end {
            End::Gateway => {
                self.gateway_keys.remove(&key);
            }
            End::Host { gateway, .. } => self.remove_point(gateway, key),
        }
        for outer in entry.peers.into_keys() {
            self.remove_point(outer, key);
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
        let key = entry.tunnel.key;
        if !known {
            self.add_point(outer, key, id);
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
        let key = entry.tunnel.key;
        self.remove_point(outer, key);
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

    fn add_point(&mut self, outer: IpAddr, key: GreKey, id: TunnelId) {
        self.points.insert((outer, key), id);
        *self.outers.entry(outer).or_default() += 1;
    }

    fn remove_point(&mut self, outer: IpAddr, key: GreKey) {
        if self.points.remove(&(outer, key)).is_none() {
            return;
        }
        if let Some(count) = self.outers.get_mut(&outer) {
            *count -= 1;
            if *count == 0 {
                self.outers.remove(&outer);
            }
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
