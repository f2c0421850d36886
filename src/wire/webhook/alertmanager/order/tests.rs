use super::*;
use proptest::prelude::*;
use std::time::UNIX_EPOCH;

const HOUR: Duration = Duration::from_secs(3600);

fn wall(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn alert(fingerprint: u64, starts_at: u64, state: State, ends_at: Option<u64>) -> Alert {
    let labels = [("alertname".to_owned(), format!("A{fingerprint}"))].into();
    Alert { fingerprint: Fingerprint(fingerprint), state, starts_at: wall(starts_at), ends_at: ends_at.map(wall), labels }
}

fn fires(fingerprint: u64, starts_at: u64) -> Alert {
    alert(fingerprint, starts_at, State::Firing(Some(Ask::Nodes(6))), None)
}

fn resolved(fingerprint: u64, starts_at: u64, ends_at: u64) -> Alert {
    alert(fingerprint, starts_at, State::Resolved, Some(ends_at))
}

fn begins(fingerprint: u64, nodes: u32, until: Instant) -> Said {
    let figures = Figures { nodes: Some(nodes), ..Figures::default() };
    Said::Level(Level { source: fires(fingerprint, 0).source(), figures, until })
}

fn ends(fingerprint: u64) -> Said {
    Said::Ends(fires(fingerprint, 0).source())
}

fn two_nodes() -> History {
    let mut history = History::default();
    history.note(wall(0), 2);
    history
}

fn order() -> (Order, Instant) {
    (Order::new(HOUR, 10), Instant::now())
}

fn take(order: &mut Order, alerts: &[Alert], now: Instant) -> Heard {
    let notification = Notification { group: "{}".into(), alerts: alerts.to_vec(), truncated: 0, unread: vec![] };
    order.take(&notification, &two_nodes(), now)
}

fn says(said: Said) -> Heard {
    Heard { said: vec![said], ..Heard::default() }
}

#[test]
fn what_fires_is_a_level_until_it_lapses_however_often_it_is_said() {
    let (mut order, now) = order();
    for minute in 0..10 {
        let now = now + Duration::from_secs(60 * minute);
        assert_eq!(take(&mut order, &[fires(1, 100)], now), says(begins(1, 6, now + HOUR)));
    }
    assert_eq!(take(&mut order, &[resolved(1, 100, 200)], now), says(ends(1)));
    assert_eq!(take(&mut order, &[resolved(1, 100, 200)], now), says(ends(1)), "said again, it says the same");
}

#[test]
fn one_more_is_of_the_nodes_that_there_were() {
    let (mut order, now) = order();
    let more = alert(1, 100, State::Firing(Some(Ask::OneMore)), None);
    assert_eq!(take(&mut order, std::slice::from_ref(&more), now), says(begins(1, 3, now + HOUR)));
    let notification = Notification { group: String::new(), alerts: vec![more, fires(2, 100)], truncated: 0, unread: vec![] };
    let heard = order.take(&notification, &History::default(), now);
    assert_eq!(heard.said, [begins(2, 6, now + HOUR)], "the others count");
    assert_eq!(heard.refused.unwrap().status(), 503, "it is to be sent again when it is known how many there are");
}

#[test]
fn a_rule_that_is_changed_while_it_fires_counts_as_it_is_now() {
    let (mut order, now) = order();
    take(&mut order, &[fires(1, 100)], now);
    let fewer = alert(1, 100, State::Firing(Some(Ask::Nodes(4))), None);
    assert_eq!(take(&mut order, &[fewer], now), says(begins(1, 4, now + HOUR)));
    let nothing = alert(1, 100, State::Firing(None), None);
    assert_eq!(take(&mut order, &[nothing], now), says(ends(1)));
}

#[test]
fn what_was_overtaken_by_its_end_does_not_fire_and_is_to_be_sent_again() {
    let (mut order, now) = order();
    take(&mut order, &[resolved(1, 100, 200)], now);
    let later = now + Duration::from_secs(60);
    let heard = take(&mut order, &[fires(1, 100), fires(2, 100)], later);
    assert_eq!(heard.said, [begins(2, 6, later + HOUR)], "the others count");
    let left = Duration::from_secs(240);
    assert_eq!(heard.refused, Some(Refusal::Overtaken { alert: "alert/A1/0000000000000001".into(), left }));
    assert_eq!(heard.refused.unwrap().status(), 503);
    assert!(take(&mut order, &[fires(1, 200)], later).refused.is_some(), "to the very end");
    let still = now + ENDED;
    assert_eq!(take(&mut order, &[fires(1, 100)], still), says(begins(1, 6, still + HOUR)), "it fires again with its old beginning");
}

#[test]
fn what_begins_after_its_end_fires_at_once() {
    let (mut order, now) = order();
    take(&mut order, &[fires(1, 100)], now);
    take(&mut order, &[resolved(1, 100, 200)], now);
    assert_eq!(take(&mut order, &[fires(1, 201)], now), says(begins(1, 6, now + HOUR)));
}

#[test]
fn an_end_from_before_what_fires_is_passed_over() {
    let (mut order, now) = order();
    take(&mut order, &[fires(1, 300)], now);
    assert_eq!(take(&mut order, &[resolved(1, 100, 200)], now), Heard { old: 1, ..Heard::default() });
    assert_eq!(take(&mut order, &[resolved(1, 300, 300)], now), says(ends(1)));
    assert!(take(&mut order, &[resolved(1, 100, 200), fires(1, 250)], now).refused.is_some(), "the later end stays known");
}

#[test]
fn an_end_without_a_time_is_that_of_its_beginning() {
    let (mut order, now) = order();
    take(&mut order, &[fires(1, 300)], now);
    assert_eq!(take(&mut order, &[alert(1, 200, State::Resolved, None)], now).old, 1);
    assert_eq!(take(&mut order, &[alert(1, 300, State::Resolved, None)], now), says(ends(1)));
}

#[test]
fn of_two_that_say_it_fires_the_later_beginning_counts() {
    let (mut order, now) = order();
    take(&mut order, &[fires(1, 300)], now);
    assert_eq!(take(&mut order, &[fires(1, 290)], now).said.len(), 1);
    assert_eq!(take(&mut order, &[resolved(1, 100, 295)], now).old, 1);
}

#[test]
fn what_is_remembered_has_an_end_in_time_and_number() {
    let (mut order, now) = order();
    take(&mut order, &[fires(0, 100), fires(1, 100), resolved(2, 100, 200)], now);
    assert_eq!(order.remembered(), 3);
    take(&mut order, &[fires(1, 100)], now + ENDED);
    assert_eq!(order.remembered(), 2, "the end is forgotten");
    take(&mut order, &[fires(1, 100)], now + HOUR);
    assert_eq!(order.remembered(), 1, "what was not heard of has lapsed");

    let now = now + HOUR;
    take(&mut order, &[resolved(2, 100, 200)], now);
    let many: Vec<Alert> = (10..18).map(|fingerprint| fires(fingerprint, 100)).collect();
    assert_eq!(take(&mut order, &many, now).said.len(), 8);
    assert_eq!(order.remembered(), 10);
    take(&mut order, &[fires(18, 100)], now);
    assert_eq!(order.remembered(), 10);
    assert_eq!(take(&mut order, &[fires(2, 100)], now).refused, None, "the end made room");
    assert_eq!(take(&mut order, &[resolved(18, 50, 60)], now).old, 1, "and not what fires");
}

/// A notification of one alert that is on its way.
#[derive(Debug, Clone)]
struct Post {
    alert: Alert,
    arrives: u64,
}

prop_compose! {
    /// The life of one alert: it fires and ends some times, and each is told with delays.
    fn life()(spells in proptest::collection::vec((1u64..100, 1u64..100), 1..6), fires_now in any::<bool>())
        (delays in proptest::collection::vec((0u64..250, 0u64..250, 0u64..250), spells.len()), spells in Just(spells), fires_now in Just(fires_now))
        -> (Vec<Post>, bool) {
        let (mut posts, mut time) = (vec![], 0);
        for (i, ((quiet, firing), delays)) in spells.iter().zip(delays).enumerate() {
            let begin = time + quiet;
            time = begin + firing;
            posts.extend([begin + delays.0, time - 1 + delays.1].map(|arrives| Post { alert: fires(1, begin), arrives }));
            if i + 1 < spells.len() || !fires_now {
                posts.push(Post { alert: resolved(1, begin, time), arrives: time + delays.2 });
            }
        }
        posts.sort_by_key(|post| post.arrives);
        (posts, fires_now)
    }
}

proptest! {
    /// However late and in whatever order its notifications come, in the end it is as it is.
    #[test]
    fn the_last_word_is_right((posts, fires_now) in life()) {
        let (mut order, start) = order();
        let mut last = None;
        for Post { alert, arrives } in posts {
            if let Some(said) = take(&mut order, &[alert], start + Duration::from_secs(arrives)).said.pop() {
                last = Some(matches!(said, Said::Level(_)));
            }
            prop_assert!(order.remembered() <= 1);
        }
        prop_assert_eq!(last, Some(fires_now));
    }
}
