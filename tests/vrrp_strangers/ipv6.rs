//! IPv6. Our gateways' tunnels are IPv4, so no daemon speaks it yet: here the machine, the packets and the socket do, in a loop as small as it
//! can be, with keepalived as the other router.

use super::peers::Keepalived;
use super::support::{NODES, PLATFORM_IF, SOON, VRID, World, wait};
use super::takeover::{active_down, assert_takes, skew};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portway::kernel::vrrp_socket::{Family, VrrpSocket};
use portway::lab::Netns;
use portway::model::{AddressList, AdvertInterval, ChecksumForm, Priority, VrrpVersion};
use portway::proto::vrrp::{Announcements, Config, Effect, Handover, Heard, Input, Instance, Preempt, State};
use portway::wire::vrrp::{Advertisement, Envelope, GROUP_V6, HOP_LIMIT, Packet};
use rstest::rstest;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INTERVAL_MS: u32 = 100;
const HAVIPS: [&str; 2] = ["fe80::50", "fd00::50"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

enum Order {
    Shutdown,
    /// End in silence, as if killed.
    Die,
}

/// A router in a thread.
struct Router {
    orders: Sender<Order>,
    /// Each state that it comes to, and how long after the last advertisement of somebody else.
    states: Receiver<(State, Option<Duration>)>,
    thread: JoinHandle<()>,
}

impl Router {
    fn start(netns: &Netns, config: Config, destination: IpAddr) -> Self {
        let group = destination.is_multicast();
        let socket = netns.run(|| VrrpSocket::open(&PLATFORM_IF.parse().unwrap(), Family::V6, group)).unwrap();
        let (orders, inbox) = channel();
        let (told, states) = channel();
        let thread = std::thread::spawn(move || run(socket, Instance::new(config, Instant::now()), destination, &inbox, &told));
        Self { orders, states, thread }
    }

    fn await_state(&self, wanted: State) -> Option<Duration> {
        loop {
            let (state, since) = self.states.recv_timeout(SOON).unwrap_or_else(|_| panic!("it should come to be {wanted}"));
            if state == wanted {
                return since;
            }
        }
    }

    fn end(self, how: Order) {
        self.orders.send(how).unwrap();
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

fn run(
    mut socket: VrrpSocket,
    mut router: Instance,
    destination: IpAddr,
    orders: &Receiver<Order>,
    told: &Sender<(State, Option<Duration>)>,
) {
    router.handle(Instant::now(), Input::Start);
    // There are no flows that could be out of sync.
    router.handle(Instant::now(), Input::InSync(true));
    let mut heard_at = None;
    loop {
        while let Some(effect) = router.poll_effect() {
            match effect {
                Effect::SendAdvertisement { priority } => send(&socket, router.config(), destination, priority),
                Effect::Changed { to, .. } => told.send((to, heard_at.map(|at: Instant| at.elapsed()))).unwrap(),
                _ => {}
            }
        }
        match orders.try_recv() {
            Ok(Order::Shutdown) => router.handle(Instant::now(), Input::Shutdown),
            Ok(Order::Die) => return,
            Err(_) if router.state() == State::Initialize => return,
            Err(_) => {}
        }
        // Rounded up: an early timeout does nothing, and would be asked for again at once.
        let wait =
            router.poll_timeout().map_or(5, |(at, _)| at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000).min(5));
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::try_from(wait).unwrap()).unwrap();
        let take = |ip: &Envelope, bytes: &[u8]| {
            let packet = Packet::parse(ip, bytes).unwrap_or_else(|why| panic!("{why}: {ip:?} {bytes:02x?}"));
            assert_eq!(packet.checksum, ChecksumForm::PseudoHeader);
            heard_at = Some(Instant::now());
            router.handle(Instant::now(), Input::Advertisement(Heard { from: ip.source, advertisement: packet.advertisement }));
        };
        socket.receive(take).unwrap();
        router.handle(Instant::now(), Input::Timeout);
    }
}

fn send(socket: &VrrpSocket, config: &Config, destination: IpAddr, priority: Priority) {
    let Config { version, vrid, interval, addresses, address, .. } = config;
    let addresses = addresses.as_addresses();
    let advertisement = Advertisement { version: *version, vrid: *vrid, priority, interval: *interval, addresses };
    let (ip, mut payload) = (Envelope { source: *address, destination, hop_limit: HOP_LIMIT }, vec![]);
    advertisement.encode(&ip, ChecksumForm::PseudoHeader, None, &mut payload);
    socket.send(*address, destination, &payload).unwrap();
}

fn config(address: &str, priority: u8) -> Config {
    Config {
        vrid: VRID.try_into().unwrap(),
        version: VrrpVersion::V3,
        priority: Priority(priority),
        address: ip(address),
        addresses: AddressList::new(&HAVIPS.map(ip)).unwrap(),
        interval: AdvertInterval::try_from(Duration::from_millis(INTERVAL_MS.into())).unwrap(),
        preempt: Preempt::After(Duration::ZERO),
        preferred: None,
        accept: false,
        announcements: Announcements::default(),
        handover: Handover::AtOnce,
    }
}

fn keepalived(world: &World, node: &'static str, priority: u8, unicast: bool) -> Keepalived {
    // Left alone, it sends IPv6 unicast with hop limit 64, which nobody may take (RFC 9568 section 7.1).
    let unicast = if unicast { "unicast_src_ip fd00::2\nunicast_ttl 255\nunicast_peer {\nfd00::1\n}\n" } else { "" };
    let [link_local, global] = HAVIPS;
    let instance = format!(
        "state BACKUP\ninterface {PLATFORM_IF}\nversion 3\nvirtual_router_id {VRID}\npriority {priority}\nadvert_int 0.1\n{unicast}\
         virtual_ipaddress {{\n{link_local}/64 dev {PLATFORM_IF}\n{global}/64 dev {PLATFORM_IF}\n}}\n"
    );
    Keepalived::start_with(world, node, &format!("vrrp_instance six {{\n{instance}}}\n"))
}

#[rstest]
#[case::unicast(true)]
#[case::multicast(false)]
fn keepalived_and_we_hand_over_to_each_other(#[case] unicast: bool) {
    let [ours, theirs] = NODES;
    let world = World::new();
    for (node, number) in [(ours, 1), (theirs, 2)] {
        world.sh(
            node,
            &format!(
                "ip link set {PLATFORM_IF} addrgenmode none
                 echo 0 | tee /proc/sys/net/ipv6/conf/all/disable_ipv6 /proc/sys/net/ipv6/conf/{PLATFORM_IF}/disable_ipv6
                 ip addr add fe80::{number}/64 dev {PLATFORM_IF} nodad
                 ip addr add fd00::{number}/64 dev {PLATFORM_IF} nodad"
            ),
        );
    }
    let (own, destination) = if unicast { ("fd00::1", ip("fd00::2")) } else { ("fe80::1", GROUP_V6.into()) };
    let start = |priority| Router::start(world.node(ours), config(own, priority), destination);

    // keepalived is better.
    let router = start(100);
    router.await_state(State::Active);
    let better = keepalived(&world, theirs, 200, unicast);
    router.await_state(State::Backup);
    better.terminate();
    assert_takes(router.await_state(State::Active).expect("a last word"), skew(INTERVAL_MS, 100), "ours after keepalived's priority 0");
    let better = keepalived(&world, theirs, 200, unicast);
    router.await_state(State::Backup);
    better.kill();
    HAVIPS.iter().for_each(|address| drop(world.sh(theirs, &format!("ip addr del {address}/64 dev {PLATFORM_IF} 2>/dev/null || true"))));
    assert_takes(router.await_state(State::Active).expect("a last word"), active_down(INTERVAL_MS, 100), "ours after keepalived's kill -9");
    router.end(Order::Shutdown);

    // We are.
    let worse = keepalived(&world, theirs, 100, unicast);
    let reigns = || worse.log(&world).matches("Entering MASTER STATE").count();
    let retires = || worse.log(&world).matches("Entering BACKUP STATE").count();
    wait("keepalived as Active", || reigns() == 1);
    let router = start(200);
    router.await_state(State::Active);
    wait("keepalived to let go", || retires() == 2);
    router.end(Order::Shutdown);
    wait("keepalived after our priority 0", || reigns() == 2);
    let router = start(200);
    router.await_state(State::Active);
    wait("keepalived to let go", || retires() == 3);
    router.end(Order::Die);
    wait("keepalived after our end", || reigns() == 3);
}
