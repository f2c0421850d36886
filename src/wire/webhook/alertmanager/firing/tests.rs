use super::*;
use crate::wire::webhook::alertmanager::Alert;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

const HOUR: Duration = Duration::from_secs(3600);

fn wall(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn alert(fingerprint: u64, starts_at: u64, state: State) -> Alert {
    let labels = [("alertname".to_owned(), format!("A{fingerprint}"))].into();
    Alert { fingerprint: Fingerprint(fingerprint), state, starts_at: wall(starts_at), ends_at: None, labels }
}

fn notification(alerts: Vec<Alert>) -> Notification {
    Notification { alerts, truncated: 0, unread: vec![] }
}

fn more(fingerprint: u64, starts_at: u64) -> Notification {
    notification(vec![alert(fingerprint, starts_at, State::Firing(Some(Ask::OneMore)))])
}

fn nodes(fingerprint: u64, nodes: u32) -> Notification {
    notification(vec![alert(fingerprint, 0, State::Firing(Some(Ask::Nodes(nodes))))])
}

fn over(fingerprint: u64) -> Notification {
    notification(vec![alert(fingerprint, 0, State::Resolved)])
}

fn level(firing: &Firing, now: Instant) -> Option<u32> {
    firing.level(now).map(|level| level.nodes)
}

/// With two nodes from time 0 on.
fn two() -> (Firing, Instant) {
    let mut firing = Firing::new(HOUR, 10);
    firing.capacity(wall(0), 2);
    (firing, Instant::now())
}

#[test]
fn an_alert_that_is_sent_again_asks_for_no_more() {
    let (mut firing, now) = two();
    assert_eq!(firing.take(&more(1, 100), now).0, Taken { begun: 1, ..Taken::default() });
    for count in 3..20 {
        assert_eq!(firing.level(now), Some(Level { nodes: 3, alert: "A1".into() }));
        firing.capacity(wall(u64::from(count) * 100), count);
        assert_eq!(firing.take(&more(1, 100), now).0, Taken { repeated: 1, ..Taken::default() });
    }
}

#[test]
fn what_is_late_counts_from_when_it_began() {
    let (mut firing, now) = two();
    firing.capacity(wall(200), 3);
    firing.take(&more(1, 100), now);
    assert_eq!(level(&firing, now), Some(3), "two when it began; the third is there by now");
    firing.take(&more(2, 200), now);
    assert_eq!(level(&firing, now), Some(4));
    firing.take(&more(3, 1_000_000), now);
    assert_eq!(level(&firing, now), Some(4), "a clock ahead: the present three and one");
}

#[test]
fn alerts_of_one_moment_ask_for_one_node_together() {
    let (mut firing, now) = two();
    for fingerprint in 0..5 {
        firing.take(&more(fingerprint, 100), now);
    }
    assert_eq!(level(&firing, now), Some(3));
}

#[test]
fn what_is_over_asks_for_nothing_and_may_begin_again() {
    let (mut firing, now) = two();
    firing.take(&more(1, 100), now);
    firing.take(&nodes(2, 6), now);
    assert_eq!(level(&firing, now), Some(6));
    assert_eq!(firing.take(&over(2), now).0, Taken { ended: 1, ..Taken::default() });
    assert_eq!(firing.take(&over(2), now).0, Taken { ignored: 1, ..Taken::default() });
    assert_eq!(level(&firing, now), Some(3));
    firing.take(&over(1), now);
    assert_eq!(level(&firing, now), None);
    firing.capacity(wall(200), 3);
    firing.take(&more(1, 300), now);
    assert_eq!(level(&firing, now), Some(4));
}

#[test]
fn one_that_began_anew_without_an_end_between_counts_from_its_new_beginning() {
    let (mut firing, now) = two();
    firing.take(&more(1, 100), now);
    firing.capacity(wall(200), 3);
    assert_eq!(firing.take(&more(1, 300), now).0.begun, 1);
    assert_eq!((level(&firing, now), firing.len()), (Some(4), 1));
}

#[test]
fn a_rule_that_is_changed_while_it_fires_counts_as_it_is_now() {
    let (mut firing, now) = two();
    firing.take(&nodes(1, 6), now);
    firing.take(&nodes(1, 4), now);
    assert_eq!(level(&firing, now), Some(4));
    firing.take(&notification(vec![alert(1, 0, State::Firing(None))]), now);
    assert_eq!((level(&firing, now), firing.is_empty()), (None, true));
}

#[test]
fn what_is_not_repeated_lapses() {
    let (mut firing, now) = two();
    firing.take(&nodes(1, 6), now);
    firing.take(&nodes(2, 5), now + HOUR / 2);
    assert_eq!(firing.next(), Some(now + HOUR));
    let tick = Duration::from_nanos(1);
    assert_eq!((level(&firing, now + HOUR - tick), level(&firing, now + HOUR)), (Some(6), Some(5)));
    assert_eq!((firing.expire(now + HOUR), firing.next()), (1, Some(now + HOUR + HOUR / 2)));
    firing.take(&nodes(2, 5), now + HOUR);
    assert_eq!(firing.next(), Some(now + 2 * HOUR), "heard of again, it lasts longer");
}

#[test]
fn one_that_began_before_this_process_holds_what_there_was() {
    let (mut firing, now) = (Firing::new(HOUR, 10), Instant::now());
    firing.take(&more(1, 100), now);
    firing.take(&nodes(2, 1), now);
    assert_eq!(level(&firing, now), Some(1), "nobody knows yet how many there are");
    firing.capacity(wall(1000), 5);
    assert_eq!(level(&firing, now), Some(5));
    firing.capacity(wall(1100), 6);
    firing.take(&more(1, 100), now);
    assert_eq!(level(&firing, now), Some(5));
}

#[test]
fn there_is_no_room_for_more_than_the_limit_and_those_that_are_there_count() {
    let (mut firing, now) = two();
    for fingerprint in 0..10 {
        assert_eq!(firing.take(&nodes(fingerprint, 3), now).1, None);
    }
    let both = notification(vec![nodes(10, 9).alerts.remove(0), nodes(0, 7).alerts.remove(0)]);
    let (taken, refused) = firing.take(&both, now);
    assert_eq!(refused.unwrap().label(), "full");
    assert_eq!((taken.begun, level(&firing, now), firing.len()), (1, Some(7), 10));
    firing.take(&nodes(10, 9), now + HOUR);
    assert_eq!(level(&firing, now + HOUR), Some(9), "what has lapsed makes room");
}

#[test]
fn a_long_history_forgets_its_beginning() {
    let (mut firing, now) = two();
    for i in 0..1000u32 {
        firing.capacity(wall(u64::from(i) + 1), 3 + i % 2);
    }
    assert_eq!(firing.history.len(), CHANGES);
    firing.take(&more(1, 0), now);
    assert!(level(&firing, now).is_some_and(|nodes| nodes <= 4));
}

proptest! {
    /// In whatever order and however often notifications come, the level is that of the set of those that fire.
    #[test]
    fn the_level_is_that_of_what_fires(posts in proptest::collection::vec((0u64..6, 1u32..20, any::<bool>(), 1usize..4), 0..60)) {
        let (mut firing, now) = two();
        let mut set: BTreeMap<u64, u32> = BTreeMap::new();
        for (fingerprint, count, fires, times) in posts {
            for _ in 0..times {
                firing.take(&if fires { nodes(fingerprint, count) } else { over(fingerprint) }, now);
            }
            if fires { set.insert(fingerprint, count); } else { set.remove(&fingerprint); }
            prop_assert_eq!(level(&firing, now), set.values().max().copied());
            prop_assert_eq!(firing.len(), set.len());
        }
    }

    /// However the autoscaler follows it: it ends where it began, one higher.
    #[test]
    fn one_more_is_never_two(repeats in proptest::collection::vec(0u64..500, 1..50)) {
        let (mut firing, now) = two();
        let mut seen = BTreeSet::new();
        for (i, after) in repeats.iter().enumerate() {
            firing.take(&more(1, 100), now);
            let wanted = level(&firing, now).unwrap();
            seen.insert(wanted);
            firing.capacity(wall(101 + i as u64 * 500 + after), wanted);
        }
        prop_assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3]);
    }
}
