//! How long an attachment takes through the host's API, and whether it matters how many there are already.

use super::Options;
use super::figures::{Bar, Report, percentile};
use super::http::Connection;
use super::nodes::{Daemon, Node, directory};
use std::fmt::Write;
use std::time::Instant;

/// Existing attachments.
const LEVELS: [usize; 3] = [10, 1_000, 10_000];
/// Interfaces that the attachments by interface and source share: a bridge or router with many pods behind it.
const SHARED: usize = 10;
/// Attachments made, timed and ended in one turn of a level.
const TURN: usize = 100;
/// Turns of each level: 2,000 samples.
const TURNS: usize = 20;
/// Turns before the first that counts.
const WARM: usize = 2;

struct Level {
    name: String,
    connection: Connection,
    _daemon: Daemon,
    _directory: tempfile::TempDir,
    /// What the next attachment is told, by its number.
    body: fn(usize) -> String,
    /// Milliseconds, of each turn.
    turns: Vec<Vec<f64>>,
    detach: Vec<f64>,
}

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let turns = options.rounds.unwrap_or(TURNS);
    let mut levels = Vec::new();
    for existing in LEVELS {
        levels.push(Level::new(options, "by source", existing, SHARED, by_source)?);
    }
    // An interface each: as many as can be made in reasonable time.
    for existing in [10, 1_000] {
        levels.push(Level::new(options, "by interface", existing, existing + TURN, by_interface)?);
    }
    for turn in 0..WARM + turns {
        for level in &mut levels {
            level.turn(turn >= WARM)?;
        }
    }
    for level in &levels {
        let samples = level.turns.concat();
        report.latency(&level.name, "attach", samples, Some(Bar::P99AtMost(1.0)));
    }
    for level in &levels {
        report.latency(&level.name, "detach", level.detach.clone(), None);
    }
    let p99 = |level: &Level| percentile(&level.turns.concat(), 0.99);
    report.add("by source, 10000 to 10", "attach p99, ratio", "1", vec![p99(&levels[2]) / p99(&levels[0])], Some(Bar::AtMost(1.5)));
    report.add("by interface, 1000 to 10", "attach p99, ratio", "1", vec![p99(&levels[4]) / p99(&levels[3])], Some(Bar::AtMost(1.5)));
    Ok(())
}

pub fn by_source(n: usize) -> String {
    let [_, b, c, d] = u32::try_from(n / SHARED).unwrap_or(0).to_be_bytes();
    format!(r#"{{"tenant":"t{}","interface":"c{}","source":"10.{}.{c}.{d}"}}"#, n % 2, n % SHARED, 88 + b)
}

fn by_interface(n: usize) -> String {
    format!(r#"{{"tenant":"t{}","interface":"c{n}"}}"#, n % 2)
}

/// A function host of two tenants with two shards each.
pub fn host_yaml(directory: &std::path::Path, backend: &str, tenants: usize, shards: usize) -> String {
    let mut yaml = format!(
        "host:\n  node: bench\n  platform: {{ interface: plat0, address: 10.9.0.11 }}\n  backend: {backend}\n  runtime_dir: {:?}\n  admin: 127.0.0.1:9471\n  tenants:\n",
        directory.display().to_string()
    );
    for tenant in 0..tenants {
        let _ = writeln!(yaml, "    - name: t{tenant}\n      key: {}\n      cidrs: [172.16.0.0/16]\n      shards:", tenant + 1);
        for shard in 0..shards {
            let number = u32::try_from(tenant * shards + shard).unwrap_or(0);
            let inner = std::net::Ipv4Addr::from_bits(0x0a40_0001 + number);
            let _ = writeln!(yaml, "        - {{ shard: {shard}, gateway: 10.9.0.{}, inner: {inner} }}", 100 + shard);
        }
    }
    yaml
}

/// A host's interfaces: the platform side, and veths that containers would be behind.
pub fn host_interfaces(node: &Node, containers: usize) -> anyhow::Result<()> {
    node.sh("ip link add plat0 type veth peer name plat1; ip addr add 10.9.0.11/24 dev plat0; ip link set plat0 up; ip link set plat1 up")?;
    let mut batch = String::new();
    for n in 0..containers {
        let _ = writeln!(batch, "link add c{n} type veth peer name d{n}\nlink set c{n} up\nlink set d{n} up");
    }
    node.sh(&format!("ip -batch - <<'END'\n{batch}END"))?;
    Ok(())
}

impl Level {
    fn new(options: &Options, kind: &str, existing: usize, interfaces: usize, body: fn(usize) -> String) -> anyhow::Result<Self> {
        let (node, directory) = (Node::new()?, directory()?);
        host_interfaces(&node, interfaces)?;
        let (daemon, _) = Daemon::start(&node, "host", directory.path(), &host_yaml(directory.path(), &options.backend, 2, 2))?;
        let mut connection = daemon.connect()?;
        // The first TURN numbers come and go.
        for n in TURN..TURN + existing {
            connection.expect("PUT", &format!("/v1/attachments/standing-{n}"), &body(n), 201)?;
        }
        let name = format!("{kind}, {existing} existing");
        Ok(Self { name, connection, _daemon: daemon, _directory: directory, body, turns: Vec::new(), detach: Vec::new() })
    }

    fn turn(&mut self, counts: bool) -> anyhow::Result<()> {
        let mut samples = Vec::with_capacity(TURN);
        for n in 0..TURN {
            let (path, body) = (format!("/v1/attachments/function-{n}"), (self.body)(n));
            let begun = Instant::now();
            self.connection.expect("PUT", &path, &body, 201)?;
            let attached = Instant::now();
            self.connection.expect("DELETE", &path, "", 204)?;
            samples.push((attached - begun).as_secs_f64() * 1e3);
            if counts {
                self.detach.push(attached.elapsed().as_secs_f64() * 1e3);
            }
        }
        if counts {
            self.turns.push(samples);
        }
        Ok(())
    }
}
