use super::*;
use rstest::rstest;
use time::{UtcOffset, Weekday};

const THURSDAY: u64 = 0;
const DAY: u64 = 24 * 3600;

fn schedule(offset: i8) -> Schedule {
    let days = vec![Weekday::Thursday, Weekday::Friday];
    let office = Hours { days, from: 8 * 60, to: 18 * 60, min: 6 };
    let night = Hours { days: vec![Weekday::Saturday], from: 22 * 60, to: 2 * 60, min: 4 };
    let always = Hours { days: vec![], from: 0, to: 24 * 60, min: 3 };
    Schedule { offset: UtcOffset::from_hms(offset, 0, 0).unwrap(), hours: vec![office, night, always] }
}

/// 1970-01-01 was a Thursday.
#[rstest]
#[case::before(0, THURSDAY * DAY + 8 * 3600 - 1, 3)]
#[case::begins(0, THURSDAY * DAY + 8 * 3600, 6)]
#[case::lasts(0, DAY + 18 * 3600 - 1, 6)]
#[case::ends(0, DAY + 18 * 3600, 3)]
#[case::another_day(0, 2 * DAY + 12 * 3600, 3)]
#[case::night_begins(0, 2 * DAY + 22 * 3600, 4)]
#[case::past_midnight(0, 3 * DAY + 2 * 3600 - 1, 4)]
#[case::morning(0, 3 * DAY + 2 * 3600, 3)]
#[case::east(2, THURSDAY * DAY + 6 * 3600, 6)]
#[case::west_is_later(-5, THURSDAY * DAY + 8 * 3600, 3)]
fn the_highest_of_what_holds(#[case] offset: i8, #[case] seconds: u64, #[case] min: u32) {
    assert_eq!(schedule(offset).min(UNIX_EPOCH + s(seconds)), min);
}

#[test]
fn a_clock_that_no_calendar_knows_has_no_hours() {
    assert_eq!(schedule(0).min(UNIX_EPOCH - s(1)), 0);
    assert_eq!(schedule(0).min(UNIX_EPOCH + s(1 << 60)), 0);
}

#[test]
fn hours_add_nodes_even_if_nobody_is_heard_and_a_clock_that_leaps_does_not_flap() {
    let mut bench = Bench::new(Policy { schedule: schedule(0), ..policy() }, 3);
    let (day, night) = (UNIX_EPOCH + s(12 * 3600), UNIX_EPOCH + s(20 * 3600));
    bench.scaler.tick(bench.now, day);
    bench.gather();
    assert_eq!(bench.orders, [6]);
    assert_eq!(bench.decisions[0].to_string(), "3 -> 6 nodes: the minimum at this hour");
    bench.come();
    for second in 0..200 {
        bench.second(1.0, |_| true);
        bench.scaler.tick(bench.now, if second % 2 == 0 { night } else { day });
        bench.gather();
    }
    assert_eq!(bench.orders, [6]);
}
