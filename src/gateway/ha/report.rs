//! What is shown of the group: `status` and metrics.

use super::Group;
use super::board::{ANNOUNCED, Connections, Flows, LATE, Router, Takeover};
use crate::config::{Gateway, Snat};
use crate::metrics::Page;
use crate::model::{ChecksumForm, NodeName, TenantShard};
use crate::plan::gateway::Carrier;
use crate::proto::skew::Skew;
use crate::proto::sync::Lags;
use crate::proto::vrrp::State;
use crate::wire::vrrp::Discard;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

impl Group {
    /// `null` without `ha`. `carrier`: of the tunnels.
    pub fn status(&self, config: &Gateway, carrier: Carrier) -> Value {
        let Some(ha) = &config.ha else { return Value::Null };
        let (routers, flows, now) = (self.board.routers(), self.board.flows(), Instant::now());
        let connections = self.board.connections();
        let shards = config.served().filter_map(|(tenant, shard)| {
            let of = tenant.of(shard.shard);
            let router = routers.get(&of)?;
            let mut view = view(router, now);
            let object = view.as_object_mut()?;
            object.insert("tenant".into(), json!(of.tenant));
            object.insert("shard".into(), json!(of.shard));
            object.insert("vrid".into(), json!(shard.havip.map(|havip| havip.vrid)));
            object.insert("platform_havip".into(), json!(shard.local));
            object.insert("candidates".into(), json!(ha.candidates(&of)));
            object.insert("spare".into(), json!(ha.retained.contains(&of)));
            object.insert("tracked".into(), self.tracking.status(&of, now));
            if let Some(flows) = flows.get(&of) {
                object.extend(sync(flows));
            }
            object.insert("nat".into(), connections.get(&of).map(|connections| nat(connections, &shard.snat)).into());
            Some(view)
        });
        let late = self.lateness();
        let clocks = self
            .clocks(config, now)
            .into_iter()
            .map(|(node, skew)| (node.to_string(), json!({ "ahead_ms": seconds(&skew) * 1e3, "behind": skew.is_behind() })));
        json!({
            "takeovers": self.board.takeovers().iter().map(|takeover| took_over(takeover, now)).collect::<Vec<_>>(),
            "interval_ms": ha.interval.duration().as_millis(), "nodes": ha.nodes, "leaving": ha.leaving, "shards": shards.collect::<Vec<_>>(),
            "clocks": clocks.collect::<serde_json::Map<_, _>>(),
            "signs_with_the_time": carrier.is_kernel_wireguard(config.platform.tunnel), "late_p99_us": late,
            "lifecycle": self.lifecycle(now),
            "cloud": self.cloud(),
        })
    }

    /// Whether the machine is taken away; null if nobody looks.
    #[cfg(feature = "aws")]
    fn lifecycle(&self, now: Instant) -> Value {
        let watch = self.running.as_ref().and_then(|running| running.lifecycle.as_ref());
        watch.map_or(Value::Null, |watch| watch.status(now))
    }

    #[cfg(not(feature = "aws"))]
    fn lifecycle(&self, _: Instant) -> Value {
        Value::Null
    }

    /// What the cloud is told; null if the network follows ARP.
    #[cfg(feature = "aws")]
    fn cloud(&self) -> Value {
        let watch = self.running.as_ref().and_then(|running| running.cloud.as_ref());
        watch.map_or(Value::Null, super::cloud::Watch::status)
    }

    #[cfg(not(feature = "aws"))]
    fn cloud(&self) -> Value {
        Value::Null
    }

    /// How far our clock is from those of the nodes that have been heard lately: who is Active somewhere.
    fn clocks<'c>(&self, config: &'c Gateway, now: Instant) -> BTreeMap<&'c NodeName, Skew> {
        let skews = self.board.skews();
        let others = config.ha.iter().flat_map(|ha| &ha.nodes).filter(|(node, _)| **node != config.node);
        others.filter_map(|(node, address)| Some((node, *skews.get(address).filter(|skew| skew.is_current(now))?))).collect()
    }

    /// The bound, in microseconds, within which 99 of 100 timers were served.
    fn lateness(&self) -> Option<u64> {
        let counts: Vec<u64> = self.board.counters.late.iter().map(|count| count.load(Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let mut sum = 0;
        let place = counts.iter().position(|count| {
            sum += count;
            sum * 100 >= all * 99
        });
        place.filter(|_| all > 0).and_then(|place| LATE.get(place).copied())
    }

    pub fn metrics(&self, config: &Gateway, out: &mut Page) {
        if config.ha.is_none() {
            return;
        }
        let (routers, flows, counters, now) = (self.board.routers(), self.board.flows(), &self.board.counters, Instant::now());
        for (of, router) in &routers {
            let (tenant, shard) = (of.tenant.as_str(), of.shard.to_string());
            let labels = [("tenant", tenant), ("shard", shard.as_str())];
            for state in State::ALL {
                let is = f64::from(u8::from(router.status.state == state));
                out.gauge(
                    "portway_vrrp_state",
                    "1 for the state that a shard is in here",
                    &[labels[0], labels[1], ("state", state.label())],
                    is,
                );
            }
            out.gauge("portway_vrrp_priority", "Priority as it is advertised", &labels, f64::from(router.status.priority.0));
            let ago = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
            out.gauge("portway_vrrp_state_seconds", "How long it has been in that state", &labels, ago(router.status.since));
            if let Some(heard) = router.status.heard {
                let from = heard.from.to_string();
                let labels = [labels[0], labels[1], ("peer", from.as_str())];
                out.gauge("portway_vrrp_heard_seconds", "Age of the last advertisement from somebody else", &labels, ago(heard.at));
            }
            out.counter("portway_vrrp_transitions", "Changes of state", &labels, router.transitions);
            for (why, count) in router.takeovers.each() {
                let labels = [labels[0], labels[1], ("why", why)];
                out.counter("portway_vrrp_takeovers", "Times that a shard came here", &labels, count);
            }
        }
        out.counter("portway_vrrp_sent_advertisements", "Advertisements sent", &[], counters.sent.load(Relaxed));
        out.counter("portway_vrrp_send_failures", "Advertisements that could not be sent", &[], counters.send_failures.load(Relaxed));
        out.counter("portway_vrrp_received_packets", "Packets of protocol 112 received", &[], counters.received.load(Relaxed));
        for (why, count) in Discard::ALL.iter().zip(&counters.discarded) {
            out.counter(
                "portway_vrrp_discarded_packets",
                "Packets of protocol 112 dropped",
                &[("reason", why.label())],
                count.load(Relaxed),
            );
        }
        for (form, count) in ChecksumForm::ALL.iter().zip(&counters.checksums) {
            let name = "portway_vrrp_checksums";
            out.counter(name, "Advertisements taken, by what their checksum covers", &[("form", form.label())], count.load(Relaxed));
        }
        for (why, count) in ANNOUNCED.iter().zip(&counters.announced) {
            out.counter("portway_vrrp_announcements", "Bursts of gratuitous ARP", &[("why", why.label())], count.load(Relaxed));
        }
        let late = counters.late.iter().map(|count| count.load(Relaxed));
        let (bounds, sum) = (LATE.map(|us| us as f64 / 1e6), counters.late_sum_us.load(Relaxed) as f64 / 1e6);
        out.histogram("portway_vrrp_timer_lateness_seconds", "How late timers were served", &[], bounds, late, sum);
        for (node, skew) in self.clocks(config, now) {
            let help = "How far this clock is ahead of another node's, the shortest delay included; negative: behind";
            out.gauge("portway_clock_skew_seconds", help, &[("node", node.as_str())], seconds(&skew));
        }
        self.tracking.metrics(out);
        #[cfg(feature = "aws")]
        if let Some(watch) = self.running.as_ref().and_then(|running| running.cloud.as_ref()) {
            watch.metrics(out);
        }
        #[cfg(feature = "aws")]
        if let Some(watch) = self.running.as_ref().and_then(|running| running.lifecycle.as_ref()) {
            watch.metrics(now, out);
        }
        for (of, flows) in &flows {
            sync_metrics(of, flows, out);
        }
        let connections = self.board.connections();
        for (tenant, shard) in config.served() {
            let of = tenant.of(shard.shard);
            if let Some(connections) = connections.get(&of) {
                nat_metrics(&of, connections, &shard.snat, out);
            }
        }
        out.counter("portway_sync_strangers", "Sync datagrams of nobody known", &[], counters.sync_strangers.load(Relaxed));
        out.counter("portway_sync_send_failures", "Sync datagrams that could not be sent", &[], counters.sync_send_failures.load(Relaxed));
        out.counter("portway_sync_unwritten", "Changes that the kernel refused", &[], counters.sync_unwritten.load(Relaxed));
        out.counter("portway_sync_walks", "Readings of the kernel's table of connections", &[], counters.sync_walks.load(Relaxed));
    }
}

#[expect(clippy::cast_precision_loss, reason = "years of microseconds are exact")]
fn seconds(skew: &Skew) -> f64 {
    skew.ahead() as f64 / 1e6
}

/// Source ports that the connections to one destination may use.
fn ports(snat: &Snat) -> u32 {
    let (Snat::To { ports, .. } | Snat::Masquerade { ports }) = snat;
    u32::from(ports.last) - u32::from(ports.first) + 1
}

fn nat(connections: &Connections, snat: &Snat) -> Value {
    let standing = connections.standing;
    json!({
        "connections": standing.map(|standing| standing.connections), "begun": connections.begun,
        "ports_of_one": standing.map(|standing| standing.most_to_one), "ports": ports(snat),
    })
}

fn nat_metrics(of: &TenantShard, connections: &Connections, snat: &Snat, out: &mut Page) {
    let shard = of.shard.to_string();
    let labels = [("tenant", of.tenant.as_str()), ("shard", shard.as_str())];
    out.counter("portway_nat_new_connections", "Connections of a shard that have begun here", &labels, connections.begun);
    out.gauge("portway_nat_ports_limit", "Source ports that connections to one destination may use", &labels, f64::from(ports(snat)));
    if let Some(standing) = connections.standing {
        let help = "Source ports that connections to one destination use, of the destination with most";
        out.gauge("portway_nat_connections", "Connections of a shard that is here", &labels, standing.connections as f64);
        out.gauge("portway_nat_ports", help, &labels, standing.most_to_one as f64);
    }
}

fn view(router: &Router, now: Instant) -> Value {
    let status = &router.status;
    let since = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
    json!({
        "state": status.state.label(), "for_s": since(status.since), "priority": status.priority, "drained": status.drained,
        "able": !status.fault, "transitions": router.transitions, "why": router.last.map(|why| why.to_string()),
        "heard": status.heard.map(|heard| json!({ "from": heard.from, "priority": heard.priority, "ago_s": since(heard.at) })),
        "warnings": router.warnings, "held_back": router.held_back,
    })
}

fn took_over(takeover: &Takeover, now: Instant) -> Value {
    let Takeover { of, from, at, why, gap } = takeover;
    json!({
        "tenant": of.tenant, "shard": of.shard, "from": from, "ago_s": now.saturating_duration_since(*at).as_secs_f64(), "why": why.to_string(),
        "gap_ms": gap.map(|gap| gap.as_secs_f64() * 1e3),
    })
}

fn sync(flows: &Flows) -> serde_json::Map<String, Value> {
    let ms = |lag: Duration| lag.as_secs_f64() * 1e3;
    let peers: Vec<Value> = match flows {
        Flows::Told(to) => to
            .iter()
            .map(|told| json!({ "to": told.to, "candidate": told.candidate, "up": told.up, "in_sync": told.in_sync, "lag_ms": ms(told.lag), "resent": told.counters.resent }))
            .collect(),
        Flows::Kept(from) => from
            .iter()
            .map(|kept| json!({ "from": kept.from, "in_sync": kept.in_sync, "lag_ms": ms(kept.lag), "flows": kept.flows }))
            .collect(),
    };
    let copies = match flows {
        Flows::Told(_) => Value::Null,
        Flows::Kept(from) => from.iter().map(|kept| kept.flows).max().into(),
    };
    [("in_sync".to_owned(), flows.in_sync().into()), ("sync".to_owned(), peers.into()), ("copies".to_owned(), copies)].into_iter().collect()
}

fn sync_metrics(of: &TenantShard, flows: &Flows, out: &mut Page) {
    let (tenant, shard) = (of.tenant.as_str(), of.shard.to_string());
    let in_sync = f64::from(u8::from(flows.in_sync()));
    let own = [("tenant", tenant), ("shard", shard.as_str())];
    out.gauge("portway_sync_in_sync", "1 when a shard's connections are known to their next owner", &own, in_sync);
    match flows {
        Flows::Told(all) => {
            for told in all {
                let (to, counters) = (told.to.to_string(), &told.counters);
                let labels = [own[0], own[1], ("peer", to.as_str())];
                out.gauge("portway_sync_lag_seconds", "Age of the oldest change that is not acknowledged", &labels, told.lag.as_secs_f64());
                out.counter("portway_sync_sent_changes", "Changes of connections sent", &labels, counters.changes);
                out.counter("portway_sync_sent_datagrams", "Datagrams sent", &labels, counters.datagrams);
                out.counter("portway_sync_resent_datagrams", "Datagrams sent again", &labels, counters.resent);
                out.counter("portway_sync_overflows", "Times that the kernel lost notices", &labels, counters.overflows);
                out.counter("portway_sync_lists", "Lists of all connections sent", &labels, counters.lists);
                let (lag, help) = (&counters.lag, "Age of datagrams when they were acknowledged");
                out.histogram("portway_sync_acknowledgement_seconds", help, &labels, bounds(), lag.counts, lag.sum.as_secs_f64());
            }
        }
        Flows::Kept(all) => {
            for kept in all {
                let (from, counters) = (kept.from.to_string(), &kept.counters);
                let labels = [own[0], own[1], ("peer", from.as_str())];
                #[expect(clippy::cast_precision_loss, reason = "at most some 100,000")]
                out.gauge("portway_sync_copies", "Copies of a peer's connections", &labels, kept.flows as f64);
                out.counter("portway_sync_received_changes", "Changes of connections received", &labels, counters.changes);
                out.counter(
                    "portway_sync_unreadable_datagrams",
                    "Datagrams with a record that cannot be read",
                    &labels,
                    counters.unreadable,
                );
                let refused = counters.refused;
                let reasons = [("forged", refused.forged), ("misfit", refused.misfit), ("stale", refused.stale)];
                for (reason, count) in reasons.into_iter().chain([("duplicate", refused.duplicate), ("early", refused.early)]) {
                    let labels = [labels[0], labels[1], labels[2], ("reason", reason)];
                    out.counter("portway_sync_refused_datagrams", "Datagrams dropped", &labels, count);
                }
                let (lag, help) = (&counters.lag, "How late datagrams came");
                out.histogram("portway_sync_delay_seconds", help, &labels, bounds(), lag.counts, lag.sum.as_secs_f64());
            }
        }
    }
}

/// Of what is counted by [`Lags`], in seconds.
fn bounds() -> impl Iterator<Item = f64> {
    Lags::BOUNDS.into_iter().map(|ms| ms as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const PAIR: &str = "
gateway:
  node: gw-1
  platform: { interface: plat0, address: 10.9.0.1 }
  tunnel: wireguard
  ha: { nodes: { gw-1: 10.9.0.1, gw-2: 10.9.0.2 }, keys: [{ id: 1, file: /etc/portway/ha.key }] }
  tenants:
    - { name: acme, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16,
        shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10, wireguard: { private_key: /etc/portway/acme.key } }] }
";

    #[test]
    fn a_gateway_tells_whether_it_signs_with_the_time() {
        let gre = PAIR.replace("tunnel: wireguard", "tunnel: gre").replace("interface: eni0", "key: 7, interface: eni0");
        let gre = gre.replace(", wireguard: { private_key: /etc/portway/acme.key }", "");
        let signs = |text: &str, carrier| {
            let Ok(Config::Gateway(gateway)) = crate::config::parse(text, "pair.yaml") else { panic!("a gateway") };
            Group::default().status(&gateway, carrier)["signs_with_the_time"].clone()
        };
        assert_eq!(signs(PAIR, Carrier::Kernel), true);
        for (text, carrier) in [(PAIR, Carrier::Userspace), (&gre, Carrier::Kernel), (&gre, Carrier::Userspace)] {
            assert_eq!(signs(text, carrier), false, "{carrier:?}");
        }
    }
}
