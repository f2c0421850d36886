//! The figures as metrics, and what of them stands in the status.

use super::super::carrier;
use super::{Figures, Slow, Traffic};
use crate::config::TunnelKind;
use crate::kernel::ConntrackFailures;
use crate::kernel::processors::{self, Processor};
use crate::metrics::Page;
use crate::model::IfName;
use crate::proto::scale::Allowance;
use crate::userspace::TrafficCount;
use serde_json::{Map, Value, json};
use std::time::SystemTime;

impl Figures {
    pub fn metrics(&self, out: &mut Page) {
        out.began(self.started);
        if let Some(clock) = self.moment.clock {
            let help = "The machine's monotonic clock when the interfaces outside of the tunnels were read";
            out.gauge("portway_clock_seconds", help, &[], clock.as_secs_f64());
        }
        if let Some(conntrack) = self.moment.conntrack {
            out.gauge("portway_conntrack_entries", "Connections that the kernel tracks", &[], conntrack.entries as f64);
            if let Some(limit) = conntrack.limit {
                out.gauge("portway_conntrack_entries_limit", "Connections that it can track", &[], limit as f64);
            }
        }
        for (counter, count) in self.moment.failures.iter().flat_map(failures) {
            let help = "Connections that could not begin or were ended for want of room, by the kernel's counters";
            out.counter("portway_conntrack_failures", help, &[("counter", counter)], count);
        }
        for (interface, traffic) in &self.moment.underlay {
            underlay(out, interface, traffic);
        }
        for (tunnel, of) in &self.watched.tunnels {
            let shard = of.shard.to_string();
            let labels = [("tunnel", tunnel.as_str()), ("tenant", of.tenant.as_str()), ("shard", shard.as_str())];
            out.gauge("portway_tunnel_info", "Whose tunnel this is", &labels, 1.0);
        }
        if let Some(slow) = &self.slow {
            slow.metrics(self.watched.kind, out);
        }
    }

    /// Fields of the status.
    pub fn status(&self) -> Map<String, Value> {
        let conntrack = self.moment.conntrack.map(|conntrack| json!({ "entries": conntrack.entries, "limit": conntrack.limit }));
        let count = |(name, traffic): (&IfName, &Traffic)| (name.to_string(), json!(count(traffic)));
        let interfaces: Map<String, Value> = self.moment.underlay.iter().map(|(name, traffic)| count((name, traffic))).collect();
        let tunnels: Option<Map<String, Value>> = self.slow.as_ref().map(|slow| slow.tunnels.iter().map(count).collect());
        let traffic = json!({
            "clock_s": self.moment.clock.map(|clock| clock.as_secs_f64()), "interfaces": interfaces,
            "tunnels_clock_s": self.slow.as_ref().and_then(|slow| slow.clock).map(|clock| clock.as_secs_f64()), "tunnels": tunnels,
        });
        let up = SystemTime::now().duration_since(self.started).unwrap_or_default();
        let mut exceeded = json!({});
        for (interface, allowance, packets) in self.slow.iter().flat_map(|slow| slow.each_exceeded()) {
            exceeded[interface.as_str()][allowance.as_str()] = packets.into();
        }
        let fields = [("conntrack", conntrack.into()), ("exceeded", exceeded), ("traffic", traffic), ("up_s", up.as_secs_f64().into())];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }
}

impl Slow {
    fn metrics(&self, kind: TunnelKind, out: &mut Page) {
        let tick = 1.0 / processors::ticks();
        for processor in self.processors.values() {
            let cpu = processor.number.to_string();
            for (mode, ticks) in modes(processor) {
                let help = "Time of each processor of the machine, by what it went to";
                out.seconds("portway_cpu_seconds", help, &[("cpu", &cpu), ("mode", mode)], ticks as f64 * tick);
            }
        }
        for (interface, allowance, packets) in self.each_exceeded() {
            let labels = [("interface", interface.as_str()), ("counter", allowance.as_str())];
            let help = "Packets that the cloud queued or dropped beyond what the instance may";
            out.counter("portway_allowance_exceeded_packets", help, &labels, packets);
        }
        for (tunnel, traffic) in &self.tunnels {
            match kind {
                TunnelKind::Gre => carrier::traffic(out, tunnel, &count(traffic)),
                TunnelKind::Wireguard => messages(out, tunnel, traffic),
            }
        }
    }

    fn each_exceeded(&self) -> impl Iterator<Item = (&IfName, Allowance, u64)> {
        self.exceeded.iter().flat_map(|(interface, exceeded)| {
            Allowance::ALL.into_iter().zip(exceeded).filter_map(move |(allowance, packets)| Some((interface, allowance, (*packets)?)))
        })
    }
}

fn failures(all: &ConntrackFailures) -> [(&'static str, u64); 3] {
    [("insert_failed", all.insert_failed), ("drop", all.drop), ("early_drop", all.early_drop)]
}

fn modes(processor: &Processor) -> [(&'static str, u64); 4] {
    [("softirq", processor.softirq), ("idle", processor.idle), ("steal", processor.steal), ("other", processor.other)]
}

fn count(traffic: &Traffic) -> TrafficCount {
    let Traffic { received_packets, sent_packets, received_bytes, sent_bytes } = *traffic;
    TrafficCount { received_packets, received_bytes, sent_packets, sent_bytes }
}

fn underlay(out: &mut Page, interface: &IfName, traffic: &Traffic) {
    let labels = [("interface", interface.as_str())];
    out.counter("portway_interface_received_packets", "Packets that came outside of the tunnels", &labels, traffic.received_packets);
    out.counter("portway_interface_received_bytes", "Bytes that came outside of the tunnels", &labels, traffic.received_bytes);
    out.counter("portway_interface_sent_packets", "Packets that went outside of the tunnels", &labels, traffic.sent_packets);
    out.counter("portway_interface_sent_bytes", "Bytes that went outside of the tunnels", &labels, traffic.sent_bytes);
}

/// The kernel's WireGuard counts messages, with what it adds to each and with handshakes and keepalives among them.
fn messages(out: &mut Page, interface: &IfName, traffic: &Traffic) {
    let labels = [("tunnel", interface.as_str())];
    out.counter("portway_wireguard_received_messages", "Messages to a tunnel of the kernel's WireGuard", &labels, traffic.received_packets);
    out.counter("portway_wireguard_received_bytes", "Bytes of messages to a tunnel", &labels, traffic.received_bytes);
    out.counter("portway_wireguard_sent_messages", "Messages from a tunnel of the kernel's WireGuard", &labels, traffic.sent_packets);
    out.counter("portway_wireguard_sent_bytes", "Bytes of messages from a tunnel", &labels, traffic.sent_bytes);
}
