//! A peer of another make, known to the directory alone, whose gateway dies.

use super::stranger_support::{Kind, Stranger, TENANT, bound_ms, havip, public};
use super::support::*;
use portway::lab::{Counts, Flows, Kill, Probe};
use rstest::rstest;
use std::time::Duration;

/// Whoever takes over knows the peer and its endpoint from the Active, and calls it: no directory is asked, and the peer notices nothing.
#[rstest]
#[case::its_daemon_is_killed(Kill::Daemon, true)]
#[case::it_loses_its_power_and_the_directory_is_away(Kill::Node, false)]
fn serial_wireguard_go_goes_on_when_its_gateway_is_lost(#[case] kill: Kill, #[case] directory: bool) {
    let mut lab = directed(&[]);
    let stranger = Stranger::come(&mut lab, Kind::Go);
    let probe = Probe::start(&stranger.netns, SERVER, Duration::from_millis(1)).unwrap();
    quiet(&probe);
    let shown = status(&lab, "gw-1");
    assert_eq!(shown["jit"]["peers"]["live"], 1, "let in just in time: {shown}");
    let shard = &shown["tenants"][0];
    assert_eq!((&shard["admitted"], &shown["admitted"]), (&1.into(), &1.into()), "{shown}");
    assert_eq!(shard["peers"].as_u64(), shard["configured"].as_u64().map(|configured| configured + 1), "{shown}");
    assert!((lab.metric("gw-1", "portway_peers{how=\"admitted\"}").unwrap() - 1.0).abs() < f64::EPSILON);
    let counts = Counts { tcp: 40, udp: 8, idle: Duration::from_millis(500), pace: Duration::from_millis(20) };
    let flows = Flows::open(&[&stranger.netns], lab.node("db-acme").unwrap(), SERVER, &counts).unwrap();
    lab.await_in_sync().unwrap();
    if !directory {
        lab.directory().unwrap().fail();
    }

    probe.mark();
    lab.fail("gw-1", kill).unwrap();
    lab.await_active("gw-2", TENANT, 0).unwrap();
    goes_on(&probe);
    let probed = probe.stop();
    println!("{kill:?}: {probed:?}; at most {:.0} ms", bound_ms(INTERVAL));
    assert!(probed.gap_ms <= bound_ms(INTERVAL) + probed.quiet_ms, "{probed:?}; {}", log(&lab, "gw-2"));
    assert_eq!(stranger.endpoint(), havip(&lab));
    survived(flows);
    let jit = status(&lab, "gw-2")["jit"]["peers"].clone();
    assert_eq!((&jit["live"], &jit["admitted"]), (&1.into(), &0.into()), "a peer already, who need not knock: {jit}");

    // The node that comes back leads nobody astray, and serves the peer as the other did.
    lab.directory().unwrap().resume().unwrap();
    lab.heal("gw-1").unwrap();
    lab.await_in_sync().unwrap();
    let probe = Probe::start(&stranger.netns, SERVER, Duration::from_millis(1)).unwrap();
    goes_on(&probe);
    assert_eq!(stranger.endpoint(), havip(&lab), "{}", stranger.wg("show"));
    let peers = stranger.wg(&format!("show {} allowed-ips", stranger.device));
    assert_eq!(peers.lines().count(), 1, "{peers}: {}", public());
}
