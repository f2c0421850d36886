//! FRR's vrrpd and one of our gateways as the two routers of a virtual router: version 3, multicast.

use super::peers::Frr;
use super::support::{NODES, Speech, World, address};
use super::witness::Witness;

#[test]
fn try_frr() {
    let [ours, theirs] = NODES;
    let mut world = World::new();
    let witness = Witness::on_platform(&world);
    world.start(ours, &Speech::plain(100).with("cast: multicast"));
    world.await_state(ours, "active");
    let frr = Frr::start(&world, theirs, 200);
    let waited = portway::lab::poll_until("frr", std::time::Duration::from_secs(6), || Ok(world.state(ours) == "backup"));
    println!("{}\n{}\n{}", frr.log(&world), world.log("zebra-gw-2"), frr.show(&world));
    println!("{:?} {:?}", world.addresses(theirs), world.arp());
    println!("{:?} {}", world.discards(ours), world.log(ours));
    println!("{:#?}", witness.seen().iter().filter(|s| s.source == address(theirs)).take(3).collect::<Vec<_>>());
    println!("{}", world.sh(theirs, "ip -d link show; ip addr"));

    waited.unwrap();
}
