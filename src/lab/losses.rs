//! Where packets are gone: whatever counts them in a lab's nodes, before and after.

use super::build::Lab;
use super::error::{During, Result};
use super::http;
use std::collections::BTreeMap;

/// Of /proc/net/snmp (RFC 4293 and RFC 4113), those that are packets gone.
const OF_PROTOCOLS: [&str; 9] = [
    "Ip.InHdrErrors",
    "Ip.InAddrErrors",
    "Ip.InDiscards",
    "Ip.OutDiscards",
    "Ip.OutNoRoutes",
    "Udp.NoPorts",
    "Udp.InErrors",
    "Udp.RcvbufErrors",
    "Udp.SndbufErrors",
];
/// How the names of those end that daemons count.
const OF_DAEMONS: [&str; 2] = ["dropped_packets_total", "conntrack_failures_total"];
/// All processors', as no namespace has its own.
const MACHINE: &str = "machine";

/// By node, or the machine, and counter.
type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// What has been lost since this was begun. Daemons that end take their counters along: look before they do.
#[derive(Debug)]
pub struct Losses {
    last: Counts,
    more: Counts,
}

impl Losses {
    pub fn begin(lab: &Lab) -> Result<Self> {
        Ok(Self { last: read(lab)?, more: Counts::new() })
    }

    /// Looks again.
    pub fn look(&mut self, lab: &Lab) -> Result<&Counts> {
        let now = read(lab)?;
        self.take(now);
        Ok(&self.more)
    }

    /// A counter that began anew counts from there.
    fn take(&mut self, now: Counts) {
        for (node, counters) in &now {
            for (counter, value) in counters {
                let was = self.last.get(node).and_then(|counters| counters.get(counter)).copied().unwrap_or_default();
                let more = value.checked_sub(was).unwrap_or(*value);
                if more > 0 {
                    *self.more.entry(node.clone()).or_default().entry(counter.clone()).or_default() += more;
                }
            }
        }
        self.last = now;
    }
}

fn read(lab: &Lab) -> Result<Counts> {
    let page = |name: &str| std::fs::read_to_string(name).during(format!("read {name}"));
    let mut all = Counts::from([(MACHINE.to_owned(), backlog(&page("/proc/net/softnet_stat")?))]);
    for node in lab.topology.nodes() {
        let (protocols, links) = lab.node(&node)?.run(|| (page("/proc/thread-self/net/snmp"), page("/proc/thread-self/net/dev")));
        let mut counters = of_protocols(&protocols?);
        counters.extend(of_links(&links?));
        // A daemon that is not there has lost nothing of its own.
        let metrics = lab.socket(&node).and_then(|socket| Ok(http::unix_ok(&socket, "GET", "/metrics", None)?.body));
        counters.extend(metrics.map(|page| of_daemon(&page)).unwrap_or_default());
        all.insert(node, counters);
    }
    Ok(all)
}

/// Packets that found a processor's backlog full (net/core/net-procfs.c: the second column, hexadecimal).
fn backlog(page: &str) -> BTreeMap<String, u64> {
    let dropped = page.lines().filter_map(|line| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok());
    BTreeMap::from([("backlog".to_owned(), dropped.sum())])
}

/// Two lines for each protocol: names, and values in their order.
fn of_protocols(page: &str) -> BTreeMap<String, u64> {
    let lines: Vec<(&str, &str)> = page.lines().filter_map(|line| line.split_once(": ")).collect();
    let pairs = lines.chunks_exact(2).filter(|pair| pair[0].0 == pair[1].0);
    let named = pairs.flat_map(|pair| {
        let values = pair[1].1.split_ascii_whitespace();
        pair[0].1.split_ascii_whitespace().zip(values).map(|(name, value)| (format!("{}.{name}", pair[0].0), value))
    });
    named.filter(|(name, _)| OF_PROTOCOLS.contains(&name.as_str())).filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
}

/// What each interface has dropped, either way (the columns of net/core/net-procfs.c).
fn of_links(page: &str) -> BTreeMap<String, u64> {
    let of_link = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts.split_ascii_whitespace().filter_map(|count| count.parse().ok()).collect();
        let of = |way: &str, at: usize| Some((format!("{} {way}", name.trim()), *counts.get(at)?));
        Some([of("rx_dropped", 3)?, of("tx_dropped", 11)?])
    };
    page.lines().filter_map(of_link).flatten().collect()
}

fn of_daemon(page: &str) -> BTreeMap<String, u64> {
    let is_one = |name: &str| OF_DAEMONS.iter().any(|end| name.ends_with(end));
    let ours = |line: &&str| line.split(['{', ' ']).next().is_some_and(is_one);
    let counter = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse::<f64>().ok()? as u64))
    };
    page.lines().filter(ours).filter_map(counter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_and_daemons_count_is_read() {
        let snmp = "Ip: Forwarding InDiscards OutNoRoutes\nIp: 1 7 2\nIcmp: InMsgs\nIcmp: 3\nUdp: InDatagrams RcvbufErrors\nUdp: 10 4\n";
        let want = [("Ip.InDiscards", 7), ("Ip.OutNoRoutes", 2), ("Udp.RcvbufErrors", 4)].map(|(name, value)| (name.to_owned(), value));
        assert_eq!(of_protocols(snmp), BTreeMap::from(want));

        let dev = "Inter-|   Receive\n face |bytes\n  pw-1: 9 8 0 5 0 0 0 0 7 6 0 3 0 0 0 0\n";
        let want = [("pw-1 rx_dropped", 5), ("pw-1 tx_dropped", 3)].map(|(name, value)| (name.to_owned(), value));
        assert_eq!(of_links(dev), BTreeMap::from(want));

        let metrics = "# TYPE portway_dropped_packets_total counter\nportway_dropped_packets_total{reason=\"x\"} 3\nportway_peers 4\n";
        assert_eq!(of_daemon(metrics), BTreeMap::from([("portway_dropped_packets_total{reason=\"x\"}".to_owned(), 3)]));
        assert_eq!(backlog("0e 0a 00\n0f 01 00\n"), BTreeMap::from([("backlog".to_owned(), 11)]));
    }

    #[test]
    fn what_became_more_is_told_and_what_began_anew_counts_from_there() {
        let of = |a, b| Counts::from([("n".to_owned(), BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]))]);
        let mut losses = Losses { last: of(3, 2), more: Counts::new() };
        losses.take(of(3, 2));
        assert!(losses.more.is_empty());
        losses.take(of(5, 2));
        losses.take(of(1, 2));
        assert_eq!(losses.more, Counts::from([("n".to_owned(), BTreeMap::from([("a".to_owned(), 3)]))]));
    }
}
