//! What gateways and hosts say of themselves. It is this process's alone: of several that share a database, each knows of those that call it.

use super::store::Scope;
use super::types::{Attachments, FleetGateway, Gateway, GatewayReport, HostReport, Reach};
use crate::model::{NodeName, TenantName, TenantShard};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A gateway that has been silent for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// A host that has been silent for this long has no attachments any more: two and a half times what it lets pass at most.
const SILENT: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Reports {
    gateways: Mutex<Said<GatewayReport>>,
    hosts: Mutex<Said<BTreeMap<TenantShard, u16>>>,
}

impl Default for Reports {
    fn default() -> Self {
        Self { gateways: Mutex::new(Said::new(FORGOTTEN)), hosts: Mutex::new(Said::new(SILENT)) }
    }
}

/// Of each its last word, and when that was.
#[derive(Debug)]
struct Said<T> {
    all: HashMap<NodeName, (Instant, T)>,
    /// After so long a word counts no more.
    silent: Duration,
    /// When those that count no more were last looked for.
    swept: Option<Instant>,
}

impl<T> Said<T> {
    fn new(silent: Duration) -> Self {
        Self { all: HashMap::new(), silent, swept: None }
    }

    fn take(&mut self, from: NodeName, what: T, now: Instant) {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= self.silent) {
            self.swept = Some(now);
            self.all.retain(|_, (at, _)| now.saturating_duration_since(*at) < self.silent);
        }
        self.all.insert(from, (now, what));
    }

    /// How long ago it was, and what.
    fn of(&self, name: &NodeName, now: Instant) -> Option<(Duration, &T)> {
        let (at, what) = self.all.get(name)?;
        Some((now.saturating_duration_since(*at), what)).filter(|(ago, _)| *ago < self.silent)
    }

    fn fresh(&self, now: Instant) -> impl Iterator<Item = &T> {
        self.all.values().filter(move |(at, _)| now.saturating_duration_since(*at) < self.silent).map(|(_, what)| what)
    }
}

impl Reports {
    pub fn take(&self, from: NodeName, report: GatewayReport, now: Instant) {
        lock(&self.gateways).take(from, report, now);
    }

    /// Of tenants that the host may not serve nothing is kept.
    pub fn take_host(&self, from: NodeName, report: HostReport, scope: &Scope, now: Instant) {
        let mut attachments = report.attachments;
        if let Scope::Only(tenants) = scope {
            let tenants: HashSet<&TenantName> = tenants.values().collect();
            attachments.retain(|of, _| tenants.contains(&of.tenant));
        }
        lock(&self.hosts).take(from, attachments, now);
    }

    /// It is a host no more, or its tenants are others: what it said was of before.
    pub fn forget_host(&self, name: &NodeName) {
        lock(&self.hosts).all.remove(name);
    }

    /// How many lead to each of these shards.
    pub fn attachments<'s>(&self, shards: impl Iterator<Item = &'s TenantShard>, now: Instant) -> BTreeMap<TenantShard, Attachments> {
        let mut seen: BTreeMap<&TenantShard, Attachments> = shards.map(|of| (of, Attachments::default())).collect();
        for (of, attachments) in lock(&self.hosts).fresh(now).flatten() {
            if let Some(all) = seen.get_mut(of) {
                all.hosts += 1;
                all.attachments += u64::from(*attachments);
            }
        }
        seen.into_iter().filter(|(_, all)| all.hosts > 0).map(|(of, all)| (of.clone(), all)).collect()
    }

    /// How long ago a gateway said something; none: not since the start, or very long ago.
    pub fn heard(&self, name: &NodeName, now: Instant) -> Option<Duration> {
        lock(&self.gateways).of(name, now).map(|(ago, _)| ago)
    }

    /// A gateway with what it has said of the shards that are seen of it. Its traffic is that of all its tenants, and where it is asked tells that of all: `everything`
    /// is seen of it.
    pub fn of(&self, gateway: Gateway, everything: bool, now: Instant) -> FleetGateway {
        let Gateway { name, shards, .. } = gateway;
        let Some((ago, mut report)) = lock(&self.gateways).of(&name, now).map(|(ago, report)| (ago, report.clone())) else {
            return FleetGateway { name, shards, heard_s: None, report: None };
        };
        report.shards.retain(|of, _| shards.contains(of));
        report.takeovers.retain(|takeover| shards.contains(&takeover.of));
        report.traffic = report.traffic.filter(|_| everything);
        report.admin = report.admin.filter(|_| everything);
        for takeover in &mut report.takeovers {
            takeover.ago_s += ago.as_secs_f64();
        }
        FleetGateway { name, shards, heard_s: Some(ago.as_secs_f64()), report: Some(report) }
    }

    pub fn reach(&self, name: NodeName, now: Instant) -> Reach {
        let gateways = lock(&self.gateways);
        let told = gateways.of(&name, now);
        Reach {
            heard_s: told.map(|(ago, _)| ago.as_secs_f64()),
            version: told.map(|(_, report)| report.version.clone()),
            admin: told.and_then(|(_, report)| report.admin),
            name,
        }
    }
}

fn lock<T>(said: &Mutex<Said<T>>) -> MutexGuard<'_, Said<T>> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::types::{ShardReport, ShardState, TakeoverReport, TrafficReport};
    use std::sync::Arc;

    fn report(shards: &[&str]) -> GatewayReport {
        let shard =
            ShardReport { state: ShardState::Active, for_s: Some(1.0), in_sync: None, connections: None, peers: None, warnings: vec![] };
        let takeover = |of: &&str| TakeoverReport {
            of: of.parse().unwrap(),
            from: "10.9.0.2".parse().unwrap(),
            ago_s: 2.0,
            why: "nothing heard of an Active".into(),
            gap_ms: Some(310.0),
        };
        GatewayReport {
            version: "1".into(),
            traffic: Some(TrafficReport::default()),
            shards: shards.iter().map(|of| (of.parse().unwrap(), shard.clone())).collect(),
            takeovers: shards.iter().map(takeover).collect(),
            admin: Some("10.9.0.1:9470".parse().unwrap()),
        }
    }

    fn gateway(shards: &[&str]) -> Gateway {
        let shards = shards.iter().map(|of| of.parse().unwrap()).collect();
        Gateway { name: "gw-1".parse().unwrap(), epoch: 1, shards, address: None, leaving: false }
    }

    #[test]
    fn of_what_a_gateway_says_only_that_is_shown_which_may_be_seen_of_it() {
        let (reports, now) = (Reports::default(), Instant::now());
        reports.take("gw-1".parse().unwrap(), report(&["acme/0", "blue/0"]), now);
        let seen = reports.of(gateway(&["acme/0"]), false, now + Duration::from_secs(3));
        let told = seen.report.unwrap();
        assert_eq!((seen.heard_s, told.shards.len(), told.takeovers.len(), told.traffic), (Some(3.0), 1, 1, None));
        assert_eq!((told.takeovers[0].of.to_string(), told.takeovers[0].ago_s), ("acme/0".into(), 5.0));
        assert_eq!(told.admin, None, "it tells of all its tenants");
        let all = reports.of(gateway(&["acme/0", "blue/0"]), true, now).report.unwrap();
        assert_eq!((all.shards.len(), all.traffic.is_some(), all.admin.is_some()), (2, true, true));
        let reach = |name: &str, after| reports.reach(name.parse().unwrap(), now + after);
        let asked = reach("gw-1", Duration::from_secs(3));
        assert_eq!((asked.heard_s, asked.admin.map(|at| at.to_string()).as_deref()), (Some(3.0), Some("10.9.0.1:9470")));
        for silent in [reach("gw-2", Duration::ZERO), reach("gw-1", FORGOTTEN)] {
            assert_eq!((silent.heard_s, silent.version, silent.admin), (None, None, None));
        }
    }

    #[test]
    fn who_has_said_nothing_is_shown_without_and_forgotten_after_an_hour() {
        let (reports, now) = (Reports::default(), Instant::now());
        assert_eq!(reports.of(gateway(&["acme/0"]), true, now).heard_s, None);
        reports.take("gw-1".parse().unwrap(), report(&[]), now);
        reports.take("gw-2".parse().unwrap(), report(&[]), now + FORGOTTEN);
        assert_eq!(reports.of(gateway(&["acme/0"]), true, now + FORGOTTEN).heard_s, None);
    }

    #[test]
    fn attachments_are_those_that_hosts_of_the_tenant_have_told_of_lately() {
        let (reports, now) = (Reports::default(), Instant::now());
        let of = |text: &str| text.parse::<TenantShard>().unwrap();
        let scope = |tenants: &[&str]| Scope::Only(Arc::new((0..).zip(tenants.iter().map(|name| name.parse().unwrap())).collect()));
        let take = |name: &str, attachments: &[(&str, u16)], tenants: &[&str], after| {
            let attachments = attachments.iter().map(|(shard, count)| (of(shard), *count)).collect();
            reports.take_host(name.parse().unwrap(), HostReport { version: "1".into(), attachments }, &scope(tenants), now + after);
        };
        take("host-1", &[("acme/0", 3), ("acme/1", 0), ("blue/0", 5)], &["acme", "blue"], Duration::ZERO);
        // It serves acme alone, and says whatever it likes.
        take("host-2", &[("acme/0", u16::MAX), ("blue/0", 7), ("acme/9", 1)], &["acme"], SILENT / 2);
        let known = ["acme/0", "acme/1", "blue/0", "green/0"].map(of);
        let seen = |after| reports.attachments(known.iter(), now + after);
        let counted = |hosts, attachments| Attachments { hosts, attachments };
        let both = [("acme/0", counted(2, u64::from(u16::MAX) + 3)), ("acme/1", counted(1, 0)), ("blue/0", counted(1, 5))];
        assert_eq!(seen(SILENT / 2), both.map(|(shard, counted)| (of(shard), counted)).into());
        assert_eq!(seen(SILENT), [(of("acme/0"), counted(1, u64::from(u16::MAX)))].into());
        take("host-3", &[], &[], SILENT);
        assert_eq!(lock(&reports.hosts).all.len(), 2, "who is silent is forgotten");
        reports.forget_host(&"host-2".parse().unwrap());
        assert_eq!((seen(SILENT), lock(&reports.hosts).all.len()), ([].into(), 1));
    }
}
