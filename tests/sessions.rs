//! A gateway that takes a shard over calls the shard's peers, whatever its clock says.

mod userspace_support;

use portway::daemon::bell::bell;
use portway::gateway::ha::sync;
use portway::gateway::sessions::tunnels::Tunnels;
use portway::gateway::sessions::{Order, Served, Sessions};
use portway::lab::poll_until;
use portway::model::{IfName, Lane, PrivateKey, ShardId, Slot, TenantShard};
use portway::plan::gateway::ends::End;
use portway::userspace::wireguard::{Clocks, Descriptors, Device, DeviceConfig, DropReason, Event, InterfaceConfig, PeerConfig};
use portway::wire::sync::peer::{PeerRecord, PeerState};
use portway::wire::wireguard::Tai64n;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use userspace_support::{Namespace, name};

const PATIENCE: Duration = Duration::from_secs(4);
const HAVIP: &str = "127.0.0.1:51820";
const HOST: &str = "127.0.0.2:51820";
/// Where another node has the HaVip, as it believes.
const OTHER: &str = "127.0.0.3:51820";

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

/// By which a node that takes over begins after the last stamp of the one before.
const AHEAD: Duration = Duration::from_secs(3);

/// The stamps of such a node.
fn ahead() -> SystemTime {
    SystemTime::now() + AHEAD
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
    session_with(events, None)
}

/// The same with the owner of a key.
fn session_with(events: &mut mpsc::Receiver<Event>, with: Option<&PrivateKey>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let agreed = async {
        loop {
            match events.recv().await.expect("the device runs") {
                Event::Handshake { key, .. } if with.is_none_or(|with| with.public() == key) => return,
                _ => {}
            }
        }
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, agreed).await }).is_ok()
}

fn served() -> Served {
    let peers = [(key(2).public(), vec!["10.64.0.2/32".parse().unwrap()])].into();
    Served { of: shard(), slot: slot(), ends: vec![End { lane: Lane::First, key: key(1), port: 51820 }], shared: true, peers }
}

/// What the node that dies has told: where the host is, and the last of its own stamps.
fn told(stamp: Option<Tai64n>) -> Vec<PeerState> {
    let state = |key, stamp, endpoint| PeerState { key, stamp, endpoint, idle: Duration::ZERO, member: None };
    let own = stamp.map(|stamp| state(key(1).public(), stamp, None));
    [state(key(2).public(), Tai64n::NEVER, Some(at(HOST)))].into_iter().chain(own).collect()
}

/// A node of the shard's that begins a session with the host, its stamps after this one, and is gone then: the last of its stamps.
fn comes_and_goes(namespace: &Namespace, of_host: &mut mpsc::Receiver<Event>, after: Tai64n) -> Tai64n {
    let (node, _events) = device(namespace, interface(name("first"), key(1), HAVIP), SystemTime::now, false);
    node.set_peer(&name("first"), key(2).public(), &peer("10.64.0.2/32", Some(HOST))).unwrap();
    node.stamps_after(&name("first"), after).unwrap();
    node.initiate(&name("first"), &key(2).public()).unwrap();
    assert!(session(of_host));
    node.stamp(&name("first")).unwrap()
}

/// What a node knows that takes a shard over.
#[derive(Clone, Copy, PartialEq)]
enum Knows {
    Nothing,
    TheStamp,
    /// After its addresses have come.
    TheStampLate,
    /// Not that another has had the shard for a moment, and was as far ahead.
    NotWhoWasBetween,
}

/// A host has a session with one node. That node dies, and another, whose clock is 20 s behind, takes the shard over: whether it has a session
/// with the host soon, and how many of its initiations the host took for recordings.
fn taken_over(knows: Knows) -> (bool, u64) {
    let namespace = Namespace::new("loop");
    let (host, mut of_host) = device(&namespace, interface(name("host"), key(2), HOST), SystemTime::now, false);
    host.set_peer(&name("host"), key(1).public(), &peer("0.0.0.0/0", Some(HAVIP))).unwrap();
    let stamp = comes_and_goes(&namespace, &mut of_host, Tai64n::NEVER);
    if knows == Knows::NotWhoWasBetween {
        // For how long nothing was told is known in whole seconds.
        comes_and_goes(&namespace, &mut of_host, stamp.plus(AHEAD + Duration::from_secs(1)));
    }

    let (second, events) = device(&namespace, interface(tunnel(), key(1), HAVIP), late, true);
    second.set_peer(&tunnel(), key(2).public(), &peer("10.64.0.2/32", None)).unwrap();
    let second = Arc::new(RwLock::new(second));
    let mut sessions = Sessions::start(Tunnels::Userspace(second.clone()), Some(events), None, Arc::default()).unwrap();
    sessions.orders().send(Order::Serve { shards: vec![served()], left: BTreeMap::new() });
    let told = told((knows != Knows::Nothing).then_some(stamp));
    let mut orders = [Order::Known { of: shard(), peers: told }, Order::Taken(shard())];
    if knows == Knows::TheStampLate {
        orders.reverse();
    }
    orders.into_iter().for_each(|order| sessions.orders().send(order));
    let agreed = session(&mut of_host);
    sessions.stop();
    (agreed, host.counters()[&name("host")].drops[&DropReason::Replayed])
}

#[test]
fn a_clock_that_is_behind_does_not_delay_the_return() {
    assert_eq!(taken_over(Knows::TheStamp), (true, 0));
}

/// On a busy machine addresses come before what is known of peers.
#[test]
fn what_is_known_late_counts_all_the_same() {
    assert_eq!(taken_over(Knows::TheStampLate), (true, 0));
}

/// Two moves of a shard within a second: the second call comes with stamps that are further ahead.
#[test]
fn who_had_the_shard_for_a_moment_delays_the_return_by_one_call() {
    let (agreed, replayed) = taken_over(Knows::NotWhoWasBetween);
    assert!(agreed && replayed <= 1, "{replayed} initiations seemed to be from before");
}

/// Or two of them within a second would begin at the same place.
#[test]
fn the_others_are_told_at_once_where_the_stamps_of_who_takes_over_begin() {
    let namespace = Namespace::new("loop");
    let (node, events) = device(&namespace, interface(tunnel(), key(1), HAVIP), late, true);
    let mut sessions = Sessions::start(Tunnels::Userspace(Arc::new(RwLock::new(node))), Some(events), None, Arc::default()).unwrap();
    let (bell, inbox) = bell().unwrap();
    let last = Tai64n::after(Tai64n::NEVER, SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap());
    sessions.orders().send(Order::Tell(sync::Orders(bell)));
    sessions.orders().send(Order::Serve { shards: vec![served()], left: BTreeMap::new() });
    sessions.orders().send(Order::Known { of: shard(), peers: told(Some(last)) });
    assert!(sessions.orders().come(shard()).wait(PATIENCE));
    // Told before it is ready, and so before anybody is called.
    let records = inbox.take().filter_map(|order| if let sync::Order::Peers(_, records) = order { Some(records) } else { None });
    let own =
        |record: &PeerRecord| matches!(record, PeerRecord::Told(state) if state.key == key(1).public() && state.stamp == last.plus(AHEAD));
    assert!(records.flatten().any(|record| own(&record)));
    sessions.stop();
}

/// Before its addresses are there, a shard's tunnel knows where everybody is, so that what comes waits for a session; but an answer would go to where the addresses
/// were.
#[test]
fn a_shard_that_is_about_to_come_has_its_peers_and_calls_none() {
    let namespace = Namespace::new("loop");
    let (host, mut of_host) = device(&namespace, interface(name("host"), key(2), HOST), SystemTime::now, false);
    host.set_peer(&name("host"), key(1).public(), &peer("0.0.0.0/0", None)).unwrap();
    let (node, events) = device(&namespace, interface(tunnel(), key(1), HAVIP), SystemTime::now, true);
    let node = Arc::new(RwLock::new(node));
    let mut sessions = Sessions::start(Tunnels::Userspace(node.clone()), Some(events), None, Arc::default()).unwrap();
    sessions.orders().send(Order::Serve { shards: vec![served()], left: BTreeMap::new() });
    let coming = sessions.orders().come(shard());
    assert!(!coming.wait(Duration::from_millis(50)), "nothing is known of its peers");
    sessions.orders().send(Order::Known { of: shard(), peers: told(None) });
    assert!(coming.wait(PATIENCE));
    let peers = node.read().unwrap().peers(&tunnel()).unwrap();
    assert_eq!(peers.iter().map(|peer| (peer.key, peer.endpoint)).collect::<Vec<_>>(), [(key(2).public(), Some(at(HOST)))]);
    assert_eq!(sessions.status().show()["called"], 0);
    sessions.orders().send(Order::Taken(shard()));
    assert!(session(&mut of_host), "now it calls");
    assert_eq!(sessions.status().show()["called"], 1);
    sessions.stop();
}

/// Why stamps travel: the host refuses what seems to be from before.
#[test]
fn without_the_last_stamp_it_would() {
    let (agreed, replayed) = taken_over(Knows::Nothing);
    assert!(!agreed && replayed >= 2, "{replayed} initiations, each called again");
}

/// A host that has a session with the gateway's node, whose tunnel opens and closes as the test wants.
struct Standing {
    namespace: Namespace,
    host: Device,
    of_host: mpsc::Receiver<Event>,
    node: Arc<RwLock<Device>>,
    sessions: Sessions,
}

impl Standing {
    /// The shard is here; its interface is not yet.
    fn new() -> Self {
        let namespace = Namespace::new("loop");
        let (host, of_host) = device(&namespace, interface(name("host"), key(2), HOST), SystemTime::now, false);
        host.set_peer(&name("host"), key(1).public(), &peer("0.0.0.0/0", None)).unwrap();
        let clocks = Clocks { now: Instant::now, wall: SystemTime::now };
        let (mut node, events) = Device::prepare(DeviceConfig::new(clocks), Descriptors::new()).unwrap();
        node.carry().unwrap();
        let node = Arc::new(RwLock::new(node));
        let sessions = Sessions::start(Tunnels::Userspace(node.clone()), Some(events), None, Arc::default()).unwrap();
        let standing = Self { namespace, host, of_host, node, sessions };
        standing.order(Order::Serve { shards: vec![served()], left: BTreeMap::new() });
        standing.order(Order::Known { of: shard(), peers: told(None) });
        standing.order(Order::Taken(shard()));
        standing.obeys();
        standing
    }

    /// Waits until it has done what it was ordered to do, by another order of which it tells.
    fn obeys(&self) {
        assert!(self.sessions.orders().come(TenantShard { tenant: "nobody".parse().unwrap(), ..shard() }).wait(PATIENCE));
    }

    fn order(&self, order: Order) {
        self.sessions.orders().send(order);
    }

    /// A pass opens the tunnel, as if the shard was elsewhere when it looked.
    fn opens(&mut self, served: Served, listen: &str) {
        // The port of one that was removed is free when its threads have seen it; a pass would come again.
        let opened = |node: &mut Device| Ok(node.add_interface(interface(tunnel(), key(1), listen)).is_ok());
        self.passes(served, |node| poll_until("a tunnel", PATIENCE, || opened(node)).unwrap());
    }

    fn passes(&mut self, served: Served, change: impl FnOnce(&mut Device) + Send) {
        let mut guard = self.node.write().unwrap();
        let node = &mut *guard;
        let before = node.incarnation(&tunnel());
        self.namespace.run(|| change(&mut *node));
        let stands = node.incarnation(&tunnel());
        if stands.is_some() && stands != before {
            // In one step with what opened it: the sessions may know better.
            node.set_sending(&tunnel(), false).unwrap();
        }
        if stands.is_some() {
            for (key, allowed) in &served.peers {
                node.set_peer(&tunnel(), *key, &PeerConfig { allowed: allowed.clone(), ..PeerConfig::default() }).unwrap();
            }
        }
        drop(guard);
        self.order(Order::Serve { shards: vec![served], left: BTreeMap::new() });
    }

    /// Where the host hears the gateway, when it has heard it anew.
    fn is_called(&mut self, key: &PrivateKey) -> Option<SocketAddr> {
        session_with(&mut self.of_host, Some(key)).then(|| self.host.peer(&name("host"), &key.public()).unwrap().unwrap().endpoint.unwrap())
    }
}

#[test]
fn a_tunnel_that_is_not_there_yet_speaks_and_calls_when_it_is() {
    let mut standing = Standing::new();
    // Nothing stands at the first pass either.
    standing.passes(served(), |_| {});
    standing.opens(served(), HAVIP);
    assert_eq!(standing.is_called(&key(1)), Some(at(HAVIP)));
    standing.sessions.stop();
}

/// Its device was removed by somebody, and made anew by a pass: what stood in it is gone.
#[test]
fn a_tunnel_that_was_opened_anew_speaks_and_calls_again() {
    let mut standing = Standing::new();
    standing.opens(served(), HAVIP);
    assert_eq!(standing.is_called(&key(1)), Some(at(HAVIP)));
    standing.passes(served(), |node| _ = node.remove_interface(&tunnel()));
    standing.opens(served(), HAVIP);
    assert_eq!(standing.is_called(&key(1)), Some(at(HAVIP)));
    assert!(standing.node.read().unwrap().is_sending(&tunnel()).unwrap());
    standing.sessions.stop();
}

#[test]
fn hosts_are_called_from_a_new_port() {
    let mut standing = Standing::new();
    standing.opens(served(), HAVIP);
    assert_eq!(standing.is_called(&key(1)), Some(at(HAVIP)));
    standing.opens(Served { ends: vec![End { lane: Lane::First, key: key(1), port: 51_999 }], ..served() }, "127.0.0.1:51999");
    assert_eq!(standing.is_called(&key(1)), Some(at("127.0.0.1:51999")));
    standing.sessions.stop();
}

/// Under the new one nobody has a session; whoever knows it is called.
#[test]
fn hosts_are_called_with_a_new_key() {
    let mut standing = Standing::new();
    standing.opens(served(), HAVIP);
    assert_eq!(standing.is_called(&key(1)), Some(at(HAVIP)));
    standing.host.remove_peer(&name("host"), &key(1).public()).unwrap();
    standing.host.set_peer(&name("host"), key(3).public(), &peer("0.0.0.0/0", None)).unwrap();
    let served = Served { ends: vec![End { lane: Lane::First, key: key(3), port: 51820 }], ..served() };
    standing.passes(served, |node| assert!(node.add_interface(interface(tunnel(), key(3), HAVIP)).unwrap()));
    assert_eq!(standing.is_called(&key(3)), Some(at(HAVIP)));
    standing.sessions.stop();
}

/// While another node had the shard, too, it called everybody, with stamps as far ahead as those of any that takes over. It has let go; the one that stays calls them
/// back, before its clock has come so far.
#[test]
fn after_a_split_brain_hosts_are_called_back() {
    let mut standing = Standing::new();
    standing.opens(served(), HAVIP);
    assert_eq!(standing.is_called(&key(1)), Some(at(HAVIP)));
    let begun = Instant::now();
    let (other, _events) = device(&standing.namespace, interface(name("other"), key(1), OTHER), ahead, false);
    other.set_peer(&name("other"), key(2).public(), &peer("10.64.0.2/32", Some(HOST))).unwrap();
    other.initiate(&name("other"), &key(2).public()).unwrap();
    assert_eq!(standing.is_called(&key(1)), Some(at(OTHER)));
    drop(other);
    standing.order(Order::Healed(shard()));
    let back = || Ok(standing.host.peer(&name("host"), &key(1).public()).unwrap().unwrap().endpoint == Some(at(HAVIP)));
    poll_until("the host's return", AHEAD - begun.elapsed(), back).unwrap();
    assert!(begun.elapsed() < AHEAD);
    standing.sessions.stop();
}

/// A pass that looked while the shard opens its tunnel when it is here no more.
#[test]
fn a_tunnel_that_is_opened_after_its_shard_has_gone_is_silent() {
    let mut standing = Standing::new();
    standing.order(Order::Released(shard()));
    standing.obeys();
    let opened = standing.namespace.run(|| standing.node.write().unwrap().add_interface(interface(tunnel(), key(1), HAVIP))).unwrap();
    assert!(opened && standing.node.read().unwrap().is_sending(&tunnel()).unwrap());
    standing.order(Order::Serve { shards: vec![served()], left: BTreeMap::new() });
    standing.sessions.stop();
    assert!(!standing.node.read().unwrap().is_sending(&tunnel()).unwrap());
}

#[test]
fn a_shard_that_is_released_is_silent_and_calls_nobody() {
    let namespace = Namespace::new("loop");
    let (host, mut of_host) = device(&namespace, interface(name("host"), key(2), HOST), SystemTime::now, false);
    host.set_peer(&name("host"), key(1).public(), &peer("0.0.0.0/0", Some(HAVIP))).unwrap();
    let (node, events) = device(&namespace, interface(tunnel(), key(1), HAVIP), SystemTime::now, true);
    node.set_peer(&tunnel(), key(2).public(), &peer("10.64.0.2/32", Some(HOST))).unwrap();
    let node = Arc::new(RwLock::new(node));
    let mut sessions = Sessions::start(Tunnels::Userspace(node.clone()), Some(events), None, Arc::default()).unwrap();
    sessions.orders().send(Order::Serve { shards: vec![served()], left: BTreeMap::new() });
    sessions.orders().send(Order::Taken(shard()));
    sessions.orders().send(Order::Released(shard()));
    sessions.orders().send(Order::Known { of: shard(), peers: told(None) });
    // What was sent before is done when the thread has ended.
    sessions.stop();
    let refused = node.read().unwrap().initiate(&tunnel(), &key(2).public()).unwrap_err();
    assert!(refused.to_string().contains("silent"), "{refused}");
    host.initiate(&name("host"), &key(1).public()).unwrap();
    assert!(!session(&mut of_host), "nobody answers");
}
