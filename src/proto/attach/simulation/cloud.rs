//! Whose interfaces are, as the cloud has it, and what it says of that.

use super::{Event, World, mac_of};
use crate::model::EniId;
use crate::proto::attach::{Answer, Call, Eni, Stand};

/// Looks are behind by so much, in milliseconds, at most.
const STALE: u64 = 2_000;
/// From a call that detaches one to the one that may attach it again, at most.
const DETACHES: u64 = 4_000;

#[derive(Debug, Clone)]
pub struct Owner {
    pub node: usize,
    pub attachment: String,
    /// On its way out.
    pub ends: bool,
    /// The life of the node whose call attached it, and the call; 0: done twice.
    by: (u32, u64),
}

/// Since when, the latest last.
pub type History = Vec<(u64, Option<Owner>)>;

impl World {
    pub fn owner(&self, eni: &EniId) -> Option<&Owner> {
        self.enis[eni].last().and_then(|(_, owner)| owner.as_ref())
    }

    pub fn owned(&self, node: usize) -> Vec<EniId> {
        self.enis.keys().filter(|eni| self.owner(eni).is_some_and(|owner| owner.node == node)).cloned().collect()
    }

    /// What this node's process has attached, or is about to.
    pub fn left(&self, number: usize) -> Vec<String> {
        let life = self.nodes[number].life;
        let is_its = |by: (u32, u64)| by.0 == life && by.1 != 0;
        let attached = self.owned(number).into_iter().filter(|eni| self.owner(eni).is_some_and(|owner| is_its(owner.by)));
        let under_way = self.events.values().filter_map(|event| match event {
            Event::Land { node, life, number: call, call: Call::Attach(eni), .. } if *node == number && is_its((*life, *call)) => {
                Some(format!("{eni} to come"))
            }
            _ => None,
        });
        attached.map(|eni| eni.to_string()).chain(under_way).collect()
    }

    pub fn land(&mut self, node: usize, call: &Call, by: (u32, u64)) -> Answer {
        match call {
            Call::Look => {
                let seen = self.now.saturating_sub(self.random.below(STALE));
                let eni = |(id, history): (&EniId, &History)| {
                    let stand = match history.iter().rev().find(|(at, _)| *at <= seen).and_then(|(_, owner)| owner.as_ref()) {
                        None => Stand::Free,
                        Some(owner) if owner.node != node => Stand::Elsewhere,
                        Some(Owner { attachment, ends: true, .. }) => Stand::Leaving(attachment.clone()),
                        Some(Owner { attachment, .. }) => Stand::Ours(attachment.clone()),
                    };
                    Eni { id: id.clone(), mac: mac_of(id), stand }
                };
                Answer::Seen(self.enis.iter().map(eni).collect())
            }
            Call::Attach(eni) => {
                if self.owner(eni).is_some() {
                    self.say(format!("{node}: {eni} is in use"));
                    return Answer::Taken;
                }
                if !self.owned(node).is_empty() {
                    self.say(format!("{node}: the index of {eni} is not free"));
                    return Answer::Occupied(String::new());
                }
                self.number += 1;
                let attachment = format!("eni-attach-{}", self.number);
                self.change(eni, Some(Owner { node, attachment: attachment.clone(), ends: false, by }));
                self.plug(node);
                Answer::Attached(attachment)
            }
            Call::Detach(attachment) => {
                let mut known = self.enis.keys().filter_map(|eni| Some((eni.clone(), self.owner(eni)?.clone())));
                let Some((eni, owner)) = known.find(|(_, owner)| owner.attachment == *attachment) else { return Answer::Taken };
                if !owner.ends {
                    self.say(format!("{node}: {eni} is on its way out"));
                    let free = self.now + self.random.below(DETACHES);
                    self.at(free, Event::Free { eni: eni.clone(), attachment: attachment.clone() });
                    self.plug(owner.node);
                    self.change(&eni, Some(Owner { ends: true, ..owner }));
                }
                Answer::Detached
            }
        }
    }

    pub fn change(&mut self, eni: &EniId, owner: Option<Owner>) {
        self.changed += 1;
        self.say(format!("{eni} is now {owner:?}"));
        self.enis.get_mut(eni).expect("one of ours").push((self.now, owner));
    }

    fn plug(&mut self, node: usize) {
        let plug = self.now + 100 + self.random.below(2_000);
        self.at(plug, Event::Plug { node });
    }
}
