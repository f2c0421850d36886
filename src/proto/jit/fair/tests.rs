use super::*;

fn source(n: u8) -> Source {
    Source::V4([10, 0, 0, n])
}

fn order<T>(fair: &mut Fair<T>) -> Vec<T> {
    std::iter::from_fn(|| fair.pop(|_| true)).map(|(_, item)| item).collect()
}

#[test]
fn sources_take_turns_and_who_comes_new_goes_first() {
    let mut fair = Fair::default();
    for (n, item) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (2, "b2")] {
        fair.push(source(n), Rank::Clean, item);
    }
    assert_eq!(fair.pop(|_| true), Some((source(1), "a1")));
    fair.push(source(3), Rank::Clean, "c1");
    assert_eq!(order(&mut fair), ["b1", "c1", "a2", "b2", "a3"]);
    assert!(!fair.has_next() && fair.lines.is_empty());
}

#[test]
fn who_has_done_nothing_wrong_goes_before_and_what_is_begun_before_that() {
    let mut fair = Fair::default();
    for (n, rank, item) in
        [(1, Rank::Turn, "a1"), (2, Rank::Clean, "b1"), (3, Rank::Begun, "c1"), (1, Rank::Begun, "a2"), (4, Rank::Turn, "d1")]
    {
        fair.push(source(n), rank, item);
    }
    assert_eq!(order(&mut fair), ["c1", "b1", "a1", "d1", "a2"], "a line keeps its order");
}

#[test]
fn there_is_always_a_place_for_one_more_source() {
    for greedy in [1, 2, 7, 64] {
        let mut shares = Shares::new(4096);
        let granted = (0..4096 * greedy).filter(|n| shares.take(source((n % greedy) as u8))).count();
        assert!(granted / greedy >= 4096 / (greedy + 1), "{greedy} sources get {granted}");
        assert!(shares.take(source(200)), "{greedy} sources leave no place");
    }
}

#[test]
fn who_may_not_is_passed_over_until_released() {
    let mut fair = Fair::default();
    for (n, item) in [(1, "a1"), (1, "a2"), (2, "b1")] {
        fair.push(source(n), Rank::Clean, item);
    }
    assert_eq!(fair.pop(|from| from != source(1)), Some((source(2), "b1")));
    assert_eq!(fair.pop(|from| from != source(1)), None);
    assert!(!fair.has_next() && !fair.lines.is_empty());
    fair.push(source(1), Rank::Clean, "a3");
    assert_eq!(fair.pop(|_| true), None, "nobody has released it");
    fair.release(source(1));
    fair.release(source(1));
    fair.release(source(9));
    assert_eq!(order(&mut fair), ["a1", "a2", "a3"]);
}

#[test]
fn shares_are_given_back_to_the_last() {
    let mut shares = Shares::new(10);
    let greedy = (0..20).filter(|_| shares.take(source(1))).count();
    assert_eq!(greedy, 5, "as many as are free beyond");
    assert!(shares.take(source(2)));
    (0..5).for_each(|_| shares.give_back(source(1)));
    shares.give_back(source(2));
    shares.give_back(source(2));
    assert_eq!((shares.total(), shares.held.len()), (0, 0));
}
