//! FRR's vrrpd 8.4 and one of our gateways as the two routers of a virtual router: version 3, multicast, which is all that it speaks.

use super::peers::{Frr, VIRTUAL_MAC};
use super::support::{NODES, PLATFORM_IF, SOON, Speech, World};
use super::takeover::{active_down, assert_takes_over, skew};
use super::witness::Witness;
use portway::lab::poll_until;
use std::collections::BTreeSet;
use std::time::Duration;

const INTERVAL_MS: u32 = 100;

fn speech(priority: u8) -> Speech {
    Speech::plain(priority).with("cast: multicast")
}

/// Waits until this hardware address, and no other, answers for the platform HaVip.
fn await_answer(world: &World, mac: &str) {
    let mut answers = BTreeSet::new();
    let alone = poll_until(mac, SOON, || {
        answers = world.arp_on_platform();
        Ok(answers == BTreeSet::from([mac.to_owned()]))
    });
    assert!(alone.is_ok(), "{mac} should answer alone, not {answers:?}");
}

/// vrrpd counts in whole centiseconds, and forgets what is left over.
fn truncated(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis() as u64 / 10 * 10)
}

#[test]
fn frr_is_better() {
    let [ours, theirs] = NODES;
    let mut world = World::new();
    let witness = Witness::on_platform(&world);
    world.start(ours, &speech(100));
    world.await_state(ours, "active");
    world.await_owner(ours);

    let frr = Frr::start(&world, theirs, 200);
    world.await_state(ours, "backup");
    await_answer(&world, VIRTUAL_MAC);
    assert!(world.addresses(ours).is_empty());

    assert_takes_over(&witness, theirs, || frr.terminate(), 0, skew(INTERVAL_MS, 100), "ours after vrrpd's priority 0");
    await_answer(&world, &world.mac(ours, PLATFORM_IF));

    let frr = Frr::start(&world, theirs, 200);
    world.await_state(ours, "backup");
    await_answer(&world, VIRTUAL_MAC);
    assert_takes_over(&witness, theirs, || frr.lose_power(&world), 200, active_down(INTERVAL_MS, 100), "ours after vrrpd's kill -9");
    world.await_owner(ours);
    assert_eq!(world.status(ours)["shards"][0]["warnings"], serde_json::json!([]), "{}", world.log(ours));
    assert_eq!(world.discards(ours), Default::default());
}

#[test]
fn portway_is_better() {
    let [ours, theirs] = NODES;
    let mut world = World::new();
    let witness = Witness::on_platform(&world);
    world.start(ours, &speech(200));
    world.await_state(ours, "active");
    let _frr = Frr::start(&world, theirs, 100);
    world.await_owner(ours);

    assert_takes_over(&witness, ours, || world.terminate(ours), 0, truncated(skew(INTERVAL_MS, 100)), "vrrpd after our priority 0");
    world.await_end(ours);
    await_answer(&world, VIRTUAL_MAC);
    assert!(world.addresses(ours).is_empty());

    world.start_again(ours);
    world.await_state(ours, "active");
    world.await_owner(ours);
    assert_takes_over(&witness, ours, || world.kill(ours), 200, truncated(active_down(INTERVAL_MS, 100)), "vrrpd after our kill -9");
    await_answer(&world, VIRTUAL_MAC);
}
