//! What carries the tunnels: devices of the kernel, which need nothing from this process, or its own data path.

pub mod gre;
pub mod remembered;
pub mod wireguard;

use crate::config::{Backend, PeerEnd, TunnelKind};
use crate::kernel::Kernel;
use crate::metrics::Page;
use crate::model::{IfName, PublicKey};
use crate::plan::gateway::Carrier;
use crate::userspace::TrafficCount;
use anyhow::{anyhow, bail, ensure};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::str::FromStr;
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

/// All tunnels of a node.
#[derive(Debug, Clone)]
pub enum Tunnels {
    Gre(Vec<gre::Carried>),
    Wireguard(Vec<wireguard::Carried>),
}

/// A data path of this process, whatever it carries.
trait Carry: fmt::Debug + Send + Sync {
    fn set_peer(&mut self, interface: &IfName, end: &PeerEnd, prefixes: &[IpNet]) -> anyhow::Result<()>;
    fn remove_peer(&mut self, interface: &IfName, end: &PeerEnd) -> anyhow::Result<()>;
    fn status(&self) -> serde_json::Value;
    fn metrics(&self, out: &mut Page);
    fn descriptors(&self) -> anyhow::Result<BTreeMap<String, OwnedFd>>;
    /// Sends on what has been read, and reads no more.
    fn stop(self: Box<Self>);
}

/// The userspace data path, where there is one.
#[derive(Debug, Default)]
pub enum Path {
    #[default]
    Kernel,
    Gre(Box<gre::Path>),
    Wireguard(Box<wireguard::Path>),
}

impl Path {
    /// Nothing for kernel tunnels. In userspace: carries at once what a predecessor carried, or makes ready to.
    pub fn start(
        carrier: Carrier,
        inherited: &mut BTreeMap<String, OwnedFd>,
        tunnels: &Tunnels,
        runtime_dir: &std::path::Path,
    ) -> anyhow::Result<Self> {
        Ok(match (carrier, tunnels) {
            (Carrier::Kernel, _) => Self::Kernel,
            (Carrier::Userspace, Tunnels::Gre(tunnels)) => Self::Gre(Box::new(gre::Path::start(inherited, tunnels)?)),
            (Carrier::Userspace, Tunnels::Wireguard(tunnels)) => {
                Self::Wireguard(Box::new(wireguard::Path::start(inherited, tunnels, runtime_dir)?))
            }
        })
    }

    /// A predecessor carries nothing any more: goes on with what only one process may have. Called once.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Kernel | Self::Gre(_) => Ok(()),
            Self::Wireguard(path) => path.begin(),
        }
    }

    /// Carries exactly these tunnels from now on; what is carried already is not disturbed, and what cannot be carried keeps no other
    /// from it. Returns when all of them send.
    pub async fn follow(&mut self, tunnels: &Tunnels, kernel: &Kernel) -> anyhow::Result<()> {
        let (opened, failure) = match (self, tunnels) {
            (Self::Gre(path), Tunnels::Gre(tunnels)) => (path.carry(tunnels)?, None),
            (Self::Wireguard(path), Tunnels::Wireguard(tunnels)) => {
                let wireguard::Carrying { opened, failure } = path.carry(tunnels);
                (opened, failure)
            }
            // What tunnels are is taken up at a start only.
            (Self::Kernel | Self::Gre(_) | Self::Wireguard(_), _) => return Ok(()),
        };
        let deadline = Instant::now() + CARRIER;
        let mut silent = Ok(());
        for name in opened {
            silent = silent.and(until_it_runs(&name, deadline, kernel).await);
        }
        match (failure, silent) {
            (Some(failure), Err(silent)) => Err(anyhow!("{failure:#}; {silent:#}")),
            (failure, silent) => failure.map_or(silent, Err),
        }
    }

    /// Whether a session with this peer was ever agreed on by a WireGuard interface that is carried.
    pub fn has_session(&self, interface: &IfName, peer: &PublicKey) -> bool {
        if let Self::Wireguard(path) = self { path.has_session(interface, peer) } else { false }
    }

    /// Lets one more function host use a tunnel that is carried, or gives one that does other prefixes.
    pub fn set_peer(&mut self, interface: &IfName, end: &PeerEnd, prefixes: &[IpNet]) -> anyhow::Result<()> {
        self.carry_mut().map_or(Ok(()), |path| path.set_peer(interface, end, prefixes))
    }

    pub fn remove_peer(&mut self, interface: &IfName, end: &PeerEnd) -> anyhow::Result<()> {
        self.carry_mut().map_or(Ok(()), |path| path.remove_peer(interface, end))
    }

    pub fn status(&self) -> serde_json::Value {
        self.carry().map_or(serde_json::Value::Null, Carry::status)
    }

    pub fn metrics(&self, out: &mut Page) {
        if let Some(path) = self.carry() {
            path.metrics(out);
        }
    }

    pub fn descriptors(&self) -> anyhow::Result<BTreeMap<String, OwnedFd>> {
        self.carry().map_or(Ok(BTreeMap::new()), Carry::descriptors)
    }

    /// Sends on what has been read, and reads no more.
    pub fn stop(&mut self) {
        match std::mem::take(self) {
            Self::Kernel => {}
            Self::Gre(path) => path.stop(),
            Self::Wireguard(path) => path.stop(),
        }
    }

    fn carry(&self) -> Option<&dyn Carry> {
        match self {
            Self::Kernel => None,
            Self::Gre(path) => Some(&**path),
            Self::Wireguard(path) => Some(&**path),
        }
    }

    fn carry_mut(&mut self) -> Option<&mut dyn Carry> {
        match self {
            Self::Kernel => None,
            Self::Gre(path) => Some(&mut **path),
            Self::Wireguard(path) => Some(&mut **path),
        }
    }
}

/// A TUN device has a carrier when it is opened; that it sends, the kernel sees to in a work item of its own (net/core/link_watch.c). What comes before
/// that is dropped.
async fn until_it_runs(name: &IfName, deadline: Instant, kernel: &Kernel) -> anyhow::Result<()> {
    while !kernel.link(name)?.is_some_and(|link| link.running) {
        ensure!(Instant::now() < deadline, "{name} was opened and does not run: is it up (`ip link show {name}`)?");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// The data path's own among all that was inherited.
fn take<Role: FromStr + Ord>(inherited: &mut BTreeMap<String, OwnedFd>) -> BTreeMap<Role, OwnedFd> {
    let ours: Vec<String> = inherited.keys().filter(|name| name.parse::<Role>().is_ok()).cloned().collect();
    ours.into_iter().filter_map(|name| Some((name.parse().ok()?, inherited.remove(&name)?))).collect()
}

fn named<Role: fmt::Display>(descriptors: BTreeMap<Role, OwnedFd>) -> BTreeMap<String, OwnedFd> {
    descriptors.into_iter().map(|(role, descriptor)| (role.to_string(), descriptor)).collect()
}

fn dropped(out: &mut Page, reason: &str, packets: u64) {
    out.counter("portway_userspace_dropped_packets", "Packets dropped by the userspace data path", &[("reason", reason)], packets);
}

pub(super) fn traffic(out: &mut Page, interface: &IfName, traffic: &TrafficCount) {
    let labels = [("tunnel", interface.as_str())];
    out.counter("portway_tunnel_received_packets", "Packets out of a tunnel", &labels, traffic.received_packets);
    out.counter("portway_tunnel_received_bytes", "Inner bytes out of a tunnel", &labels, traffic.received_bytes);
    out.counter("portway_tunnel_sent_packets", "Packets into a tunnel", &labels, traffic.sent_packets);
    out.counter("portway_tunnel_sent_bytes", "Inner bytes into a tunnel", &labels, traffic.sent_bytes);
}
