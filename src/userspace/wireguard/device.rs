//! The device as its owner sees it: interfaces and peers come and go while threads carry packets.

use super::counters::{DropReason, InterfaceCount};
use super::event::{Event, Events};
use super::inbox::LOAD;
use super::limit::Limit;
use super::message::Initiation;
use super::peer::{PeerConfig, PeerStatus};
use super::role::{Descriptors, Role};
use super::shared::{Clocks, Interface, InterfaceConfig, Shared};
use super::succession::Legacy;
use super::{control, handshake, receive, socket, transmit};
use crate::model::{IfName, Invalid, PublicKey};
use crate::userspace::ready::WAKE;
use crate::userspace::{tun, urgent};
use crate::wire::wireguard::Tai64n;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::{io, thread};
use tokio::sync::mpsc;

#[derive(Debug, Clone, Copy)]
pub struct DeviceConfig {
    /// Threads in each direction.
    pub threads: NonZeroUsize,
    pub clocks: Clocks,
    /// Initiations that are looked into, from each source.
    pub initiations: Limit,
    /// When so many handshake messages wait, who sends another must first show by a cookie that it is where it says (whitepaper section 5.4.7);
    /// that costs it a second attempt: our device makes it after 0.5 s, others after 5 s.
    pub load: usize,
}

impl DeviceConfig {
    /// A thread in each direction for every two processors, at most eight.
    pub fn new(clocks: Clocks) -> Self {
        let threads = thread::available_parallelism().map_or(1, |n| n.get() / 2).clamp(1, 8);
        Self { threads: NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN), clocks, initiations: Limit::default(), load: LOAD }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening a UDP socket at {listen} for {interface}: is CAP_NET_ADMIN granted, and no other program using the port?")]
    Socket {
        interface: IfName,
        listen: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("opening TUN device {interface}: is /dev/net/tun there, CAP_NET_ADMIN granted, and no other program using it?")]
    Tun {
        interface: IfName,
        #[source]
        source: io::Error,
    },
    #[error("starting the WireGuard device: {doing}")]
    Start {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("beginning a handshake with {key} on {interface}: {}", why.as_str())]
    Handshake { interface: IfName, key: PublicKey, why: DropReason },
    #[error("answering the initiation from {from} on {interface}: {}", why.as_str())]
    Initiation { interface: IfName, from: SocketAddr, why: DropReason },
}

/// The running device. Dropping it stops it.
#[derive(Debug)]
pub struct Device {
    pub(super) shared: Arc<Shared>,
    names: BTreeMap<IfName, Arc<Interface>>,
    /// For each thread: sockets to receive from.
    receiving: Vec<Arc<Epoll>>,
    /// For each thread: queues to transmit from.
    transmitting: Vec<Arc<Epoll>>,
    wake: Arc<EventFd>,
    threads: Vec<thread::JoinHandle<()>>,
    /// Descriptors taken over whose interfaces were not added yet.
    adopted: Descriptors,
    pub(super) legacy: Legacy,
    next: u64,
}

impl Device {
    /// Ready to be told of interfaces and peers; carries nothing until [`Device::carry`]. Sockets and TUN devices are opened in the calling thread's
    /// network namespace, in [`Device::add_interface`]; `adopt` holds what a predecessor left, still in use by it or not.
    /// What happens is told through the receiver, which need not be listened to.
    pub fn prepare(config: DeviceConfig, adopt: Descriptors) -> Result<(Device, mpsc::Receiver<Event>), Error> {
        let start = |doing| move |source: nix::Error| Error::Start { doing, source: source.into() };
        // Descriptors for thousands of interfaces; nothing here uses select().
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(start("reading the limit of descriptors"))?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(start("raising the limit of descriptors"))?;
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(start("making an eventfd"))?);
        let epolls = || {
            (0..config.threads.get())
                .map(|_| {
                    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(start("making an epoll set"))?;
                    epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE)).map_err(start("watching the eventfd"))?;
                    Ok(Arc::new(epoll))
                })
                .collect::<Result<Vec<_>, Error>>()
        };
        let (events, receiver) = Events::new();
        let device = Device {
            shared: Arc::new(Shared::new(config.clocks, config.initiations, config.load, events)),
            names: BTreeMap::new(),
            receiving: epolls()?,
            transmitting: epolls()?,
            wake: wake.clone(),
            threads: Vec::new(),
            adopted: adopt,
            legacy: Legacy::default(),
            next: WAKE + 1,
        };
        Ok((device, receiver))
    }

    /// Starts the threads.
    pub fn carry(&mut self) -> Result<(), Error> {
        let shared = self.shared.clone();
        self.spawn("wg-control".into(), urgent::PACKETS, move || control::run(&shared))?;
        for (n, epoll) in self.receiving.clone().into_iter().enumerate() {
            let shared = self.shared.clone();
            self.spawn(format!("wg-receive-{n}"), urgent::PACKETS, move || receive::run(&shared, &epoll, n))?;
        }
        for (n, epoll) in self.transmitting.clone().into_iter().enumerate() {
            let shared = self.shared.clone();
            self.spawn(format!("wg-transmit-{n}"), urgent::PACKETS, move || transmit::run(&shared, &epoll, n))?;
        }
        Ok(())
    }

    /// Adds an interface, over the TUN device of its name, which is made if it is not there. One that is there already and the same is left
    /// alone (its device's MTU is looked at again); one that changed, or whose device was removed, is replaced, without peers. Answers
    /// whether it is new: then it has no peers.
    pub fn add_interface(&mut self, config: InterfaceConfig) -> Result<bool, Error> {
        if let Some(known) = self.names.get(&config.name) {
            if known.config == config && !known.lost.load(Relaxed) {
                known.refresh_mtu();
                return Ok(false);
            }
            // Its port would be in use for as long as a thread is busy with it.
            let kept = descriptors_of(known);
            self.remove_interface(&config.name);
            self.adopted.extend(kept.map_err(|source| Error::Start { doing: "keeping an interface's descriptors", source })?);
        }
        let name = &config.name;
        let threads = self.receiving.len();
        let sockets = (0..threads).map(|n| self.socket(&config, n)).collect::<io::Result<Vec<_>>>();
        let sockets = sockets.map_err(|source| Error::Socket { interface: name.clone(), listen: config.listen, source })?;
        let queues = (0..threads).map(|n| self.queue(name, n)).collect::<io::Result<Vec<_>>>();
        let queues = queues.map_err(|source| Error::Tun { interface: name.clone(), source })?;
        self.adopted.retain(|role, _| role.interface() != name);
        let id = self.next;
        self.next += 1;
        let name = name.clone();
        let interface = Arc::new(Interface::new(id, config, sockets, queues));
        interface.refresh_mtu();
        self.legacy.interface(&interface);
        self.shared.interfaces_mut().insert(id, interface.clone());
        self.names.insert(name.clone(), interface.clone());
        let watch = |epolls: &[Arc<Epoll>], fds: &[OwnedFd]| {
            epolls.iter().zip(fds).try_for_each(|(epoll, fd)| epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, id)))
        };
        let watched = watch(&self.receiving, &interface.sockets).and_then(|()| watch(&self.transmitting, &interface.queues));
        if let Err(source) = watched {
            // Or it would count as there the next time.
            self.remove_interface(&name);
            return Err(Error::Start { doing: "watching an interface's descriptors", source: source.into() });
        }
        Ok(true)
    }

    /// Ends an interface and its sessions, without a word to its peers. Its TUN device stays (it is persistent) until its link is removed.
    pub fn remove_interface(&mut self, name: &IfName) -> bool {
        self.adopted.retain(|role, _| role.interface() != name);
        self.legacy.forget(name, None);
        let Some(interface) = self.names.remove(name) else { return false };
        self.shared.interfaces_mut().remove(&interface.id);
        for (epoll, fd) in self.receiving.iter().zip(&interface.sockets).chain(self.transmitting.iter().zip(&interface.queues)) {
            // Gone from the set already if the device was lost.
            let _ = epoll.delete(fd);
        }
        interface.set_sending(false);
        let table = std::mem::take(&mut *interface.table_mut());
        table.peers().for_each(|peer| interface.forget(peer, true));
        true
    }

    /// Adds a peer or changes one, in time that depends on the number of its prefixes alone. One that is there keeps its sessions.
    ///
    /// # Errors
    /// For a prefix that is another peer's, a keepalive out of range, an endpoint of another family than the interface's, the interface's own key, or an
    /// interface that is not there.
    pub fn set_peer(&self, interface: &IfName, key: PublicKey, peer: &PeerConfig) -> Result<(), Error> {
        self.succeed_peers(interface, &[], key, peer)
    }

    /// The same for a peer that takes over the prefixes of these, which are removed: at no moment is a prefix nobody's. Nothing is changed if it is refused.
    ///
    /// # Errors
    /// As [`Device::set_peer`].
    pub fn succeed_peers(&self, interface: &IfName, former: &[PublicKey], key: PublicKey, peer: &PeerConfig) -> Result<(), Error> {
        let interface = self.interface(interface)?;
        let listen = interface.config.listen;
        if let Some(endpoint) = peer.endpoint.filter(|endpoint| endpoint.is_ipv4() != listen.is_ipv4()) {
            return Err(Invalid(format!("peer {key} at {endpoint} cannot be reached from {listen}: one is IPv6")).into());
        }
        if key == *interface.identity.public() {
            return Err(Invalid(format!("{key} is {}'s own key: it cannot be a peer's", interface.config.name)).into());
        }
        let (known, gone) = interface.table_mut().succeed(former, key, peer)?;
        for former in &gone {
            self.legacy.forget(&interface.config.name, Some(&former.key));
            interface.forget(former, true);
        }
        self.legacy.peer(&self.shared, interface, &known);
        if peer.keepalive.is_some() {
            let now = self.shared.now();
            self.shared.look(known.marks.claim(now).then_some(now), interface, &known);
        }
        Ok(())
    }

    /// Whether there was such a peer.
    pub fn remove_peer(&self, interface: &IfName, key: &PublicKey) -> Result<bool, Error> {
        let interface = self.interface(interface)?;
        self.legacy.forget(&interface.config.name, Some(key));
        let peer = interface.table_mut().remove(key);
        if let Some(peer) = &peer {
            interface.forget(peer, true);
        }
        Ok(peer.is_some())
    }

    /// Begins a handshake at once, from this thread; it costs two agreements on a secret, under 0.1 ms.
    ///
    /// # Errors
    /// If the interface or the peer is not there, it has no endpoint, or the interface is to be silent.
    pub fn initiate(&self, interface: &IfName, key: &PublicKey) -> Result<(), Error> {
        let interface = self.interface(interface)?;
        let name = &interface.config.name;
        let peer = interface.table().peer(key).cloned().ok_or_else(|| Invalid(format!("{key} is no peer of {name}: set it first")))?;
        handshake::begin(&self.shared, interface, &peer, true).map_err(|why| Error::Handshake { interface: name.clone(), key: *key, why })
    }

    /// Answers an initiation that was seen before its sender was a peer, as if it came now; from this thread, 0.1 ms.
    ///
    /// # Errors
    /// As [`Device::initiate`]; and if it was answered before, or a later one was.
    pub fn handle_initiation(&self, interface: &IfName, source: SocketAddr, bytes: &Initiation) -> Result<(), Error> {
        let interface = self.interface(interface)?;
        handshake::answer(&self.shared, interface, source, bytes).map_err(|why| {
            interface.dropped(why);
            Error::Initiation { interface: interface.config.name.clone(), from: source, why }
        })
    }

    /// Whether an interface sends, answers and takes anything. When it falls silent, all its sessions end: another machine goes on with its key and its address,
    /// and nothing of ours may reach a peer: when this returns, nothing is on its way. When it speaks again, it has peers and no sessions: [`Device::initiate`] them.
    pub fn set_sending(&self, interface: &IfName, sending: bool) -> Result<(), Error> {
        let interface = self.interface(interface)?;
        if !sending {
            self.legacy.forget(&interface.config.name, None);
        }
        interface.set_sending(sending);
        let now = self.shared.now();
        for peer in interface.table().peers() {
            if !sending {
                interface.forget(peer, false);
            } else if peer.keepalive.load(Relaxed) > 0 {
                self.shared.look(peer.marks.claim(now).then_some(now), interface, peer);
            }
        }
        Ok(())
    }

    /// The latest stamp of an initiation of ours on this interface.
    pub fn stamp(&self, interface: &IfName) -> Result<Tai64n, Error> {
        Ok(self.interface(interface)?.last_stamp())
    }

    /// All further stamps are later than this one, which another machine with our key has used.
    pub fn stamps_after(&self, interface: &IfName, stamp: Tai64n) -> Result<(), Error> {
        self.interface(interface)?.stamps_after(stamp);
        Ok(())
    }

    /// The interfaces there are, in the order of their names.
    pub fn interfaces(&self) -> Vec<&InterfaceConfig> {
        self.names.values().map(|interface| &interface.config).collect()
    }

    /// Interfaces whose device somebody removed: make the link again, then [`Device::add_interface`].
    pub fn lost(&self) -> Vec<IfName> {
        self.names.values().filter(|interface| interface.lost.load(Relaxed)).map(|interface| interface.config.name.clone()).collect()
    }

    /// The peers of an interface, in no order.
    pub fn peers(&self, interface: &IfName) -> Result<Vec<PeerStatus>, Error> {
        let now = self.shared.now();
        Ok(self.interface(interface)?.table().peers().map(|peer| peer.status(now)).collect())
    }

    pub fn peer(&self, interface: &IfName, key: &PublicKey) -> Result<Option<PeerStatus>, Error> {
        let now = self.shared.now();
        Ok(self.interface(interface)?.table().peer(key).map(|peer| peer.status(now)))
    }

    pub fn counters(&self) -> BTreeMap<IfName, InterfaceCount> {
        self.names.iter().map(|(name, interface)| (name.clone(), interface.snapshot())).collect()
    }

    /// Events that nobody took in time.
    pub fn events_lost(&self) -> u64 {
        self.shared.events.lost()
    }

    /// A number for this interface as it stands, with its peers and sessions: another after it was opened anew, which it has to be when its device was
    /// removed. None until then.
    pub fn incarnation(&self, interface: &IfName) -> Option<u64> {
        self.names.get(interface).filter(|known| !known.lost.load(Relaxed)).map(|known| known.id)
    }

    /// Whether an interface is not to be silent.
    pub fn is_sending(&self, interface: &IfName) -> Result<bool, Error> {
        Ok(self.interface(interface)?.is_sending())
    }

    /// Duplicates of all descriptors, for a successor: to be read when this one has stopped and has left it the sessions, [`Device::leave`].
    pub fn descriptors(&self) -> io::Result<Descriptors> {
        let mut all = Descriptors::new();
        for interface in self.names.values().filter(|interface| !interface.lost.load(Relaxed)) {
            all.extend(descriptors_of(interface)?);
        }
        Ok(all)
    }

    /// Stops all threads after they have passed on what they had read. TUN devices and routes stay.
    pub fn stop(self) {}

    /// The same; whether all have ended.
    pub(super) fn halt(&mut self) -> bool {
        self.shared.stop.store(true, Relaxed);
        if let Err(fault) = self.wake.write(1) {
            tracing::error!(%fault, "the WireGuard device's threads could not be woken to stop");
            return false;
        }
        // The one that does handshakes is the first: what the others have given it by now, it works off.
        let mut threads = self.threads.drain(..);
        let control = threads.next();
        threads.for_each(end);
        self.shared.inbox.stop();
        control.into_iter().for_each(end);
        true
    }

    pub(super) fn all_interfaces(&self) -> impl Iterator<Item = &Arc<Interface>> {
        self.names.values()
    }

    fn interface(&self, name: &IfName) -> Result<&Arc<Interface>, Error> {
        self.names.get(name).ok_or_else(|| Invalid(format!("{name} is no interface here: add it first")).into())
    }

    fn socket(&mut self, config: &InterfaceConfig, n: usize) -> io::Result<OwnedFd> {
        let shared = self.receiving.len() > 1;
        match self.adopted.remove(&Role::Udp(config.name.clone(), n)).filter(|fd| socket::is_bound_to(fd, config.listen)) {
            Some(fd) => socket::adopt(fd, config.mark, shared),
            None => socket::open(config.listen, config.mark, shared),
        }
    }

    fn queue(&mut self, name: &IfName, n: usize) -> io::Result<OwnedFd> {
        match self.adopted.remove(&Role::Tun(name.clone(), n)).filter(|fd| tun::is_queue_of(fd, name)) {
            Some(fd) => Ok(fd),
            None => tun::open(name),
        }
    }

    fn spawn(&mut self, name: String, nice: libc::c_int, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = name.clone();
        let work = move || {
            if let Err(error) = urgent::urgent(nice) {
                tracing::warn!(thread, "no high priority ({error}): allow CAP_SYS_NICE or LimitNICE, or a busy machine may delay packets");
            }
            work();
        };
        let thread = thread::Builder::new().name(name).spawn(work);
        self.threads.push(thread.map_err(|source| Error::Start { doing: "starting a thread", source })?);
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.halt();
    }
}

fn descriptors_of(interface: &Interface) -> io::Result<Descriptors> {
    let name = &interface.config.name;
    let sockets = interface.sockets.iter().enumerate().map(|(n, fd)| (Role::Udp(name.clone(), n), fd));
    let queues = interface.queues.iter().enumerate().map(|(n, fd)| (Role::Tun(name.clone(), n), fd));
    sockets.chain(queues).map(|(role, fd)| Ok((role, fd.try_clone()?))).collect()
}

fn end(thread: thread::JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the WireGuard device had panicked");
    }
}
