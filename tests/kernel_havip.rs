//! What a gateway does with a HaVip: the lease that ends by itself, the address, its announcement, and the socket over which nodes agree
//! on whose it is. Two nodes with a cable between them; `nft`, `ip` and packets as witnesses.

mod kernel_support;

use kernel_support::{World, in_namespace, name, run};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portway::kernel::KernelError;
use portway::kernel::announce::Announcer;
use portway::kernel::havip::HaVips;
use portway::kernel::lease::Lease;
use portway::kernel::vrrp_socket::{BATCH, Family, VrrpSocket};
use portway::lab::{Netns, poll_until};
use portway::model::{IfName, Mark};
use portway::plan::{ANSWERS, Element, LIVE, NftTable, Ruleset, SetName, Step};
use portway::wire::vrrp::Envelope;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

const HAVIP: &str = "10.9.0.100";
const ANOTHER: &str = "10.9.0.101";

/// What the gateway's ruleset has for its HaVips.
const SETS: &str = "set live { type ifname . ipv4_addr; flags timeout; }
set answers { type ifname . ipv4_addr; flags timeout; }
set havips { type ipv4_addr; elements = { 10.9.0.100, 10.9.0.101 } }
counter refused { }
";

fn guard(device: &str) -> String {
    format!(
        "{SETS}chain ingress {{ type filter hook ingress device \"{device}\" priority 0; policy accept;
        iifname . ip daddr @live accept
        ip daddr @havips counter name refused drop
        iifname . arp daddr ip @answers accept
        arp daddr ip @havips drop
        }}
        chain egress {{ type filter hook egress device \"{device}\" priority 0; policy accept;
        oifname . ip saddr @live accept
        ip saddr @havips drop
        oifname . arp saddr ip @answers accept
        arp saddr ip @havips drop
        }}
        "
    )
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Where the tests have their HaVips.
fn at(address: &str) -> (IfName, IpAddr) {
    ("eth0".parse().unwrap(), ip(address))
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Two nodes, 10.9.0.1 and 10.9.0.2 (fd00::1 and fd00::2), each on its `eth0`.
struct Pair {
    node: Netns,
    neighbour: Netns,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { node: Netns::create().expect("root"), neighbour: Netns::create().expect("root") };
        let far = pair.neighbour.path();
        pair.node.run(|| run(&format!("ip link add eth0 type veth peer name eth0 netns {}", far.display())));
        for (netns, number) in [(&pair.node, 1), (&pair.neighbour, 2)] {
            netns.run(|| {
                run("ip link set lo up");
                run(&format!("ip addr add 10.9.0.{number}/24 dev eth0 && ip addr add fd00::{number}/64 dev eth0 nodad"));
                run(&format!("ip link set eth0 up && ip addr add fe80::{number}/64 dev eth0 nodad"));
            });
        }
        pair
    }
}

/// Puts the guard on a device of the calling thread's namespace.
fn put_guard(device: &str) {
    run(&format!("nft -f - <<'END'\ntable netdev portway {{\n{}}}\nEND", guard(device)));
}

fn refused() -> u64 {
    let listing = run("nft list counter netdev portway refused");
    let mut words = listing.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|n| n.parse().ok()).expect("a counter")
}

/// Waits for an address to leave a set. Asked and told at known times, so that a busy machine makes no difference:
/// (when it was last asked for and there, when it was known to be gone).
fn gone(lease: &mut Lease, set: &'static str, address: &str) -> (Instant, Instant) {
    let mut last = Instant::now();
    let deadline = last + Duration::from_secs(10);
    while Instant::now() < deadline {
        let asked = Instant::now();
        match lease.remaining(set, &at(address)).unwrap() {
            Some(_) => last = asked,
            None => return (last, Instant::now()),
        }
        std::thread::yield_now();
    }
    panic!("{address} stays in {set}");
}

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
    let pair = Pair::new();
    pair.node.run(|| {
        run("ip addr add 10.9.0.100/32 dev eth0");
        put_guard("eth0");
    });
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

#[test]
fn without_a_lease_a_node_neither_answers_nor_receives_nor_sends() {
    let pair = Pair::new();
    pair.node.run(|| {
        run("ip addr add 10.9.0.100/32 dev eth0");
        put_guard("eth0");
    });
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
            assert!(world.kernel.counters().await.unwrap().contains(&("netdev", format!("number{n}"), 0)));
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

/// Waits for packets, and takes them.
fn received(socket: &mut VrrpSocket) -> Vec<(Envelope, Vec<u8>)> {
    let mut all = Vec::new();
    let ready = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::from(5000u16)).unwrap();
    assert_eq!(ready, 1, "nothing came");
    let count = socket.receive(|envelope, payload| all.push((*envelope, payload.to_vec()))).unwrap();
    assert_eq!(count, all.len());
    all
}

#[test]
fn vrrp_packets_arrive_with_their_addresses_and_hop_limit() {
    let pair = Pair::new();
    let open = |netns: &Netns, family, group| netns.run(|| VrrpSocket::open(&name("eth0"), family, group).unwrap());
    pair.neighbour.run(|| {
        run("nft -f - <<'END'
table inet seen { chain input { type filter hook input priority 0
ip protocol 112 ip ttl 255 ip dscp cs6 ip hdrlength 5 counter comment \"v4\"
ip6 nexthdr 112 ip6 hoplimit 255 ip6 dscp cs6 counter comment \"v6\"
}
}
END");
    });
    let cases = [
        (Family::V4, "10.9.0.1", "10.9.0.2", false),
        (Family::V4, "10.9.0.1", "224.0.0.18", true),
        (Family::V6, "fd00::1", "fd00::2", false),
        (Family::V6, "fe80::1", "fe80::2", false),
        (Family::V6, "fd00::1", "ff02::12", true),
        (Family::V6, "fe80::1", "ff02::12", true),
    ];
    pair.node.run(|| run("ip addr add 10.9.0.77/32 dev eth0; ip addr add fd00::77/128 dev eth0 nodad"));
    for (family, from, to, group) in cases {
        let (mut near, mut far) = (open(&pair.node, family, true), open(&pair.neighbour, family, true));
        let mut deaf = open(&pair.neighbour, family, false);
        near.send(ip(from), ip(to), b"one").unwrap();
        let envelope = Envelope { source: ip(from), destination: ip(to), hop_limit: 255 };
        assert_eq!(received(&mut far), [(envelope, b"one".to_vec())]);
        assert_eq!(near.receive(|_, _| ()).unwrap(), 0, "an echo of {to}");
        let mut heard = 0;
        deaf.receive(|_, _| heard += 1).unwrap();
        assert_eq!(heard, usize::from(!group), "without joining the group, {to}");
        let error = near.send(ip(if from == "10.9.0.1" { "10.9.0.99" } else { "fd00::99" }), ip(to), b"one").unwrap_err();
        let not_here = [libc::EINVAL, libc::ENETUNREACH];
        assert!(not_here.contains(&error.raw_os_error().unwrap()), "from an address that is not here: {error}");
    }
    let (near, mut far) = (open(&pair.node, Family::V4, false), open(&pair.neighbour, Family::V4, false));
    // A source other than the one that the kernel would choose; more packets than one call takes; packets of other hop limits.
    for n in 0..=BATCH {
        near.send(ip("10.9.0.77"), ip("10.9.0.2"), &[u8::try_from(n).unwrap(); 40]).unwrap();
    }
    let mut got = received(&mut far);
    assert_eq!(got.len(), BATCH);
    got.append(&mut received(&mut far));
    for (n, (envelope, payload)) in got.iter().enumerate() {
        assert_eq!((envelope.source, payload[0] as usize, payload.len()), (ip("10.9.0.77"), n, 40));
    }
    pair.node.run(|| run("nft 'table ip lower { chain out { type filter hook output priority 0; ip ttl set 254; }; }'"));
    near.send(ip("10.9.0.1"), ip("10.9.0.2"), b"far away").unwrap();
    assert_eq!(received(&mut far)[0].0.hop_limit, 254);
    assert_eq!(near.send(ip("fd00::1"), ip("10.9.0.2"), b"").unwrap_err().raw_os_error(), Some(libc::EAFNOSUPPORT));
    assert!(matches!(pair.node.run(|| VrrpSocket::open(&name("eth7"), Family::V4, true)), Err(KernelError::NoInterface(_))));
    let seen = pair.neighbour.run(|| run("nft list table inet seen"));
    assert!(seen.contains(&format!("counter packets {} bytes", 2 + BATCH + 1)) && seen.contains("counter packets 4 "), "{seen}");
}

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
