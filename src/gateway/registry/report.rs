//! What this gateway is like, told to the directory: every few seconds, and when a shard has come or gone. The directory shows it to operators and
//! decides nothing by it.

use super::{Inner, Registry, lock};
use crate::directory::types::{GatewayReport, ShardReport, ShardState, TakeoverReport, TrafficReport};
use crate::gateway::ha::board::Board;
use crate::kernel::Kernel;
use crate::model::{AdminAt, IfName, TenantShard};
use crate::proto::vrrp::State;
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;

const EVERY: Duration = Duration::from_secs(5);
/// Shards that move together are told of together.
const GATHER: Duration = Duration::from_millis(100);

/// Where what is told is found.
pub struct Told {
    /// None: no other gateway could have its shards.
    pub group: Option<Arc<Board>>,
    pub traffic: Box<dyn Fn() -> Option<TrafficReport> + Send + Sync>,
    /// How many hosts may send through each shard.
    pub peers: Box<dyn Fn() -> BTreeMap<TenantShard, u64> + Send + Sync>,
    /// Where its numbers are asked for.
    pub admin: Option<AdminAt>,
}

/// What an interface has counted.
pub fn traffic(kernel: &Kernel, interface: &IfName) -> Option<TrafficReport> {
    let traffic = kernel.traffic(interface).ok()??.traffic;
    let clock = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?);
    Some(TrafficReport {
        clock_s: clock.as_secs_f64(),
        received_packets: traffic.received_packets,
        received_bytes: traffic.received_bytes,
        sent_packets: traffic.sent_packets,
        sent_bytes: traffic.sent_bytes,
    })
}

impl Registry {
    /// Tells of this gateway from now on, until the end.
    pub fn tell(&self, told: Told) {
        let inner = self.0.clone();
        self.0.tasks.spawn(inner.report(told));
    }
}

impl Inner {
    async fn report(self: Arc<Self>, told: Told) {
        let mut changes = told.group.as_ref().map(|board| board.changes());
        self.end
            .run_until_cancelled(async {
                loop {
                    // Whether it is back is found out by who follows it.
                    if !self.session.is_away() {
                        let shards: Vec<TenantShard> = lock(&self.shards).ranges.keys().cloned().collect();
                        let report = &told.report(&shards);
                        // It is told anew soon, whatever this comes to.
                        if let Err(error) = self.session.ask(|client| async move { client.report(report).await }).await {
                            tracing::debug!("the directory does not hear how this gateway is: {error}");
                        }
                    }
                    tokio::select! {
                        () = sleep(EVERY) => {}
                        () = changed(&mut changes) => sleep(GATHER).await,
                    }
                }
            })
            .await;
    }
}

async fn changed(changes: &mut Option<watch::Receiver<u64>>) {
    let over = match changes {
        Some(changes) => changes.changed().await.is_err(),
        None => true,
    };
    if over {
        std::future::pending::<()>().await;
    }
}

impl Told {
    fn report(&self, shards: &[TenantShard]) -> GatewayReport {
        let now = Instant::now();
        let mut shards: BTreeMap<TenantShard, ShardReport> = match &self.group {
            None => shards.iter().map(|of| (of.clone(), alone())).collect(),
            Some(board) => shared(board, shards, now),
        };
        let peers = (self.peers)();
        for (of, report) in &mut shards {
            report.peers = Some(peers.get(of).copied().unwrap_or_default());
        }
        let takeovers = self.group.iter().flat_map(|board| board.takeovers()).map(|takeover| TakeoverReport {
            ago_s: now.saturating_duration_since(takeover.at).as_secs_f64(),
            of: takeover.of,
            from: takeover.from,
            why: takeover.why.to_string(),
            gap_ms: takeover.gap.map(|gap| gap.as_secs_f64() * 1e3),
        });
        let (version, traffic) = (env!("CARGO_PKG_VERSION").into(), (self.traffic)());
        GatewayReport { version, traffic, shards, takeovers: takeovers.collect(), admin: self.admin }
    }
}

fn alone() -> ShardReport {
    ShardReport { state: ShardState::Alone, for_s: None, in_sync: None, connections: None, peers: None, warnings: vec![] }
}

fn shared(board: &Board, shards: &[TenantShard], now: Instant) -> BTreeMap<TenantShard, ShardReport> {
    let (routers, flows, connections) = (board.routers(), board.flows(), board.connections());
    let of = |of: &TenantShard| {
        let router = routers.get(of)?;
        let standing = connections.get(of).and_then(|connections| connections.standing);
        let report = ShardReport {
            state: state(router.status.state),
            for_s: Some(now.saturating_duration_since(router.status.since).as_secs_f64()),
            in_sync: flows.get(of).map(|flows| flows.in_sync()),
            connections: standing.map(|standing| standing.connections as u64),
            peers: None,
            warnings: router.warnings.clone(),
        };
        Some((of.clone(), report))
    };
    shards.iter().filter_map(of).collect()
}

fn state(state: State) -> ShardState {
    match state {
        State::Initialize => ShardState::Initialize,
        State::Backup => ShardState::Backup,
        State::Active => ShardState::Active,
        State::Offering => ShardState::Offering,
        State::Releasing => ShardState::Releasing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::ha::board::{Router, Takeover, Takeovers};
    use crate::model::Priority;
    use crate::proto::vrrp::{Status, Why};

    #[test]
    fn a_shard_is_told_of_as_it_stands_on_the_board() {
        let (board, now) = (Board::default(), Instant::now());
        let of: TenantShard = "acme/0".parse().unwrap();
        let status =
            Status { state: State::Active, since: now, priority: Priority(150), drained: false, in_sync: true, fault: false, heard: None };
        assert!(board.try_router(&of, || Router {
            status,
            transitions: 2,
            takeovers: Takeovers::default(),
            last: None,
            warnings: vec!["odd".into()],
            held_back: false
        }));
        let gap = Some(Duration::from_millis(310));
        board.took_over(Takeover { of: of.clone(), from: "10.9.0.2".parse().unwrap(), at: now, why: Why::ActiveSilent, gap });
        let traffic = || Some(TrafficReport { clock_s: 1.0, ..TrafficReport::default() });
        let admin = "10.9.0.1:9470".parse().ok();
        let peers = || BTreeMap::from([("acme/0".parse().unwrap(), 7)]);
        let mut told = Told { group: Some(Arc::new(board)), traffic: Box::new(traffic), peers: Box::new(peers), admin };
        let report = told.report(&[of.clone(), "acme/1".parse().unwrap()]);
        let shard = &report.shards[&of];
        assert_eq!((shard.state, shard.warnings.as_slice(), report.shards.len()), (ShardState::Active, &["odd".to_owned()][..], 1));
        assert_eq!(shard.peers, Some(7));
        assert_eq!(report.takeovers.iter().map(|takeover| takeover.gap_ms).collect::<Vec<_>>(), [Some(310.0)]);
        assert_eq!((report.traffic.map(|traffic| traffic.clock_s), report.admin), (Some(1.0), admin));
        (told.group, told.admin) = (None, None);
        let other: TenantShard = "acme/1".parse().unwrap();
        let report = told.report(&[of.clone(), other.clone()]);
        let alone = |of: &TenantShard| (report.shards[of].state, report.shards[of].peers);
        assert_eq!([alone(&of), alone(&other)], [(ShardState::Alone, Some(7)), (ShardState::Alone, Some(0))]);
    }
}
