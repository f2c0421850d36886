use super::{Format, Page};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use rstest::rstest;

fn page() -> Page {
    let mut page = Page::default();
    page.counter("drops", "Packets that are gone", &[("reason", "a \"quoted\" one")], 7);
    page.seconds("cpu_seconds", "Time of a processor", &[], 1.5);
    page.gauge("ready", "1 when it is", &[], 1.0);
    page.histogram("lag_seconds", "How late", &[("peer", "b")], [0.001, 0.5], [3, 0, 1], 2.25);
    page
}

#[test]
fn in_openmetrics_a_counter_is_called_without_its_suffix_and_the_page_has_an_end() {
    insta::assert_snapshot!(page().encode(Format::OpenMetrics).unwrap(), @r##"
    # HELP cpu_seconds Time of a processor
    # TYPE cpu_seconds counter
    cpu_seconds_total{} 1.5
    # HELP drops Packets that are gone
    # TYPE drops counter
    drops_total{reason="a \"quoted\" one"} 7
    # HELP lag_seconds How late
    # TYPE lag_seconds histogram
    lag_seconds_sum{peer="b"} 2.25
    lag_seconds_count{peer="b"} 4
    lag_seconds_bucket{le="0.001",peer="b"} 3
    lag_seconds_bucket{le="0.5",peer="b"} 3
    lag_seconds_bucket{le="+Inf",peer="b"} 4
    # HELP ready 1 when it is
    # TYPE ready gauge
    ready{} 1.0
    # EOF
    "##);
}

#[test]
fn in_prometheus_own_format_it_is_called_as_its_samples_are() {
    insta::assert_snapshot!(page().encode(Format::Text).unwrap(), @r##"
    # HELP cpu_seconds_total Time of a processor
    # TYPE cpu_seconds_total counter
    cpu_seconds_total{} 1.5
    # HELP drops_total Packets that are gone
    # TYPE drops_total counter
    drops_total{reason="a \"quoted\" one"} 7
    # HELP lag_seconds How late
    # TYPE lag_seconds histogram
    lag_seconds_sum{peer="b"} 2.25
    lag_seconds_count{peer="b"} 4
    lag_seconds_bucket{le="0.001",peer="b"} 3
    lag_seconds_bucket{le="0.5",peer="b"} 3
    lag_seconds_bucket{le="+Inf",peer="b"} 4
    # HELP ready 1 when it is
    # TYPE ready gauge
    ready{} 1.0
    "##);
}

/// The first are what Prometheus 2.42, Prometheus 3 (protobuf left out) and curl send.
#[rstest]
#[case(
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    true
)]
#[case(
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;escaping=allow-utf-8;q=0.4,*/*;q=0.2",
    true
)]
#[case("*/*", false)]
#[case("", false)]
#[case("text/plain", false)]
#[case("text/html, application/xhtml+xml, */*;q=0.8", false)]
#[case("text/plain;version=0.0.4, application/openmetrics-text;q=0.9", false)]
#[case("application/openmetrics-text; version=1.0.0; q=0", false)]
#[case("Application/OpenMetrics-Text ; Q=0.3 , text/plain; q=0.2", true)]
#[case("application/openmetrics-text;q=high", false)]
fn who_does_not_ask_for_openmetrics_gets_what_every_scraper_reads(#[case] accept: &str, #[case] openmetrics: bool) {
    let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())]);
    assert_eq!(Format::asked(&headers) == Format::OpenMetrics, openmetrics);
    let answer = page().answer(&headers);
    assert_eq!((answer.status(), answer.headers()[header::VARY].to_str().unwrap()), (StatusCode::OK, "accept"));
    let is = answer.headers()[header::CONTENT_TYPE].to_str().unwrap();
    let wanted = if openmetrics { "application/openmetrics-text; version=1.0.0" } else { "text/plain; version=0.0.4" };
    assert!(is.starts_with(wanted), "{is}");
}

#[test]
fn without_a_wish_it_is_prometheus_own_format() {
    assert_eq!(Format::asked(&HeaderMap::new()), Format::Text);
}
