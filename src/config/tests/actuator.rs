use super::*;
use std::path::Path;
use std::time::Duration;

const ORDERS: &str = "\
autoscaler:
  gateways: [{ name: gw-a1, metrics: 'http://10.9.0.1:9470/metrics' }]
  actuator:
    webhook:
      url: https://functions.example/scale?pool=a
      key_file: /etc/portway/orders.key
      key_id: 3
      name: autoscaler-1
      audience: functions
      timeout: 5s
      ca: /etc/portway/functions-ca.pem
";

fn actuator(text: &str) -> Actuator {
    match parse(text, "f") {
        Ok(Config::Autoscaler(autoscaler)) => autoscaler.actuator,
        other => panic!("{other:?}"),
    }
}

fn webhook(text: &str) -> OutgoingWebhook {
    match actuator(text) {
        Actuator::Webhook(webhook) => webhook,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_means_what_it_says() {
    let read = webhook(ORDERS);
    assert_eq!((read.url.as_str(), read.name.as_str(), read.audience.as_str()), ("https://functions.example/scale?pool=a", "autoscaler-1", "functions"));
    assert_eq!((read.key.id.get(), read.key.file.as_path()), (3, Path::new("/etc/portway/orders.key")));
    assert_eq!((read.timeout, read.ca.as_deref()), (Duration::from_secs(5), Some(Path::new("/etc/portway/functions-ca.pem"))));
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let left_out = [("      key_id: 3\n", ""), ("      name: autoscaler-1\n", ""), ("      timeout: 5s\n", ""), ("      ca: /etc/portway/functions-ca.pem\n", "")];
    let read = webhook(&with(ORDERS, &left_out));
    assert_eq!((read.key.id.get(), read.name.as_str(), read.timeout, read.ca), (1, "autoscaler", Duration::from_secs(10), None));
    let nobody = "autoscaler: { gateways: [{ name: a, metrics: 'http://10.9.0.1:9470/metrics' }] }";
    assert_eq!(actuator(nobody), Actuator::None);
    assert_eq!(actuator(&nobody.replace(" }] }", " }], actuator: none }")), Actuator::None);
}

#[test]
fn orders_go_in_clear_on_this_machine_only() {
    for url in ["http://127.0.0.1:8080/scale", "http://localhost/scale", "http://[::1]:8080"] {
        assert_eq!(faults(&with(ORDERS, &[("https://functions.example/scale?pool=a", &format!("'{url}'"))])), "no fault", "{url}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    insta::assert_snapshot!([
        ("https://functions.example/scale?pool=a", "http://functions.example/scale"),
        ("https://functions.example/scale?pool=a", "'http://functions.example/?host=/run'"),
        ("https://functions.example/scale?pool=a", "https://me:hunter2@functions.example/"),
        ("https://functions.example/scale?pool=a", "functions.example"),
        ("https://functions.example/scale?pool=a", "'https://functions.example/#a'"),
        ("/etc/portway/orders.key", "orders.key"),
        ("key_id: 3", "key_id: 0"),
        ("autoscaler-1", "autoscaler 1"),
        ("      audience: functions\n", ""),
        ("timeout: 5s", "timeout: 60s"),
        ("  webhook:", "  webhok:"),
    ].map(|change| faults(&with(ORDERS, &[change]))).join("\n"), @r#"
    "#);
    let none = |actuator: &str| faults(&format!("autoscaler:\n  gateways: [{{ name: a, metrics: 'http://10.9.0.1:1/metrics' }}]\n  actuator: {actuator}\n"));
    insta::assert_snapshot!(["nobody", "{}", "[]"].map(none).join("\n"), @r#"
    "#);
}

#[test]
fn a_password_is_not_repeated() {
    let text = with(ORDERS, &[("https://functions.example/scale?pool=a", "https://me:hunter2@functions.example/")]);
    assert!(!faults(&text).contains("hunter2") && faults(&text) != "no fault", "{}", faults(&text));
}
