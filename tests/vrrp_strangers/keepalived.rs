//! keepalived 2.2 and one of our gateways as the two routers of a virtual router, in every dialect that both speak.

use super::peers::{Dialect, Keepalived, bury};
use super::support::{HAVIPS, NODES, Speech, VRID, World, address, other, replaced, wait};
use super::takeover::{active_down, assert_takes, handover, skew};
use super::witness::Witness;

const V3_UNICAST: Dialect = Dialect { version: 3, multicast: false };
const V3_MULTICAST: Dialect = Dialect { version: 3, multicast: true };
const V2_UNICAST: Dialect = Dialect { version: 2, multicast: false };
const V2_MULTICAST: Dialect = Dialect { version: 2, multicast: true };

fn speech(dialect: Dialect, priority: u8) -> Speech {
    let speech = if dialect.version == 2 { Speech::plain(priority).interval("1s").with("version: 2") } else { Speech::plain(priority) };
    if dialect.multicast { speech.with("cast: multicast") } else { speech }
}

/// The stranger is preferred: it takes over from us and we from it.
fn a_better_keepalived(dialect: Dialect) {
    let [ours, theirs] = NODES;
    let mut world = World::new();
    let witness = Witness::on_platform(&world);
    world.start(ours, &speech(dialect, 100));
    world.await_state(ours, "active");
    world.await_owner(ours);

    let keepalived = Keepalived::start(&world, theirs, dialect, 200, "");
    world.await_state(ours, "backup");
    world.await_owner(theirs);
    assert!(world.addresses(ours).is_empty());

    let after = witness.seen().len();
    keepalived.terminate();
    let (last, gap) = handover(&witness, after, theirs);
    assert_eq!(last.priority, 0);
    assert_takes(gap, skew(dialect.interval_ms(), 100), "ours after keepalived's priority 0");
    world.await_owner(ours);

    let keepalived = Keepalived::start(&world, theirs, dialect, 200, "");
    world.await_state(ours, "backup");
    world.await_owner(theirs);
    let after = witness.seen().len();
    keepalived.kill();
    bury(&world, theirs);
    let (last, gap) = handover(&witness, after, theirs);
    assert_eq!(last.priority, 200);
    assert_takes(gap, active_down(dialect.interval_ms(), 100), "ours after keepalived's kill -9");
    world.await_owner(ours);
    assert_eq!(world.status(ours)["shards"][0]["warnings"], serde_json::json!([]), "{}", world.log(ours));
    assert_eq!(world.discards(ours), Default::default());
}

/// We are preferred.
fn a_better_portway(dialect: Dialect) {
    let [ours, theirs] = NODES;
    let mut world = World::new();
    let witness = Witness::on_platform(&world);
    world.start(ours, &speech(dialect, 200));
    world.await_state(ours, "active");
    let _keepalived = Keepalived::start(&world, theirs, dialect, 100, "");
    world.await_owner(ours);

    let after = witness.seen().len();
    world.terminate(ours);
    let (last, gap) = handover(&witness, after, ours);
    assert_eq!(last.priority, 0);
    assert_takes(gap, skew(dialect.interval_ms(), 100), "keepalived after our priority 0");
    world.await_end(ours);
    world.await_owner(theirs);
    assert!(world.addresses(ours).is_empty());

    world.start_again(ours);
    world.await_state(ours, "active");
    world.await_owner(ours);
    let after = witness.seen().len();
    world.kill(ours);
    let (last, gap) = handover(&witness, after, ours);
    assert_eq!(last.priority, 200);
    assert_takes(gap, active_down(dialect.interval_ms(), 100), "keepalived after our kill -9");
    // The addresses are still on our dead node; without its lease nobody hears of them.
    assert!(world.has_addresses(ours));
    world.await_owner(theirs);
}

#[test]
fn v3_unicast_keepalived_is_better() {
    a_better_keepalived(V3_UNICAST);
}

#[test]
fn v3_unicast_portway_is_better() {
    a_better_portway(V3_UNICAST);
}

#[test]
fn v3_multicast_keepalived_is_better() {
    a_better_keepalived(V3_MULTICAST);
}

#[test]
fn v3_multicast_portway_is_better() {
    a_better_portway(V3_MULTICAST);
}

/// Version 2 counts in seconds: both ways of casting at once.
fn at_once(scenario: fn(Dialect)) {
    std::thread::scope(|scope| [V2_UNICAST, V2_MULTICAST].map(|dialect| scope.spawn(move || scenario(dialect))).map(|one| one.join().unwrap()));
}

#[test]
fn v2_keepalived_is_better() {
    at_once(a_better_keepalived);
}

#[test]
fn v2_portway_is_better() {
    at_once(a_better_portway);
}

/// Both Active while the network was cut, with equal priority: when it heals the higher address keeps the HaVips, whoever it is.
fn equals_meet(ours: &'static str) {
    let mut world = World::new();
    world.lab.part(NODES[0], NODES[1]).unwrap();
    world.start(ours, &speech(V3_UNICAST, 150));
    let keepalived = Keepalived::start(&world, other(ours), V3_UNICAST, 150, "");
    world.await_state(ours, "active");
    wait("keepalived as Active", || keepalived.log(&world).contains("Entering MASTER STATE"));
    world.lab.unite().unwrap();
    world.await_owner(NODES[1]);
    if ours == NODES[0] {
        world.await_state(ours, "backup");
    } else {
        wait("keepalived as Backup", || keepalived.log(&world).matches("Entering BACKUP STATE").count() == 2);
        assert_eq!(world.transitions(ours), 2, "Backup, Active, and nothing since");
    }
}

#[test]
fn of_equals_the_higher_address_wins_when_it_is_keepalived() {
    equals_meet(NODES[0]);
}

#[test]
fn of_equals_the_higher_address_wins_when_it_is_portway() {
    equals_meet(NODES[1]);
}

#[test]
fn without_preemption_nobody_takes_the_addresses_from_a_worse_one() {
    let [ours, theirs] = NODES;
    let mut world = World::new();
    let witness = Witness::on_platform(&world);
    world.start(ours, &speech(V3_UNICAST, 100).with("preempt: never"));
    world.await_state(ours, "active");
    let keepalived = Keepalived::start(&world, theirs, V3_UNICAST, 200, "nopreempt");
    let begun = witness.seen().len();
    // Longer than it would have waited for an Active.
    wait("twelve advertisements", || witness.seen().len() > begun + 12);
    assert!(witness.seen().iter().all(|seen| seen.source == address(ours)));
    world.await_owner(ours);
    keepalived.kill();
    bury(&world, theirs);

    world.terminate(ours);
    world.await_end(ours);
    let _keepalived = Keepalived::start(&world, theirs, V3_UNICAST, 50, "");
    wait("keepalived as Active", || witness.seen().iter().any(|seen| seen.source == address(theirs)));
    world.start_again(ours);
    let begun = witness.seen().len();
    wait("twelve advertisements", || witness.seen().len() > begun + 12);
    assert!(witness.seen()[begun..].iter().all(|seen| seen.source == address(theirs)));
    world.await_owner(theirs);
}

/// keepalived that has one of our two addresses, or has them in the other order.
#[test]
fn a_keepalived_with_other_addresses_is_listened_to_and_warned_of() {
    let [ours, theirs] = NODES;
    let mut world = World::new();
    world.start(ours, &speech(V3_UNICAST, 100));
    world.await_state(ours, "active");
    let instance = format!(
        "vrrp_instance shared {{\nstate BACKUP\ninterface plat0\nversion 3\nvirtual_router_id {VRID}\npriority 200\nadvert_int 0.1\n\
         unicast_src_ip {}\nunicast_peer {{\n{}\n}}\nvirtual_ipaddress {{\n{}/32 dev plat0\n}}\n}}\n",
        address(theirs),
        address(ours),
        HAVIPS[0]
    );
    let keepalived = Keepalived::start_with(&world, theirs, &instance);
    world.await_state(ours, "backup");
    let warnings = world.status(ours)["shards"][0]["warnings"].to_string();
    assert!(warnings.contains("10.9.0.50, 172.16.101.10") && warnings.contains("[10.9.0.50]"), "{warnings}");
    // In the other order, and the third is not ours.
    keepalived.kill();
    world.await_state(ours, "active");
    let instance = replaced(&instance, "10.9.0.50/32 dev plat0", "172.16.101.10/32 dev eni0\n10.9.0.50/32 dev plat0\n10.9.0.52/32 dev plat0");
    let _keepalived = Keepalived::start_with(&world, theirs, &instance);
    world.await_state(ours, "backup");
    let warnings = world.status(ours)["shards"][0]["warnings"].to_string();
    assert!(warnings.contains("[172.16.101.10, 10.9.0.50, 10.9.0.52]"), "{warnings}");
    assert!(world.log(ours).contains("configure the same addresses on both"));
}
