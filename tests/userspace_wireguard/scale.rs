//! What peers cost that nothing happens to.

use crate::support::*;
use crate::userspace_support::Namespace;
use portway::model::PublicKey;
use portway::userspace::wireguard::PeerConfig;
use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

fn nth(n: u32) -> PublicKey {
    let mut bytes = [9; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    PublicKey::try_from(bytes).unwrap()
}

fn peer(n: u32) -> PeerConfig {
    let inner = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + n);
    let endpoint = Some((Ipv4Addr::new(10, 0, 0, 1), 51_820).into());
    PeerConfig { endpoint, allowed: vec![std::net::IpAddr::from(inner).into()], ..PeerConfig::default() }
}

/// Bytes of memory in use.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Processor time of this process so far.
fn processor() -> Duration {
    let ticks = |fields: &str| {
        let numbers = fields.rsplit(')').next().unwrap().split_whitespace().collect::<Vec<_>>();
        numbers[11].parse::<u64>().unwrap() + numbers[12].parse::<u64>().unwrap()
    };
    Duration::from_millis(ticks(&fs::read_to_string("/proc/self/stat").unwrap()) * 10)
}

#[test]
fn serial_idle_peers_cost_memory_only_and_little() {
    let namespace = Namespace::new("gateway");
    let ours = Ours::start(&namespace, "10.0.0.2:51820", Setup::default());
    let before = memory();
    let mut rates = Vec::new();
    for (from, to) in [(0, 1_000), (1_000, 99_000), (99_000, 100_000)] {
        let begun = Instant::now();
        (from..to).for_each(|n| ours.device.set_peer(&pw(), nth(n), &peer(n)).unwrap());
        let each = begun.elapsed() / (to - from);
        println!("{to} peers: {} bytes each, {each:?} to set one", (memory().saturating_sub(before)) / u64::from(to));
        rates.push(each);
    }
    assert!((memory() - before) / 100_000 < 1_500, "a peer that nothing happens to is at most 1.5 kB");
    assert!(rates[2] < rates[0] * 5 + Duration::from_micros(50), "the last thousand cost what the first did: {rates:?}");
    let before = processor();
    std::thread::sleep(Duration::from_secs(1));
    let idle = processor() - before;
    println!("idle with 100,000 peers: {idle:?} of processor time in a second");
    assert!(idle <= Duration::from_millis(20), "{idle:?}");
    assert!(ours.device.remove_peer(&pw(), &nth(5)).unwrap());
    assert_eq!(ours.device.counters()[&pw()].peers, 99_999);
}
