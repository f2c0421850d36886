//! The group of a gateway whose directory says which nodes there are: how its list comes into force here, and how this node leaves.

use super::Node;
use super::ha::board::Board;
use super::ha::drain::Drained;
use super::members::{Members, Refused};
use super::peers::Refusal;
use super::registry::Registry;
use super::registry::members::{Answer, Standing, recall};
use super::tunnels::read_keys;
use crate::config::Gateway;
use crate::metrics::Page;
use crate::plan::gateway::shards;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The directory has said by then whether this node may leave.
const TOLD: Duration = Duration::from_secs(10);

/// A departure, which goes on without the node's lock.
#[derive(Debug, Clone)]
pub struct Leave {
    registry: Registry,
    board: Arc<Board>,
}

/// Where the directory says who the nodes are.
#[derive(Debug)]
pub(super) struct Joining {
    members: Members,
    /// The last refusal that was told, and how often each was, by [`Refused::LABELS`].
    told: Option<Refused>,
    refused: [u64; Refused::LABELS.len()],
}

impl Joining {
    /// As a process before this one knew them. None: the file lists them, or nobody is shared with.
    pub(super) fn of(config: &mut Gateway) -> Option<Self> {
        let by_directory = config.ha.as_ref().is_some_and(|ha| ha.by_directory());
        let members = by_directory.then(|| Members::new(config.node.clone(), recall(config), Instant::now()))?;
        config.ha = config.ha.as_ref().map(|ha| members.applied(ha));
        Some(Self { members, told: None, refused: Default::default() })
    }

    /// A configuration that was read anew goes on with the lists in force.
    pub(super) fn apply(&self, config: &mut Gateway) {
        config.ha = config.ha.as_ref().map(|ha| self.members.applied(ha));
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.members.due()
    }

    fn tell(&mut self) {
        let refused = self.members.refused();
        if let Some(why) = refused.filter(|why| self.told.as_ref() != Some(*why)) {
            self.refused[why.place()] += 1;
            tracing::error!("the directory's list of the group is not taken up, the former one stays in force: {why}");
        }
        self.told = refused.cloned();
    }
}

impl Node {
    /// The way a reload goes.
    pub(super) fn take_up_group(&mut self) {
        let Some(joining) = &mut self.joining else { return };
        if let Some(news) = self.strangers.registry().and_then(Registry::group_news) {
            joining.members.offer(news);
        }
        joining.members.take(&self.config, Instant::now());
        let Some(ha) = &self.config.ha else { return };
        let mut lists = joining.members.applied(ha);
        if lists != *ha {
            // Before the group runs, what stands was kept already.
            let served = if self.group.is_running() { shards(&self.config) } else { ha.retained.iter().cloned().collect() };
            lists.retain(&self.config.node, served);
            let config = Gateway { ha: Some(lists), ..self.config.clone() };
            match read_keys(&config) {
                Ok(keys) => {
                    let ha = config.ha.as_ref();
                    let names: Vec<String> = ha.iter().flat_map(|ha| ha.nodes.keys().map(ToString::to_string)).collect();
                    tracing::info!(part = joining.members.part(), "the group, as the directory says: {}", names.join(", "));
                    (self.keys, self.config, self.regroup) = (keys, config, true);
                    self.strangers.reload(&self.config, &self.keys);
                    self.revision += 1;
                }
                Err(error) => joining.members.refuse(Refused::Keys(format!("{error:#}"))),
            }
        }
        joining.tell();
    }

    /// Others are told of what is in force, and may go by it.
    pub(super) fn tell_what_is_in_force(&self) {
        let (Some(joining), Some(registry), Some(ha)) = (&self.joining, self.strangers.registry(), &self.config.ha) else { return };
        let (members, served) = (&joining.members, shards(&self.config));
        // One that has no part yet has nothing to begin with.
        let group_knows = if self.group.is_running() { !self.regroup } else { served.is_empty() };
        if group_knows && members.applied(ha) == *ha {
            registry.stands(Standing { heeds: members.heeds(), known: members.known(), served: served.into_iter().collect() });
        }
    }

    /// Has this node leave its group, where the directory says who is in it: for good if it is stopped then, until [`Node::stay`] if not.
    pub fn leave(&self) -> Result<Leave, Refusal> {
        if self.config.ha.is_none() {
            return Err(Refusal::Alone);
        }
        let by_directory = || Refusal::ByFile(self.config.node.clone());
        let (_, registry) = self.joining.as_ref().zip(self.strangers.registry()).ok_or_else(by_directory)?;
        Ok(Leave { registry: registry.clone(), board: self.group.shared_board() })
    }

    /// What follows when the machine is taken away.
    #[cfg(feature = "aws")]
    pub(super) fn watch_lifecycle(&mut self) {
        let leave = self.leave().ok();
        self.group.watch_lifecycle(self.config.ha.as_ref().and_then(|ha| ha.lifecycle.as_deref()), leave);
    }

    /// Takes part as before.
    pub fn stay(&self) {
        if let Some((_, registry)) = self.joining.as_ref().zip(self.strangers.registry()) {
            registry.say_leaving(false);
        }
    }

    /// Whom to tell that this node is gone, if it is about to leave and ends.
    pub(super) fn leaves_for_good(&self) -> Option<Registry> {
        self.strangers.registry().filter(|_| self.leaves()).cloned()
    }

    /// Whether it is about to leave its group, or has left.
    pub(super) fn leaves(&self) -> bool {
        match (&self.joining, &self.config.ha) {
            (Some(joining), _) => joining.members.leaves(),
            (None, Some(ha)) => ha.leaving.contains(&self.config.node),
            (None, None) => false,
        }
    }

    pub(super) fn show_group(&self) -> Value {
        let mut shown = self.group.status(&self.config, self.carrier);
        if let (Some(shown), Some(ha)) = (shown.as_object_mut(), &self.config.ha) {
            #[cfg(feature = "aws")]
            shown.insert("attach".into(), self.attachments.status());
            shown.insert("nodes_by".into(), json!(if ha.by_directory() { "directory" } else { "file" }));
            let members = self.joining.as_ref().map(|joining| &joining.members);
            shown.insert("part".into(), json!(members.map(Members::part)));
            shown.insert("refused_list".into(), json!(members.and_then(Members::refused).map(ToString::to_string)));
        }
        shown
    }

    #[expect(clippy::cast_precision_loss, reason = "a group has few nodes")]
    pub(super) fn measure_group(&self, out: &mut Page) {
        let Some(ha) = &self.config.ha else { return };
        for (state, nodes) in [("staying", ha.nodes.len() - ha.leaving.len()), ("leaving", ha.leaving.len())] {
            out.gauge("portway_group_nodes", "Nodes of the group, as this one knows it", &[("state", state)], nodes as f64);
        }
        for (reason, count) in self.joining.iter().flat_map(|joining| Refused::LABELS.into_iter().zip(joining.refused)) {
            let help = "Lists of the group by the directory that could not be taken up";
            out.counter("portway_group_refused_lists", help, &[("reason", reason)], count);
        }
    }
}

impl Leave {
    /// The directory tells the others; they learn the connections and take the shards over, and this node lets go of what it keeps for them. Returns
    /// when it has no shard and no copies any more, or at the deadline. It goes on then all the same.
    pub async fn run(self, deadline: Duration) -> Result<Drained, Refusal> {
        let Self { registry, board } = self;
        let (mut answers, mut standing, held) = (registry.answers(), registry.standing(), board.holds());
        let (begun, refusals) = (Instant::now(), answers.borrow().refusals);
        registry.say_leaving(true);
        let leaves = |answer: &Answer| answer.own.as_ref().is_some_and(|own| own.leaving);
        let said = answers.wait_for(|answer| answer.refusals > refusals || leaves(answer));
        match tokio::time::timeout(TOLD.min(deadline), said).await {
            Ok(Ok(answer)) if leaves(&answer) => {}
            Ok(Ok(answer)) => return Err(Refusal::Stays(answer.why.clone())),
            Ok(Err(_)) | Err(_) => {
                registry.say_nothing();
                return Err(Refusal::Unheard);
            }
        }
        let empty = standing.wait_for(|standing| standing.own().is_some_and(|own| own.leaving) && standing.served.is_empty());
        let _ = tokio::time::timeout(deadline.saturating_sub(begun.elapsed()), empty).await;
        let kept = standing.borrow().served.clone();
        Ok(Drained { handed_over: held.difference(&kept).cloned().collect(), kept })
    }
}
