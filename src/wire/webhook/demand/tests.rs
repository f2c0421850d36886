use super::*;
use proptest::prelude::*;
use rstest::rstest;
use std::time::UNIX_EPOCH;

/// 2026-11-22T07:15:00Z
const NOW: u64 = 1_795_331_700;

fn parse(text: &str) -> Result<Demand, Refusal> {
    Demand::parse(Body::new(text.as_bytes(), Body::LIMIT).unwrap(), UNIX_EPOCH + Duration::from_secs(NOW))
}

fn demand(text: &str) -> Demand {
    parse(text).unwrap()
}

#[test]
fn a_demand_is_a_level_of_its_source_until_it_ends() {
    let read = demand(
        r#"{"source": "functions-1", "nodes": 6, "bits_per_second": 12000000000, "packets_per_second": 900000,
            "connections": 400000, "for_seconds": 900}"#,
    );
    let figures =
        Figures { nodes: Some(6), bits_per_second: Some(12_000_000_000), packets_per_second: Some(900_000), connections: Some(400_000) };
    let now = Instant::now();
    let source = Source::new("demand/functions-1".into());
    assert_eq!(read.said(now), Said::Level(Level { source, figures, until: now + Duration::from_secs(900) }));
    let read = demand(r#"{"source": "a", "nodes": 6, "until": "2026-11-22T08:15:00+00:30"}"#);
    let figures = Figures { nodes: Some(6), ..Figures::default() };
    assert_eq!(read.expects, Expects::Figures(figures, Duration::from_secs(1800)));
}

#[test]
fn what_lasts_for_no_time_ends_what_was_said_before() {
    let ends = demand(r#"{"source": "sale", "for_seconds": 0}"#);
    let begun = demand(r#"{"source": "sale", "nodes": 6, "for_seconds": 9}"#);
    let now = Instant::now();
    assert_eq!(ends.said(now), Said::Ends(Source::new("demand/sale".into())));
    assert_eq!((ends.said(now).source(), ends.subject()), (begun.said(now).source(), begun.subject()), "it is the same source");
}

#[rstest]
#[case(r#""nodes": 0, "for_seconds": 9"#, "nodes: 0 is out of range: write 1 to 1000")]
#[case(r#""nodes": 1001, "for_seconds": 9"#, "nodes: 1001 is out of range: write 1 to 1000")]
#[case(
    r#""bits_per_second": 1000000000000001, "for_seconds": 9"#,
    "bits_per_second: 1000000000000001 is out of range: write 0 to 1000000000000000"
)]
#[case(
    r#""packets_per_second": 1000000000000001, "for_seconds": 9"#,
    "packets_per_second: 1000000000000001 is out of range: write 0 to 1000000000000000"
)]
#[case(
    r#""connections": 1000000000000001, "for_seconds": 9"#,
    "connections: 1000000000000001 is out of range: write 0 to 1000000000000000"
)]
#[case(r#""nodes": 3, "for_seconds": 0"#, "a demand with for_seconds 0 ends what its source said: leave the figures out")]
#[case(r#""nodes": 3, "for_seconds": 86401"#, "for_seconds: 86401 is out of range: write 0 to 86400")]
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
    "a demand says nothing of the load: write at least one of nodes, bits_per_second, packets_per_second or connections"
)]
fn what_is_out_of_range_is_told_by_its_name(#[case] rest: &str, #[case] told: &str) {
    let refusal = parse(&format!(r#"{{"source": "functions", {rest}}}"#)).unwrap_err();
    assert_eq!((refusal.label(), refusal.to_string().as_str()), ("invalid", told));
}

#[rstest]
#[case(r#"{"source": "functions", "node": 3, "for_seconds": 9}"#, "unknown field `node`")]
#[case(r#"{"source": "functions", "utilisation": 0.8, "for_seconds": 9}"#, "unknown field `utilisation`")]
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

proptest! {
    #[test]
    fn no_body_is_too_odd(bytes in any::<Vec<u8>>(), text in ".*", load in any::<u64>(), seconds in 0u64..100_000) {
        let _ = Demand::parse(Body::new(&bytes, Body::LIMIT).unwrap(), UNIX_EPOCH);
        let _ = parse(&text);
        let text = serde_json::json!({"source": "a", "connections": load, "for_seconds": seconds}).to_string();
        prop_assert_eq!(parse(&text).is_ok(), LOAD.contains(&load) && (1..=86_400).contains(&seconds));
    }
}
