//! keepalived 2.2 and one of our gateways as the two routers of a virtual router, in every dialect that both speak.

use super::peers::{Dialect, Keepalived};
use super::support::{NODES, Speech, VRID, World, address, other, wait};
use super::takeover::{active_down, assert_takes_over, skew};
use super::witness::Witness;
use serde_json::json;

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

    assert_takes_over(
        &witness,
        theirs,
        || keepalived.terminate(),
        0,
        skew(dialect.interval_ms(), 100),
        "ours after keepalived's priority 0",
    );
    world.await_owner(ours);

    let keepalived = Keepalived::start(&world, theirs, dialect, 200, "");
    world.await_state(ours, "backup");
    world.await_owner(theirs);
    assert_takes_over(
        &witness,
        theirs,
        || keepalived.lose_power(&world),
        200,
        active_down(dialect.interval_ms(), 100),
        "ours after keepalived's kill -9",
    );
    world.await_owner(ours);
    assert_eq!(world.status(ours)["shards"][0]["warnings"], json!([]), "{}", world.log(ours));
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

    assert_takes_over(&witness, ours, || world.terminate(ours), 0, skew(dialect.interval_ms(), 100), "keepalived after our priority 0");
    world.await_end(ours);
    world.await_owner(theirs);
    assert!(world.addresses(ours).is_empty());

    world.start_again(ours);
    world.await_state(ours, "active");
    world.await_owner(ours);
    assert_takes_over(&witness, ours, || world.kill(ours), 200, active_down(dialect.interval_ms(), 100), "keepalived after our kill -9");
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

/// Version 2 counts in seconds, so all that there is to it goes on at once.
#[test]
fn v2_unicast_and_multicast_either_is_better() {
    let scenarios: [fn(Dialect); 2] = [a_better_keepalived, a_better_portway];
    let all = scenarios.into_iter().flat_map(|scenario| [(scenario, V2_UNICAST), (scenario, V2_MULTICAST)]);
    std::thread::scope(|scope| {
        let running: Vec<_> = all.map(|(scenario, dialect)| scope.spawn(move || scenario(dialect))).collect();
        running.into_iter().for_each(|one| one.join().unwrap());
    });
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
    keepalived.lose_power(&world);

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

/// keepalived with these addresses, and no others.
fn keepalived_with(world: &World, node: &'static str, priority: u8, addresses: &[&str]) -> Keepalived {
    let (own, peer, addresses) = (address(node), address(other(node)), addresses.join("\n"));
    let instance = format!(
        "state BACKUP\ninterface plat0\nversion 3\nvirtual_router_id {VRID}\npriority {priority}\nadvert_int 0.1\n\
         unicast_src_ip {own}\nunicast_peer {{\n{peer}\n}}\nvirtual_ipaddress {{\n{addresses}\n}}\n"
    );
    Keepalived::start_with(world, node, &format!("vrrp_instance shared {{\n{instance}}}\n"))
}

const PLATFORM: &str = "10.9.0.50/32 dev plat0";
const TENANT: &str = "172.16.101.10/32 dev eni0";
const THIRD: &str = "10.9.0.52/32 dev plat0";

#[test]
fn a_keepalived_with_other_addresses_is_listened_to_and_warned_of() {
    let [ours, theirs] = NODES;
    let mut world = World::new();
    world.start(ours, &speech(V3_UNICAST, 100));
    for (addresses, said) in [
        (&[PLATFORM][..], Some("[10.9.0.50]")),
        (&[TENANT, PLATFORM], None),
        (&[PLATFORM, TENANT, THIRD], Some("[10.9.0.50, 172.16.101.10, 10.9.0.52]")),
    ] {
        world.await_state(ours, "active");
        let keepalived = keepalived_with(&world, theirs, 200, addresses);
        world.await_state(ours, "backup");
        let warnings = || world.status(ours)["shards"][0]["warnings"].clone();
        match said {
            // Their order means nothing.
            None => wait("no warning", || warnings() == json!([])),
            Some(said) => {
                let text = warnings().to_string();
                assert!(text.contains(said) && text.contains("we for [10.9.0.50, 172.16.101.10]"), "{text}");
                wait("a line in the log", || world.log(ours).lines().any(|line| line.contains("WARN") && line.contains(said)));
            }
        }
        keepalived.lose_power(&world);
    }
}

/// It drops advertisements of other addresses than its own, and takes its addresses beside a better Active. All we can do is say so.
#[test]
fn a_keepalived_with_other_addresses_does_not_listen_to_us_and_we_say_so() {
    let [ours, theirs] = NODES;
    let mut world = World::new();
    world.start(ours, &speech(V3_UNICAST, 200));
    world.await_state(ours, "active");
    for (addresses, complaint) in [
        (&[PLATFORM][..], "received an unexpected ip number count 2, expected 1!"),
        (&[PLATFORM, THIRD], "ip address associated with VRID 51 not present in MASTER advert: 10.9.0.52"),
    ] {
        let keepalived = keepalived_with(&world, theirs, 100, addresses);
        wait("keepalived as Active", || keepalived.log(&world).contains("Entering MASTER STATE"));
        assert!(keepalived.log(&world).contains(complaint), "{}", keepalived.log(&world));
        let said = |text: &str| text.contains("10.9.0.2 uses our VRID") && text.contains("we for [10.9.0.50, 172.16.101.10]");
        wait("a warning", || said(&world.status(ours)["shards"][0]["warnings"].to_string()));
        assert_eq!(world.state(ours), "active");
        keepalived.lose_power(&world);
    }
}

#[test]
fn the_order_of_addresses_means_nothing_to_keepalived_either() {
    let [ours, theirs] = NODES;
    let mut world = World::new();
    let witness = Witness::on_platform(&world);
    world.start(ours, &speech(V3_UNICAST, 200));
    world.await_state(ours, "active");
    let _keepalived = keepalived_with(&world, theirs, 100, &[TENANT, PLATFORM]);
    let begun = witness.seen().len();
    wait("eight advertisements", || witness.seen().len() > begun + 8);
    assert!(witness.seen().iter().all(|seen| seen.source == address(ours)));
}
