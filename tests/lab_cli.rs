//! `portway demo` and `portway lab` as a person runs them: what they print, how they exit, and that they leave the machine as it was.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The program with its temporary files in a directory that the test looks into.
fn portway(tmp: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
    command.env("TMPDIR", tmp).env("PORTWAY_LAB_DIR", tmp.join("lab")).current_dir(tmp);
    command
}

fn run(tmp: &Path, arguments: &[&str]) -> Output {
    portway(tmp).args(arguments).output().expect("the program was built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// This namespace's network, as other people's tools see it.
fn network() -> Vec<String> {
    let commands = [
        "ip -j link",
        "ip -j addr",
        "ip -j route show table all",
        "ip -j -6 route show table all",
        "ip -j rule",
        "ip -j -6 rule",
        "nft list ruleset",
    ];
    let see = |line: &str| {
        let mut words = line.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).output();
        text(&output.unwrap_or_else(|e| panic!("{line}: {e}; run: apt-get install -y iproute2 nftables")).stdout)
    };
    commands.iter().map(|line| see(line)).collect()
}

fn scenario(name: &str) -> Value {
    scenario_with(name, &[])
}

fn scenario_with(name: &str, options: &[&str]) -> Value {
    let tmp = TempDir::new().unwrap();
    let output = run(tmp.path(), &[&["lab", "run", name, "--json"], options].concat());
    let last = text(&output.stdout).lines().last().unwrap_or_default().to_owned();
    let outcome: Value = serde_json::from_str(&last).unwrap_or_else(|e| panic!("{e}: {last:?}; {}", text(&output.stderr)));
    assert!(output.status.success(), "{outcome:#}\n{}", text(&output.stderr));
    assert_eq!((&outcome["scenario"], &outcome["pass"]), (&Value::from(name), &Value::from(true)), "{outcome:#}");
    assert_empty(tmp.path());
    outcome
}

fn assert_empty(dir: &Path) {
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn the_gre_scenario_has_its_figures() {
    let outcome = scenario("gre");
    for figure in ["connect_ms", "rtt_us", "gbit_per_s"] {
        assert!(outcome[figure].as_f64().is_some_and(|f| f > 0.0), "{figure} in {outcome:#}");
    }
    assert_eq!(outcome["source_seen"], "172.16.101.10");
}

#[test]
fn the_wireguard_scenario_has_the_same_figures() {
    let outcome = scenario("wireguard");
    for figure in ["connect_ms", "rtt_us", "gbit_per_s"] {
        assert!(outcome[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {outcome:#}");
    }
    assert_eq!(outcome["source_seen"], "172.16.101.10");
}

#[test]
fn no_tenant_of_eight_reaches_another() {
    let outcome = scenario("overlap");
    assert_eq!((&outcome["tenants"], &outcome["leaks"]), (&Value::from(8), &Value::from(0)), "{outcome:#}");
}

#[test]
fn restarts_lose_nothing() {
    let outcome = scenario("restart");
    assert_eq!((&outcome["lost"], &outcome["resets"]), (&Value::from(0), &Value::from(0)), "{outcome:#}");
}

/// Sessions are handed over: agreed on anew, they would cost a second at least.
#[test]
fn restarts_under_wireguard_lose_nothing() {
    let outcome = scenario_with("restart", &["--tunnel", "wireguard", "--backend", "userspace"]);
    assert_eq!((&outcome["lost"], &outcome["resets"]), (&Value::from(0), &Value::from(0)), "{outcome:#}");
}

/// All peers have a session with the other gateway long before they would miss the old one.
#[test]
fn wireguard_peers_are_called_by_the_gateway_that_takes_over() {
    let outcome = scenario_with("wireguard-failover", &["--flows", "100", "--peers", "50"]);
    assert_eq!((&outcome["survived"], &outcome["resets"], &outcome["peers"]), (&100.into(), &0.into(), &50.into()), "{outcome:#}");
    assert!(outcome["peers_back_ms"].as_f64().is_some_and(|ms| ms < 1400.0), "{outcome:#}");
}

/// The same of peers that are nowhere configured: what the gateway that died knew of them is known to the other.
#[test]
fn peers_just_in_time_outlive_their_gateway() {
    let outcome = scenario_with("wireguard-failover", &["--flows", "100", "--peers", "50", "--directory"]);
    assert_eq!((&outcome["survived"], &outcome["resets"], &outcome["peers"]), (&100.into(), &0.into(), &50.into()), "{outcome:#}");
    assert!(outcome["peers_back_ms"].as_f64().is_some_and(|ms| ms < 1400.0), "{outcome:#}");
}

#[test]
fn hosts_that_nobody_has_heard_of_are_served_at_their_first_packet() {
    let outcome = scenario_with("wireguard-jit", &["--hosts", "100"]);
    assert_eq!((&outcome["hosts"], &outcome["failed_hosts"]), (&100.into(), &0.into()), "{outcome:#}");
    assert!(outcome["first_answer_p50_ms"].as_f64().is_some_and(|ms| ms < 1000.0), "{outcome:#}");
}

/// Whom the process before had let in, the next one lets in, though no configuration names it.
#[test]
fn restarts_lose_nobody_who_was_let_in() {
    let outcome = scenario_with("restart", &["--tunnel", "wireguard", "--backend", "userspace", "--directory"]);
    assert_eq!((&outcome["lost"], &outcome["resets"]), (&Value::from(0), &Value::from(0)), "{outcome:#}");
}

#[test]
fn a_failed_scenario_says_so_in_json_too() {
    let tmp = TempDir::new().unwrap();
    // Root finds `ip` and `nft` in /usr/sbin all the same, but no iperf3.
    let output = portway(tmp.path()).args(["lab", "run", "gre", "--json"]).env("PATH", "/nonexistent").output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("apt-get install"), "{}", text(&output.stderr));
    let outcome: Value = serde_json::from_str(text(&output.stdout).lines().last().unwrap()).unwrap();
    assert_eq!((&outcome["scenario"], &outcome["pass"]), (&Value::from("gre"), &Value::from(false)));
}

#[rstest]
#[case::gre("gre")]
#[case::wireguard("wireguard")]
fn the_demo_holds_and_leaves_the_machine_as_it_was(#[case] tunnel: &str) {
    let tmp = TempDir::new().unwrap();
    let before = network();
    let output = run(tmp.path(), &["demo", "--tunnel", tunnel, "--report", "page/report.html"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    assert_eq!(before, network());
    for expected in ["fn-2b", "172.16.101.10", "Gbit/s", "gw-1 → gw-2", "100/100", "checks held", "portway lab up"] {
        assert!(said.contains(expected), "{expected:?} is missing in\n{said}");
    }
    assert!(!said.contains('\x1b'), "colour without a terminal");
    assert!(said.lines().all(|l| l.chars().count() <= 100), "{said}");
    let page = std::fs::read_to_string(tmp.path().join("page/report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("checks held") && page.contains("gw-1 → gw-2"));
    std::fs::remove_dir_all(tmp.path().join("page")).unwrap();
    assert_empty(tmp.path());
}

/// Starts the demo and returns once its daemons run and its containers are attached.
fn running_demo(tmp: &Path) -> Child {
    let mut demo = portway(tmp).arg("demo").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("attached to their tenants")), "the demo ended early");
    demo
}

/// Processes whose arguments name the directory.
fn processes_of(dir: &Path) -> Vec<u32> {
    let dir = dir.to_str().unwrap();
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str().and_then(|n| n.parse().ok()));
    pids.filter(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| text(&line).contains(dir))).collect()
}

fn await_gone(dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes_of(dir).is_empty() {
        assert!(Instant::now() < deadline, "still running: {:?}", processes_of(dir));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn ctrl_c_leaves_nothing() {
    let tmp = TempDir::new().unwrap();
    let before = network();
    let mut demo = running_demo(tmp.path());
    assert!(!processes_of(tmp.path()).is_empty());
    kill(Pid::from_raw(demo.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    await_gone(tmp.path());
    assert_empty(tmp.path());
    assert_eq!(before, network());
}

#[test]
fn even_a_killed_demo_takes_its_processes_along_and_the_next_one_sweeps() {
    let tmp = TempDir::new().unwrap();
    let before = network();
    let mut demo = running_demo(tmp.path());
    demo.kill().unwrap();
    demo.wait().unwrap();
    await_gone(tmp.path());
    assert_eq!(before, network());
    assert!(std::fs::read_dir(tmp.path()).unwrap().next().is_some(), "nobody could have removed its directory");
    let _ = run(tmp.path(), &["lab", "run", "restart"]);
    assert_empty(tmp.path());
}

#[test]
fn a_lab_stays_up_until_it_is_taken_down() {
    let tmp = TempDir::new().unwrap();
    let before = network();
    let lab = |arguments: &[&str]| {
        let output = run(tmp.path(), &[&["lab"], arguments].concat());
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let fetch = || lab(&["exec", "fn-1a", "curl", "-s", "-m", "1", "http://172.16.101.20/"]);
    let fetched = || {
        // After `heal`, neighbours and the daemon need a moment.
        let deadline = Instant::now() + Duration::from_secs(5);
        std::iter::repeat_with(fetch).find(|(done, ..)| *done || Instant::now() > deadline).unwrap()
    };
    let (done, said, error) = lab(&["up"]);
    assert!(done && said.contains("portway lab down"), "{said}{error}");
    let down = Down(tmp.path());
    assert!(fetch().1.contains("\"acme\""), "{:?}", fetch());
    assert!(!lab(&["up"]).0, "twice");

    // Without one gateway the other goes on; without both, nobody; and it is well again with one of them.
    assert!(lab(&["fail", "gw-1"]).0);
    assert!(fetched().1.contains("\"acme\""), "{:?}", fetch());
    assert!(lab(&["fail", "gw-2"]).0);
    assert!(!fetch().0);
    assert!(lab(&["heal", "gw-1"]).0);
    assert!(fetched().1.contains("\"acme\""), "{:?}", fetch());
    assert!(lab(&["heal", "gw-2"]).0);

    let status = || lab(&["exec", "gw-2", env!("CARGO_BIN_EXE_portway"), "status"]);
    let line = |(_, said, _): (bool, String, String)| said.lines().find(|l| l.contains("backup")).unwrap_or_default().to_owned();
    let in_sync = |line: &str| line.contains("acme") && line.contains("gw-1") && line.contains("ago") && !line.contains("not in sync");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !in_sync(&line(status())) {
        assert!(Instant::now() < deadline, "{:?}", status());
    }

    for host_side in ["host-1", "fn-1a"] {
        assert!(lab(&["fail", host_side]).0);
        assert!(lab(&["heal", host_side]).0);
        assert!(fetched().1.contains("\"acme\""), "{host_side}: {:?}", fetch());
    }
    let (done, _, error) = lab(&["exec", "gw-nobody", "true"]);
    assert!(!done && error.contains("gw-1"), "{error}");

    drop(down);
    assert_empty(tmp.path());
    await_gone(tmp.path());
    assert_eq!(before, network());
    let (done, said, _) = lab(&["down"]);
    assert!(done && said.contains("No lab was up"), "{said}");
    let (done, _, error) = fetch();
    assert!(!done && error.contains("portway lab up"), "{error}");
}

/// Takes the lab down, also when the test has failed.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let output = run(self.0, &["lab", "down"]);
        if !std::thread::panicking() {
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
    }
}
