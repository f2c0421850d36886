use super::*;
use proptest::prelude::*;
use std::time::Duration;

type Id = &'static str;

fn of(name: &str) -> TenantShard {
    name.parse().expect("a shard")
}

fn limits(rise: u32, fall: u32) -> Limits {
    Limits { rise, fall }
}

fn wanted(priority: u8, costs: &[(Id, Cost)], hope: bool) -> Wanted<Id> {
    Wanted { priority: Priority(priority), costs: costs.to_vec(), hope }
}

fn verdict(priority: u8, able: bool) -> Option<Verdict> {
    Some(Verdict { priority: Priority(priority), able })
}

const COSTS: [(Id, Cost); 3] = [("db", Cost::Weight(150)), ("disk", Cost::Weight(20)), ("router", Cost::Fault)];

fn tracker(hope: bool, limits: Limits) -> (Tracker<Id>, Instant) {
    let (mut tracker, now) = (Tracker::default(), Instant::now());
    tracker.replace(now, COSTS.map(|(id, _)| (id, limits)), [(of("acme/0"), wanted(200, &COSTS, hope))]);
    (tracker, now)
}

#[test]
fn weights_add_up_and_a_fault_is_another_matter() {
    let (mut tracker, now) = tracker(true, Limits::AT_ONCE);
    let mut after = |id, good| {
        tracker.result(now, &id, good);
        tracker.verdict(&of("acme/0"))
    };
    assert_eq!(after("db", false), verdict(50, true));
    assert_eq!(after("disk", false), verdict(30, true));
    assert_eq!(after("router", false), verdict(30, false));
    assert_eq!(after("db", true), verdict(180, false));
    assert_eq!(after("router", true), verdict(180, true));
    assert_eq!(after("disk", true), verdict(200, true));
}

#[test]
fn the_priority_never_falls_to_that_of_letting_go() {
    let (mut tracker, now) = (Tracker::default(), Instant::now());
    let costs = [("a", Cost::Weight(253)), ("b", Cost::Weight(253))];
    tracker.replace(now, costs.map(|(id, _)| (id, Limits::AT_ONCE)), [(of("acme/0"), wanted(254, &costs, true))]);
    tracker.result(now, &"a", false);
    assert_eq!(tracker.verdict(&of("acme/0")), verdict(1, true));
    tracker.result(now, &"b", false);
    assert_eq!(tracker.verdict(&of("acme/0")), verdict(1, true));
}

#[test]
fn who_starts_is_the_last_resort_until_its_checks_have_risen() {
    let (mut tracker, now) = tracker(false, limits(2, 3));
    let shard = of("acme/0");
    assert_eq!(tracker.verdict(&shard), verdict(1, true));
    for (id, left) in [("router", 30), ("db", 180), ("disk", 200)] {
        let before = tracker.verdict(&shard);
        assert!(!tracker.result(now, &id, true));
        assert_eq!(tracker.verdict(&shard), before, "{id} has one good result");
        assert!(tracker.result(now, &id, true));
        assert_eq!(tracker.verdict(&shard), verdict(left, true), "{id} has two");
    }
}

#[test]
fn who_goes_on_is_believed_in_until_a_check_has_fallen() {
    let (mut tracker, now) = tracker(true, limits(2, 3));
    assert_eq!(tracker.verdict(&of("acme/0")), verdict(200, true));
    for (n, able) in [(1, true), (2, true), (3, false)] {
        tracker.result(now, &"router", false);
        assert_eq!(tracker.verdict(&of("acme/0")), verdict(200, able), "after {n}");
    }
}

#[test]
fn only_changes_are_told() {
    let (mut tracker, now) = tracker(true, Limits::AT_ONCE);
    assert_eq!(tracker.changes(), []);
    tracker.result(now, &"db", false);
    let change = Change { priority: Some(Priority(50)), able: None };
    assert_eq!(tracker.changes(), [(of("acme/0"), change)]);
    tracker.result(now, &"db", false);
    assert_eq!(tracker.changes(), []);
    tracker.result(now, &"router", false);
    tracker.result(now, &"router", true);
    assert_eq!(tracker.changes(), []);
}

#[test]
fn a_reload_keeps_what_is_known_and_hopes_for_what_is_added() {
    let (mut tracker, now) = tracker(false, Limits::AT_ONCE);
    let later = now + Duration::from_secs(9);
    tracker.result(now, &"db", false);
    tracker.result(now, &"disk", true);
    let costs = [("db", Cost::Fault), ("disk", Cost::Weight(20)), ("new", Cost::Fault)];
    let shards = [(of("acme/0"), wanted(100, &costs, false)), (of("acme/1"), wanted(100, &costs, false))];
    tracker.replace(later, costs.map(|(id, _)| (id, Limits::AT_ONCE)), shards);
    assert_eq!(tracker.verdict(&of("acme/0")), verdict(100, false));
    assert_eq!(tracker.item(&"db").map(|item| item.since), Some(now));
    assert_eq!(tracker.verdict(&of("acme/1")), verdict(1, false));
    assert_eq!(tracker.item(&"router"), None);
    assert!(!tracker.result(later, &"router", true));
}

#[test]
fn what_is_not_able_is_told_again_when_priorities_are_told_in_another_way() {
    let (mut tracker, now) = tracker(true, Limits::AT_ONCE);
    tracker.result(now, &"router", false);
    tracker.result(now, &"disk", false);
    let able = |able| vec![(of("acme/0"), Change { priority: None, able: Some(able) })];
    assert_eq!(tracker.tell_priorities(), [(of("acme/0"), Priority(180))].into());
    assert_eq!(tracker.changes(), able(false));
    assert_eq!(tracker.tell_priorities().len(), 1);
    assert_eq!(tracker.changes(), able(false));
    tracker.result(now, &"router", true);
    assert_eq!(tracker.tell_priorities().len(), 1);
    assert_eq!(tracker.changes(), able(true));
    assert_eq!(tracker.tell_priorities().len(), 1);
    assert_eq!(tracker.changes(), []);
}

/// As the definition says it: the standing changes where a run of enough results of the other kind ends.
fn stands(results: &[bool], limits: Limits) -> Standing {
    let mut standing = Standing::Unproven;
    for end in 1..=results.len() {
        let ends_in = |good: bool, count: u32| {
            let count = count as usize;
            end >= count && results[end - count..end].iter().all(|result| *result == good)
        };
        if ends_in(true, limits.rise) {
            standing = Standing::Up;
        } else if ends_in(false, limits.fall) {
            standing = Standing::Down;
        }
    }
    standing
}

proptest! {
    #[test]
    fn a_run_of_enough_results_and_nothing_else_changes_the_standing(
        results in prop::collection::vec(any::<bool>(), 0..60),
        rise in 1u32..5,
        fall in 1u32..5,
    ) {
        let (mut item, now) = (Item::new(Instant::now(), limits(rise, fall)), Instant::now());
        for (n, good) in results.iter().enumerate() {
            let before = item.standing;
            let turned = item.result(now + Duration::from_secs(n as u64), *good);
            prop_assert_eq!(item.standing, stands(&results[..=n], limits(rise, fall)));
            prop_assert_eq!(turned, item.standing != before);
            if turned {
                prop_assert_eq!(item.since, now + Duration::from_secs(n as u64));
            }
        }
    }

    /// Whatever happens: what was told, together, is what holds; and the priority stays within its bounds.
    #[test]
    fn what_was_told_adds_up_to_what_holds(
        base in 1u8..=254,
        hope in any::<bool>(),
        steps in prop::collection::vec((0usize..3, any::<bool>(), any::<bool>(), 0u8..20), 0..80),
    ) {
        let (mut tracker, now) = (Tracker::default(), Instant::now());
        let shard = of("acme/0");
        let replace = |tracker: &mut Tracker<Id>| {
            tracker.replace(now, COSTS.map(|(id, _)| (id, limits(2, 2))), [(shard.clone(), wanted(base, &COSTS, hope))]);
        };
        replace(&mut tracker);
        let (mut priority, mut able) = (tracker.tell_priorities()[&shard], true);
        for (which, good, tell, again) in steps {
            tracker.result(now, &COSTS[which].0, good);
            if again == 0 {
                replace(&mut tracker);
                // Whoever is told begins anew, able.
                (priority, able) = (tracker.tell_priorities()[&shard], true);
            }
            if tell || again == 0 {
                for (_, change) in tracker.changes() {
                    priority = change.priority.unwrap_or(priority);
                    able = change.able.unwrap_or(able);
                }
                prop_assert_eq!(tracker.verdict(&shard), verdict(priority.0, able));
            }
            let holds = tracker.verdict(&shard).expect("it is there").priority;
            prop_assert!(Priority::LOWEST <= holds && holds <= Priority(base));
        }
    }
}
