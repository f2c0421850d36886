//! Peers just in time on a stock kernel: a plain kernel peer, set up by `wg set`, that knows nothing of us and of whom the gateway's kernel knows
//! nothing.

mod clock;
mod failover;
#[allow(dead_code, reason = "shared with the tests of the userspace device")]
#[path = "../jit/gate.rs"]
mod gate;
#[path = "../stranger_support/mod.rs"]
mod stranger_support;
#[allow(dead_code, reason = "the same")]
#[path = "../userspace_wireguard/support.rs"]
mod support;
#[path = "../userspace_support/mod.rs"]
mod userspace_support;
#[path = "../vm_support/mod.rs"]
mod vm_support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gate::*;
use portway::gateway::jit::{Capture, Door, Greeting, Jit, Order, Setup};
use portway::gateway::sessions::tunnels::Tunnels;
use portway::kernel::Kernel;
use portway::kernel::vrrp_socket::Family;
use portway::model::Lane;
use portway::plan::gateway::ends::End;
use portway::proto::jit::{Answer, Refusal};
use std::io::Write;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use support::*;
use userspace_support::name;

/// Strangers for each way to greet them.
const STRANGERS: u8 = 8;
const PATIENCE: Duration = Duration::from_secs(60);
/// What the emulated machine may add to a wait.
const EMULATED: Duration = Duration::from_secs(5);

fn key_file(n: u8) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{}", STANDARD.encode([n; 32])).unwrap();
    file
}

/// A gateway whose tunnel is the kernel's.
struct KernelGate {
    _jit: Jit,
    door: Door,
    directory: Arc<Directory>,
    _runtime: tokio::runtime::Runtime,
    _state: tempfile::TempDir,
}

impl KernelGate {
    fn open(net: &Net, greeting: Greeting) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (directory, state) = (Arc::new(Directory::default()), tempfile::tempdir().unwrap());
        let kernel = net.gateway.run(|| runtime.handle().block_on(Kernel::open(state.path()))).unwrap();
        let capture = Capture { interface: name("eth0"), family: Family::V4 };
        let mut setup = Setup::new(Tunnels::Kernel(Arc::new(kernel)), Some(capture), directory.clone(), runtime.handle().clone());
        setup.greeting = greeting;
        let (jit, _) = net.gateway.run(|| Jit::start(setup)).unwrap();
        let door = jit.door().clone();
        door.order(Order::Serve { of: shard(), slot: slot(), ends: vec![End { lane: Lane::First, key: key(OURS), port: 51_820 }] });
        let gate = Self { _jit: jit, door, directory, _runtime: runtime, _state: state };
        // Until somebody whom nobody knows is heard, the packet socket may not be open.
        let socket = net.host.run(|| UdpSocket::bind("10.0.0.1:3999")).unwrap();
        gate.until("the first knock", || {
            socket.send_to(&initiation(&key(99), 1), "10.0.0.2:51820").unwrap();
            gate.door.report().counters.refused(Refusal::Unknown) > 0
        });
        gate
    }

    fn until(&self, what: &str, done: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !done() {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}: {:?}", self.door.report());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn peers(net: &Net) -> String {
    net.gateway.exec("wg show pw-1 endpoints")
}

/// By `wg set` alone.
fn stranger(net: &Net, key: &tempfile::NamedTempFile) {
    net.host.ip("link add wg0 type wireguard");
    let gateway = public(OURS);
    net.host.exec(&format!("wg set wg0 listen-port 51820 private-key {}", key.path().display()));
    net.host.exec(&format!("wg set wg0 peer {gateway} endpoint 10.0.0.2:51820 allowed-ips 172.16.0.0/16"));
    net.plumb_host("wg0");
}

/// A new stranger's first ping: milliseconds to its answer, as ping has them.
fn first_ping(net: &Net, n: u8) -> f64 {
    let file = key_file(n);
    stranger(net, &file);
    let printed = net.host.exec("ping -c 1 -W 20 172.16.0.10");
    net.host.ip("link delete wg0");
    let time = printed.split("time=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{printed}"));
    time.parse().unwrap()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[test]
fn a_plain_kernel_peer_is_served_just_in_time() {
    vm_support::inside("a_plain_kernel_peer_is_served_just_in_time", || {
        let (net, own) = (Net::new(), key_file(OURS));
        net.gateway.ip("link add pw-1 type wireguard");
        net.gateway.exec(&format!("wg set pw-1 listen-port 51820 private-key {}", own.path().display()));
        net.plumb_gateway();
        for (greeting, first) in [(Greeting::Answer, 10), (Greeting::Initiate, 50)] {
            let gate = KernelGate::open(&net, greeting);
            let mut took = Vec::new();
            for n in first..first + STRANGERS {
                gate.directory.says(public(n), registered("10.64.0.1/32"));
                // All have the same inner address, one after the other.
                took.push(first_ping(&net, n));
                assert!(peers(&net).contains(&public(n).to_string()), "{}", peers(&net));
                gate.directory.says(public(n), Answer::Unknown);
                gate.door.order(Order::Changed(vec![public(n)]));
                gate.until("the peer to be gone", || peers(&net).trim().is_empty());
            }
            println!("{greeting:?}: first pings {took:?} ms, median {:.1}; {:?}", median(took.clone()), gate.door.report());
            assert!(took.iter().all(|ms| *ms < 4_000.0), "one had to knock twice: {took:?}");
            let greeted = gate.door.report().greeted;
            let expected = if greeting == Greeting::Answer { (u64::from(STRANGERS), 0) } else { (0, u64::from(STRANGERS)) };
            assert_eq!((greeted.answered, greeted.initiated), expected);
        }
        recordings(&net);
        taken_away(&net);
    });
}

/// While its kernel still has a session, as by an operator who takes a host out and puts it back. It misses its answers after 15 s (whitepaper section
/// 6.5), and knocks.
fn taken_away(net: &Net) {
    const MISSES: Duration = Duration::from_secs(15);
    let (gate, file) = (KernelGate::open(net, Greeting::Answer), key_file(70));
    gate.directory.says(public(70), registered("10.64.0.1/32"));
    stranger(net, &file);
    net.host.exec("ping -c 1 -W 20 172.16.0.10");
    gate.directory.says(public(70), Answer::Unknown);
    gate.door.order(Order::Changed(vec![public(70)]));
    gate.until("the peer to be gone", || !peers(net).contains(&public(70).to_string()));
    gate.directory.says(public(70), registered("10.64.0.1/32"));
    gate.door.order(Order::Changed(vec![public(70)]));
    let begun = std::time::Instant::now();
    while !net.pings("-c 1 -W 1") {
        assert!(begun.elapsed() < PATIENCE, "{:?}", gate.door.report());
    }
    let took = begun.elapsed();
    println!("a kernel's peer that was taken away is back after {took:?}");
    assert!(took < MISSES + EMULATED, "{took:?}");
    net.host.ip("link delete wg0");
}

/// Its stamp is in the kernel's replay memory, and in ours when it has gone.
fn recordings(net: &Net) {
    let gate = KernelGate::open(net, Greeting::Answer);
    let host = key(THEIRS);
    gate.directory.says(host.public(), registered("10.64.0.2/32"));
    let bind = |port: u16| {
        let socket = net.host.run(|| UdpSocket::bind(("10.0.0.1", port))).unwrap();
        socket.connect("10.0.0.2:51820").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let (own, other) = (bind(4000), bind(4001));
    let (older, genuine) = (initiation(&host, 1), initiation(&host, 2));
    own.send(&genuine).unwrap();
    let mut answer = [0; 200];
    assert_eq!((own.recv(&mut answer).unwrap(), answer[0]), (92, 2), "a response to its own initiation");
    gate.until("the peer to be installed", || gate.door.report().counters.installed == 1);
    for recording in [&older, &genuine] {
        other.send(recording).unwrap();
    }
    gate.until("both to be seen through", || gate.door.report().counters.refused(Refusal::Replayed) == 1);
    assert!(peers(net).contains("10.0.0.1:4000"), "{}", peers(net));
    gate.directory.says(host.public(), Answer::Unknown);
    gate.door.order(Order::Changed(vec![host.public()]));
    gate.until("the peer to be gone", || peers(net).trim().is_empty());
    gate.directory.says(host.public(), registered("10.64.0.2/32"));
    gate.door.order(Order::Changed(vec![host.public()]));
    let between = initiation(&host, 1);
    other.send(&between).unwrap();
    gate.until("it to be seen through", || gate.door.report().counters.refused(Refusal::Replayed) == 2);
    assert!(peers(net).trim().is_empty(), "{}", peers(net));
    own.send(&initiation(&host, 3)).unwrap();
    gate.until("the peer to be back", || peers(net).contains("10.0.0.1:4000"));
    assert_eq!(gate.door.report().captures_lost, 0);
}
