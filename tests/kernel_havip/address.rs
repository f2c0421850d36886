//! The address itself, and its announcement.

use super::kernel_support::{World, in_namespace, name, run};
use super::support::{ANOTHER, HAVIP, Pair, at, ip, millis, put_guard};
use portway::kernel::KernelError;
use portway::kernel::announce::Announcer;
use portway::kernel::havip::HaVips;
use portway::kernel::lease::Lease;
use portway::lab::poll_until;
use portway::model::IfName;
use portway::plan::ANSWERS;

#[test]
fn addresses_are_taken_and_released() {
    in_namespace(async || {
        run("ip link add eth0 type veth peer name eth1 && ip link set eth1 up && ip link set eth0 up && ip addr add 10.9.0.1/24 dev eth0");
        let world = World::new().await;
        let mut havips = HaVips::open().unwrap();
        let (eth0, eth7) = (name::<IfName>("eth0"), name::<IfName>("eth7"));
        let wanted = [(eth0.clone(), ip(HAVIP)), (eth7, ip(ANOTHER)), (eth0.clone(), ip("fd00::100"))];
        for _ in 0..2 {
            let results = havips.take(&wanted);
            assert!(matches!(results.as_slice(), [Ok(()), Err(KernelError::NoInterface(_)), Ok(())]), "{results:?}");
            let seen = run("ip addr show dev eth0");
            assert!(seen.contains("inet 10.9.0.100/32 scope global") && seen.contains("inet6 fd00::100/128 scope global nodad"), "{seen}");
            assert_eq!(world.observe().await.addresses, [(eth0.clone(), "10.9.0.100/32".parse().unwrap())].into(), "ours");
        }
        for _ in 0..2 {
            let results = havips.release(&wanted);
            assert!(results.iter().all(Result::is_ok), "{results:?}");
            let seen = run("ip addr show dev eth0");
            assert!(!seen.contains(HAVIP) && !seen.contains("fd00::100") && seen.contains("10.9.0.1/24"), "{seen}");
        }
        assert!(havips.take(&[]).is_empty());
        // Another interface under the same name.
        havips.take(&wanted);
        run("ip link del eth0 && ip link add eth0 type veth peer name eth1 && ip link set eth0 up");
        assert!(havips.take(&wanted)[0].is_ok());
        assert!(run("ip addr show dev eth0").contains(HAVIP));
    });
}

#[test]
fn an_announcement_moves_what_the_neighbour_knows() {
    let pair = Pair::new();
    let eth0: IfName = name("eth0");
    pair.node.run(|| put_guard("eth0"));
    let own = pair.node.run(|| run("ip -br link show eth0 | awk '{print $3}'")).trim().to_owned();
    let (mut announcer, mut lease) = pair.node.run(|| (Announcer::open().unwrap(), Lease::open().unwrap()));
    pair.neighbour.run(|| {
        run("nft -f - <<'END'
table arp seen { chain input { type filter hook input priority 0
arp operation request arp saddr ip 10.9.0.101 arp daddr ip 10.9.0.101 counter comment \"request\"
arp operation reply arp saddr ip 10.9.0.101 arp daddr ip 10.9.0.101 counter comment \"reply\"
}
}
END");
        for address in [HAVIP, ANOTHER, "fd00::100"] {
            run(&format!("ip neigh replace {address} lladdr 02:00:00:00:00:99 dev eth0 nud reachable"));
        }
    });
    let knows = |address: &str| pair.neighbour.run(|| run(&format!("ip neigh show to {address} dev eth0"))).contains(&own);
    let moves = |address: &str| poll_until("the neighbour's entry to move", millis(5000), || Ok(knows(address)));
    lease.extend(&[(ANSWERS, &[at(ANOTHER)])], millis(60_000)).unwrap();
    assert!(announcer.announce(&eth0, ip(HAVIP), 2).is_err(), "without a lease");
    announcer.announce(&eth0, ip(ANOTHER), 2).unwrap();
    announcer.announce(&eth0, ip("fd00::100"), 2).unwrap();
    moves(ANOTHER).unwrap();
    moves("fd00::100").unwrap();
    let seen = pair.neighbour.run(|| run("nft list table arp seen"));
    assert_eq!(seen.matches("counter packets 2 ").count(), 2, "both forms: {seen}");
    assert!(!knows(HAVIP), "announced without a lease");
    lease.extend(&[(ANSWERS, &[at(HAVIP)])], millis(60_000)).unwrap();
    announcer.announce(&eth0, ip(HAVIP), 1).unwrap();
    moves(HAVIP).unwrap();
    assert!(matches!(announcer.announce(&name("eth7"), ip(HAVIP), 1), Err(KernelError::NoInterface(_))));
    assert!(announcer.announce(&name("lo"), ip(HAVIP), 1).is_err());
    pair.node.run(|| run("ip link set eth0 down"));
    assert!(announcer.announce(&eth0, ip(HAVIP), 1).is_err());
}
