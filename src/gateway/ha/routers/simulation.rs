//! Gateways whose lists of each other change one after the other while they run: real routers on a perfect network, and a model of state sync. In it a copy
//! takes 700 ms to be whole.

mod group;

use group::{Group, Lists, SETTLED};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// The nodes in some order, with pauses between them, and the death of one at some time after the first has been told.
#[derive(Debug, Clone)]
struct Change {
    order: Vec<u8>,
    pauses: Vec<u64>,
    death: Option<(u64, u8)>,
}

fn change(nodes: u8) -> impl Strategy<Value = Change> {
    let order = Just((1..=nodes).collect::<Vec<u8>>()).prop_shuffle();
    let pauses = prop::collection::vec(prop_oneof![Just(0), 0..400u64, 400..3000u64], usize::from(nodes) + 1);
    let death = prop::option::of((0..14_000u64, 1..=nodes));
    (order, pauses, death).prop_map(|(order, pauses, death)| Change { order, pauses, death })
}

impl Group {
    /// `ms` pass, and somebody may die meanwhile.
    fn pause(&mut self, ms: u64, begun: Instant, death: Option<(u64, u8)>) -> Result<(), TestCaseError> {
        let end = self.now + Duration::from_millis(ms);
        if let Some((at, n)) = death.map(|(at, n)| (begun + Duration::from_millis(at), n))
            && self.crashed.is_none()
            && at < end
        {
            self.pass(at.saturating_duration_since(self.now))?;
            self.crash(n);
        }
        self.pass(end.saturating_duration_since(self.now))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn a_node_joins_and_every_shard_always_has_one_active_and_somebody_who_could_follow((nodes, change) in (2u8..=4).prop_flat_map(|n| (Just(n), change(n)))) {
        let (before, after) = (Lists { nodes, leaves: false }, Lists { nodes: nodes + 1, leaves: false });
        let mut group = Group::new(before);
        group.pass(SETTLED / 2)?;
        prop_assert_eq!(group.owners()?, Group::homes(before));
        let begun = group.now;
        for (n, pause) in change.order.iter().zip(&change.pauses) {
            group.reload(*n, after);
            group.pause(*pause, begun, change.death)?;
        }
        group.start(nodes + 1, after);
        group.pause(22_000, begun, change.death)?;
        let owners = group.owners()?;
        if change.death.is_none() {
            prop_assert_eq!(owners, Group::homes(after));
            prop_assert!(group.is_tidy());
        }
    }

    #[test]
    fn a_node_leaves_and_every_shard_always_has_one_active_and_somebody_who_could_follow((nodes, change) in (3u8..=4).prop_flat_map(|n| (Just(n), change(n)))) {
        let (before, leaving, after) = (Lists { nodes, leaves: false }, Lists { nodes, leaves: true }, Lists { nodes: nodes - 1, leaves: false });
        let mut group = Group::new(before);
        group.pass(SETTLED / 2)?;
        prop_assert_eq!(group.owners()?, Group::homes(before));
        // The one that leaves last: the others agree on their ranks before it gives anything away.
        let order = change.order.iter().filter(|n| **n != nodes).chain([&nodes]);
        let begun = group.now;
        for (n, pause) in order.zip(&change.pauses) {
            group.reload(*n, leaving);
            group.pause(*pause, begun, change.death)?;
        }
        group.pause(22_000, begun, change.death)?;
        let owners = group.owners()?;
        if change.death.is_none() {
            prop_assert_eq!(&owners, &Group::homes(after), "{}", group.said());
            prop_assert!(group.is_tidy() && group.nodes[&nodes].routers.entries.is_empty(), "it has nothing any more");
            group.nodes.remove(&nodes);
            for n in change.order.iter().filter(|n| **n != nodes) {
                group.reload(*n, after);
                group.pass(Duration::from_millis(change.pauses[0]))?;
            }
            group.pass(SETTLED / 3)?;
            prop_assert_eq!(group.owners()?, owners);
        }
    }
}
