//! What a container's user would feel, measured from inside its namespace.

use super::error::{During, Error, Result};
use super::http;
use super::netns::Netns;
use super::ping;
use super::serve::Seen;
use super::topology::{Tenant, port};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Median and 99th percentile of samples, in the samples' unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub p99: f64,
}

impl Spread {
    /// Of at least one sample.
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |q: f64| samples[((samples.len() - 1) as f64 * q).round() as usize];
        Self { median: at(0.5), p99: at(0.99) }
    }
}

/// The four figures of a tunnel's scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    pub connect_ms: f64,
    pub rtt_us: f64,
    pub rtt_p99_us: f64,
    pub gbit_per_s: f64,
    /// Address, without the port, that the tenant's server saw.
    pub source_seen: Ipv4Addr,
    /// The tenant whose server answered.
    pub tenant_seen: String,
}

/// All figures from a container to its tenant's server; throughput is one TCP stream for `seconds`.
pub fn figures(from: &Netns, tenant: &Tenant, seconds: u32) -> Result<Figures> {
    let who = whoami(from, tenant.server, Duration::from_secs(3))?;
    let SocketAddr::V4(source) = who.seen else {
        return Err(Error::Unreadable { what: "the server".into(), body: who.seen.to_string() });
    };
    let rtt = ping::round_trips(from, tenant.server, 200)?;
    Ok(Figures {
        connect_ms: connect_ms(from, SocketAddr::from((tenant.server, port::HTTP)), 11)?.median,
        rtt_us: rtt.median,
        rtt_p99_us: rtt.p99,
        gbit_per_s: gbit_per_s(from, tenant.server, seconds)?,
        source_seen: *source.ip(),
        tenant_seen: who.tenant,
    })
}

/// Who answers at `server`, and whom it saw.
pub fn whoami(from: &Netns, server: Ipv4Addr, timeout: Duration) -> Result<Seen> {
    let address = SocketAddr::from((server, port::HTTP));
    let answer = from.run(|| http::get(address, "/", timeout)).during(format!("fetch http://{server}/"))?;
    serde_json::from_str(&answer.body).map_err(|_| Error::Unreadable { what: format!("http://{server}/"), body: answer.body })
}

/// Whether a TCP connection to `to` comes up within `timeout`.
pub fn connects(from: &Netns, to: SocketAddr, timeout: Duration) -> bool {
    from.run(|| TcpStream::connect_timeout(&to, timeout)).is_ok()
}

/// Time to connect, over `count` connections one after the other.
pub fn connect_ms(from: &Netns, to: SocketAddr, count: usize) -> Result<Spread> {
    let one = || {
        let start = Instant::now();
        TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    let samples: std::io::Result<Vec<f64>> = from.run(|| (0..count.max(1)).map(|_| one()).collect());
    Ok(Spread::of(samples.during(format!("connect to {to}"))?))
}

/// One TCP stream by iperf3, as received, in 10^9 bits a second.
pub fn gbit_per_s(from: &Netns, server: Ipv4Addr, seconds: u32) -> Result<f64> {
    let mut command = from.command("iperf3");
    command.args([
        "-J",
        "-c",
        &server.to_string(),
        "-p",
        &port::IPERF.to_string(),
        "-t",
        &seconds.to_string(),
        "--connect-timeout",
        "3000",
    ]);
    let output = command.output().during("run iperf3")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .map(|bits| bits / 1e9)
        .ok_or_else(|| Error::Unreadable { what: "iperf3".into(), body: report["error"].as_str().unwrap_or(&text).to_owned() })
}

/// ICMP echo requests that a namespace's own kernel has received so far (`InEchos` of /proc/net/snmp).
pub fn echo_requests_received(at: &Netns) -> Result<u64> {
    let counters = snmp(at)?;
    let found = counters.get("Icmp.InEchos").copied();
    found.ok_or_else(|| Error::Unreadable { what: "/proc/net/snmp".into(), body: format!("{counters:?}") })
}

/// What a namespace's kernel counts of protocols (RFC 4293, RFC 4113), each as `Protocol.Name`.
pub fn snmp(at: &Netns) -> Result<BTreeMap<String, u64>> {
    let text = at.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).during("read /proc/net/snmp")?;
    Ok(of_protocols(&text))
}

/// Two lines for each protocol: names, and values in their order. Those that may be below zero are none that count.
fn of_protocols(page: &str) -> BTreeMap<String, u64> {
    let lines: Vec<(&str, &str)> = page.lines().filter_map(|line| line.split_once(": ")).collect();
    let pairs = lines.chunks_exact(2).filter(|pair| pair[0].0 == pair[1].0);
    let named = pairs.flat_map(|pair| {
        let values = pair[1].1.split_ascii_whitespace();
        pair[0].1.split_ascii_whitespace().zip(values).map(|(name, value)| (format!("{}.{name}", pair[0].0), value))
    });
    named.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
}

/// Whether something in the namespace listens on a TCP port.
pub fn listens(at: &Netns, port: u16) -> Result<bool> {
    let read = |file: &str| std::fs::read_to_string(Path::new("/proc/thread-self/net").join(file));
    let text = at.run(|| Ok::<_, std::io::Error>(read("tcp")? + &read("tcp6")?)).during("read /proc/net/tcp and tcp6")?;
    let end = format!(":{port:04X}");
    Ok(text.lines().any(|l| {
        let mut fields = l.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&end)) && fields.nth(1) == Some("0A")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counts_of_protocols_is_read() {
        let page = "Ip: Forwarding InDiscards OutNoRoutes\nIp: 1 7 2\nTcp: MaxConn\nTcp: -1\nUdp: InDatagrams RcvbufErrors\nUdp: 10 4\n";
        let want = [("Ip.Forwarding", 1), ("Ip.InDiscards", 7), ("Ip.OutNoRoutes", 2), ("Udp.InDatagrams", 10), ("Udp.RcvbufErrors", 4)];
        assert_eq!(of_protocols(page), BTreeMap::from(want.map(|(name, value)| (name.to_owned(), value))));
    }

    #[test]
    fn median_and_p99_of_a_hundred_and_one() {
        let spread = Spread::of((0..=100).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { median: 50.0, p99: 99.0 });
    }
}
