//! GRE carried by this process: what it has been told, and what it is to be told.

use super::{Carry, take};
use crate::config::PeerEnd;
use crate::metrics::Page;
use crate::model::IfName;
use crate::userspace::{Dataplane, DataplaneConfig, Role, Tunnel};
use anyhow::Context;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// A tunnel and, on a gateway, the function hosts that use it: outer address -> inner prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    pub tunnel: Tunnel,
    pub peers: BTreeMap<IpAddr, Vec<IpNet>>,
}

#[derive(Debug)]
pub struct Path {
    dataplane: Dataplane,
    told: BTreeMap<IfName, Carried>,
}

impl Path {
    /// Carries at once what a predecessor carried.
    pub fn start(inherited: &mut BTreeMap<String, OwnedFd>, tunnels: &[Carried]) -> anyhow::Result<Self> {
        tunnels.iter().try_for_each(|carried| carried.tunnel.check())?;
        let adopted = take(inherited);
        let at_once = |carried: &&Carried| adopted.contains_key(&Role::Tun(carried.tunnel.interface.clone()));
        let at_once: Vec<Carried> = tunnels.iter().filter(at_once).cloned().collect();
        let dataplane = Dataplane::prepare(&DataplaneConfig::default(), adopted)?;
        let mut path = Self { dataplane, told: BTreeMap::new() };
        // Before the first packet is taken: one that nobody is known for would be dropped.
        path.carry(&at_once)?;
        path.dataplane.carry()?;
        Ok(path)
    }

    /// Carries exactly these tunnels from now on. Answers which devices were opened.
    pub fn carry(&mut self, tunnels: &[Carried]) -> anyhow::Result<Vec<IfName>> {
        let mut opened = Vec::new();
        let wanted: BTreeMap<&IfName, &Carried> = tunnels.iter().map(|carried| (&carried.tunnel.interface, carried)).collect();
        let other = |told: &Carried| wanted.get(&told.tunnel.interface).is_none_or(|carried| carried.tunnel != told.tunnel);
        for gone in self.told.extract_if(.., |_, told| other(told)).map(|(name, _)| name).collect::<Vec<_>>() {
            self.dataplane.remove_tunnel(&gone);
        }
        for carried in tunnels {
            let name = &carried.tunnel.interface;
            // Told again even if it is known: its device may have been made anew.
            if self.dataplane.add_tunnel(&carried.tunnel).with_context(|| format!("cannot carry {name}"))? {
                opened.push(name.clone());
            }
            let told = self.told.entry(name.clone()).or_insert_with(|| Carried { tunnel: carried.tunnel.clone(), peers: BTreeMap::new() });
            for gone in told.peers.extract_if(.., |outer, _| !carried.peers.contains_key(outer)).map(|(outer, _)| outer).collect::<Vec<_>>()
            {
                self.dataplane.remove_peer(name, gone)?;
            }
            for (outer, prefixes) in
                carried.peers.iter().filter(|(outer, prefixes)| told.peers.get(outer) != Some(prefixes)).collect::<Vec<_>>()
            {
                self.dataplane.set_peer(name, *outer, prefixes)?;
                told.peers.insert(*outer, prefixes.clone());
            }
        }
        Ok(opened)
    }
}

impl Carry for Path {
    fn set_peer(&mut self, interface: &IfName, end: &PeerEnd, prefixes: &[IpNet]) -> anyhow::Result<()> {
        if let (PeerEnd::Gre { outer }, Some(told)) = (end, self.told.get_mut(interface)) {
            self.dataplane.set_peer(interface, *outer, prefixes)?;
            told.peers.insert(*outer, prefixes.to_vec());
        }
        Ok(())
    }

    fn remove_peer(&mut self, interface: &IfName, end: &PeerEnd) -> anyhow::Result<()> {
        if let (PeerEnd::Gre { outer }, Some(told)) = (end, self.told.get_mut(interface)) {
            self.dataplane.remove_peer(interface, *outer)?;
            told.peers.remove(outer);
        }
        Ok(())
    }

    fn status(&self) -> serde_json::Value {
        serde_json::json!(self.dataplane.counters())
    }

    fn metrics(&self, out: &mut Page) {
        let counters = self.dataplane.counters();
        for (reason, packets) in counters.drops {
            super::dropped(out, reason.as_str(), packets);
        }
        for (interface, traffic) in counters.tunnels {
            super::traffic(out, &interface, &traffic);
        }
    }

    fn descriptors(&self) -> anyhow::Result<BTreeMap<String, OwnedFd>> {
        Ok(super::named(self.dataplane.descriptors()?))
    }

    fn stop(self: Box<Self>) {
        self.dataplane.stop();
    }
}
