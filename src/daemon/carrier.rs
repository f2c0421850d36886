//! What carries the tunnels: GRE devices of the kernel, which need nothing from this process, or its own data path.

use crate::config::{Backend, PeerEnd, TunnelKind};
use crate::kernel::Kernel;
use crate::metrics::Page;
use crate::model::IfName;
use crate::plan::gateway::Carrier;
use crate::userspace::{Dataplane, DataplaneConfig, Descriptors, Role, Tunnel};
use anyhow::{Context, bail, ensure};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A device that was opened sends after this long at the latest; otherwise something is wrong with it.
const CARRIER: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// As configured, and as this kernel can.
pub async fn choose(backend: Backend, tunnel: TunnelKind, kernel: &Kernel) -> anyhow::Result<Carrier> {
    let (there, module) = match tunnel {
        TunnelKind::Gre => (kernel.has_gre().await, "ip_gre"),
        TunnelKind::Wireguard => (kernel.has_wireguard(), "wireguard"),
    };
    Ok(match backend {
        Backend::Auto | Backend::Kernel if there => Carrier::Kernel,
        Backend::Kernel => {
            bail!(
                "`backend: kernel`, but this kernel has no {module}: load it (`modprobe {module}`), or write `backend: auto` to let this process carry the tunnels"
            )
        }
        Backend::Auto | Backend::Userspace if tunnel == TunnelKind::Wireguard => {
            bail!("WireGuard is carried by the kernel only so far: write `backend: kernel`, and load it (`modprobe wireguard`)")
        }
        Backend::Auto | Backend::Userspace => Carrier::Userspace,
    })
}

impl Carrier {
    pub fn name(self) -> &'static str {
        match self {
            Carrier::Kernel => "kernel",
            Carrier::Userspace => "userspace",
        }
    }
}

/// A tunnel and, on a gateway, the function hosts that use it: outer address -> inner prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    pub tunnel: Tunnel,
    pub peers: BTreeMap<IpAddr, Vec<IpNet>>,
}

/// The userspace data path, where there is one, and what it has been told.
#[derive(Debug, Default)]
pub struct Path {
    dataplane: Option<Dataplane>,
    told: BTreeMap<IfName, Carried>,
}

impl Path {
    /// Nothing for kernel tunnels. In userspace: carries at once what a predecessor carried.
    pub fn start(carrier: Carrier, inherited: &mut BTreeMap<String, OwnedFd>, tunnels: &[Carried]) -> anyhow::Result<Self> {
        if carrier == Carrier::Kernel {
            return Ok(Self::default());
        }
        tunnels.iter().try_for_each(|carried| carried.tunnel.check())?;
        let adopted = take(inherited);
        let at_once = |carried: &&Carried| adopted.contains_key(&Role::Tun(carried.tunnel.interface.clone()));
        let at_once: Vec<Carried> = tunnels.iter().filter(at_once).cloned().collect();
        let dataplane = Dataplane::prepare(&DataplaneConfig::default(), adopted)?;
        let mut path = Self { dataplane: Some(dataplane), told: BTreeMap::new() };
        // Before the first packet is taken: one that nobody is known for would be dropped.
        path.carry(&at_once)?;
        path.dataplane.as_mut().map_or(Ok(()), Dataplane::carry)?;
        Ok(path)
    }

    /// Carries exactly these tunnels from now on; what is carried already is not disturbed. Returns when all of them send.
    pub async fn follow(&mut self, tunnels: &[Carried], kernel: &Kernel) -> anyhow::Result<()> {
        let opened = self.carry(tunnels)?;
        // A TUN device has a carrier when it is opened; that it sends, the kernel sees to in a work item of its own
        // (net/core/link_watch.c). What comes before that is dropped.
        let deadline = Instant::now() + CARRIER;
        for name in opened {
            while !kernel.link(&name)?.is_some_and(|link| link.running) {
                ensure!(Instant::now() < deadline, "{name} was opened and does not run: is it up (`ip link show {name}`)?");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Ok(())
    }

    /// Answers which devices were opened.
    fn carry(&mut self, tunnels: &[Carried]) -> anyhow::Result<Vec<IfName>> {
        let mut opened = Vec::new();
        let Some(dataplane) = &mut self.dataplane else { return Ok(opened) };
        let wanted: BTreeMap<&IfName, &Carried> = tunnels.iter().map(|carried| (&carried.tunnel.interface, carried)).collect();
        let other = |told: &Carried| wanted.get(&told.tunnel.interface).is_none_or(|carried| carried.tunnel != told.tunnel);
        for gone in self.told.extract_if(.., |_, told| other(told)).map(|(name, _)| name).collect::<Vec<_>>() {
            dataplane.remove_tunnel(&gone);
        }
        for carried in tunnels {
            let name = &carried.tunnel.interface;
            // Told again even if it is known: its device may have been made anew.
            if dataplane.add_tunnel(&carried.tunnel).with_context(|| format!("cannot carry {name}"))? {
                opened.push(name.clone());
            }
            let told = self.told.entry(name.clone()).or_insert_with(|| Carried { tunnel: carried.tunnel.clone(), peers: BTreeMap::new() });
            for gone in told.peers.extract_if(.., |outer, _| !carried.peers.contains_key(outer)).map(|(outer, _)| outer).collect::<Vec<_>>()
            {
                dataplane.remove_peer(name, gone)?;
            }
            for (outer, prefixes) in
                carried.peers.iter().filter(|(outer, prefixes)| told.peers.get(outer) != Some(prefixes)).collect::<Vec<_>>()
            {
                dataplane.set_peer(name, *outer, prefixes)?;
                told.peers.insert(*outer, prefixes.clone());
            }
        }
        Ok(opened)
    }

    /// Lets one more function host use a tunnel that is carried, or gives one that does other prefixes.
    pub fn set_peer(&mut self, interface: &IfName, end: &PeerEnd, prefixes: &[IpNet]) -> anyhow::Result<()> {
        let PeerEnd::Gre { outer } = *end else { return Ok(()) };
        if let (Some(dataplane), Some(told)) = (&mut self.dataplane, self.told.get_mut(interface)) {
            dataplane.set_peer(interface, outer, prefixes)?;
            told.peers.insert(outer, prefixes.to_vec());
        }
        Ok(())
    }

    pub fn remove_peer(&mut self, interface: &IfName, end: &PeerEnd) -> anyhow::Result<()> {
        let PeerEnd::Gre { outer } = *end else { return Ok(()) };
        if let (Some(dataplane), Some(told)) = (&mut self.dataplane, self.told.get_mut(interface)) {
            dataplane.remove_peer(interface, outer)?;
            told.peers.remove(&outer);
        }
        Ok(())
    }

    pub fn status(&self) -> serde_json::Value {
        self.dataplane.as_ref().map_or(serde_json::Value::Null, |dataplane| serde_json::json!(dataplane.counters()))
    }

    pub fn metrics(&self, out: &mut Page) {
        let Some(dataplane) = &self.dataplane else { return };
        let counters = dataplane.counters();
        for (reason, packets) in counters.drops {
            out.counter(
                "portway_userspace_dropped_packets",
                "Packets dropped by the userspace data path",
                &[("reason", reason.as_str())],
                packets,
            );
        }
        for (interface, traffic) in counters.tunnels {
            let labels = [("tunnel", interface.as_str())];
            out.counter("portway_tunnel_received_packets", "Packets out of a userspace tunnel", &labels, traffic.received_packets);
            out.counter("portway_tunnel_received_bytes", "Inner bytes out of a userspace tunnel", &labels, traffic.received_bytes);
            out.counter("portway_tunnel_sent_packets", "Packets into a userspace tunnel", &labels, traffic.sent_packets);
            out.counter("portway_tunnel_sent_bytes", "Inner bytes into a userspace tunnel", &labels, traffic.sent_bytes);
        }
    }

    pub fn descriptors(&self) -> anyhow::Result<BTreeMap<String, OwnedFd>> {
        let descriptors = self.dataplane.as_ref().map(Dataplane::descriptors).transpose()?.unwrap_or_default();
        Ok(descriptors.into_iter().map(|(role, descriptor)| (role.to_string(), descriptor)).collect())
    }

    /// Sends on what has been read, and reads no more.
    pub fn stop(&mut self) {
        if let Some(dataplane) = self.dataplane.take() {
            dataplane.stop();
        }
        self.told.clear();
    }
}

/// The data path's own among all that was inherited.
fn take(inherited: &mut BTreeMap<String, OwnedFd>) -> Descriptors {
    let ours: Vec<String> = inherited.keys().filter(|name| name.parse::<Role>().is_ok()).cloned().collect();
    ours.into_iter().filter_map(|name| Some((name.parse().ok()?, inherited.remove(&name)?))).collect()
}
