use super::*;
use crate::model::{ShardId, Slot};
use crate::plan::host::tests::{of_wireguard, wireguard_host};
use crate::plan::{State, plan};

/// What there is of the interfaces.
#[derive(Default)]
struct World {
    down: BTreeSet<IfName>,
    sessions: BTreeSet<(IfName, PublicKey)>,
}

impl Look for World {
    fn is_up(&self, interface: &IfName) -> bool {
        !self.down.contains(interface)
    }

    fn has_session(&self, interface: &IfName, gateway: &PublicKey) -> bool {
        self.sessions.contains(&(interface.clone(), *gateway))
    }
}

/// A host with one tunnel, whose passes are made by hand.
struct Host {
    generations: Generations,
    slots: Slots,
    world: World,
    now: Instant,
    own: PrivateKey,
    shard: HostShard,
}

fn key(n: u8) -> PrivateKey {
    PrivateKey::new([n; 32])
}

fn acme() -> TenantShard {
    "t1/0".parse().unwrap()
}

impl Host {
    fn new() -> Self {
        let mut slots = Slots::default();
        slots.assign(&[acme()]).unwrap();
        let tunnel = HostTunnel::Wireguard { public_key: key(100).public(), port: 51820 };
        let shard = HostShard { shard: ShardId(0), gateway: [10, 9, 0, 1].into(), tunnel, inner: [10, 64, 0, 9].into() };
        let (generations, world) = (Generations::default(), World::default());
        let mut host = Self { generations, slots, world, now: Instant::now(), own: key(1), shard };
        assert_eq!(host.pass(), Next::Never);
        host
    }

    fn gateway(&mut self, n: u8, port: u16) {
        self.shard.tunnel = HostTunnel::Wireguard { public_key: key(n).public(), port };
    }

    fn want(&mut self) {
        self.generations.want(&self.own, [(acme(), &self.shard)].into_iter());
    }

    /// An interface that loses its peer, or that goes, loses its session.
    fn pass(&mut self) -> Next {
        self.want();
        let slot = self.slots.get(&acme()).unwrap();
        let met: BTreeSet<_> = self
            .generations
            .of(&acme())
            .filter(|standing| standing.met)
            .map(|standing| (IfName::lane(slot, standing.generation.lane), standing.generation.gateway))
            .collect();
        self.world.sessions.retain(|session| met.contains(session));
        self.generations.advance(&self.slots, self.now, &self.world)
    }

    /// Until it has met the gateway.
    fn passes(&mut self) -> Next {
        assert_eq!(self.pass(), Next::Now);
        assert!(self.stands().contains("coming"), "{}", self.stands());
        self.pass()
    }

    /// `present 1>100 calls, former ...`, of the first interface first.
    fn stands(&self) -> String {
        let mut all: Vec<_> = self.generations.of(&acme()).collect();
        all.sort_by_key(|standing| standing.generation.lane);
        let number = |public: PublicKey| (0..=255).find(|n| key(*n).public() == public).unwrap();
        let one = |standing: &Standing| {
            let keys = format!("{}>{}", number(standing.generation.own.public()), number(standing.generation.gateway));
            let (alone, calls) = (if standing.met { "" } else { " alone" }, if standing.calls { " calls" } else { "" });
            format!("{:?} {keys}{alone}{calls}", standing.part).to_lowercase()
        };
        all.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn session(&mut self, interface: &str, gateway: u8) {
        self.world.sessions.insert((interface.parse().unwrap(), key(gateway).public()));
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
    }
}

#[test]
fn with_a_key_of_ours_the_route_leads_before_a_session_begins() {
    let mut host = Host::new();
    assert_eq!(host.stands(), "present 1>100 calls");
    host.own = key(2);
    host.world.down.insert("pw-1-b".parse().unwrap());
    assert_eq!((host.pass(), host.stands().as_str()), (Next::At(host.now + LOOK_LATER), "present 1>100 calls, coming 2>100 alone"));
    host.world.down.clear();
    assert_eq!((host.pass(), host.stands().as_str()), (Next::Now, "present 1>100 calls, coming 2>100"));
    assert_eq!((host.pass(), host.stands().as_str()), (Next::Now, "former 1>100, present 2>100"));
    assert_eq!((host.pass(), host.stands().as_str()), (Next::Now, "former 1>100, present 2>100 calls"));
    assert_eq!(host.pass(), Next::At(host.now + LOOK));
    host.session("pw-1-b", 100);
    let until = host.now + LINGER;
    assert_eq!(host.pass(), Next::At(until));
    host.later(LINGER / 2);
    assert_eq!((host.pass(), host.stands().as_str()), (Next::At(until), "former 1>100, present 2>100 calls"));
    host.later(LINGER);
    assert_eq!((host.pass(), host.stands().as_str()), (Next::Now, "present 2>100 calls"));
    assert_eq!(host.pass(), Next::Never);
    // And the next time it is the first's turn.
    host.own = key(3);
    assert_eq!((host.passes(), host.stands().as_str()), (Next::Now, "present 3>100, former 2>100"));
}

#[test]
fn with_a_key_of_the_gateway_the_route_waits_for_the_session() {
    let mut host = Host::new();
    host.gateway(101, 52320);
    assert_eq!((host.passes(), host.stands().as_str()), (Next::Now, "present 1>100 calls, coming 1>101 calls"));
    for _ in 0..3 {
        host.later(Duration::from_secs(60));
        assert!(matches!(host.pass(), Next::At(_)), "a gateway that has not got the key yet");
        assert_eq!(host.stands(), "present 1>100 calls, coming 1>101 calls");
    }
    host.session("pw-1-b", 101);
    assert_eq!((host.pass(), host.stands().as_str()), (Next::Now, "former 1>100, present 1>101 calls"));
}

#[test]
fn what_nobody_answers_gives_the_route_back_and_goes_on_calling() {
    let mut host = Host::new();
    host.own = key(2);
    assert_eq!([host.passes(), host.pass()], [Next::Now; 2]);
    host.later(PATIENCE);
    assert_eq!((host.pass(), host.stands().as_str()), (Next::Now, "present 1>100 calls, coming 2>100 calls"));
    assert_eq!(host.pass(), Next::At(host.now + LOOK_LATER));
    host.session("pw-1-b", 100);
    assert_eq!((host.pass(), host.stands().as_str()), (Next::Now, "former 1>100, present 2>100 calls"));
}

#[test]
fn who_changes_his_mind_gets_what_he_wants_last() {
    let mut host = Host::new();
    host.gateway(101, 52320);
    host.pass();
    host.gateway(100, 51820);
    assert_eq!((host.pass(), host.stands().as_str()), (Next::Never, "present 1>100 calls"));
    // After the move: the former one comes again.
    host.own = key(2);
    host.passes();
    host.own = key(1);
    assert_eq!((host.passes(), host.stands().as_str()), (Next::Now, "present 1>100, former 2>100"));
    // A third, in the midst, has the place of the one that is no longer wanted.
    host.own = key(3);
    assert_eq!((host.passes(), host.stands().as_str()), (Next::Now, "former 1>100, present 3>100"));
    // Only where the gateway is, is no other generation.
    host.gateway(100, 7000);
    host.want();
    assert!(
        host.generations
            .of(&acme())
            .all(|standing| standing.generation.endpoint.port() == if standing.part == Part::Present { 7000 } else { 51820 })
    );
}

/// What an interface has from before is nobody's answer to what it calls now.
#[test]
fn a_session_that_is_older_than_the_change_is_none() {
    for of_ours in [true, false] {
        let mut host = Host::new();
        let (change, first, second) = if of_ours { (2, 100, 100) } else { (101, 100, 101) };
        let to = |host: &mut Host, back: bool| match (of_ours, back) {
            (true, _) => host.own = key(if back { 1 } else { change }),
            (false, _) => host.gateway(if back { 100 } else { change }, 51820),
        };
        host.session("pw-1", first);
        to(&mut host, false);
        host.passes();
        host.session("pw-1-b", second);
        while !host.stands().contains("former") || host.pass() == Next::Now {
            host.pass();
        }
        // Back, before the first has gone; and a pass that could not take its peer from it.
        to(&mut host, true);
        host.want();
        assert!(host.generations.advance(&host.slots, host.now, &host.world) == Next::At(host.now + LOOK_LATER), "{}", host.stands());
        assert!(host.stands().contains("alone"), "{}", host.stands());
        assert_eq!([host.passes(), host.pass()].into_iter().filter(|next| *next == Next::Now).count(), if of_ours { 2 } else { 1 });
        assert!(matches!(host.pass(), Next::At(again) if again == host.now + LOOK), "{}", host.stands());
        assert!(host.generations.of(&acme()).any(|standing| standing.generation.lane == Lane::First && standing.calls));
        host.session("pw-1", first);
        host.pass();
        assert_eq!(host.pass(), Next::At(host.now + LINGER), "{}", host.stands());
        assert!(host.stands().starts_with("present 1>100 calls, former"), "{}", host.stands());
    }
}

#[test]
fn a_session_is_looked_for_ever_more_seldom() {
    let mut host = Host::new();
    host.gateway(101, 52320);
    host.passes();
    let begun = host.now;
    let mut looks = Vec::new();
    while host.now < begun + Duration::from_secs(6) {
        let Next::At(at) = host.generations.advance(&host.slots, host.now, &host.world) else { panic!("{}", host.stands()) };
        looks.push((host.now - begun, at - host.now));
        host.now = at;
    }
    let every =
        |from: Duration, to: Duration| looks.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, by)| *by).collect::<BTreeSet<_>>();
    assert_eq!(every(Duration::ZERO, SOON), [LOOK].into());
    assert_eq!(every(SOON, PATIENCE), [LOOK_ON].into());
    assert_eq!(every(PATIENCE, Duration::MAX), [LOOK_LATER].into());
}

/// The kernel after this many passes of a change of the host's key.
fn kernel(passes: usize) -> (crate::config::Host, Slots, Generations, State, World) {
    let (config, mut slots) = (wireguard_host(1), Slots::default());
    slots.assign(&crate::plan::host::shards(&config)).unwrap();
    let (mut generations, mut state, now) = (Generations::default(), State::default(), Instant::now());
    let mut world = World::default();
    for pass in 0..=passes {
        if pass > 2 {
            world.sessions.insert(("pw-1-b".parse().unwrap(), key(9).public()));
        }
        let own = key(if pass == 0 { 1 } else { 2 });
        generations.want(&own, config.served().map(|(tenant, shard)| (tenant.of(shard.shard), shard)));
        let desired = of_wireguard(&config, &slots, &generations);
        let steps = plan(&desired, &state);
        steps.steps.iter().for_each(|step| state.follow(step));
        assert!(plan(&desired, &state).is_empty());
        generations.advance(&slots, now, &world);
    }
    (config, slots, generations, state, world)
}

#[test]
fn a_restarted_daemon_goes_on_where_the_last_one_was() {
    for passes in 0..6 {
        let (config, slots, before, state, _) = kernel(passes);
        let own = key(if passes == 0 { 1 } else { 2 });
        let mut after = Generations::recover(&state, &slots, &BTreeMap::new(), Instant::now());
        after.want(&own, config.served().map(|(tenant, shard)| (tenant.of(shard.shard), shard)));
        let lanes = |of: &Generations| {
            let one = |standing: Standing| (standing.generation.lane, standing.generation.own.public(), standing.generation.gateway);
            of.of(&acme()).map(one).collect::<BTreeSet<_>>()
        };
        assert_eq!(lanes(&after), lanes(&before), "after {passes} passes");
        // Nothing that is in use is taken away or changed, but for who calls.
        let steps = plan(&of_wireguard(&config, &slots, &after), &state);
        let unused = |name: &IfName| passes < 3 && name.as_str() == "pw-1-b";
        let gentle = steps.steps.iter().all(|step| match step {
            crate::plan::Step::SetPeer(..) | crate::plan::Step::ReplaceTable(..) => true,
            crate::plan::Step::RemovePeer(name, _) => unused(name),
            _ => false,
        });
        assert!(gentle, "after {passes} passes:\n{steps}");
    }
}

#[test]
fn without_the_keys_the_tunnel_stays_where_routes_lead() {
    let (config, slots, _, mut state, _) = kernel(5);
    state.links.values_mut().for_each(|link| link.kind = LinkKind::Tun);
    let mut after = Generations::recover(&state, &slots, &BTreeMap::new(), Instant::now());
    assert_eq!(after.of(&acme()).count(), 0);
    after.want(&key(3), config.served().map(|(tenant, shard)| (tenant.of(shard.shard), shard)));
    assert_eq!(after.lanes(&acme()), [Lane::Second]);
    // With those of the one that nothing leads to, too.
    let told = [("pw-1".parse().unwrap(), (key(1), key(9).public(), "10.9.0.1:51820".parse().unwrap()))].into();
    let mut after = Generations::recover(&state, &slots, &told, Instant::now());
    after.want(&key(3), config.served().map(|(tenant, shard)| (tenant.of(shard.shard), shard)));
    assert_eq!(after.lanes(&acme()), [Lane::Second]);
}

#[test]
fn ports_of_two_interfaces_never_meet() {
    for port in [1, 7391, 7392, 40_000, 51_820, u16::MAX - 7390] {
        let mut config = wireguard_host(1);
        config.wireguard.as_mut().unwrap().port = port;
        let slots = || (1..=Slot::MAX.get()).map(|n| Slot::try_from(n).unwrap());
        let all: BTreeSet<u16> =
            slots().flat_map(|slot| [Lane::First, Lane::Second].map(|lane| crate::plan::host::listen_port(&config, slot, lane))).collect();
        assert_eq!((all.len(), all.contains(&0)), (2 * usize::from(Slot::MAX.get()), false), "from {port}");
    }
}
