//! Two gateways of ours that are configured at odds: each says so, in its log and its status, with both values.

use super::support::{HAVIPS, NODES, Speech, World, wait};
use std::net::Ipv4Addr;

/// Both Active, each by itself, until the network is whole: then each hears the other and must warn with these words.
fn meet(speeches: [Speech; 2], says: [&[&str]; 2]) -> World {
    let mut world = World::new();
    world.lab.part(NODES[0], NODES[1]).unwrap();
    for (node, speech) in NODES.iter().zip(&speeches) {
        world.start(node, speech);
    }
    NODES.iter().for_each(|node| world.await_state(node, "active"));
    world.lab.unite().unwrap();
    for (node, words) in NODES.iter().zip(says) {
        let said = |text: &str| words.iter().all(|word| text.contains(word));
        let logged = |world: &World| world.log(node).lines().filter(|line| line.contains("WARN") && said(line)).count();
        wait(&format!("{node} to warn with {words:?}"), || said(&world.status(node)["shards"][0]["warnings"].to_string()));
        wait(&format!("{node} to log {words:?}"), || logged(&world) > 0);
        // Not at every advertisement.
        assert_eq!(logged(&world), 1, "{}", world.log(node));
    }
    world
}

/// They agree on who is Active all the same.
fn agree(world: World) -> World {
    world.await_state(NODES[1], "backup");
    world.await_state(NODES[0], "active");
    world
}

fn pair() -> [Speech; 2] {
    [Speech::signed(200), Speech::signed(100)]
}

#[test]
fn another_interval_is_warned_of_with_both() {
    let [first, second] = pair();
    let says: [&[&str]; 2] =
        [&["10.9.0.2 advertises every 200ms", "configured with 50ms"], &["10.9.0.1 advertises every 50ms", "configured with 200ms"]];
    agree(meet([first.interval("50ms"), second.interval("200ms")], says)).await_owner(NODES[0]);
}

#[test]
fn other_addresses_are_warned_of_with_both() {
    let [first, mut second] = pair();
    second.havips[1] = Ipv4Addr::new(172, 16, 101, 11);
    let both: &[&str] = &["our VRID", "10.9.0.50, 172.16.101.10", "10.9.0.50, 172.16.101.11"];
    agree(meet([first, second], [both; 2]));
}

/// Two shards that have nothing in common but their number: neither is moved by the other's advertisements.
#[test]
fn a_vrid_that_two_shards_use_is_warned_of_with_both() {
    let [first, mut second] = pair();
    second.havips = [Ipv4Addr::new(10, 9, 0, 60), Ipv4Addr::new(172, 16, 101, 11)];
    let both: &[&str] = &["our VRID", "10.9.0.50, 172.16.101.10", "10.9.0.60, 172.16.101.11"];
    let world = meet([first, second], [both; 2]);
    NODES.iter().for_each(|node| world.await_state(node, "active"));
    assert_eq!(world.addresses(NODES[0]), HAVIPS);
}
