//! What there is: which gateways, how many are ordered, which of them are starting or going, and what each carries.

use crate::model::NodeName;
use crate::proto::retire::Load;
use std::collections::{BTreeMap, BTreeSet};
#[cfg(feature = "aws")]
use std::time::Duration;
use std::time::Instant;

#[derive(Debug, Default)]
pub struct Fleet {
    serving: Vec<NodeName>,
    /// What whoever runs the nodes has said or taken last. None: as many as there are gateways.
    ordered: Option<u32>,
    /// Of gateways that a directory tells of, until something is ordered: that so many are. They come and go, and what is ordered does not.
    assumed: Option<u32>,
    /// A directory tells of the gateways.
    is_discovered: bool,
    /// It has not told of all yet.
    is_unknown: bool,
    /// Whoever runs the nodes is asked, so that without an answer nothing is known.
    is_asked: bool,
    /// Of these the other side knows that they are starting or going.
    away: BTreeSet<NodeName>,
    /// What each said last that it carries.
    loads: BTreeMap<NodeName, (Instant, Load)>,
    /// Of these, that they are neither.
    here: BTreeSet<NodeName>,
}

/// What a gateway said longer ago says nothing of what it carries now.
#[cfg(feature = "aws")]
const CARRIES: Duration = Duration::from_secs(10);

impl Fleet {
    pub fn new(is_asked: bool) -> Self {
        Self { is_asked, ..Self::default() }
    }

    /// These are the gateways, and no others.
    pub fn serve(&mut self, serving: Vec<NodeName>) {
        self.set(serving);
        (self.assumed, self.is_discovered, self.is_unknown) = (None, false, false);
    }

    /// These are the gateways as far as a directory has told; `known`: and these are all. Before, `last` were ordered.
    pub fn discover(&mut self, serving: Vec<NodeName>, known: bool, last: Option<u32>) {
        let many = u32::try_from(serving.len()).unwrap_or(u32::MAX);
        self.set(serving);
        (self.is_discovered, self.is_unknown) = (true, !known);
        if known {
            self.assumed.get_or_insert(many.max(last.unwrap_or(0)));
        }
    }

    fn set(&mut self, serving: Vec<NodeName>) {
        self.loads.retain(|name, _| serving.contains(name));
        self.serving = serving;
    }

    /// This was ordered, and nobody is there who would take it: whoever scales asks.
    pub fn stands(&mut self, ordered: u32) {
        if self.is_discovered {
            (self.ordered, self.assumed) = (None, Some(ordered));
        }
    }

    pub fn is_discovered(&self) -> bool {
        self.is_discovered
    }

    /// From now on whoever runs the nodes is asked what there is, or is not.
    pub fn ask(&mut self, is_asked: bool) {
        if !is_asked {
            self.away.clear();
            self.here.clear();
        }
        self.is_asked = is_asked;
    }

    pub fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Whoever runs the nodes says that so many are ordered.
    pub fn told(&mut self, ordered: u32) {
        self.ordered = Some(ordered);
    }

    /// It says so, and which are starting or going, and which are there.
    #[cfg(feature = "aws")]
    pub fn looked(&mut self, ordered: u32, away: BTreeSet<NodeName>, here: BTreeSet<NodeName>) {
        (self.ordered, self.away, self.here) = (Some(ordered), away, here);
    }

    /// None: nobody is asked, and nobody has told yet.
    pub fn ordered(&self) -> Option<u32> {
        let many = || u32::try_from(self.serving.len()).unwrap_or(u32::MAX);
        self.ordered.or(self.assumed).or_else(|| (!self.is_unknown).then(many))
    }

    /// Called as an instance is, and none that whoever runs the nodes has: it has been ended, and what it said last counts no more.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html>
    fn is_ended(&self, name: &NodeName) -> bool {
        !self.here.is_empty() && name.as_str().starts_with("i-") && !self.here.contains(name)
    }

    /// Those that are neither starting, nor going, nor gone. One that is there and that the directory does not know carries nobody knows what, if gateways are
    /// called as whoever runs the nodes calls them.
    pub fn serving(&self) -> Vec<NodeName> {
        let same_names = self.is_discovered && self.serving.iter().any(|name| self.here.contains(name));
        let unknown = self.here.iter().filter(|name| same_names && !self.serving.contains(name));
        let stays = |name: &&NodeName| !self.away.contains(*name) && !self.is_ended(name);
        self.serving.iter().filter(stays).chain(unknown).cloned().collect()
    }

    /// What a gateway says that it carries; None: it does not say.
    pub fn carries(&mut self, now: Instant, name: &NodeName, load: Option<Load>) {
        match load.filter(|_| self.serving.contains(name)) {
            Some(load) => drop(self.loads.insert(name.clone(), (now, load))),
            None => drop(self.loads.remove(name)),
        }
    }

    /// What it carries, if it has said so lately.
    #[cfg(feature = "aws")]
    pub fn load(&self, now: Instant, name: &NodeName) -> Option<Load> {
        let (at, load) = self.loads.get(name)?;
        (now.saturating_duration_since(*at) <= CARRIES).then_some(*load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<NodeName> {
        all.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn gateways_that_come_and_go_are_no_order() {
        let mut fleet = Fleet::new(false);
        fleet.discover(names(&["a"]), false, None);
        assert_eq!(fleet.ordered(), None, "not all have been heard yet");
        fleet.discover(names(&["a", "b", "c"]), true, None);
        assert_eq!(fleet.ordered(), Some(3));
        for seen in [&["a"][..], &["a", "b", "c", "d"], &[]] {
            fleet.discover(names(seen), true, Some(9));
            assert_eq!((fleet.ordered(), fleet.serving().len()), (Some(3), seen.len()));
        }
        fleet.stands(5);
        assert_eq!(fleet.ordered(), Some(5));
        fleet.told(6);
        assert_eq!(fleet.ordered(), Some(6), "whoever runs the nodes has said so");
        fleet.stands(4);
        assert_eq!(fleet.ordered(), Some(4), "nobody runs them any more");
        // Listed again: as many as the list has.
        fleet.serve(names(&["a", "b"]));
        fleet.stands(7);
        assert_eq!(fleet.ordered(), Some(2));
    }

    #[test]
    fn what_was_ordered_before_a_restart_is_no_less_than_that() {
        for (last, ordered) in [(None, 2), (Some(5), 5), (Some(1), 2)] {
            let mut fleet = Fleet::new(false);
            fleet.discover(names(&["a", "b"]), true, last);
            assert_eq!(fleet.ordered(), Some(ordered));
        }
    }

    #[cfg(feature = "aws")]
    #[test]
    fn an_instance_that_the_directory_does_not_know_is_not_forgotten() {
        let set = |all: &[&str]| names(all).into_iter().collect::<BTreeSet<_>>();
        let mut fleet = Fleet::new(true);
        fleet.discover(names(&["i-1", "i-2", "i-3"]), true, None);
        fleet.looked(4, set(&["i-2"]), set(&["i-1", "i-9"]));
        assert_eq!((fleet.ordered(), fleet.serving()), (Some(4), names(&["i-1", "i-9"])), "i-3 has been ended");
        // Gateways that have names of their own say nothing of instances.
        fleet.discover(names(&["gw-1"]), true, None);
        assert_eq!(fleet.serving(), names(&["gw-1"]));
        // Nor do those of a list; an instance in it that has been ended is not waited for.
        fleet.serve(names(&["gw-1", "i-1", "i-2", "i-7"]));
        assert_eq!(fleet.serving(), names(&["gw-1", "i-1"]));
        // Nobody is asked any more.
        fleet.ask(false);
        assert_eq!(fleet.serving(), names(&["gw-1", "i-1", "i-2", "i-7"]));
    }
}
