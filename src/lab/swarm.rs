//! Many WireGuard hosts in one process: as many keys, ports, addresses and sessions with one shard, without the containers behind them.

use super::build::ip_batch;
use super::error::{During, Error, Result};
use super::keys;
use super::netns::Netns;
use super::ping::Echo;
use super::process::poll_until;
use super::topology::Tenant;
use crate::model::{IfName, PrivateKey, PublicKey};
use crate::userspace::wireguard::{Clocks, Descriptors, Device, DeviceConfig, Event, InterfaceConfig, PeerConfig};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The first member's UDP port.
const FIRST_PORT: u16 = 20_000;
/// Members at most: each takes three of the 20,000 descriptors that a process may have on many machines.
pub const MOST: u16 = 5_000;
/// For all to have a session; an emulated machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Their sessions end when it is dropped.
#[derive(Debug)]
pub struct Swarm {
    // Ends before what listens to it.
    device: Device,
    gateway: PublicKey,
    endpoint: SocketAddr,
    /// When each last agreed on a session.
    agreed: Arc<Mutex<BTreeMap<IfName, Instant>>>,
    echoes: Vec<Echo>,
}

/// What a member is called in configurations.
pub fn name(member: u16) -> String {
    format!("swarm-{member}")
}

pub fn key(member: u16) -> PrivateKey {
    keys::of_host(&name(member))
}

/// The inner address of a member where nobody else has given it one: behind those of the hosts.
pub fn inner(tenant: &Tenant, member: u16) -> Ipv4Addr {
    let [a, b, ..] = tenant.inner.addr().octets();
    let [high, low] = member.to_be_bytes();
    Ipv4Addr::new(a, b, 128 + high, low)
}

/// Where its members are, and whom they send to.
#[derive(Debug, Clone)]
pub struct Place<'n> {
    pub node: &'n Netns,
    /// The address of the node.
    pub at: IpAddr,
    /// The shard's end of the tunnels.
    pub gateway: SocketAddr,
    pub key: PublicKey,
    /// Whom they ask for an answer.
    pub server: Ipv4Addr,
}

impl Swarm {
    /// Members with these inner addresses, that have not said anything yet.
    pub fn make(place: &Place, members: &[Ipv4Addr]) -> Result<Self> {
        let config = DeviceConfig { threads: NonZeroUsize::MIN, ..DeviceConfig::new(Clocks { now: Instant::now, wall: SystemTime::now }) };
        let make = || -> std::result::Result<_, crate::userspace::wireguard::Error> {
            let (mut device, events) = Device::prepare(config, Descriptors::new())?;
            device.carry()?;
            let everything = ["0.0.0.0/0".parse().expect("a prefix")];
            for (member, _) in (0..).zip(members) {
                let name = name(member).parse::<IfName>()?;
                let listen = SocketAddr::new(place.at, FIRST_PORT + member);
                let interface = InterfaceConfig { name: name.clone(), key: key(member), listen, mark: None, roaming: true };
                device.add_interface(interface)?;
                let peer = PeerConfig { endpoint: Some(place.gateway), allowed: everything.to_vec(), ..PeerConfig::default() };
                device.set_peer(&name, place.key, &peer)?;
            }
            Ok((device, events))
        };
        let (device, mut events) = place.node.run(make).map_err(failed)?;
        let lines = (0..).zip(members).flat_map(|(member, inner)| {
            let (name, server, metric) = (name(member), place.server, u32::from(member) + 1);
            [
                format!("addr add {inner}/32 dev {name}"),
                format!("link set {name} up"),
                format!("route add {server}/32 dev {name} src {inner} metric {metric}"),
            ]
        });
        ip_batch("the swarm", place.node, &lines.collect::<Vec<_>>())?;
        // All ask the same server, and only the first one's route is the one back to it.
        let loose = || (0..).zip(members).try_for_each(|(n, _)| fs::write(format!("/proc/sys/net/ipv4/conf/{}/rp_filter", name(n)), "2"));
        place.node.run(loose).during("set rp_filter of a swarm")?;
        let echo = |member| Echo::open_at(place.node, place.server, &name(member));
        let echoes =
            (0..).zip(members).map(|(member, _)| echo(member)).collect::<std::io::Result<_>>().during("open sockets of a swarm")?;
        let agreed = Arc::<Mutex<BTreeMap<IfName, Instant>>>::default();
        let heard = agreed.clone();
        std::thread::spawn(move || {
            while let Some(event) = events.blocking_recv() {
                if let Event::Handshake { interface, .. } = event {
                    lock(&heard).insert(interface, Instant::now());
                }
            }
        });
        Ok(Self { device, gateway: place.key, endpoint: place.gateway, agreed, echoes })
    }

    /// They have a session each when this returns.
    pub fn greet(&self) -> Result<()> {
        for interface in self.device.interfaces() {
            self.device.initiate(&interface.name, &self.gateway).map_err(failed)?;
        }
        self.await_all("a session for each of the swarm")
    }

    /// What is agreed on from now on counts.
    pub fn mark(&self) {
        lock(&self.agreed).clear();
    }

    fn await_all(&self, what: &str) -> Result<()> {
        let count = self.echoes.len();
        poll_until(what, PATIENCE, || Ok(lock(&self.agreed).len() == count))
            .map_err(|error| error.detailed(|| format!(": {} of {count} have one", lock(&self.agreed).len())))
    }

    /// When each had a session again after this moment; the first comes first.
    pub fn back(&self, since: Instant) -> Result<Vec<Duration>> {
        self.await_all("a new session for each of the swarm")?;
        let mut after: Vec<Duration> = lock(&self.agreed).values().map(|at| at.saturating_duration_since(since)).collect();
        after.sort();
        Ok(after)
    }

    /// Members that send elsewhere than to the shard: somebody has spoken to them from another address, and WireGuard follows whoever has the session.
    pub fn led_astray(&self) -> Result<usize> {
        let mut astray = 0;
        for interface in self.device.interfaces() {
            let gateway = self.device.peer(&interface.name, &self.gateway).map_err(failed)?;
            astray += usize::from(gateway.is_none_or(|gateway| gateway.endpoint != Some(self.endpoint)));
        }
        Ok(astray)
    }

    /// Each sends one packet, one member after the other at this distance: how long each waits for its answer, the first to come first; those
    /// that have none within `patience` after the last has asked are missing.
    pub fn first_answers(&self, distance: Duration, patience: Duration) -> Result<Vec<Duration>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).during("make an epoll set")?;
        for (member, echo) in (0u64..).zip(&self.echoes) {
            epoll.add(echo.socket(), EpollEvent::new(EpollFlags::EPOLLIN, member)).during("watch a socket")?;
        }
        let begun = Instant::now();
        let (mut asked, mut answers): (Vec<Instant>, BTreeMap<usize, Duration>) = (Vec::new(), BTreeMap::new());
        let mut events = [EpollEvent::empty(); 64];
        while answers.len() < self.echoes.len() {
            let (now, next) = (Instant::now(), begun + distance * asked.len() as u32);
            if asked.len() < self.echoes.len() && now >= next {
                self.echoes[asked.len()].send(0).during("ask from the swarm")?;
                asked.push(now);
                continue;
            }
            let until = if asked.len() < self.echoes.len() { next } else { asked[asked.len() - 1] + patience };
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                break;
            }
            // In whole milliseconds, upwards: at most one late.
            let timeout = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
            let ready = epoll.wait(&mut events, timeout).during("wait for answers")?;
            let now = Instant::now();
            for event in &events[..ready] {
                let member = event.data() as usize;
                if self.echoes[member].take()?.is_some() {
                    answers.entry(member).or_insert(now - asked[member]);
                }
            }
        }
        let mut waited: Vec<Duration> = answers.into_values().collect();
        waited.sort();
        Ok(waited)
    }
}

fn failed(error: crate::userspace::wireguard::Error) -> Error {
    Error::State(format!("a swarm of hosts cannot be made: {error:#}"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
