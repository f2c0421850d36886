//! What it costs to be looked at: Prometheus, the autoscaler and an open status page at once, each of them every second.

use super::Options;
use super::attach::{by_source, host_interfaces, host_yaml};
use super::chain::{Chain, Joint, Offloads};
use super::figures::{Bar, Report};
use super::http::Connection;
use super::nodes::{Daemon, Node, directory};
use super::peers::{gateway_node, gateway_yaml};
use anyhow::ensure;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const ATTACHMENTS: usize = 10_000;
const HOSTS: u32 = 1_000;
/// Pages of metrics, one after the other.
const PAGES: usize = 300;
/// Of the daemon's processor: as often with and without, in turns.
const ROUNDS: usize = 5;
const WATCHED: Duration = Duration::from_secs(6);
/// Seconds of one TCP stream.
const STREAM: u32 = 3;
const EVERY: Duration = Duration::from_secs(1);
/// What is asked for each time: by Prometheus, by the autoscaler, by a page.
const ASKED: [&str; 3] = ["/metrics", "/metrics", "/v1/status"];

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let (node, files) = (gateway_node()?, directory()?);
    let (gateway, _) = Daemon::start(&node, "gateway", files.path(), &gateway_yaml(files.path(), &options.backend, HOSTS))?;
    daemon("gateway of 1000 hosts", &node, &gateway, rounds, report)?;
    gateway.stop()?;

    let (node, files) = (Node::new()?, directory()?);
    host_interfaces(&node, 10)?;
    let (host, _) = Daemon::start(&node, "host", files.path(), &host_yaml(files.path(), &options.backend, 2, 2))?;
    let mut connection = host.connect()?;
    for n in 0..ATTACHMENTS {
        connection.expect("PUT", &format!("/v1/attachments/a{n}"), &by_source(n), 201)?;
    }
    daemon("host of 10000 attachments", &node, &host, rounds, report)?;
    host.stop()?;
    traffic(rounds, report)
}

/// Pages of one daemon, what they cost it, and that they change nothing.
fn daemon(arm: &str, node: &Node, daemon: &Daemon, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let (mut connection, mut took, mut bytes) = (daemon.connect()?, Vec::new(), 0);
    for _ in 0..PAGES {
        let begun = Instant::now();
        bytes = connection.expect("GET", "/metrics", "", 200)?.len();
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    report.latency(arm, "page of metrics", took, Some(Bar::P99AtMost(10.0)));
    report.add(arm, "its size", "KiB", vec![bytes as f64 / 1024.0], None);
    // Without the counters: by those alone it may differ.
    let ruleset = || node.sh("nft -s list ruleset");
    let (before, mut more) = (ruleset()?, Vec::new());
    for round in 0..rounds {
        let busy = |watched: bool| -> anyhow::Result<f64> {
            let (begun, used) = (Instant::now(), daemon.processor()?);
            let mut eyes = if watched { vec![daemon.connect()?] } else { vec![] };
            while begun.elapsed() < WATCHED {
                look(&mut eyes)?;
            }
            Ok((daemon.processor()? - used) / begun.elapsed().as_secs_f64())
        };
        // What comes second is not always the same one.
        let looked_first = round % 2 == 1;
        let (first, second) = (busy(looked_first)?, busy(!looked_first)?);
        more.push(100.0 * if looked_first { first - second } else { second - first });
    }
    ensure!(ruleset()? == before, "{arm}: who looks changes the rules");
    report.add(arm, "processor for being looked at", "%", more, Some(Bar::AtMost(1.0)));
    Ok(())
}

/// One second.
fn look(eyes: &mut [Connection]) -> anyhow::Result<()> {
    let begun = Instant::now();
    for eye in eyes {
        for path in ASKED {
            eye.expect("GET", path, "", 200)?;
        }
    }
    std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    Ok(())
}

/// The same stream with and without, in turns.
fn traffic(rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let chain = Chain::new(Joint::Userspace, Offloads::Off)?;
    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    for round in 0..2 * rounds {
        // What comes second is not always the same one.
        for looks in [round % 2 == 0, round % 2 == 1] {
            let rate = if looks { stream_and_look(&chain)? } else { chain.stream(STREAM)? };
            if looks { &mut watched } else { &mut alone }.push(rate);
        }
    }
    let ratios = watched.iter().zip(&alone).map(|(watched, alone)| watched / alone).collect();
    report.add("userspace; offloads off", "one TCP stream, alone", "Gbit/s", alone, None);
    report.add("userspace; offloads off", "one TCP stream, looked at", "Gbit/s", watched, None);
    report.add("looked at to alone", "one TCP stream, ratio", "1", ratios, None);
    Ok(())
}

fn stream_and_look(chain: &Chain) -> anyhow::Result<f64> {
    let (mut eyes, over) = (chain.connect()?, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| -> anyhow::Result<()> {
            while !over.load(Relaxed) {
                look(&mut eyes)?;
            }
            Ok(())
        });
        let rate = chain.stream(STREAM);
        over.store(true, Relaxed);
        looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        rate
    })
}
