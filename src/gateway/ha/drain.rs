//! Planned handovers: of a node that is drained or that goes.

use super::board::{Board, Flows};
#[cfg(feature = "aws")]
use super::lifecycle::Watch;
use super::{Group, speaker};
use crate::daemon::bell::Bell;
use crate::model::TenantShard;
use crate::proto::vrrp::{State, Why};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A drain waits for so long, if nobody says anything else: as long as AWS keeps a connection in mind that says nothing.
pub const DEADLINE: Duration = Duration::from_secs(350);
/// For so long a handover waits for the successors to know all connections: a list of 250,000 takes two seconds.
const IN_SYNC: Duration = Duration::from_secs(10);
/// A successor that speaks state sync at all has answered by then. Routers of other makes never do.
const LISTENS: Duration = Duration::from_secs(1);
/// The board shows the state of the copies this often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a drain has come to.
#[derive(Debug, Clone, Serialize)]
pub struct Drained {
    pub handed_over: BTreeSet<TenantShard>,
    /// Nobody took them over, or not in time.
    pub kept: BTreeSet<TenantShard>,
}

/// The way of all drains, whoever begins one; it can go on without the node's lock.
#[derive(Debug, Clone)]
pub struct Drain {
    board: Arc<Board>,
    speaker: Bell<speaker::Order>,
}

impl Group {
    /// None: it takes no part in a group.
    pub fn drain(&self) -> Option<Drain> {
        self.running.as_ref().map(|running| Drain { board: self.board.clone(), speaker: running.speaker.clone() })
    }

    /// Takes over again as others do.
    pub fn undrain(&self) {
        self.drain().iter().for_each(Drain::undo);
        #[cfg(feature = "aws")]
        self.running.iter().filter_map(|running| running.lifecycle.as_ref()).for_each(Watch::undone);
    }

    /// Hands everything over, for good, and returns when it is gone.
    pub async fn retire(&self) {
        let Some(Drain { board, speaker }) = self.drain() else { return };
        in_sync(&board, &board.holds(), IN_SYNC).await;
        speaker.send(speaker::Order::Retire);
        board.until(|board| board.holds().is_empty()).await;
    }
}

impl Drain {
    pub fn undo(&self) {
        self.speaker.send(speaker::Order::Undrain);
    }

    /// How many shards are here.
    #[cfg(feature = "aws")]
    pub fn holds(&self) -> usize {
        self.board.holds().len()
    }

    /// Whoever follows what it came to looks at it.
    #[cfg(feature = "aws")]
    pub fn told(&self) {
        self.board.again.notify_one();
    }

    /// Hands all shards to other nodes and takes over only as the last resort from now on. Returns when that is done, or cannot be.
    pub async fn run(self, deadline: Duration) -> Drained {
        let held = self.board.holds();
        let away = async {
            // However little time there is: what is asked is to hand over.
            in_sync(&self.board, &held, IN_SYNC.min(deadline / 2)).await;
            let before = self.board.turns();
            self.speaker.send(speaker::Order::Drain);
            let settled = |board: &Board, of: &TenantShard| {
                let stays = |turn: &super::board::Turn| (turn.to, turn.why) == (State::Active, Why::NoSuccessor);
                let now = board.turns().remove(of);
                !board.holds().contains(of) || now.as_ref().is_some_and(|now| stays(now) && before.get(of) != Some(now))
            };
            self.board.until(|board| held.iter().all(|of| settled(board, of))).await;
        };
        let _ = tokio::time::timeout(deadline, away).await;
        let holds = self.board.holds();
        let (kept, handed_over) = held.into_iter().partition(|of| holds.contains(of));
        Drained { handed_over, kept }
    }
}

/// Returns when the successors of these shards know all connections, or might never.
async fn in_sync(board: &Board, shards: &BTreeSet<TenantShard>, within: Duration) {
    let begun = Instant::now();
    let known = |of: &TenantShard, flows: &Flows| {
        flows.in_sync()
            || begun.elapsed() >= LISTENS && !flows.has_listener() && {
                tracing::warn!("{of}: nobody listens to state sync; whoever takes over knows no connections");
                true
            }
    };
    let all = async {
        let mut left = shards.clone();
        loop {
            let flows = board.flows();
            left.retain(|of| !flows.get(of).is_some_and(|flows| known(of, flows)));
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if tokio::time::timeout(within, all).await.is_err() {
        tracing::warn!("handing over although connections are not all known to the successor");
    }
}
