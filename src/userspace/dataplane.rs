//! The data path as its owner sees it: tunnels and peers come and go while two threads carry packets.
//!
//! ```text
//!             raw socket (protocol 47, all local addresses)
//!   receive:  recvmmsg -> parse -> table: may it? -> coalesce -> writev -> TUN of the tunnel
//!   transmit: sendmmsg <- GRE, outer IP <- segment <- table: where to? <- epoll, read <- all TUNs
//! ```

use super::counters::{Snapshot, Traffic};
use super::ready::WAKE;
use super::shared::{Device, Shared};
use super::table::{End, Tunnel};
use super::{raw, receive, transmit, tun};
use crate::model::{IfName, Invalid};
use ipnet::IpNet;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::{io, thread};

/// What the platform side is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataplaneConfig {
    /// Take tunnel packets from this interface only.
    pub device: Option<IfName>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening a raw socket for GRE: is CAP_NET_RAW granted?")]
    Socket(#[source] io::Error),
    #[error("opening TUN device {interface}: is /dev/net/tun there, CAP_NET_ADMIN granted, and no other program using it?")]
    Tun {
        interface: IfName,
        #[source]
        source: io::Error,
    },
    #[error("starting the data path: {doing}")]
    Start {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// What a descriptor is for; as text, a name that systemd's FDSTORE takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `gre-socket`
    Socket,
    /// `tun-pw-1`
    Tun(IfName),
}

/// The descriptors that a successor goes on with.
pub type Descriptors = BTreeMap<Role, OwnedFd>;

/// The running data path. Dropping it stops it.
#[derive(Debug)]
pub struct Dataplane {
    shared: Arc<Shared>,
    epoll: Arc<Epoll>,
    wake: Arc<EventFd>,
    threads: Vec<thread::JoinHandle<()>>,
    /// Descriptors taken over whose tunnels were not added yet.
    adopted: Descriptors,
}

impl Dataplane {
    /// [`Dataplane::prepare`]d and [`Dataplane::carry`]ing at once.
    pub fn start(config: &DataplaneConfig, adopt: Descriptors) -> Result<Dataplane, Error> {
        let mut dataplane = Self::prepare(config, adopt)?;
        dataplane.carry()?;
        Ok(dataplane)
    }

    /// Ready to be told of tunnels and peers; carries nothing until [`Dataplane::carry`], so that a successor takes no packet
    /// from its predecessor before it knows where it goes. Sockets and devices are opened in the calling thread's network namespace, now and in
    /// [`Dataplane::add_tunnel`]; `adopt` holds what a predecessor left, still in use by it or not.
    pub fn prepare(config: &DataplaneConfig, mut adopt: Descriptors) -> Result<Dataplane, Error> {
        let start = |doing| move |source: nix::Error| Error::Start { doing, source: source.into() };
        // A descriptor for each of thousands of tunnels; nothing here uses select().
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(start("reading the limit of descriptors"))?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(start("raising the limit of descriptors"))?;

        let socket = match adopt.remove(&Role::Socket) {
            Some(socket) => socket,
            None => raw::open(config.device.as_ref()).map_err(Error::Socket)?,
        };
        let shared = Arc::new(Shared::new(socket));
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(start("making an eventfd"))?);
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(start("making an epoll set"))?);
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE)).map_err(start("watching the eventfd"))?;

        Ok(Dataplane { shared, epoll, wake, threads: Vec::new(), adopted: adopt })
    }

    /// Starts both threads.
    pub fn carry(&mut self) -> Result<(), Error> {
        let (shared, wake) = (self.shared.clone(), self.wake.clone());
        self.spawn("gre-receive", move || receive::run(&shared, &wake))?;
        let (shared, epoll) = (self.shared.clone(), self.epoll.clone());
        self.spawn("gre-transmit", move || transmit::run(&shared, &epoll))
    }

    /// Begins to carry the packets of a tunnel, over the TUN device of its name, which is made if it is not there. A
    /// tunnel that is there already and the same is left alone (its device's MTU is looked at again); one that
    /// changed, or whose device was removed, is replaced and keeps its peers. Its local address need not be one of this
    /// machine's: until it is, nothing arrives. Answers whether the device was opened anew: only
    /// then, if it had no other queue, the kernel takes a moment more until it sends.
    pub fn add_tunnel(&mut self, tunnel: &Tunnel) -> Result<bool, Error> {
        tunnel.check()?;
        let interface = &tunnel.interface;
        let mut peers = Vec::new();
        let known = self.shared.table().find(interface).map(|(_, known, device)| (known.clone(), device.clone()));
        let mut kept = None;
        if let Some((known, device)) = known {
            let lost = device.lost.load(Relaxed);
            if known == *tunnel && !lost {
                self.shared.refresh_mtu(&device);
                return Ok(false);
            }
            if known.end == End::Gateway && tunnel.end == End::Gateway {
                peers = self.shared.table().peers(interface).map(|(outer, prefixes)| (outer, prefixes.to_vec())).collect();
            }
            self.remove_tunnel(interface);
            kept = (!lost)
                .then(|| device.queue.try_clone())
                .transpose()
                .map_err(|source| Error::Tun { interface: interface.clone(), source })?;
        }
        let mut opened = false;
        let queue = match kept.or_else(|| self.adopted.remove(&Role::Tun(interface.clone()))).filter(|fd| tun::is_queue_of(fd, interface)) {
            Some(queue) => queue,
            None => {
                opened = true;
                tun::open(interface).map_err(|source| Error::Tun { interface: interface.clone(), source })?
            }
        };
        let device = Arc::new(Device {
            interface: interface.clone(),
            queue,
            traffic: Traffic::default(),
            mtu: AtomicUsize::new(usize::from(u16::MAX)),
            lost: AtomicBool::new(false),
        });
        self.shared.refresh_mtu(&device);
        let id = {
            let mut table = self.shared.table_mut();
            let id = table.add(tunnel.clone(), device.clone())?;
            for (outer, prefixes) in peers {
                table.set_peer(interface, outer, &prefixes)?;
            }
            id
        };
        let watched = self.epoll.add(&device.queue, EpollEvent::new(EpollFlags::EPOLLIN, id));
        watched.map_err(|source| Error::Tun { interface: interface.clone(), source: source.into() })?;
        Ok(opened)
    }

    /// Stops carrying a tunnel's packets. Its device stays (it is persistent) until its link is removed.
    pub fn remove_tunnel(&mut self, interface: &IfName) -> bool {
        let device = self.shared.table_mut().remove(interface);
        if let Some(device) = &device {
            // Gone from the set already if the device was lost.
            let _ = self.epoll.delete(&device.queue);
        }
        self.adopted.remove(&Role::Tun(interface.clone()));
        device.is_some()
    }

    /// Gateway: lets the function host at `outer` use a tunnel, from exactly these inner prefixes; what it had before
    /// is replaced. Costs the same with ten hosts and ten thousand.
    pub fn set_peer(&self, interface: &IfName, outer: IpAddr, prefixes: &[IpNet]) -> Result<(), Error> {
        Ok(self.shared.table_mut().set_peer(interface, outer, prefixes)?)
    }

    /// Gateway: whether there was such a peer.
    pub fn remove_peer(&self, interface: &IfName, outer: IpAddr) -> Result<bool, Error> {
        Ok(self.shared.table_mut().remove_peer(interface, outer)?)
    }

    /// The tunnels there are, in the order of their names.
    pub fn tunnels(&self) -> Vec<Tunnel> {
        let mut tunnels = self.shared.table().iter().map(|(_, tunnel, _)| tunnel.clone()).collect::<Vec<_>>();
        tunnels.sort_by(|a, b| a.interface.cmp(&b.interface));
        tunnels
    }

    /// The function hosts of a gateway's tunnel.
    pub fn peers(&self, interface: &IfName) -> BTreeMap<IpAddr, Vec<IpNet>> {
        self.shared.table().peers(interface).map(|(outer, prefixes)| (outer, prefixes.to_vec())).collect()
    }

    /// Tunnels whose device somebody removed: make the link again, then [`Dataplane::add_tunnel`].
    pub fn lost(&self) -> Vec<IfName> {
        let table = self.shared.table();
        table.iter().filter(|(_, _, device)| device.lost.load(Relaxed)).map(|(_, tunnel, _)| tunnel.interface.clone()).collect()
    }

    pub fn counters(&self) -> Snapshot {
        let table = self.shared.table();
        Snapshot {
            drops: self.shared.drops.snapshot(),
            tunnels: table.iter().map(|(_, tunnel, device)| (tunnel.interface.clone(), device.traffic.snapshot())).collect(),
        }
    }

    /// Duplicates of all descriptors, for a successor. Both may read until this one is stopped: every packet goes to
    /// one of them.
    pub fn descriptors(&self) -> io::Result<Descriptors> {
        let table = self.shared.table();
        let alive = table.iter().filter(|(_, _, device)| !device.lost.load(Relaxed));
        let tuns = alive.map(|(_, tunnel, device)| Ok((Role::Tun(tunnel.interface.clone()), device.queue.try_clone()?)));
        std::iter::once(Ok((Role::Socket, self.shared.socket.try_clone()?))).chain(tuns).collect()
    }

    /// Stops both threads after they have passed on what they had read. Devices and routes stay.
    pub fn stop(self) {}

    fn spawn(&mut self, name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let work = move || {
            if let Err(error) = super::urgent::urgent(super::urgent::PACKETS) {
                tracing::warn!(
                    thread = name,
                    "no high priority ({error}): allow CAP_SYS_NICE or LimitNICE, or a busy machine may delay packets"
                );
            }
            work();
        };
        let thread = thread::Builder::new().name(name.into()).spawn(work);
        self.threads.push(thread.map_err(|source| Error::Start { doing: name, source })?);
        Ok(())
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Err(fault) = self.wake.write(1) {
            tracing::error!(%fault, "the data path's threads could not be woken to stop");
            return;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the data path had panicked");
            }
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Socket => write!(f, "gre-socket"),
            Role::Tun(interface) => write!(f, "tun-{interface}"),
        }
    }
}

impl FromStr for Role {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        match s.strip_prefix("tun-") {
            Some(interface) => interface.parse().map(Role::Tun),
            None if s == "gre-socket" => Ok(Role::Socket),
            None => Err(Invalid(format!("{s:?} names no descriptor of the data path: gre-socket or tun-INTERFACE"))),
        }
    }
}
