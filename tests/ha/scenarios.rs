//! The lab's scenarios in short.

use super::support::program;
use rstest::rstest;
use serde_json::Value;
use std::process::Command;

/// The figures of a scenario that passed.
fn run(arguments: &str) -> Value {
    let output = Command::new(program()).args(["lab", "run", "--json"]).args(arguments.split(' ')).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_default();
    assert!(output.status.success() && figures["pass"] == true, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    figures
}

#[rstest]
#[case::the_daemon_dies("daemon")]
#[case::the_node_loses_its_power("node")]
#[case::the_platform_side_is_unplugged("link")]
#[case::the_tenant_side_is_unplugged("eni")]
#[case::the_daemon_hangs("stop")]
fn serial_another_takes_over_and_connections_go_on_when(#[case] kill: &str) {
    let figures = run(&format!("gre-failover --kill {kill} --flows 200"));
    assert_eq!((&figures["flows"], &figures["survived"]), (&200.into(), &200.into()), "{figures}");
}

#[test]
fn serial_at_10_ms_the_gap_is_that_of_an_eyeblink() {
    run("gre-failover --interval 10ms --flows 200");
}

#[test]
fn serial_a_node_that_is_asked_to_go_hands_over_without_losing_a_packet() {
    assert_eq!(run("gre-failover --kill sigterm --flows 200")["lost"], 0);
}

#[test]
fn serial_a_drained_node_hands_over_without_losing_a_packet() {
    assert_eq!(run("drain --flows 200")["lost"], 0);
}

#[test]
fn serial_a_split_brain_heals_to_one_owner() {
    run("split-brain --flows 200");
}

#[test]
fn serial_shards_of_a_dead_node_move_and_return_unnoticed() {
    assert_eq!(run("shards --flows 200")["lost"], 0);
}
