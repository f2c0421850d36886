//! Flows over paths whose truth is known: untouched, interrupted, and with a translation that forgets.

use portway::lab::topology::PLATFORM_IF;
use portway::lab::{Counts, FlowReport, Flows, Lab, Probe, Survival, Topology, poll_until, rights};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 20);
const PROOF: Duration = Duration::from_secs(20);

fn lab() -> Lab {
    rights::check().unwrap_or_else(|e| panic!("{e}"));
    Lab::build(Topology::apart()).unwrap()
}

/// From a gateway straight to its tenant's server.
fn open(lab: &Lab, counts: &Counts) -> Flows {
    Flows::open(&[lab.node("gw-acme").unwrap()], lab.node("db-acme").unwrap(), SERVER, counts).unwrap()
}

fn run(lab: &Lab, node: &str, program: &str, arguments: &[&str]) {
    let output = lab.node(node).unwrap().command(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}; run: apt-get install -y {program}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn all(of: usize) -> Survival {
    Survival { opened: of, survived: of }
}

fn assert_all(report: &FlowReport, tcp: usize, udp: usize) {
    assert!(report.all_survived(), "{report:#?}");
    assert_eq!((report.all_tcp(), report.udp, report.resets, report.corrupt), (all(tcp), all(udp), 0, 0), "{report:#?}");
}

#[test]
fn a_thousand_flows_of_an_untouched_path_survive() {
    let lab = lab();
    let flows = open(&lab, &Counts::default());
    assert_eq!(flows.sources().into_iter().collect::<Vec<_>>(), [Ipv4Addr::new(172, 16, 101, 4)]);
    let report = flows.verify(PROOF);
    assert_all(&report, 1000, 200);
    assert_eq!(report.tcp.keys().copied().collect::<Vec<_>>(), ["client_first", "idle", "mid_transfer", "server_push"]);
    assert!(report.tcp.values().all(|kind| *kind == all(250)), "{report:?}");
}

#[test]
fn idle_flows_are_used_no_sooner_than_they_should_be() {
    let lab = lab();
    let idle = Duration::from_millis(700);
    let start = Instant::now();
    let report = open(&lab, &Counts { tcp: 8, udp: 1, idle, ..Counts::default() }).verify(PROOF);
    assert!(start.elapsed() >= idle);
    assert_all(&report, 8, 1);
}

#[test]
fn flows_outlive_an_outage_which_a_probe_measures() {
    let lab = lab();
    let flows = open(&lab, &Counts { tcp: 100, udp: 20, ..Counts::default() });
    let probe = Probe::start(lab.node("gw-acme").unwrap(), SERVER, Duration::from_millis(1)).unwrap();
    let answers = |more: u64| {
        let from = probe.answered();
        poll_until("answers", Duration::from_secs(5), || Ok(probe.answered() >= from + more)).unwrap();
    };
    answers(50);
    lab.ip("db-acme", &["link", "set", "vpc0", "down"]).unwrap();
    let down = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    lab.ip("db-acme", &["link", "set", "vpc0", "up"]).unwrap();
    answers(50);
    let (most, gap) = (down.elapsed(), probe.gap());
    assert!(gap >= Duration::from_millis(300) && gap <= most, "{gap:?} of {most:?}");
    let probed = probe.stop();
    assert!((probed.gap_ms - gap.as_secs_f64() * 1e3).abs() < 1e-3 && probed.asked_ms >= 1.0, "{probed:?}");
    assert_all(&flows.verify(PROOF), 100, 20);
}

#[test]
fn a_translation_that_forgets_is_found_out_by_every_kind_of_flow() {
    let lab = lab();
    let table = "add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; \
                 add rule ip t c oifname eni0 meta l4proto { tcp, udp } snat to 172.16.101.4:30000-60000 fully-random";
    run(&lab, "gw-acme", "nft", &[table]);
    let flows = open(&lab, &Counts { tcp: 40, udp: 10, ..Counts::default() });
    run(&lab, "gw-acme", "conntrack", &["-F"]);
    let report = flows.verify(Duration::from_secs(8));
    // A random port may be the former one again, once in 30,000.
    assert!(report.all_tcp().survived <= 1 && report.udp.survived <= 1, "{report:#?}");
    assert!(report.resets > 0 && report.corrupt == 0 && !report.why.is_empty(), "{report:#?}");
}

#[test]
fn flows_of_a_dead_path_cannot_be_opened_and_open_ones_do_not_survive() {
    let lab = lab();
    let flows = open(&lab, &Counts { tcp: 8, udp: 2, ..Counts::default() });
    lab.ip("db-acme", &["link", "set", "vpc0", "down"]).unwrap();
    let report = flows.verify(Duration::from_secs(1));
    assert_eq!((report.all_tcp().survived, report.udp.survived), (0, 0));
    assert!(report.why[0].contains("silent"), "{report:?}");
    lab.ip("gw-acme", &["link", "set", PLATFORM_IF, "up"]).unwrap();
    let from = [lab.node("host-1").unwrap()];
    let error = Flows::open(&from, lab.node("db-acme").unwrap(), SERVER, &Counts { tcp: 4, udp: 0, ..Counts::default() }).unwrap_err();
    assert!(error.to_string().contains("open 4 flows"), "{error}");
}
