//! Where packets are gone: whatever counts them in a lab's nodes, before and after.

use super::build::Lab;
use super::error::{During, Result};
use super::measure::snmp;
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

    /// A node's daemon has ended: what the next one counts begins anew.
    pub fn daemon_ended(&mut self, node: &str) {
        self.last.get_mut(node).into_iter().for_each(|counters| counters.retain(|counter, _| !is_daemons(counter)));
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
        let netns = lab.node(&node)?;
        let mut counters = snmp(netns)?;
        counters.retain(|counter, _| OF_PROTOCOLS.contains(&counter.as_str()));
        counters.extend(of_links(&netns.run(|| page("/proc/thread-self/net/dev"))?));
        // A daemon that is not there has lost nothing of its own.
        let metrics = lab.metrics(&node).unwrap_or_default();
        counters.extend(metrics.into_iter().filter(|(counter, _)| is_daemons(counter)).map(|(counter, value)| (counter, value as u64)));
        all.insert(node, counters);
    }
    Ok(all)
}

/// By its name, without its labels.
fn is_daemons(counter: &str) -> bool {
    let name = counter.split('{').next().unwrap_or_default();
    OF_DAEMONS.iter().any(|end| name.ends_with(end))
}

/// Packets that found a processor's backlog full (net/core/net-procfs.c: the second column, hexadecimal).
fn backlog(page: &str) -> BTreeMap<String, u64> {
    let dropped = page.lines().filter_map(|line| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok());
    BTreeMap::from([("backlog".to_owned(), dropped.sum())])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_and_daemons_count_is_read() {
        let dev = "Inter-|   Receive\n face |bytes\n  pw-1: 9 8 0 5 0 0 0 0 7 6 0 3 0 0 0 0\n";
        let want = [("pw-1 rx_dropped", 5), ("pw-1 tx_dropped", 3)].map(|(name, value)| (name.to_owned(), value));
        assert_eq!(of_links(dev), BTreeMap::from(want));

        assert!(is_daemons("x_dropped_packets_total{reason=\"x\"}") && is_daemons("x_conntrack_failures_total"));
        assert!(!is_daemons("peers{of=\"dropped_packets_total\"}"));
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

    #[test]
    fn the_next_daemon_counts_anew_and_the_kernel_goes_on() {
        let of = |value| {
            let counters = ["x_dropped_packets_total", "Ip.InDiscards"].map(|counter| (counter.to_owned(), value));
            Counts::from([("n".to_owned(), BTreeMap::from(counters))])
        };
        let mut losses = Losses { last: of(3), more: Counts::new() };
        losses.daemon_ended("n");
        losses.take(of(5));
        let want = [("x_dropped_packets_total", 5), ("Ip.InDiscards", 2)].map(|(counter, more)| (counter.to_owned(), more));
        assert_eq!(losses.more["n"], BTreeMap::from(want));
    }
}
