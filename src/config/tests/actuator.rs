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
    assert_eq!(
        (read.url.as_str(), read.name.as_str(), read.audience.as_str()),
        ("https://functions.example/scale?pool=a", "autoscaler-1", "functions")
    );
    assert_eq!((read.key.id.get(), read.key.file.as_path()), (3, Path::new("/etc/portway/orders.key")));
    assert_eq!((read.timeout, read.ca.as_deref()), (Duration::from_secs(5), Some(Path::new("/etc/portway/functions-ca.pem"))));
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let left_out = [
        ("      key_id: 3\n", ""),
        ("      name: autoscaler-1\n", ""),
        ("      timeout: 5s\n", ""),
        ("      ca: /etc/portway/functions-ca.pem\n", ""),
    ];
    let read = webhook(&with(ORDERS, &left_out));
    assert_eq!((read.key.id.get(), read.name.as_str(), read.timeout, read.ca), (1, "autoscaler", Duration::from_secs(10), None));
    let nobody = "autoscaler: { gateways: [{ name: a, metrics: 'http://10.9.0.1:9470/metrics' }] }";
    assert_eq!(actuator(nobody), Actuator::None);
    assert_eq!(actuator(&nobody.replace(" }] }", " }], actuator: none }")), Actuator::None);
}

#[test]
fn orders_go_in_clear_on_this_machine_only() {
    for url in ["http://127.0.0.1:8080/scale", "http://localhost/scale?a=b", "http://[::1]:8080"] {
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
    f:5:12: `url` is neither https nor, on loopback, http: orders could be read and held back on their way; write where orders are taken, such as `url: https://functions.example/scale`; http is for 127.0.0.1 and localhost
    f:5:12: `url` is neither https nor, on loopback, http: orders could be read and held back on their way; write where orders are taken, such as `url: https://functions.example/scale`; http is for 127.0.0.1 and localhost
    f:5:12: `url` is no place that orders can be posted to; write where orders are taken, such as `url: https://functions.example/scale`; http is for 127.0.0.1 and localhost
    f:5:12: `url` is no place that orders can be posted to; write where orders are taken, such as `url: https://functions.example/scale`; http is for 127.0.0.1 and localhost
    f:5:12: `url` is no place that orders can be posted to; write where orders are taken, such as `url: https://functions.example/scale`; http is for 127.0.0.1 and localhost
    f:6:17: `key_file` "orders.key" is not an absolute path; write a path from the root, such as /etc/portway/orders.key
    f:7:15: key_id 0 is out of range; write 1 to 255
    f:8:13: "autoscaler 1" is not a name of an autoscaler; use 1 to 63 letters, digits, '-', '_' or '.', a letter or digit first
    f:5:7: this webhook lacks `audience`; add `audience: functions`
    f:10:16: `timeout` 60s is out of range; write 1s to 30s
    f:4:5: unknown key `webhok` in `actuator`; did you mean `webhook`?
    "#);
    let none = |actuator: &str| {
        faults(&format!("autoscaler:\n  gateways: [{{ name: a, metrics: 'http://10.9.0.1:1/metrics' }}]\n  actuator: {actuator}\n"))
    };
    insta::assert_snapshot!(["nobody", "{}"].map(none).join("\n"), @r#"
    f:3:13: `actuator` cannot be "nobody"; write none
    f:3:13: `actuator` names nobody; write `actuator: { webhook: { url: https://functions.example/scale, ... } }` or `actuator: none`
    "#);
}

const GROUP: &str = "\
autoscaler:
  gateways: [{ name: gw-a1, metrics: 'http://10.9.0.1:9470/metrics' }]
  actuator:
    aws:
      group: gateways
      region: eu-central-1
      hook: portway-drain
      endpoint: http://127.0.0.1:9999
      look: 5s
      timeout: 3s
";

#[cfg(not(feature = "aws"))]
#[test]
fn without_the_feature_aws_is_refused_and_the_feature_is_named() {
    let refused = faults(GROUP);
    assert!(refused.starts_with("f:5:7: `aws` needs a Portway that was built with the feature `aws`"), "{refused}");
    assert!(refused.contains("--features aws"), "{refused}");
}

#[cfg(feature = "aws")]
#[test]
fn a_group_means_what_it_says() {
    let group = |text: &str| match actuator(text) {
        Actuator::Aws(group) => group,
        other => panic!("{other:?}"),
    };
    let read = group(GROUP);
    assert_eq!((read.group.as_str(), read.region.as_str(), read.hook.as_deref()), ("gateways", "eu-central-1", Some("portway-drain")));
    assert_eq!(
        (read.endpoint.unwrap().as_str(), read.look, read.timeout),
        ("http://127.0.0.1:9999/", Duration::from_secs(5), Duration::from_secs(3))
    );
    let left_out = ["      hook: portway-drain\n", "      endpoint: http://127.0.0.1:9999\n", "      look: 5s\n", "      timeout: 3s\n"]
        .map(|line| (line, ""));
    let read = group(&with(GROUP, &left_out));
    assert_eq!((read.hook, read.endpoint, read.look, read.timeout), (None, None, Duration::from_secs(10), Duration::from_secs(10)));
}

#[cfg(feature = "aws")]
#[test]
fn what_is_wrong_with_a_group_is_said_with_its_place() {
    insta::assert_snapshot!([
        ("group: gateways", "group: ''"),
        ("      region: eu-central-1\n", ""),
        ("eu-central-1", "Frankfurt"),
        ("http://127.0.0.1:9999", "http://autoscaling.example"),
        ("look: 5s", "look: 20s"),
        ("    aws:", "    webhook: {}\n    aws:"),
    ].map(|change| faults(&with(GROUP, &[change]))).join("\n"), @r#"
    f:5:14: `group` is no name that AWS would take; write 1 to 255 characters, such as gateways
    f:5:7: `aws` lacks `region`; add `region: eu-central-1`
    f:6:15: `region` "Frankfurt" is none; write one such as eu-central-1, without the zone's letter
    f:8:17: `endpoint` is neither https nor, on loopback, http: orders could be read and held back on their way; write where orders are taken, such as `endpoint: https://vpce-1.autoscaling.eu-central-1.vpce.amazonaws.com`; http is for 127.0.0.1 and localhost
    f:9:13: `look` 20s is out of range; write 1s to 15s
    f:5:5: `actuator` names two; keep `webhook` or `aws`: one runs the nodes
    "#);
}

#[test]
fn a_password_is_not_repeated() {
    let text = with(ORDERS, &[("https://functions.example/scale?pool=a", "https://me:hunter2@functions.example/")]);
    assert!(!faults(&text).contains("hunter2") && faults(&text) != "no fault", "{}", faults(&text));
}
