//! Leases while the rules that look at them, and other sets of their table, are read and made anew.

use super::kernel_support::{World, in_namespace, run};
use super::support::{HAVIP, Pair, at, gone, guard, millis, refused};
use portway::kernel::lease::Lease;
use portway::model::Mark;
use portway::plan::{ANSWERS, Element, LIVE, NftTable, Ruleset, SetName, Step};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Instant;

#[test]
fn no_packet_meets_a_moment_without_a_lease_while_the_rules_change() {
    let pair = Pair::new();
    let sender = pair.neighbour.run(|| UdpSocket::bind("10.9.0.2:0").unwrap());
    pair.node.run(|| {
        run("ip addr add 10.9.0.100/32 dev eth0");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let apply = async |n: usize| {
                let ruleset = Ruleset::new(format!("{}counter number{n} {{ }}\n", guard("eth0")));
                world.apply(&[Step::ReplaceTable(NftTable::Netdev, ruleset)]).await;
            };
            apply(0).await;
            Lease::open().unwrap().extend(&[(LIVE, &[at(HAVIP)]), (ANSWERS, &[at(HAVIP)])], millis(60_000)).unwrap();
            let over = Arc::new(AtomicBool::new(false));
            let ended = over.clone();
            let send = move |_: &u32| sender.send_to(b"?", (HAVIP, 9)).is_ok();
            let sending = std::thread::spawn(move || (0..10_000_000).take_while(|_| !ended.load(Relaxed)).filter(send).count());
            for n in 1..=10 {
                apply(n).await;
            }
            over.store(true, Relaxed);
            let sent = sending.join().unwrap();
            assert!(sent > 1000, "{sent}");
        });
        assert!(run("nft list table netdev portway").contains("number10"));
        assert_eq!(refused(), 0);
    });
}

/// To the kernel, a lease that is extended interrupts whoever lists a table, and then nothing is known of what was read.
#[test]
fn a_large_table_is_read_and_replaced_while_leases_are_extended() {
    in_namespace(async || {
        let world = World::new().await;
        let body = format!("{}map port_src {{ type iface_index . ipv4_addr : mark; }}\n", guard("lo"));
        let set = SetName { table: NftTable::Netdev, name: "port_src".into() };
        let address = |n: u32| Element::InterfaceAddress(7, std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into());
        world.apply(&[Step::ReplaceTable(NftTable::Netdev, Ruleset::new(body.clone()))]).await;
        world.apply(&(0..20_000).map(|n| Step::SetElement(set.clone(), address(n), Some(Mark(1)))).collect::<Vec<_>>()).await;
        let mut lease = Lease::open().unwrap();
        let (over, until) = std::sync::mpsc::channel::<()>();
        let extending = std::thread::spawn(move || {
            let mut times = 0;
            while until.recv_timeout(millis(10)) == Err(RecvTimeoutError::Timeout) {
                lease.extend(&[(LIVE, &[at(HAVIP)])], millis(1000)).unwrap();
                times += 1;
            }
            times
        });
        for n in 0..5 {
            world.apply(&[Step::ReplaceTable(NftTable::Netdev, Ruleset::new(format!("{body}counter number{n} {{ }}\n")))]).await;
            assert_eq!(world.observe().await.elements[&set].len(), 20_000);
            assert!(world.kernel.counters().unwrap().contains(&("netdev", format!("number{n}"), 0)));
        }
        drop(over);
        assert!(extending.join().unwrap() > 10);
    });
}

#[test]
fn a_lease_survives_a_change_of_the_rules_and_still_ends_in_time() {
    in_namespace(async || {
        let world = World::new().await;
        let apply = async |body: String| world.apply(&[Step::ReplaceTable(NftTable::Netdev, Ruleset::new(body))]).await;
        apply(guard("lo")).await;
        let observed = world.observe().await;
        let mut lease = Lease::open().unwrap();
        lease.extend(&[(ANSWERS, &[at(HAVIP)])], millis(60_000)).unwrap();
        let before = Instant::now();
        lease.extend(&[(LIVE, &[at(HAVIP)])], millis(2000)).unwrap();
        let after = Instant::now();
        assert_eq!(world.observe().await, observed, "leases are no state, and nobody's tampering");
        // Other rules; another definition of one of its sets, for which the table is made anew; and of a lease's set itself.
        for change in
            ["counter more { }".to_owned(), "set peers { type ipv4_addr; }".to_owned(), "map peers { type ipv4_addr : mark; }".to_owned()]
        {
            apply(format!("{}{change}\n", guard("lo"))).await;
            assert!(lease.remaining(LIVE, &at(HAVIP)).unwrap().is_some(), "after {change}");
        }
        apply(guard("lo").replace("set live { ", "set live { comment \"leases\"; ")).await;
        assert!(run("nft list table netdev portway").contains("comment \"leases\""));
        let left = lease.remaining(ANSWERS, &at(HAVIP)).unwrap();
        assert!(left.is_some_and(|left| left > millis(30_000) && left < millis(60_000)), "{left:?}");
        let (there, gone) = gone(&mut lease, LIVE, HAVIP);
        assert!(there - after <= millis(2100), "{:?}", there - after);
        assert!(gone - before + millis(40) >= millis(2000), "{:?}", gone - before);
    });
}
