//! A preferred node of a pair, in sync, that hears advertisements of the other.

use super::super::instances::virtuals;
use super::*;
use crate::config::{Config, parse};
use crate::daemon::bell::{Inbox, bell};
use crate::model::{ChecksumForm, KeyId, Secret};
use crate::plan::gateway::Carrier;
use crate::wire::vrrp::{Freshness, HOP_LIMIT, Key, Keyring};

const PAIR: &str = "
gateway:
  node: gw-1
  platform: { interface: plat0, address: 10.9.0.1 }
  tunnel: wireguard
  ha: { nodes: { gw-1: 10.9.0.1, gw-2: 10.9.0.2 }, keys: [{ id: 1, file: /etc/portway/ha.key }] }
  tenants:
    - name: acme
      interface: eni0
      allow: [{ to: 172.16.0.0/16, tcp: all }]
      inner: 10.64.0.0/16
      shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10, priority: 200, wireguard: { private_key: /etc/portway/acme.key } }]
";

const INTERVAL: Duration = Duration::from_millis(100);
const FRESH: Freshness = Freshness::Within(Duration::from_secs(5));
/// Microseconds: in what advertisements bear, seconds have 65,536 parts.
const TICK: i64 = 16;
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 2));

fn gate(secret: u8) -> Gate {
    let key = Key::new(KeyId::try_from(1).unwrap(), &Secret::new(&[secret; 32]).unwrap());
    Gate::new(Some(Keyring { signing: key, other: None }), FRESH)
}

struct Bench {
    now: Instant,
    /// Ours, since 1970.
    clock: Duration,
    routers: Routers,
    /// The other's.
    gate: Gate,
    _hands: Inbox<Deed>,
}

impl Bench {
    fn new(carrier: Carrier) -> Self {
        let mut bench = Self::unknowing(carrier);
        bench.learn();
        bench
    }

    /// All connections are here.
    fn learn(&mut self) {
        self.routers.synced(self.now, &"acme/0".parse().unwrap(), true);
    }

    /// Of whatever connections there are.
    fn unknowing(carrier: Carrier) -> Self {
        let Config::Gateway(config) = parse(PAIR, "pair.yaml").unwrap() else { panic!("a gateway") };
        let (hands, inbox) = bell().unwrap();
        let now = Instant::now();
        let mut routers = Routers::new(now, hands, Arc::default(), Elsewhere::new());
        let what = virtuals(&config, carrier).unwrap().pop().unwrap();
        routers.entries.push(Entry::new(what, gate(7), now));
        routers.handle(now, 0, Input::Start);
        Bench { now, clock: Duration::from_secs(1_795_000_000), routers, gate: gate(7), _hands: inbox }
    }

    /// One advertisement of the other, whose clock says this.
    fn advertise(&mut self, priority: u8, theirs: Duration) {
        let router = self.routers.entries[0].what.router.clone();
        let (addresses, ip) = (router.addresses, Envelope { source: OTHER, destination: router.address, hop_limit: HOP_LIMIT });
        let advertisement = Advertisement {
            version: router.version,
            vrid: router.vrid,
            priority: Priority(priority),
            interval: router.interval,
            addresses: addresses.as_addresses(),
        };
        let mut bytes = Vec::new();
        advertisement.encode(&ip, ChecksumForm::default(), self.gate.seal(theirs), &mut bytes);
        self.routers.hear(self.now, self.clock, &ip, &bytes);
    }

    /// Intervals in which it advertises, or is silent; its clock is so many milliseconds ahead of ours.
    fn pass(&mut self, intervals: u32, priority: Option<u8>, ahead_ms: u64) -> (State, u8) {
        for _ in 0..intervals {
            (self.now, self.clock) = (self.now + INTERVAL, self.clock + INTERVAL);
            if let Some(priority) = priority {
                self.advertise(priority, self.clock + Duration::from_millis(ahead_ms));
            }
            self.routers.timeouts(self.now);
        }
        self.stands()
    }

    fn stands(&self) -> (State, u8) {
        let status = self.routers.entries[0].machine.status();
        (status.state, status.priority.0)
    }

    /// What its statistics say.
    fn shown(&mut self) -> bool {
        self.routers.show();
        self.routers.board.routers().into_values().all(|router| router.held_back)
    }
}

#[test]
fn who_is_behind_takes_nothing_from_a_node_that_serves() {
    let mut node = Bench::new(Carrier::Kernel);
    assert_eq!(node.pass(100, Some(100), 11), (State::Backup, 100));
    assert!(node.shown());
    assert_eq!(node.pass(10, Some(1), 11), (State::Active, 200), "what the shard depends on is lost there");
    assert!(!node.shown());
}

#[test]
fn who_is_behind_comes_back_when_its_clock_is_right() {
    let mut node = Bench::new(Carrier::Kernel);
    assert_eq!(node.pass(50, Some(100), 3000), (State::Backup, 100));
    node.clock += Duration::from_secs(3);
    assert_eq!(node.pass(40, Some(100), 0), (State::Backup, 100), "not before it is sure");
    assert_eq!(node.pass(80, Some(100), 0), (State::Active, 200));
}

#[test]
fn who_is_behind_takes_over_from_the_dead_and_keeps_what_it_has() {
    let mut node = Bench::new(Carrier::Kernel);
    assert_eq!(node.pass(10, Some(100), 3000), (State::Backup, 100));
    assert_eq!(node.pass(4, None, 0), (State::Active, 200));
    assert_eq!(node.pass(10, Some(100), 3000), (State::Active, 200), "the other comes back");
    assert_eq!(
        node.pass(15, Some(250), 3000),
        (State::Backup, 13),
        "a better one takes it, with all connections, and it has gone on forwarding for a second"
    );
    node.learn();
    assert_eq!(node.stands(), (State::Backup, 100));
}

#[test]
fn nine_milliseconds_and_a_clock_that_is_ahead_are_nothing() {
    for (ours, theirs) in [(0, 9), (4000, 0)] {
        let mut node = Bench::new(Carrier::Kernel);
        node.clock += Duration::from_millis(ours);
        for _ in 0..10 {
            (node.now, node.clock) = (node.now + INTERVAL, node.clock + INTERVAL);
            let clock = node.clock + Duration::from_millis(theirs) - Duration::from_millis(ours);
            node.advertise(100, clock);
            node.routers.timeouts(node.now);
        }
        assert_eq!(node.stands(), (State::Active, 200));
    }
}

/// Its stamps are later than the last ones, whatever the clock says.
#[test]
fn our_own_device_has_no_need_of_a_clock() {
    let mut node = Bench::new(Carrier::Userspace);
    assert_eq!(node.pass(10, Some(100), 3000), (State::Active, 200));
    let skew = *node.routers.board.skews().get(&OTHER).unwrap();
    assert!((-3_000_000 - TICK..=-3_000_000 + TICK).contains(&skew.ahead()) && skew.is_behind(), "it is shown all the same: {skew:?}");
}

/// A list may have made it a candidate before those who know the connections have heard of it.
#[test]
fn who_has_never_known_the_connections_stands_behind_whoever_does() {
    let begin = || {
        let mut node = Bench::unknowing(Carrier::Userspace);
        assert_eq!(node.stands(), (State::Backup, 200), "nobody is Active: there are none");
        assert_eq!(node.pass(3, Some(100), 0), (State::Backup, 26));
        node
    };
    let mut alone = begin();
    assert_eq!(alone.pass(3, None, 0), (State::Backup, 26), "one that stands at 100 is Active by now, after 3.6 intervals");
    assert_eq!(alone.pass(1, None, 0), (State::Active, 200), "and here is none");
    let mut told = begin();
    told.learn();
    assert_eq!(told.stands(), (State::Backup, 200));
    assert_eq!(told.pass(10, Some(100), 0), (State::Active, 200));
}

#[test]
fn forgeries_and_recordings_have_no_say() {
    let mut node = Bench::new(Carrier::Kernel);
    node.gate = gate(8);
    assert_eq!(node.pass(2, Some(100), 3000), (State::Backup, 200));
    assert!(node.routers.skews.of(node.now, &OTHER).is_none(), "another key");

    node.gate = gate(7);
    node.advertise(100, node.clock + Duration::from_millis(5));
    // The same once more, as its number says.
    node.gate = gate(7);
    node.clock -= Duration::from_secs(1);
    node.advertise(100, node.clock + Duration::from_millis(1005));
    let ahead = node.routers.skews.of(node.now, &OTHER).unwrap().ahead();
    assert!((-5_000 - TICK..=-5_000 + TICK).contains(&ahead), "{ahead}");
    assert_eq!(node.stands(), (State::Backup, 200));
}
