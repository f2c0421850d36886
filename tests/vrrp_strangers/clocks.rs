//! The clock of another node, as its advertisements tell it.

use super::forge::{Message, inject, sign};
use super::support::{NODES, Speech, World, address, wait};
use std::ops::Range;

/// Three seconds, and what an advertisement may take on a busy machine: less and less seems to be missing.
const SHOWN_MS: Range<f64> = -3000.1..-2000.0;

fn ahead_ms(world: &World) -> Option<f64> {
    world.status(NODES[0])["clocks"]["gw-2"]["ahead_ms"].as_f64()
}

fn printed(world: &World, arguments: &[&str]) -> String {
    let output = world.node(NODES[0]).command(env!("CARGO_BIN_EXE_portway")).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_clock_that_is_behind_is_told_by_status_metrics_and_doctor_and_forgeries_move_nothing() {
    let [ours, theirs] = NODES.map(address);
    let mut world = World::new();
    world.start(NODES[0], &Speech::signed(200));
    world.await_state(NODES[0], "active");
    let made = |seconds| sign(Message::v3(250).sealed(theirs, ours), theirs, seconds, 1);
    let mut forged = made(4);
    *forged.last_mut().unwrap() ^= 1;
    inject(&world, theirs, ours, 255, &forged);
    wait("a forgery to be dropped", || world.discards(NODES[0]).get("hmac") == Some(&1));
    assert_eq!(ahead_ms(&world), None);

    let genuine = made(3);
    inject(&world, theirs, ours, 255, &genuine);
    wait("a clock to be known", || ahead_ms(&world).is_some());
    let ahead = ahead_ms(&world).unwrap();
    assert!(SHOWN_MS.contains(&ahead), "{ahead}");
    inject(&world, theirs, ours, 255, &genuine);
    wait("a recording to be dropped", || world.discards(NODES[0]).get("replayed") == Some(&1));
    assert_eq!(ahead_ms(&world), Some(ahead));

    let metric = world.metrics(NODES[0])["portway_clock_skew_seconds{node=\"gw-2\"}"];
    assert!((metric * 1e3 - ahead).abs() < 0.001, "{metric}");
    // It gave way to one that has said nothing more.
    world.await_state(NODES[0], "active");
    let status = world.status(NODES[0]);
    assert_eq!((&status["clocks"]["gw-2"]["behind"], &status["signs_with_the_time"]), (&true.into(), &false.into()), "{status}");
    assert_eq!((&status["shards"][0]["priority"], &status["shards"][0]["held_back"]), (&200.into(), &false.into()), "GRE has no stamps");
    let runtime = world.lab.dir().runtime(NODES[0]);
    let table = printed(&world, &["status", "--runtime-dir", runtime.to_str().unwrap()]);
    assert!(table.contains("! this clock is 3 s behind that of gw-2"), "{table}");
    let config = world.lab.dir().config(NODES[0]);
    let findings = printed(&world, &["doctor", "--config", config.to_str().unwrap()]);
    assert!(findings.contains(&format!("this clock is {:.0} ms behind that of gw-2", -ahead)), "{findings}");
}
