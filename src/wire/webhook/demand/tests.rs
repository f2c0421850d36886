use super::*;
use proptest::prelude::*;
use rstest::rstest;
use std::time::UNIX_EPOCH;

/// 2026-11-22T07:15:00Z
const NOW: u64 = 1_795_331_700;

fn wall(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn parse(text: &str) -> Result<Demand, Refusal> {
    Demand::parse(Body::new(text.as_bytes(), Body::LIMIT).unwrap(), wall(NOW))
}

fn demand(text: &str) -> Demand {
    parse(text).unwrap()
}

#[test]
fn a_demand_has_figures_and_an_end() {
    let read = demand(
        r#"{"source": "functions-1", "nodes": 6, "utilisation": 0.8, "bits_per_second": 12000000000, "packets_per_second": 900000,
            "connections": 400000, "for_seconds": 900}"#,
    );
    let figures = Figures {
        nodes: Some(6),
        utilisation: Some(0.8),
        bits_per_second: Some(12_000_000_000),
        packets_per_second: Some(900_000),
        connections: Some(400_000),
    };
    assert_eq!(read, Demand { source: Source("functions-1".into()), figures, lasts: Duration::from_secs(900) });
    assert_eq!(demand(r#"{"source": "a", "nodes": 6, "until": "2026-11-22T08:15:00+00:30"}"#).lasts, Duration::from_secs(1800));
}

#[rstest]
#[case(r#""nodes": 0, "for_seconds": 9"#, "nodes: 0 is out of range: write 1 to 1000")]
#[case(r#""nodes": 1001, "for_seconds": 9"#, "nodes: 1001 is out of range: write 1 to 1000")]
#[case(r#""utilisation": -0.1, "for_seconds": 9"#, "utilisation: -0.1 is out of range: write 0 to 100")]
#[case(r#""utilisation": 101, "for_seconds": 9"#, "utilisation: 101 is out of range: write 0 to 100")]
#[case(
    r#""bits_per_second": 1000000000000001, "for_seconds": 9"#,
    "bits_per_second: 1000000000000001 is out of range: write 0 to 1000000000000000"
)]
#[case(r#""nodes": 3, "for_seconds": 0"#, "for_seconds: 0 is out of range: write 1 to 86400")]
#[case(r#""nodes": 3, "for_seconds": 86401"#, "for_seconds: 86401 is out of range: write 1 to 86400")]
#[case(r#""nodes": 3"#, "a demand without an end: write until or for_seconds")]
#[case(r#""nodes": 3, "for_seconds": 9, "until": "2026-11-22T07:16:00Z""#, "a demand with two ends: write until or for_seconds, not both")]
#[case(
    r#""nodes": 3, "until": "2026-11-22T07:15:00Z""#,
    "until: that is not 1 to 86400 s ahead of the clock here: write a later time, or a nearer one"
)]
#[case(
    r#""nodes": 3, "until": "2026-11-23T07:15:01Z""#,
    "until: that is not 1 to 86400 s ahead of the clock here: write a later time, or a nearer one"
)]
#[case(
    r#""for_seconds": 9"#,
    "a demand says nothing of the load: write at least one of nodes, utilisation, bits_per_second, packets_per_second or connections"
)]
fn what_is_out_of_range_is_told_by_its_name(#[case] rest: &str, #[case] told: &str) {
    let refusal = parse(&format!(r#"{{"source": "functions", {rest}}}"#)).unwrap_err();
    assert_eq!((refusal.label(), refusal.to_string().as_str()), ("invalid", told));
}

#[rstest]
#[case(r#"{"source": "functions", "node": 3, "for_seconds": 9}"#, "unknown field `node`")]
#[case(r#"{"source": "functions", "nodes": 2.5, "for_seconds": 9}"#, "expected u32")]
#[case(r#"{"source": "functions", "nodes": "3", "for_seconds": 9}"#, "expected u32")]
#[case(r#"{"source": "functions", "nodes": 3, "nodes": 30, "for_seconds": 9}"#, "duplicate field `nodes`")]
#[case(r#"{"source": "functions", "nodes": 3, "until": "soon"}"#, "is no time")]
#[case(r#"{"nodes": 3, "for_seconds": 9}"#, "missing field `source`")]
#[case(r#"["functions", 3]"#, "")]
#[case(r#"{"source": "", "nodes": 3, "for_seconds": 9}"#, "source: \"\" is no name")]
#[case(r#"{"source": ".a", "nodes": 3, "for_seconds": 9}"#, "source: \".a\" is no name")]
#[case(r#"{"source": "a\nb", "nodes": 3, "for_seconds": 9}"#, "source: \"a\\nb\" is no name")]
#[case(r#"{"source": "0123456789012345678901234567890123456789012345678901234567890123", "nodes": 3, "for_seconds": 9}"#, "is no name")]
fn what_is_no_demand_is_told_by_how(#[case] text: &str, #[case] part: &str) {
    let refusal = parse(text).unwrap_err();
    assert_eq!(refusal.label(), "invalid", "{refusal}");
    assert!(refusal.to_string().contains(part), "{refusal}");
}

#[rstest]
#[case("1e999")]
#[case("NaN")]
#[case("Infinity")]
fn a_utilisation_is_a_number(#[case] number: &str) {
    assert!(parse(&format!(r#"{{"source": "a", "utilisation": {number}, "for_seconds": 9}}"#)).is_err());
}

fn said(demands: &mut Demands, text: &str, nodes: u32, now: Instant) {
    demands.take(&demand(text), nodes, None, now).unwrap();
}

#[test]
fn of_each_source_counts_what_it_said_last() {
    let (mut demands, now) = (Demands::new(10), Instant::now());
    for nodes in [9, 6] {
        said(&mut demands, &format!(r#"{{"source": "a", "nodes": {nodes}, "connections": 100, "for_seconds": 60}}"#), 2, now);
    }
    said(&mut demands, r#"{"source": "b", "nodes": 4, "connections": 20, "bits_per_second": 5, "for_seconds": 30}"#, 2, now);
    let both = Expected { nodes: Some(6), connections: Some(120), bits_per_second: Some(5), ..Expected::default() };
    assert_eq!(demands.expected(now), both);
    said(&mut demands, r#"{"source": "a", "connections": 0, "for_seconds": 60}"#, 2, now);
    assert_eq!(demands.expected(now), Expected { nodes: Some(4), connections: Some(20), ..both });
    assert_eq!(demands.next(), Some(now + Duration::from_secs(30)));
    let later = now + Duration::from_secs(30);
    assert_eq!(demands.expected(later), Expected { connections: Some(0), ..Expected::default() });
    assert_eq!((demands.expire(later), demands.len()), (1, 1));
    assert_eq!(demands.expected(now + Duration::from_secs(60)), Expected::default());
}

#[test]
fn a_utilisation_that_is_repeated_is_no_more_work_than_before() {
    let (mut demands, now) = (Demands::new(10), Instant::now());
    let text = |share: f64| format!(r#"{{"source": "a", "utilisation": {share}, "for_seconds": 60}}"#);
    for nodes in 2..10 {
        said(&mut demands, &text(0.75), nodes, now);
        assert_eq!(demands.expected(now).work, Some(1.5));
    }
    said(&mut demands, &text(0.5), 4, now);
    assert_eq!(demands.expected(now).work, Some(2.0));
    said(&mut demands, r#"{"source": "b", "utilisation": 0.25, "for_seconds": 60}"#, 4, now);
    assert_eq!(demands.expected(now).work, Some(2.0), "each speaks of the whole group");
}

#[test]
fn what_was_overtaken_on_its_way_does_not_count() {
    let (mut demands, now) = (Demands::new(10), Instant::now());
    let with = |nodes: u32| demand(&format!(r#"{{"source": "a", "nodes": {nodes}, "for_seconds": 60}}"#));
    assert_eq!(demands.take(&with(4), 2, Some(wall(100)), now), Ok(()));
    assert_eq!(demands.take(&with(9), 2, Some(wall(99)), now).unwrap_err().label(), "outdated");
    assert_eq!(demands.take(&with(5), 2, Some(wall(100)), now), Ok(()));
    assert_eq!(demands.take(&with(6), 2, None, now), Ok(()));
    assert_eq!(demands.take(&with(9), 2, Some(wall(99)), now).unwrap_err().label(), "outdated");
    assert_eq!(demands.expected(now).nodes, Some(6));
}

#[test]
fn there_is_no_room_for_more_sources_than_the_limit() {
    let (mut demands, now) = (Demands::new(2), Instant::now());
    let from = |source: &str| demand(&format!(r#"{{"source": "{source}", "nodes": 3, "for_seconds": 60}}"#));
    assert_eq!(demands.take(&from("a"), 2, None, now), Ok(()));
    assert_eq!(demands.take(&from("b"), 2, None, now), Ok(()));
    assert_eq!(demands.take(&from("c"), 2, None, now).unwrap_err().label(), "full");
    assert_eq!(demands.take(&from("a"), 2, None, now), Ok(()));
    assert_eq!(demands.take(&from("c"), 2, None, now + Duration::from_secs(60)), Ok(()));
}

proptest! {
    #[test]
    fn no_body_is_too_odd(bytes in any::<Vec<u8>>(), text in ".*", number in any::<f64>(), seconds in any::<u64>()) {
        let _ = Demand::parse(Body::new(&bytes, Body::LIMIT).unwrap(), wall(NOW));
        let _ = parse(&text);
        let text = serde_json::json!({"source": "a", "utilisation": number, "for_seconds": seconds}).to_string();
        if let Ok(demand) = parse(&text) {
            prop_assert!(UTILISATION.contains(&demand.figures.utilisation.unwrap()) && LASTS.contains(&seconds));
            let (mut demands, now) = (Demands::new(1), Instant::now());
            prop_assert!(demands.take(&demand, u32::MAX, None, now).is_ok());
            prop_assert!(demands.expected(now).work.is_some_and(f64::is_finite));
        }
    }

    /// Loads that add up to more than there can be are the most that there can be.
    #[test]
    fn loads_of_many_sources_do_not_overflow(loads in proptest::collection::vec(LOAD, 0..100)) {
        let (mut demands, now) = (Demands::new(100), Instant::now());
        for (i, load) in loads.iter().enumerate() {
            said(&mut demands, &format!(r#"{{"source": "s{i}", "connections": {load}, "for_seconds": 60}}"#), 2, now);
        }
        prop_assert_eq!(demands.expected(now).connections, loads.iter().copied().reduce(|a, b| a + b));
    }
}
