//! A gateway that takes a shard over calls the shard's peers, whatever its clock says.

mod userspace_support;

use portway::gateway::sessions::tunnels::Tunnels;
use portway::gateway::sessions::{Order, Served, Sessions};
use portway::model::{IfName, PrivateKey, ShardId, Slot, TenantShard};
use portway::userspace::wireguard::{Clocks, Descriptors, Device, DeviceConfig, DropReason, Event, InterfaceConfig, PeerConfig};
use portway::wire::sync::peer::PeerState;
use portway::wire::wireguard::Tai64n;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use userspace_support::{Namespace, name};

const PATIENCE: Duration = Duration::from_secs(4);
const HAVIP: &str = "127.0.0.1:51820";
const HOST: &str = "127.0.0.2:51820";

fn key(n: u8) -> PrivateKey {
    PrivateKey::new([n; 32])
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The shard's tunnel, on whichever node.
fn tunnel() -> IfName {
    IfName::tunnel(slot())
}

fn slot() -> Slot {
    Slot::try_from(1).unwrap()
}

fn shard() -> TenantShard {
    TenantShard { tenant: "acme".parse().unwrap(), shard: ShardId::default() }
}

/// The clock of the node that takes over.
fn late() -> SystemTime {
    SystemTime::now() - Duration::from_secs(20)
}

/// A device in the namespace; one that is `silent` has a shard that is another node's.
fn device(namespace: &Namespace, interface: InterfaceConfig, wall: fn() -> SystemTime, silent: bool) -> (Device, mpsc::Receiver<Event>) {
    let clocks = Clocks { now: Instant::now, wall };
    let (mut device, events) = Device::prepare(DeviceConfig::new(clocks), Descriptors::new()).unwrap();
    let name = interface.name.clone();
    assert!(namespace.run(|| device.add_interface(interface)).unwrap());
    device.set_sending(&name, !silent).unwrap();
    device.carry().unwrap();
    (device, events)
}

fn interface(name: IfName, key: PrivateKey, listen: &str) -> InterfaceConfig {
    InterfaceConfig { name, key, listen: at(listen), mark: None, roaming: true }
}

fn peer(allowed: &str, endpoint: Option<&str>) -> PeerConfig {
    PeerConfig { endpoint: endpoint.map(at), allowed: vec![allowed.parse().unwrap()], ..PeerConfig::default() }
}

/// The next session, if there is one in time.
fn session(events: &mut mpsc::Receiver<Event>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let agreed = async {
        loop {
            if let Event::Handshake { .. } = events.recv().await.expect("the device runs") {
                return;
            }
        }
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, agreed).await }).is_ok()
}

fn served() -> Served {
    let peers = [(key(2).public(), vec!["10.64.0.2/32".parse().unwrap()])].into();
    Served { of: shard(), slot: slot(), key: key(1), port: 51820, shared: true, peers }
}

/// What the node that dies has told: where the host is, and the last of its own stamps.
fn told(stamp: Option<Tai64n>) -> Vec<PeerState> {
    let state = |key, stamp, endpoint| PeerState { key, stamp, endpoint, idle: Duration::ZERO, member: None };
    let own = stamp.map(|stamp| state(key(1).public(), stamp, None));
    [state(key(2).public(), Tai64n::NEVER, Some(at(HOST)))].into_iter().chain(own).collect()
}

/// A host has a session with one node. That node dies, and another, whose clock is 20 s behind, takes the shard over: whether it has a session
/// with the host soon, and how many of its initiations the host took for recordings.
fn taken_over(knows_the_stamp: bool, known_late: bool) -> (bool, u64) {
    let namespace = Namespace::new("loop");
    let (host, mut of_host) = device(&namespace, interface(name("host"), key(2), HOST), SystemTime::now, false);
    host.set_peer(&name("host"), key(1).public(), &peer("0.0.0.0/0", Some(HAVIP))).unwrap();
    let (first, _events) = device(&namespace, interface(name("first"), key(1), HAVIP), SystemTime::now, false);
    first.set_peer(&name("first"), key(2).public(), &peer("10.64.0.2/32", Some(HOST))).unwrap();
    first.initiate(&name("first"), &key(2).public()).unwrap();
    assert!(session(&mut of_host));
    let stamp = first.stamp(&name("first")).unwrap();
    drop(first);

    let (second, events) = device(&namespace, interface(tunnel(), key(1), HAVIP), late, true);
    second.set_peer(&tunnel(), key(2).public(), &peer("10.64.0.2/32", None)).unwrap();
    let second = Arc::new(RwLock::new(second));
    let mut sessions = Sessions::start(Tunnels::Userspace(second.clone()), Some(events), None).unwrap();
    sessions.orders().send(Order::Serve { shards: vec![served()], here: BTreeSet::new(), left: BTreeMap::new() });
    let mut orders = [Order::Known { of: shard(), peers: told(knows_the_stamp.then_some(stamp)) }, Order::Taken(shard())];
    if known_late {
        orders.reverse();
    }
    orders.into_iter().for_each(|order| sessions.orders().send(order));
    let agreed = session(&mut of_host);
    sessions.stop();
    (agreed, host.counters()[&name("host")].drops[&DropReason::Replayed])
}

#[test]
fn a_clock_that_is_behind_does_not_delay_the_return() {
    assert_eq!(taken_over(true, false), (true, 0));
}

/// On a busy machine addresses come before what is known of peers.
#[test]
fn what_is_known_late_counts_all_the_same() {
    assert_eq!(taken_over(true, true), (true, 0));
}

/// Why stamps travel: the host refuses what seems to be from before.
#[test]
fn without_the_last_stamp_it_would() {
    let (agreed, replayed) = taken_over(false, false);
    assert!(!agreed && replayed >= 2, "{replayed} initiations, each called again");
}

#[test]
fn a_shard_that_is_released_is_silent_and_calls_nobody() {
    let namespace = Namespace::new("loop");
    let (host, mut of_host) = device(&namespace, interface(name("host"), key(2), HOST), SystemTime::now, false);
    host.set_peer(&name("host"), key(1).public(), &peer("0.0.0.0/0", Some(HAVIP))).unwrap();
    let (node, events) = device(&namespace, interface(tunnel(), key(1), HAVIP), SystemTime::now, true);
    node.set_peer(&tunnel(), key(2).public(), &peer("10.64.0.2/32", Some(HOST))).unwrap();
    let node = Arc::new(RwLock::new(node));
    let mut sessions = Sessions::start(Tunnels::Userspace(node.clone()), Some(events), None).unwrap();
    sessions.orders().send(Order::Serve { shards: vec![served()], here: [shard()].into(), left: BTreeMap::new() });
    sessions.orders().send(Order::Released(shard()));
    sessions.orders().send(Order::Known { of: shard(), peers: told(None) });
    // What was sent before is done when the thread has ended.
    sessions.stop();
    let refused = node.read().unwrap().initiate(&tunnel(), &key(2).public()).unwrap_err();
    assert!(refused.to_string().contains("silent"), "{refused}");
    host.initiate(&name("host"), &key(1).public()).unwrap();
    assert!(!session(&mut of_host), "nobody answers");
}
