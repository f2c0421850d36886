//! The lab's scenarios over the GRE and the WireGuard of a stock kernel: the same daemons, the same checks.

mod vm_support;

use vm_support::in_vm;

const PORTWAY: &str = env!("CARGO_BIN_EXE_portway");

/// The figures of a scenario that passed; its name and its options.
fn scenario(words: &str) -> serde_json::Value {
    let (figures, said) = ended(words);
    assert_eq!(figures["pass"], true, "{said}");
    figures
}

/// The figures of a scenario however it ended, and all that it said.
fn ended(words: &str) -> (serde_json::Value, String) {
    let command = [PORTWAY, "lab", "run", "--backend", "kernel", "--json"].into_iter().chain(words.split(' '));
    let output = in_vm(&command.collect::<Vec<_>>());
    let text = String::from_utf8_lossy(&output.stdout);
    let said = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value =
        serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("no figures: {said}"));
    assert_eq!(figures["backend"], "kernel", "{said}");
    (figures, said)
}

/// Nothing is lost and everything survives.
fn loses_nothing(words: &str, wanted: &[(&str, u64)]) {
    let (figures, said) = ended(words);
    assert_eq!((&figures["lost"], failed_but_the_gap(&figures)), (&0.into(), vec![]), "{said}");
    for (what, value) in wanted {
        assert_eq!(figures[*what], *value, "{what}: {said}");
    }
}

#[test]
fn a_function_reaches_its_database_through_kernel_gre() {
    assert_eq!(scenario("gre")["source_seen"], "172.16.101.10");
}

#[test]
fn a_function_reaches_its_database_through_kernel_wireguard() {
    assert_eq!(scenario("wireguard")["source_seen"], "172.16.101.10");
}

#[test]
fn tenants_with_equal_addresses_never_meet_in_kernel_gre() {
    assert_eq!(scenario("overlap")["leaks"], 0);
}

#[test]
fn tenants_with_equal_addresses_never_meet_in_kernel_wireguard() {
    assert_eq!(scenario("overlap --tunnel wireguard")["leaks"], 0);
}

#[test]
fn a_restart_under_kernel_gre_loses_nothing() {
    loses_nothing("restart --ping 5ms", &[("resets", 0)]);
}

/// Nobody has configured its hosts: that they were let in, a gateway's next process sees in the kernel. The emulated machine is slow: by a ping every millisecond
/// its queues are full, and lose packets with no restart at all.
#[test]
fn a_restart_under_kernel_wireguard_loses_nobody_who_was_let_in() {
    loses_nothing("restart --tunnel wireguard --directory --ping 20ms", &[("resets", 0)]);
}

/// The emulated machine is slow, and its timers with it: the bound is that of a second between advertisements.
#[test]
fn connections_through_kernel_gre_outlive_their_gateway() {
    let figures = scenario("gre-failover --interval 1s --flows 100");
    assert_eq!((&figures["flows"], &figures["survived"]), (&100.into(), &100.into()), "{figures}");
}

#[test]
fn connections_through_kernel_wireguard_outlive_their_gateway() {
    let figures = scenario("wireguard-failover --interval 1s --flows 100 --peers 5");
    assert_eq!((&figures["flows"], &figures["survived"]), (&100.into(), &100.into()), "{figures}");
}

/// What failed of a scenario, by what was claimed, but for the gaps: those of an emulated machine are its own.
fn failed_but_the_gap(figures: &serde_json::Value) -> Vec<&str> {
    let failed = figures["failed"].as_array().into_iter().flatten();
    failed.filter_map(|check| check["claim"].as_str()).filter(|claim| !claim.starts_with("the gap")).collect()
}

#[test]
fn a_gateway_with_kernel_wireguard_is_drained_and_nothing_is_lost() {
    loses_nothing("drain --tunnel wireguard --interval 1s --flows 40 --ping 20ms", &[("survived", 40)]);
}

#[test]
fn gateways_with_kernel_wireguard_that_were_both_active_serve_everybody_again() {
    let (figures, said) = ended("split-brain --tunnel wireguard --interval 1s --flows 40 --ping 20ms");
    assert_eq!((failed_but_the_gap(&figures), &figures["survived"]), (vec![], &40.into()), "{said}");
}
