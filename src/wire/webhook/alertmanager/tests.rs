use super::*;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// As Alertmanager writes it, with a key of a release to come.
fn body() -> Value {
    json!({
        "receiver": "portway", "status": "firing", "version": "4", "groupKey": "{}:{alertname=\"GatewaysNearTheirLimit\"}",
        "truncatedAlerts": 2, "groupLabels": {"alertname": "GatewaysNearTheirLimit"}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://169.254.169.254/latest/meta-data", "notificationReason": "repeat",
        "alerts": [
            {
                "status": "firing", "labels": {"alertname": "GatewaysNearTheirLimit", "portway": "scale-out"}, "annotations": {},
                "startsAt": "2026-11-22T07:15:00.5Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://169.254.169.254/latest/meta-data", "fingerprint": "00e9d7b0a4ab8c3e"
            },
            {
                "status": "resolved", "labels": {"alertname": "SaleBegins"}, "annotations": {"portway_nodes": "not read when it is over"},
                "startsAt": "2026-11-22T07:00:00Z", "endsAt": "2026-11-22T07:10:00Z", "generatorURL": "", "fingerprint": "ffe9d7b0a4ab8c3e"
            }
        ]
    })
}

fn parse(body: &Value) -> Result<Notification, Refusal> {
    let bytes = serde_json::to_vec(body).unwrap();
    Notification::parse(Body::new(&bytes, Body::LIMIT).unwrap())
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_331_400 + seconds)
}

#[test]
fn a_notification_is_read_and_what_is_new_in_it_ignored() {
    let read = parse(&body()).unwrap();
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let near = Alert {
        fingerprint: Fingerprint(0x00e9_d7b0_a4ab_8c3e),
        state: State::Firing(Some(Ask::OneMore)),
        starts_at: at(300) + Duration::from_millis(500),
        ends_at: None,
        labels: labels(&[("alertname", "GatewaysNearTheirLimit"), ("portway", "scale-out")]),
    };
    let sale = Alert {
        fingerprint: Fingerprint(0xffe9_d7b0_a4ab_8c3e),
        state: State::Resolved,
        starts_at: at(0) - Duration::from_secs(600),
        ends_at: Some(at(0)),
        labels: labels(&[("alertname", "SaleBegins")]),
    };
    assert_eq!(near.source().as_str(), "alert/GatewaysNearTheirLimit/00e9d7b0a4ab8c3e");
    let group = "{}:{alertname=\"GatewaysNearTheirLimit\"}".into();
    assert_eq!(read, Notification { group, alerts: vec![near, sale], truncated: 2, unread: vec![] });
}

/// As the autoscaler takes them: 1 to 128 bytes without control characters.
#[rstest]
#[case("", "alert//00e9d7b0a4ab8c3e")]
#[case("a\nlevel=error", "alert/a\\nlevel=error/00e9d7b0a4ab8c3e")]
#[case(&"\u{fc}".repeat(100), &format!("alert/{}/00e9d7b0a4ab8c3e", "\u{fc}".repeat(40)))]
#[case(&"\u{1b}".repeat(1000), &format!("alert/{}/00e9d7b0a4ab8c3e", &"\\u{1b}".repeat(20)[..80]))]
fn the_source_of_a_level_is_the_alert_whatever_it_is_called(#[case] name: &str, #[case] source: &str) {
    let mut body = body();
    body["alerts"][0]["labels"]["alertname"] = name.into();
    let read = parse(&body).unwrap().alerts[0].source();
    assert_eq!(read.as_str(), source);
    assert!(read.as_str().len() <= 128 && !read.as_str().contains(char::is_control));
}

#[test]
fn notifications_of_one_group_are_about_the_same() {
    let (one, mut other) = (body(), body());
    other["alerts"] = json!([]);
    assert_eq!(parse(&one).unwrap().subject(), parse(&other).unwrap().subject());
    other["groupKey"] = "{}:{}".into();
    assert_ne!(parse(&one).unwrap().subject(), parse(&other).unwrap().subject());
    assert_eq!(parse(&other).unwrap().subject().to_string().len(), "alerts/".len() + 16);
}

#[rstest]
#[case(json!({}), json!({}), Ok(None))]
#[case(json!({"portway": "scale-out"}), json!({}), Ok(Some(Ask::OneMore)))]
#[case(json!({}), json!({"portway": "scale-out"}), Ok(Some(Ask::OneMore)))]
#[case(json!({"portway_nodes": "6"}), json!({}), Ok(Some(Ask::Nodes(6))))]
#[case(json!({"portway_nodes": "6"}), json!({"portway_nodes": "7"}), Ok(Some(Ask::Nodes(7))))]
#[case(json!({"portway": "scale-out"}), json!({"portway_nodes": "1000"}), Ok(Some(Ask::Nodes(1000))))]
#[case(json!({"portway": "scale-in"}), json!({}), Err("the alert \\\"A\\\": portway: \\\"scale-in\\\" is nothing to ask for: write scale-out"))]
#[case(json!({"portway_nodes": "0"}), json!({}), Err("the alert \\\"A\\\": portway_nodes: \\\"0\\\" is no number of nodes: write 1 to 1000"))]
#[case(json!({"portway_nodes": "1001"}), json!({}), Err("the alert \\\"A\\\": portway_nodes: \\\"1001\\\" is no number of nodes: write 1 to 1000"))]
#[case(json!({"portway_nodes": "-1"}), json!({}), Err("the alert \\\"A\\\": portway_nodes: \\\"-1\\\" is no number of nodes: write 1 to 1000"))]
#[case(json!({"portway_nodes": "{{ $value }}"}), json!({"portway": "scale-out"}),
    Err("the alert \\\"A\\\": portway_nodes: \\\"{{ $value }}\\\" is no number of nodes: write 1 to 1000"))]
fn what_an_alert_asks_for_is_written_in_its_rule(
    #[case] labels: Value,
    #[case] annotations: Value,
    #[case] expected: Result<Option<Ask>, &str>,
) {
    let mut body = body();
    body["alerts"][0]["labels"] = labels;
    body["alerts"][0]["labels"]["alertname"] = "A".into();
    body["alerts"][0]["annotations"] = annotations;
    let read = parse(&body).unwrap();
    match expected {
        Ok(ask) => assert_eq!((read.alerts[0].state, read.unread), (State::Firing(ask), vec![])),
        Err(told) => {
            assert_eq!(read.unread.iter().map(ToString::to_string).collect::<Vec<_>>(), [told.replace("\\\"", "\"")]);
            assert_eq!(read.alerts.len(), 1, "the others count");
        }
    }
}

#[rstest]
#[case("version", json!("3"), "wrong_version")]
#[case("version", json!("1"), "wrong_version")]
#[case("version", json!("4\n"), "wrong_version")]
#[case("version", json!(4), "invalid")]
#[case("version", Value::Null, "invalid")]
#[case("alerts", json!({}), "invalid")]
#[case("alerts", Value::Null, "invalid")]
#[case("truncatedAlerts", json!(-1), "invalid")]
fn a_notification_of_another_form_is_refused(#[case] key: &str, #[case] value: Value, #[case] label: &str) {
    let mut body = body();
    body[key] = value;
    assert_eq!(parse(&body).unwrap_err().label(), label);
}

#[rstest]
#[case("status", json!("suppressed"))]
#[case("labels", json!(["a"]))]
#[case("labels", json!({"a": 1}))]
#[case("startsAt", json!("yesterday"))]
#[case("startsAt", json!(1_795_331_700))]
#[case("endsAt", json!(""))]
#[case("fingerprint", json!("e9d7b0a4ab8c3e"))]
#[case("fingerprint", json!("00E9D7B0A4AB8C3E"))]
#[case("fingerprint", json!("+0e9d7b0a4ab8c3e"))]
fn an_alert_of_another_form_is_refused(#[case] key: &str, #[case] value: Value) {
    let mut changed = body();
    changed["alerts"][0][key] = value;
    let refusal = parse(&changed).unwrap_err();
    assert_eq!(refusal.label(), "invalid");
    assert!(refusal.to_string().starts_with("a notification of Alertmanager is not as it must be: "), "{refusal}");
    changed["alerts"][0].as_object_mut().unwrap().remove(key);
    assert_eq!(parse(&changed).is_ok(), key == "endsAt");
}

#[test]
fn a_notification_that_is_cut_off_anywhere_is_truncated() {
    let bytes = serde_json::to_vec(&body()).unwrap();
    for length in 0..bytes.len() {
        let refusal = Notification::parse(Body::new(&bytes[..length], Body::LIMIT).unwrap()).unwrap_err();
        assert_eq!(refusal.label(), "truncated", "after {length} bytes: {refusal}");
    }
}

proptest! {
    #[test]
    fn no_body_is_too_odd(at in any::<prop::sample::Index>(), with in any::<Vec<u8>>()) {
        let mut bytes = serde_json::to_vec(&body()).unwrap();
        let at = at.index(bytes.len());
        bytes.splice(at..(at + with.len()).min(bytes.len()), with.iter().copied());
        for bytes in [&bytes, &with] {
            let _ = Notification::parse(Body::new(bytes, Body::LIMIT).unwrap());
        }
    }
}
