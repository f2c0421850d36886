//! Many WireGuard hosts in one process: as many keys, ports and sessions with one shard, without the containers behind them.

use super::error::{Error, Result};
use super::keys;
use super::netns::Netns;
use super::process::poll_until;
use super::topology::Tenant;
use crate::model::{IfName, PublicKey};
use crate::userspace::wireguard::{Clocks, Descriptors, Device, DeviceConfig, Event, InterfaceConfig, PeerConfig};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The first member's UDP port.
const FIRST_PORT: u16 = 20_000;
/// Members at most: ports, and addresses, that there are.
pub const MOST: u16 = 10_000;
/// For all to have a session; an emulated machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Their sessions end when it is dropped.
#[derive(Debug)]
pub struct Swarm {
    // Ends before what listens to it.
    _device: Device,
    /// When each last agreed on a session.
    agreed: Arc<Mutex<BTreeMap<IfName, Instant>>>,
    count: usize,
}

/// What a member is called in configurations.
pub fn name(member: u16) -> String {
    format!("swarm-{member}")
}

/// The inner address of a member: behind those of the hosts.
pub fn inner(tenant: &Tenant, member: u16) -> Ipv4Addr {
    let [a, b, ..] = tenant.inner.addr().octets();
    let [high, low] = member.to_be_bytes();
    Ipv4Addr::new(a, b, 128 + high, low)
}

impl Swarm {
    /// They have a session each when this returns. `at`: the address of the node that they are in.
    pub fn start(node: &Netns, at: IpAddr, gateway: SocketAddr, key: PublicKey, members: u16) -> Result<Self> {
        let config = DeviceConfig { threads: NonZeroUsize::MIN, ..DeviceConfig::new(Clocks { now: Instant::now, wall: SystemTime::now }) };
        let failed = |error: crate::userspace::wireguard::Error| Error::State(format!("a swarm of hosts cannot be made: {error:#}"));
        let make = || -> std::result::Result<_, crate::userspace::wireguard::Error> {
            let (mut device, events) = Device::prepare(config, Descriptors::new())?;
            device.carry()?;
            let everything = ["0.0.0.0/0".parse().expect("a prefix")];
            for member in 0..members {
                let interface = name(member).parse::<IfName>()?;
                let (key_of, listen) = (keys::of_host(&name(member)), SocketAddr::new(at, FIRST_PORT + member));
                device.add_interface(InterfaceConfig { name: interface.clone(), key: key_of, listen, mark: None, roaming: false })?;
                let peer = PeerConfig { endpoint: Some(gateway), allowed: everything.to_vec(), ..PeerConfig::default() };
                device.set_peer(&interface, key, &peer)?;
            }
            Ok((device, events))
        };
        let (device, mut events) = node.run(make).map_err(failed)?;
        let agreed = Arc::<Mutex<BTreeMap<IfName, Instant>>>::default();
        let heard = agreed.clone();
        std::thread::spawn(move || {
            while let Some(event) = events.blocking_recv() {
                if let Event::Handshake { interface, .. } = event {
                    lock(&heard).insert(interface, Instant::now());
                }
            }
        });
        let swarm = Self { _device: device, agreed, count: members.into() };
        for interface in swarm._device.interfaces() {
            swarm._device.initiate(&interface.name, &key).map_err(failed)?;
        }
        swarm.await_all("a session for each of the swarm")?;
        Ok(swarm)
    }

    /// What is agreed on from now on counts.
    pub fn mark(&self) {
        lock(&self.agreed).clear();
    }

    fn await_all(&self, what: &str) -> Result<()> {
        poll_until(what, PATIENCE, || Ok(lock(&self.agreed).len() == self.count))
            .map_err(|error| error.detailed(|| format!(": {} of {} have one", lock(&self.agreed).len(), self.count)))
    }

    /// When each had a session again after this moment; the first comes first.
    pub fn back(&self, since: Instant) -> Result<Vec<Duration>> {
        self.await_all("a new session for each of the swarm")?;
        let mut after: Vec<Duration> = lock(&self.agreed).values().map(|at| at.saturating_duration_since(since)).collect();
        after.sort();
        Ok(after)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
