//! Counters of two looks at a gateway or host as rates.

use serde_json::Value;

/// What its tunnels have carried so far, and connections that have begun, at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counted {
    /// Seconds by the daemon's clock.
    clock: f64,
    received: Traffic,
    sent: Traffic,
    begun: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Traffic {
    bytes: u64,
    packets: u64,
}

impl Counted {
    /// None: it does not say. In userspace the daemon's data path has counted, else the kernel.
    pub fn of(status: &Value) -> Option<Self> {
        let traffic = &status["traffic"];
        let (tunnels, clock) = match &status["userspace"]["tunnels"] {
            Value::Object(own) => (own, &traffic["clock_s"]),
            _ => (traffic["tunnels"].as_object()?, &traffic["tunnels_clock_s"]),
        };
        let sum = |name: &str| tunnels.values().filter_map(|tunnel| tunnel[name].as_u64()).fold(0, u64::saturating_add);
        let shards = status["ha"]["shards"].as_array().into_iter().flatten();
        Some(Self {
            clock: clock.as_f64()?,
            received: Traffic { bytes: sum("received_bytes"), packets: sum("received_packets") },
            sent: Traffic { bytes: sum("sent_bytes"), packets: sum("sent_packets") },
            begun: shards.filter_map(|shard| shard["nat"]["begun"].as_u64()).fold(0, u64::saturating_add),
        })
    }

    /// A line for people. Empty where time stands still, or counters have begun anew.
    pub fn since(&self, before: &Self, role: &str) -> String {
        let seconds = self.clock - before.clock;
        let rate = |now: u64, before: u64| now.checked_sub(before).filter(|_| seconds > 0.0).map(|more| more as f64 / seconds);
        let way = |now: Traffic, before: Traffic| {
            let (bytes, packets) = (rate(now.bytes, before.bytes)?, rate(now.packets, before.packets)?);
            Some(format!("{}bit/s in {}packets/s", short(bytes * 8.0), short(packets)))
        };
        let (Some(received), Some(sent)) = (way(self.received, before.received), way(self.sent, before.sent)) else { return String::new() };
        let others = if role == "host" { ["from tenants", "to tenants"] } else { ["from hosts", "to hosts"] };
        let begun = rate(self.begun, before.begun).filter(|_| self.begun > 0);
        let begun = begun.map(|begun| format!("; {}new connections/s", short(begun))).unwrap_or_default();
        format!("  - {} {received}, {} {sent}{begun}\n", others[0], others[1])
    }
}

/// Three digits that count, with a space and the prefix of a unit behind them.
fn short(mut number: f64) -> String {
    let mut prefixes = ["", "k", "M", "G"].into_iter();
    let mut prefix = prefixes.next().unwrap_or_default();
    while number >= 999.5 {
        let Some(next) = prefixes.next() else { break };
        (number, prefix) = (number / 1e3, next);
    }
    let digits = if number >= 99.95 { 0 } else { usize::from(number >= 0.05) };
    format!("{number:.digits$} {prefix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tunnel(bytes: u64, packets: u64) -> Value {
        json!({ "received_bytes": bytes, "received_packets": packets, "sent_bytes": bytes / 2, "sent_packets": packets / 2 })
    }

    fn kernel(clock: f64, bytes: u64) -> Value {
        let tunnels = json!({ "pw-1": tunnel(bytes, bytes / 1000), "pw-2": tunnel(0, 0) });
        json!({ "traffic": { "clock_s": 0.0, "tunnels_clock_s": clock, "tunnels": tunnels } })
    }

    #[test]
    fn two_looks_make_a_line() {
        let before = Counted::of(&kernel(10.0, 1_000_000)).unwrap();
        let now = Counted::of(&kernel(12.0, 251_000_000)).unwrap();
        let expected = "  - from hosts 1.0 Gbit/s in 125 kpackets/s, to hosts 500 Mbit/s in 62.5 kpackets/s\n";
        assert_eq!(now.since(&before, "gateway"), expected);
        assert!(now.since(&before, "host").starts_with("  - from tenants"));
        // Nothing was read since, or everything has begun anew.
        assert_eq!(now.since(&now, "gateway") + &before.since(&now, "gateway"), "");
    }

    #[test]
    fn the_own_data_path_counts_by_the_daemons_clock() {
        let status = |clock: f64, bytes: u64, begun: u64| {
            json!({
                "userspace": { "tunnels": { "pw-1": tunnel(bytes, 0) } }, "traffic": { "clock_s": clock, "tunnels": {} },
                "ha": { "shards": [{ "nat": { "begun": begun } }, { "nat": null }] },
            })
        };
        let (before, now) = (Counted::of(&status(1.0, 0, 10)).unwrap(), Counted::of(&status(2.0, 125, 22)).unwrap());
        let expected = "  - from hosts 1.0 kbit/s in 0 packets/s, to hosts 496 bit/s in 0 packets/s; 12.0 new connections/s\n";
        assert_eq!(now.since(&before, "gateway"), expected);
        assert_eq!(Counted::of(&json!({ "role": "autoscaler" })), None);
    }
}
