//! All shards of a pair change hands, under a 1 ms ping and connections of every kind for each tenant: what it cost them.

use super::group::{OFTEN, bound_ms, flows_of, goes_on, lost_nothing, mark, of_flows, probe, within};
use crate::lab::checks::Check;
use crate::lab::topology::Tenant;
use crate::lab::{Counts, FlowReport, Flows, Kill, Lab, Probe, Probed, Result, poll_until, unix_ok};
use std::collections::BTreeMap;
use std::time::Duration;

/// Until every shard has moved, and until every flow has proved itself afterwards.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest that an Active is silent before a Backup follows depends on the Backup's priority: as [`Topology::priority`] has it.
///
/// [`Topology::priority`]: crate::lab::Topology::priority
const BACKUP: u8 = 100;
/// What a planned move may cost in the demo, where one machine, anybody's, is all nodes, hosts and servers at once. `lab run drain` and the
/// benches hold it against 5 ms.
const WAITED_MS: f64 = 60.0;

/// Why shards change hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The Active's power goes.
    Death,
    /// The Active is drained.
    Drain,
}

/// What it cost one tenant.
#[derive(Debug, Clone)]
pub struct HandedOver {
    pub cause: Cause,
    pub node: String,
    pub tenant: String,
    /// Who was Active before, and is after.
    pub from: String,
    pub to: String,
    /// What the gap may be at most, in milliseconds, where nothing else disturbs.
    pub bound_ms: f64,
    pub probed: Probed,
    pub went_on: bool,
    pub flows: FlowReport,
}

/// The columns of [`HandedOver::row`].
pub const COLUMNS: [&str; 9] = ["what happens", "tenant", "Active", "gap", "at most", "quiet", "lost", "TCP alive", "UDP alive"];

impl HandedOver {
    pub fn row(&self) -> Vec<String> {
        let (tcp, udp, probed) = (self.flows.all_tcp(), self.flows.udp, &self.probed);
        let what = match self.cause {
            Cause::Death => "dies",
            Cause::Drain => "is drained",
        };
        vec![
            format!("{} {what}", self.node),
            self.tenant.clone(),
            format!("{} → {}", self.from, self.to),
            format!("{:.1} ms", probed.gap_ms),
            format!("{:.0} ms", self.bound_ms),
            format!("{:.1} ms", probed.quiet_ms),
            probed.lost.to_string(),
            format!("{}/{}", tcp.survived, tcp.opened),
            format!("{}/{}", udp.survived, udp.opened),
        ]
    }

    pub fn checks(&self) -> Vec<Check> {
        let (node, subject) = (&self.node, &self.tenant);
        let mut checks = match self.cause {
            Cause::Death => vec![within(format!("{node} dies: another takes over in time"), subject, self.bound_ms, &self.probed)],
            Cause::Drain => vec![
                within(format!("{node} is drained: nobody waits"), subject, self.bound_ms, &self.probed),
                lost_nothing(format!("{node} is drained: no packet is lost"), subject, &self.probed),
            ],
        };
        checks.push(Check::new("traffic goes on at the other gateway", subject, self.went_on, format!("{} now", self.to)));
        checks.extend(of_flows(&self.flows).1.into_iter().map(|check| Check { subject: format!("{subject}, {node}"), ..check }));
        checks
    }
}

/// The Active of every shard, `node`, dies or is drained. Returns when the other has them all, and every flow has been used again.
pub fn hand_over(lab: &mut Lab, node: &str, cause: Cause, counts: &Counts) -> Result<Vec<HandedOver>> {
    let before = lab.await_owners()?;
    let tenants = lab.topology.tenants.clone();
    let flows = tenants.iter().map(|tenant| flows_of(lab, tenant, counts)).collect::<Result<Vec<Flows>>>()?;
    lab.await_in_sync()?;
    let first = |tenant: &str| lab.topology.containers.iter().find(|c| c.tenant == tenant).expect("every tenant has a container");
    let probes = tenants.iter().map(|tenant| probe(lab, first(&tenant.name), OFTEN)).collect::<Result<Vec<Probe>>>()?;

    mark(&probes)?;
    if cause == Cause::Death {
        lab.fail(node, Kill::Node)?;
    }
    let (lab, socket) = (&*lab, lab.socket(node)?);
    let (after, went_on) = std::thread::scope(|scope| {
        // A drain is answered a second after the move, when nothing is forwarded here any more.
        let drained = (cause == Cause::Drain).then(|| scope.spawn(|| unix_ok(&socket, "POST", "/v1/drain", None)));
        let after = elsewhere(lab, &before)?;
        let went_on: Vec<bool> = probes.iter().map(goes_on).collect();
        probes.iter().for_each(Probe::calm);
        drained.map_or(Ok(()), |drained| drained.join().expect("asking does not panic").map(drop))?;
        Ok::<_, crate::lab::Error>((after, went_on))
    })?;

    // All at once: who waits for late answers need not keep the flows waiting.
    let seen: Vec<(Probed, FlowReport)> = std::thread::scope(|scope| {
        let probed: Vec<_> = probes.into_iter().map(|probe| scope.spawn(|| probe.stop())).collect();
        let used: Vec<_> = flows.into_iter().map(|flows| scope.spawn(|| flows.verify(PATIENCE))).collect();
        let measured = "measuring does not panic";
        probed.into_iter().zip(used).map(|(probed, used)| (probed.join().expect(measured), used.join().expect(measured))).collect()
    });
    // What disturbs one tenant's ping by itself is the machine, which all have in common.
    let quiet_ms = seen.iter().map(|(probed, _)| probed.quiet_ms).fold(0.0, f64::max);
    let bound_ms = match (cause, &lab.topology.group) {
        (Cause::Death, Some(group)) => bound_ms(Duration::from_millis(group.interval_ms), BACKUP),
        _ => WAITED_MS,
    };
    let owner = |of: &BTreeMap<(String, u8), String>, tenant: &str| of.get(&(tenant.to_owned(), 0)).cloned().unwrap_or_default();
    let cost = |((tenant, went_on), (probed, flows)): ((&Tenant, bool), (Probed, FlowReport))| HandedOver {
        cause,
        node: node.to_owned(),
        from: owner(&before, &tenant.name),
        to: owner(&after, &tenant.name),
        tenant: tenant.name.clone(),
        bound_ms,
        probed: Probed { quiet_ms, ..probed },
        went_on,
        flows,
    };
    Ok(tenants.iter().zip(went_on).zip(seen).map(cost).collect())
}

/// Who has the shards once all have moved.
fn elsewhere(lab: &Lab, before: &BTreeMap<(String, u8), String>) -> Result<BTreeMap<(String, u8), String>> {
    let mut after = BTreeMap::new();
    poll_until("another Active for every shard", PATIENCE, || {
        after = lab.owners()?.unwrap_or_default();
        Ok(!after.is_empty() && before.iter().all(|(shard, node)| after.get(shard).is_some_and(|now| now != node)))
    })?;
    Ok(after)
}
