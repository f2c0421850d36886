//! What others tell an autoscaler: `webhooks:` and `prometheus:`.

use super::*;
use std::time::Duration;

const INPUTS: &str = "\
autoscaler:
  gateways: [{ name: gw-a1, metrics: 'http://10.9.0.1:9470/metrics' }]
  admin: 10.9.0.7:9474
  webhooks:
    listen: 10.9.0.7:9475
    tls: { certificate: /etc/portway/a.pem, key: /etc/portway/a.key }
    audience: autoscaler-1
    tokens: [/etc/portway/alerts.token]
    keys: [{ id: 1, file: /etc/portway/functions.key }]
    sns: { topics: ['arn:aws:sns:eu-central-1:123456789012:portway'] }
  prometheus:
    url: http://10.9.0.8:9090
    queries:
      - { name: functions, query: 'sum(expected)', figure: connections, every: 15s, lasts: 1m }
";

fn inputs(text: &str) -> (Webhooks, Prometheus) {
    match parse(text, "f") {
        Ok(Config::Autoscaler(autoscaler)) => (autoscaler.webhooks.unwrap(), autoscaler.prometheus.unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn they_mean_what_they_say_and_are_off_unless_they_are_written() {
    let (webhooks, prometheus) = inputs(INPUTS);
    assert_eq!((webhooks.listen.port(), webhooks.audience.as_str(), webhooks.tokens.len()), (9475, "autoscaler-1", 1));
    assert_eq!((webhooks.keys[0].id.get(), webhooks.topics[0].region()), (1, "eu-central-1"));
    let query = &prometheus.queries[0];
    assert_eq!((query.figure, query.every, query.lasts), (Figure::Connections, Duration::from_secs(15), Duration::from_secs(60)));
    let short = with(
        INPUTS,
        &[
            ("    listen: 10.9.0.7:9475\n", ""),
            ("    audience: autoscaler-1\n", ""),
            ("    sns: { topics: ['arn:aws:sns:eu-central-1:123456789012:portway'] }\n", ""),
            (", every: 15s, lasts: 1m", ", every: 3m"),
        ],
    );
    let (webhooks, prometheus) = inputs(&short);
    assert_eq!((webhooks.listen.to_string().as_str(), webhooks.audience.as_str()), ("127.0.0.1:9475", "autoscaler"));
    assert!(webhooks.topics.is_empty());
    assert_eq!(prometheus.queries[0].lasts, Duration::from_secs(540));
    let Ok(Config::Autoscaler(none)) = parse(&INPUTS.lines().take(3).collect::<Vec<_>>().join("\n"), "f") else { panic!() };
    assert_eq!((none.webhooks, none.prometheus), (None, None));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let changes: [&[(&str, &str)]; 17] = [
        &[("listen: 10.9.0.7:9475", "listen: 10.9.0.7:9474")],
        &[("listen: 10.9.0.7:9475", "listen: 10.9.0.7")],
        &[("    tls: { certificate: /etc/portway/a.pem, key: /etc/portway/a.key }\n", "")],
        &[("key: /etc/portway/a.key", "key: a.key")],
        &[("autoscaler-1", "'autoscaler 1'")],
        &[("tokens: [/etc/portway/alerts.token]", "tokens: []")],
        &[("[/etc/portway/alerts.token]", "[/etc/portway/alerts.token, /etc/portway/alerts.token]")],
        &[("keys: [", "keys: [{ id: 1, file: /etc/portway/other.key }, ")],
        &[("id: 1", "id: 0")],
        &[("arn:aws:sns:eu-central-1", "arn:aws:sqs:eu-central-1")],
        &[
            ("    tokens: [/etc/portway/alerts.token]\n", ""),
            ("    keys: [{ id: 1, file: /etc/portway/functions.key }]\n", ""),
            ("    sns: { topics: ['arn:aws:sns:eu-central-1:123456789012:portway'] }\n", ""),
        ],
        &[("http://10.9.0.8:9090", "http://me:hunter2@10.9.0.8:9090")],
        &[("figure: connections", "figure: utilisation")],
        &[("'sum(expected)'", "' '")],
        &[("every: 15s", "every: 100ms")],
        &[("lasts: 1m", "lasts: 20s")],
        &[("      - { name: functions", "      - { name: functions, query: a, figure: nodes }\n      - { name: functions")],
    ];
    insta::assert_snapshot!(changes.map(|change| faults(&with(INPUTS, change))).join("\n"), @r#"
    "#);
}

/// What is signed may be seen by everybody on its way.
#[test]
fn without_tls_keys_are_good_anywhere_and_tokens_on_loopback_alone() {
    let plain = with(INPUTS, &[("    tls: { certificate: /etc/portway/a.pem, key: /etc/portway/a.key }\n", "")]);
    assert_ne!(faults(&plain), "no fault");
    assert_eq!(faults(&with(&plain, &[("listen: 10.9.0.7:9475", "listen: '[::1]:9475'")])), "no fault");
    assert_eq!(faults(&with(&plain, &[("    tokens: [/etc/portway/alerts.token]\n", "")])), "no fault");
}
