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
    f:4:3: `webhooks` listens on 10.9.0.7:9474, which is `admin` too; give each a port of its own
    f:5:13: `listen` "10.9.0.7" is not an address and port; write both, such as 127.0.0.1:9470 or [::1]:9470
    f:7:5: `listen` 10.9.0.7:9475 would take tokens over plain HTTP; add `tls: { certificate: FILE, key: FILE }`, or listen on 127.0.0.1 behind a proxy that has TLS
    f:6:50: `key` "a.key" is not an absolute path; write a path from the root, such as /etc/portway/directory.key
    f:7:15: "autoscaler 1" is not a name of an autoscaler; use 1 to 63 letters, digits, '-', '_' or '.', a letter or digit first
    f:8:13: `tokens` is an empty list; add an item: `tokens: [/etc/portway/alertmanager.token]`
    f:8:41: the file /etc/portway/alerts.token is already used in line 8; name each file once
    f:9:59: key id 1 is already used in line 9; give each key its own number: senders write it
    f:9:18: key id 0 is out of range; write 1 to 255
    f:10:21: "arn:aws:sqs:eu-central-1:123456789012:portway" is no topic of SNS; write it as `arn:aws:sns:eu-central-1:123456789012:NAME`
    f:5:5: `webhooks` names nobody who may post; add at least one of `tokens: [/etc/portway/alertmanager.token]`, `keys: [{ id: 1, file: /etc/portway/functions.key }]` or `sns: { topics: ["arn:aws:sns:eu-central-1:123456789012:portway"] }`, or remove `webhooks`
    f:12:10: `url` is no place where a Prometheus is; write http:// or https:// and its address, such as http://10.9.0.8:9090, with what stands before /api/v1/query
    f:14:60: `figure` cannot be "utilisation"; write nodes or bits_per_second or packets_per_second or connections
    f:14:35: `query` has 1 bytes; write one of 1 to 4096, in PromQL
    f:14:80: `every` 100ms is out of range; write 1s to 600s
    f:14:92: `lasts` 20s is out of range; write 30s to 86400s
    f:15:17: the query functions is already used in line 14; give each query a name of its own
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
