//! The lease: what it lets through, and its end.

use super::kernel_support::{in_namespace, run};
use super::support::{ANOTHER, HAVIP, Pair, at, gone, millis, put_guard, refused};
use portway::kernel::KernelError;
use portway::kernel::lease::Lease;
use portway::lab::poll_until;
use portway::model::IfName;
use portway::plan::{ANSWERS, LIVE};
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

#[test]
fn a_lease_ends_by_itself_and_in_time() {
    in_namespace(async || {
        put_guard("lo");
        let mut lease = Lease::open().unwrap();
        for lasts in [millis(30), millis(250)] {
            let before = Instant::now();
            lease.extend(&[(LIVE, &[at(HAVIP), at(ANOTHER)]), (ANSWERS, &[at(HAVIP)])], lasts).unwrap();
            let after = Instant::now();
            for (set, address) in [(ANSWERS, HAVIP), (LIVE, HAVIP), (LIVE, ANOTHER)] {
                let (there, gone) = gone(&mut lease, set, address);
                assert!(there - after <= lasts, "{set} has {address} {:?} after {lasts:?} were given", there - after);
                assert!(gone - before + millis(20) >= lasts, "{set} lost {address} {:?} after {lasts:?} were given", gone - before);
            }
        }
    });
}

#[test]
fn a_lease_can_be_made_longer_shorter_and_ended() {
    in_namespace(async || {
        put_guard("lo");
        let mut lease = Lease::open().unwrap();
        let left = |lease: &mut Lease, set| lease.remaining(set, &at(HAVIP)).unwrap();
        let both: [(_, &[(IfName, IpAddr)]); 2] = [(LIVE, &[at(HAVIP), at(ANOTHER)]), (ANSWERS, &[at(HAVIP)])];
        lease.extend(&both, millis(500)).unwrap();
        lease.extend(&both, millis(60_000)).unwrap();
        assert!(left(&mut lease, LIVE) > Some(millis(50_000)), "{:?}", left(&mut lease, LIVE));
        assert!(run("nft list set netdev portway live").contains("\"eth0\" . 10.9.0.100 timeout 1m expires"));
        lease.extend(&both, millis(30_000)).unwrap();
        assert!(left(&mut lease, ANSWERS).is_some_and(|left| left <= millis(30_000) && left > millis(20_000)));
        lease.end(&[(ANSWERS, &[at(HAVIP), at(ANOTHER)])]).unwrap();
        assert_eq!(left(&mut lease, ANSWERS), None);
        assert!(left(&mut lease, LIVE).is_some());
        // Too short to be told from an element without end.
        lease.extend(&both, millis(3)).unwrap();
        assert_eq!(left(&mut lease, LIVE), None);
        lease.end(&both).unwrap();
        lease.extend(&[], millis(100)).unwrap();
        lease.extend(&[(LIVE, &[])], millis(100)).unwrap();
        let error = lease.extend(&[(LIVE, &[at("fd00::1")])], millis(100)).unwrap_err();
        assert!(matches!(&error, KernelError::Refused(refused) if refused.errno == libc::EAFNOSUPPORT), "{error:?}");
        run("nft delete table netdev portway");
        assert!(matches!(lease.extend(&both, millis(100)), Err(KernelError::Refused(refused)) if refused.errno == libc::ENOENT));
        lease.end(&both).unwrap();
        assert_eq!(left(&mut lease, LIVE), None);
    });
}

#[test]
fn no_packet_meets_a_moment_without_a_lease_that_is_extended() {
    let pair = Pair::guarded();
    let mut lease = pair.node.run(|| Lease::open().unwrap());
    let both: [(_, &[(IfName, IpAddr)]); 2] = [(LIVE, &[at(HAVIP)]), (ANSWERS, &[at(HAVIP)])];
    lease.extend(&both, millis(5000)).unwrap();
    let (sender, receiver) =
        (pair.neighbour.run(|| UdpSocket::bind("10.9.0.2:0").unwrap()), pair.node.run(|| UdpSocket::bind("10.9.0.100:9").unwrap()));
    drop(receiver);
    let sending = std::thread::spawn(move || (0..100_000).filter(|_| sender.send_to(b"?", "10.9.0.100:9").is_ok()).count());
    let (started, mut extended) = (Instant::now(), 0);
    while !sending.is_finished() {
        lease.extend(&both, millis(5000)).unwrap();
        extended += 1;
    }
    println!("{extended} extensions in {:?}", started.elapsed());
    assert!(sending.join().unwrap() > 1000 && extended > 100);
    assert_eq!(pair.node.run(refused), 0);
}

#[test]
fn without_a_lease_a_node_neither_answers_nor_receives_nor_sends() {
    let pair = Pair::guarded();
    pair.neighbour.run(|| run("echo 50 >/proc/sys/net/ipv4/neigh/eth0/retrans_time_ms"));
    let mut lease = pair.node.run(|| Lease::open().unwrap());
    let near = pair.node.run(|| UdpSocket::bind("0.0.0.0:9").unwrap());
    let far = pair.neighbour.run(|| UdpSocket::bind("0.0.0.0:9").unwrap());
    for socket in [&near, &far] {
        socket.set_read_timeout(Some(millis(5000))).unwrap();
    }
    // Whether the neighbour learns where the HaVip is, and whether a packet to and from it arrives: before the one after it, which does.
    let answers = || {
        pair.neighbour.run(|| {
            run(&format!("ip neigh del {HAVIP} dev eth0 2>/dev/null || true"));
            far.send_to(b"who", (HAVIP, 9)).unwrap();
            let mut state = String::new();
            let late = poll_until("an answer or the end of patience", millis(5000), || {
                state = run(&format!("ip neigh show to {HAVIP} dev eth0"));
                Ok(["REACHABLE", "FAILED"].iter().any(|end| state.contains(end)))
            });
            assert!(late.is_ok(), "{state}");
            state.contains("REACHABLE")
        })
    };
    let first = |socket: &UdpSocket| {
        let mut bytes = [0; 8];
        loop {
            let length = socket.recv(&mut bytes).unwrap();
            if &bytes[..length] != b"who" {
                return String::from_utf8_lossy(&bytes[..length]).into_owned();
            }
        }
    };
    let receives = || {
        pair.neighbour.run(|| {
            run(&format!(
                "ip neigh replace {HAVIP} lladdr {} dev eth0",
                pair.node.run(|| run("ip -br link show eth0 | awk '{print $3}'")).trim()
            ))
        });
        far.send_to(b"havip", (HAVIP, 9)).unwrap();
        far.send_to(b"own", ("10.9.0.1", 9)).unwrap();
        let got = first(&near) == "havip";
        if got {
            assert_eq!(first(&near), "own");
        }
        got
    };
    let sends = || {
        let havip = pair.node.run(|| UdpSocket::bind((HAVIP, 0)).unwrap());
        let _ = havip.send_to(b"havip", "10.9.0.2:9");
        near.send_to(b"own", "10.9.0.2:9").unwrap();
        let got = first(&far) == "havip";
        if got {
            assert_eq!(first(&far), "own");
        }
        got
    };
    for round in 0..2 {
        assert_eq!((answers(), receives(), sends()), (false, false, false), "no lease, round {round}");
        assert!(pair.node.run(refused) > round);
        lease.extend(&[(LIVE, &[at(HAVIP)]), (ANSWERS, &[at(HAVIP)])], millis(60_000)).unwrap();
        assert_eq!((answers(), receives(), sends()), (true, true, true), "with a lease, round {round}");
        // A successor answers: what still comes is taken.
        lease.end(&[(ANSWERS, &[at(HAVIP)])]).unwrap();
        assert_eq!((answers(), receives(), sends()), (false, true, true), "handing over, round {round}");
        lease.extend(&[(LIVE, &[at(HAVIP)])], millis(30)).unwrap();
        gone(&mut lease, LIVE, HAVIP);
    }
}
