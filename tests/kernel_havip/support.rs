//! Two nodes, and the rules that let one of them have a HaVip.

use super::kernel_support::run;
use portway::kernel::lease::Lease;
use portway::lab::Netns;
use portway::model::IfName;
use std::net::IpAddr;
use std::time::{Duration, Instant};

pub const HAVIP: &str = "10.9.0.100";
pub const ANOTHER: &str = "10.9.0.101";

/// What the gateway's ruleset has for its HaVips.
const SETS: &str = "set live { type ifname . ipv4_addr; flags timeout; }
set answers { type ifname . ipv4_addr; flags timeout; }
set havips { type ipv4_addr; elements = { 10.9.0.100, 10.9.0.101 } }
counter refused { }
";

pub fn guard(device: &str) -> String {
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

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Where the tests have their HaVips.
pub fn at(address: &str) -> (IfName, IpAddr) {
    ("eth0".parse().unwrap(), ip(address))
}

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Two nodes, 10.9.0.1 and 10.9.0.2 (fd00::1 and fd00::2), each on its `eth0`.
pub struct Pair {
    pub node: Netns,
    pub neighbour: Netns,
}

impl Pair {
    pub fn new() -> Self {
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

    /// With the first HaVip and the guard on the node.
    pub fn guarded() -> Self {
        let pair = Self::new();
        pair.node.run(|| {
            run("ip addr add 10.9.0.100/32 dev eth0");
            put_guard("eth0");
        });
        pair
    }
}

/// Puts the guard on a device of the calling thread's namespace.
pub fn put_guard(device: &str) {
    run(&format!("nft -f - <<'END'\ntable netdev portway {{\n{}}}\nEND", guard(device)));
}

pub fn refused() -> u64 {
    let listing = run("nft list counter netdev portway refused");
    let mut words = listing.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|n| n.parse().ok()).expect("a counter")
}

/// Waits for an address to leave a set. Asked and told at known times, so that a busy machine makes no difference:
/// (when it was last asked for and there, when it was known to be gone).
pub fn gone(lease: &mut Lease, set: &'static str, address: &str) -> (Instant, Instant) {
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
