//! A network of a lab that behaves as a VPC: whom a packet reaches the fake EC2 says ([`Cloud::carry`]), and neither ARP nor hardware addresses.
//!
//! The ports of a node's switch are taken off its bridge and joined by a thread that asks the account for each frame. The bridge cannot: it would have to track the
//! connections of each port apart, which takes NF_CONNTRACK_BRIDGE, and that few kernels have; and routers, one before each interface, would count down the TTL of VRRP.

use super::build::{Lab, ip_batch, run};
use super::cloud::Cloud;
use super::cloud::ec2::network::{Dropped, Packet, Why, Within};
use super::error::{During, Error, Result};
use super::packet::ETHERTYPE_IPV4;
use super::wiring;
use crate::daemon::realtime::realtime;
use crate::kernel::packet::link_address;
use crate::model::{EniId, RouteTableId};
use crate::wire::arp::{self, Mac, Operation};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, recv, send, setsockopt, socket, sockopt};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// The cable between a switch's own machine and the thread: its end on the bridge, and the other.
const MACHINE: [&str; 2] = ["vpc-m0", "vpc-m1"];
/// Of the thread, among the realtime ones: below a daemon's timers, which wait for what it carries.
const PRIORITY: u8 = 1;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of the longest frame that a cable carries, and more.
const FRAME: usize = 16 << 10;
/// Bytes of frames that wait at a port, as the kernel accounts them.
const WAITING: usize = 8 << 20;

/// Stands until it is dropped. A node whose power comes back ([`Lab::heal`]) is plugged into the bridge again, past all this.
#[derive(Debug)]
pub struct Vpc {
    tally: Arc<Mutex<Tally>>,
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Tally {
    delivered: BTreeMap<(EniId, IpAddr), Delivered>,
    /// With the protocol.
    dropped: BTreeMap<(Dropped, u8), u64>,
}

/// What reached an interface for one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    pub packets: u64,
    pub first: Instant,
}

#[derive(Debug)]
struct Port {
    eni: EniId,
    mac: Mac,
    socket: OwnedFd,
}

impl Vpc {
    /// In place of the switch of a node, for all that are plugged into it; and for its own machine, if the account has an interface of that. `table`: what all go by.
    ///
    /// # Errors
    /// If an interface is none of the account's.
    pub fn stand(lab: &Lab, node: &str, cloud: &Cloud, table: Option<&RouteTableId>) -> Result<Self> {
        let (switch, bridge) = (lab.node(node)?, wiring::bridge(node));
        let [inner, outer] = MACHINE;
        let own = lab.hardware_address(node, bridge)?;
        // What a packet socket gets has its checksum, and is no longer than a frame.
        let whole = |node: &str, interface: &str| run(node, lab.node(node)?, "ethtool", &["-K", interface, "tx", "off", "tso", "off"]);
        // The node itself answers nothing at the ports: whatever comes is the thread's.
        let off = |port: &str| format!("link set {port} nomaster arp off up");
        let mut lines = vec![
            format!("link set {bridge} address {own}"),
            format!("link add {inner} type veth peer name {outer}"),
            format!("link set {inner} master {bridge} up"),
            off(outer),
        ];
        let mut plugs = vec![];
        for cable in wiring::cables(&lab.topology) {
            let [(near, interface), (far, port)] = cable.ends;
            if far != node {
                continue;
            }
            whole(&near, &interface)?;
            lines.push(off(&port));
            plugs.push((lab.hardware_address(&near, &interface)?, port));
        }
        ip_batch(node, switch, &lines)?;
        whole(node, inner)?;
        if cloud.eni_of(&own).is_some() {
            plugs.push((own, outer.to_owned()));
        }
        let ports = plugs.into_iter().map(|(mac, port)| {
            let unknown = || Error::State(format!("no interface of the account has the hardware address {mac}: give it one by Cloud::eni"));
            let eni = cloud.eni_of(&mac).ok_or_else(unknown)?;
            let socket = switch.run(|| open(&port)).during(format!("listen at {port} in {node}"))?;
            Ok(Port { eni, mac: arp::read(&mac).ok_or_else(unknown)?, socket })
        });
        let ports = ports.collect::<Result<Vec<_>>>()?;
        lab.await_links(node)?;
        let (stop, stopped) = UnixStream::pair().during("make a pair of sockets")?;
        let within = Within { enis: ports.iter().map(|port| port.eni.clone()).collect(), table: table.cloned() };
        let tally = Arc::<Mutex<Tally>>::default();
        let network = Network { ports, within, cloud: cloud.clone(), tally: tally.clone() };
        Ok(Self { tally, stop, thread: Some(std::thread::spawn(move || network.run(&stopped))) })
    }

    /// What has reached an interface for this address. None: nothing.
    pub fn delivered(&self, to: &EniId, destination: IpAddr) -> Option<Delivered> {
        lock(&self.tally).delivered.get(&(to.clone(), destination)).copied()
    }

    /// Packets of a protocol that ended there.
    pub fn dropped(&self, at: &EniId, why: Why, protocol: u8) -> u64 {
        lock(&self.tally).dropped.get(&(Dropped { at: at.clone(), why }, protocol)).copied().unwrap_or_default()
    }
}

impl Drop for Vpc {
    fn drop(&mut self) {
        let _ = self.stop.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Network {
    ports: Vec<Port>,
    within: Within,
    cloud: Cloud,
    tally: Arc<Mutex<Tally>>,
}

impl Network {
    fn run(&self, stop: &UnixStream) {
        // Best effort: without the right to it the network is as busy as the machine.
        let _ = realtime(PRIORITY);
        let mut waiting: Vec<PollFd> = self.ports.iter().map(|port| PollFd::new(port.socket.as_fd(), PollFlags::POLLIN)).collect();
        waiting.push(PollFd::new(stop.as_fd(), PollFlags::POLLIN));
        let mut frame = vec![0; FRAME];
        loop {
            match poll(&mut waiting, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                ended => _ = ended.expect("descriptors that are open"),
            }
            if waiting.last().is_none_or(|stop| stop.any() != Some(false)) {
                return;
            }
            for (port, _) in self.ports.iter().zip(&waiting).filter(|(_, waiting)| waiting.any() == Some(true)) {
                // An error is said once: a cable that was pulled.
                while let Ok(length) = recv(port.socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                    self.take(port, &mut frame[..length]);
                }
            }
        }
    }

    /// A frame that a port sent.
    fn take(&self, port: &Port, frame: &mut [u8]) {
        if let Some(asked) = arp::Frame::parse(frame) {
            if let Some(answer) = self.resolve(port, &asked) {
                port.send(&answer.encode());
            }
            return;
        }
        let packet = frame.get(ETHERNET..).filter(|_| frame[12..ETHERNET] == ETHERTYPE_IPV4.to_be_bytes());
        let Some(packet) = packet.and_then(Packet::read) else { return };
        let carried = self.cloud.carry(&self.within, &port.eni, &packet);
        let mut tally = lock(&self.tally);
        let to = match carried {
            Err(dropped) => return *tally.dropped.entry((dropped, packet.protocol)).or_default() += 1,
            Ok(to) => to,
        };
        let delivered = tally.delivered.entry((to.clone(), packet.destination));
        delivered.or_insert_with(|| Delivered { packets: 0, first: Instant::now() }).packets += 1;
        drop(tally);
        if let Some(to) = self.port(&to) {
            frame[..6].copy_from_slice(&to.mac);
            to.send(frame);
        }
    }

    /// Who else has an address: whoever is asked, the VPC answers. Announcements are nobody's business.
    fn resolve(&self, port: &Port, asked: &arp::Frame) -> Option<arp::Frame> {
        let (mac, from) = asked.sender;
        let address = Some(asked.target.1).filter(|address| asked.operation == Operation::Request && *address != from)?;
        let leads = self.cloud.leads(&self.within, address.into()).filter(|eni| *eni != port.eni)?;
        let has = self.port(&leads)?.mac;
        Some(arp::Frame { destination: mac, source: has, operation: Operation::Reply, sender: (has, address), target: asked.sender })
    }

    fn port(&self, eni: &EniId) -> Option<&Port> {
        self.ports.iter().find(|port| port.eni == *eni)
    }
}

impl Port {
    /// Into a cable that was pulled, or is full, it is lost as in any other network.
    fn send(&self, frame: &[u8]) {
        let _ = send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT);
    }
}

/// In the calling thread's namespace.
fn open(interface: &str) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&socket, sockopt::RcvBufForce, &WAITING)?;
    bind(socket.as_raw_fd(), &link_address(libc::ETH_P_ALL as u16, if_nametoindex(interface)?))?;
    Ok(socket)
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
