use super::*;
use std::net::SocketAddr;
use std::time::Duration;

const RATE: Rate = Rate { per_second: 10, burst: 64 };

fn of(n: u32) -> Source {
    Source::V4(n.to_be_bytes())
}

#[test]
fn who_shares_a_prefix_shares_a_bucket() {
    let source = |text: &str| Source::from(text.parse::<SocketAddr>().expect("an address"));
    assert_eq!(source("10.0.0.1:1"), source("10.0.0.1:2"));
    assert_ne!(source("10.0.0.1:1"), source("10.0.0.2:1"));
    assert_eq!(source("[2001:db8:0:1::1]:1"), source("[2001:db8:0:1:ffff::2]:1"));
    assert_ne!(source("[2001:db8:0:1::1]:1"), source("[2001:db8:0:2::1]:1"));
    assert_eq!(source("[::ffff:10.0.0.1]:1"), source("10.0.0.1:1"));
}

#[test]
fn a_source_has_its_burst_and_then_its_rate() {
    let start = Instant::now();
    let mut buckets = Buckets::new(start, RATE, 1000);
    assert_eq!((0..1000).filter(|_| buckets.take(start, of(1))).count(), 64);
    assert!(buckets.take(start, of(2)), "another's business");
    let taken = (1..=100_000).filter(|i| buckets.take(start + Duration::from_micros(i * 100), of(1))).count();
    assert_eq!(taken, 100, "in ten seconds");
    buckets.give_back(of(1));
    assert!(buckets.take(start + Duration::from_secs(10), of(1)));
}

#[test]
fn a_source_is_clean_until_it_owes() {
    let start = Instant::now();
    let mut buckets = Buckets::new(start, RATE, 1000);
    assert!(buckets.is_clean(start, of(1)));
    (0..2).for_each(|_| assert!(buckets.take(start, of(1)) && buckets.is_clean(start, of(1))));
    assert!(buckets.take(start, of(1)) && !buckets.is_clean(start, of(1)));
    buckets.give_back(of(1));
    assert!(buckets.is_clean(start, of(1)));
}

/// A million sources, each new: what is remembered stays within its limit, and in time all of it is forgotten.
#[test]
fn a_million_sources_take_no_more_room_than_the_limit() {
    let (start, limit) = (Instant::now(), 65_536);
    let mut buckets = Buckets::new(start, RATE, limit);
    for n in 0..1_000_000 {
        assert!(buckets.take(start + Duration::from_micros(u64::from(n)), of(n)));
        assert!(buckets.len() <= limit);
    }
    assert!(buckets.len() >= limit / 2);
    buckets.take(start + Duration::from_secs(100), of(0));
    assert_eq!(buckets.len(), 1);
}
