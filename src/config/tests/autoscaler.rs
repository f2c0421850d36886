use super::*;
use std::time::Duration;
use time::{Time, UtcOffset, Weekday};

const AUTOSCALER: &str = "\
autoscaler:
  gateways:
    - { name: gw-a1, metrics: 'http://10.9.0.1:9470/metrics' }
    - { name: gw-a2, metrics: 'http://10.9.0.2:9470/metrics' }
  scrape: 1s
  dry_run: true
  nodes:
    min: 2
    max: 10
    target: 60
    bits_per_second: 5000000000
    out: { cooldown: 15s, nodes: 4 }
    in: { cooldown: 5m, percent: 50 }
    stale_after: 15s
    utc_offset: '-09:30'
    hours: [{ days: [mon, sun], from: '22:30', to: '06:00', min: 4 }]
";

fn autoscaler(text: &str) -> Autoscaler {
    match parse(text, "f") {
        Ok(Config::Autoscaler(autoscaler)) => *autoscaler,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_means_what_it_says() {
    let read = autoscaler(AUTOSCALER);
    let Gateways::Listed(gateways) = read.gateways else { panic!("{}", read.gateways) };
    assert_eq!(
        gateways.iter().map(|gateway| (gateway.name.as_str(), gateway.metrics.as_str())).collect::<Vec<_>>(),
        [("gw-a1", "http://10.9.0.1:9470/metrics"), ("gw-a2", "http://10.9.0.2:9470/metrics")]
    );
    let nodes = read.nodes;
    assert_eq!((read.dry_run, nodes.bits_per_second, nodes.packets_per_second), (true, Some(5_000_000_000), None));
    // What is left out of a change is the default of that change.
    assert_eq!((nodes.out.percent, nodes.r#in.nodes, nodes.r#in.cooldown), (100, 1, Duration::from_secs(300)));
    assert_eq!(nodes.utc_offset, UtcOffset::from_hms(-9, -30, 0).unwrap());
    let time = |hour, minute| Time::from_hms(hour, minute, 0).unwrap();
    let night = Hours { days: vec![Weekday::Monday, Weekday::Sunday], from: time(22, 30), to: time(6, 0), min: 4 };
    assert_eq!(nodes.hours, [night]);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    insta::assert_snapshot!([
        ("gateways:\n    - { name: gw-a1", "gateway:\n    - { name: gw-a1"),
        ("gw-a2", "gw-a1"),
        ("10.9.0.2", "10.9.0.1"),
        ("http://10.9.0.2:9470/metrics", "ftp://10.9.0.2/metrics"),
        ("http://10.9.0.2:9470/metrics", "http://me:hunter2@10.9.0.2/metrics"),
        ("scrape: 1s", "scrape: 100ms"),
        ("scrape: 1s", "scrape: 10s"),
        ("min: 2\n", "min: 1\n"),
        ("max: 10", "max: 1"),
        ("target: 60", "target: 100"),
        ("target: 60", "target: 0.6"),
        ("5000000000", "0"),
        ("cooldown: 15s", "cooldown: 2h"),
        ("cooldown: 5m", "cooldown: 14s"),
        ("nodes: 4", "nodes: 0"),
        ("percent: 50", "percent: 1001"),
        ("'-09:30'", "'9:30'"),
        ("'-09:30'", "'+09:60'"),
        ("[mon, sun]", "[mon, sunday]"),
        ("'22:30'", "'24:00'"),
        ("'06:00'", "600"),
        ("min: 4", "min: 11"),
        ("autoscaler:\n", "peers: { static: [] }\nautoscaler:\n"),
        ("autoscaler:\n", "host: {}\nautoscaler:\n"),
    ].map(|change| faults(&with(AUTOSCALER, &[change]))).join("\n"), @r#"
    f:2:3: unknown key `gateway` in `autoscaler`; did you mean `gateways`?
    f:4:15: the gateway gw-a1 is already used in line 3; name each gateway once
    f:4:31: the URL http://10.9.0.1:9470/metrics is already used in line 3; give each gateway its own
    f:4:31: `metrics` is no place where a gateway tells of itself; write http:// or https://, the gateway's `admin` address and /metrics, such as http://10.9.0.1:9470/metrics
    f:4:31: `metrics` is no place where a gateway tells of itself; write http:// or https://, the gateway's `admin` address and /metrics, such as http://10.9.0.1:9470/metrics
    f:5:11: `scrape` 100ms is out of range; write 200ms to 60s
    f:7:3: `stale_after` 15s is less than two scrapes of 10s: every gateway would be silent; write at least three times `scrape`
    f:8:10: min 1 is out of range; write 2 to 1000: a shard has two candidates
    f:9:10: max 1 is out of range; write 2 to 1000 (not less than `min`)
    f:10:13: target 100 is out of range; write 10 to 95 percent: the rest is for what comes while a node starts
    f:10:13: target "0.6" is not a number; write 10 to 95 percent: the rest is for what comes while a node starts, in decimal
    f:11:22: bits_per_second 0 is out of range; write 1 to 10000000000000
    f:12:22: `cooldown` 7200s is out of range; write 1s to 3600s
    f:13:21: `cooldown` 14s is out of range; write 15s to 86400s
    f:12:34: nodes 0 is out of range; write 1 to 1000
    f:13:34: percent 1001 is out of range; write 0 to 1000 of the nodes there are
    f:15:17: `utc_offset` "9:30" is none; write a sign, hours and minutes in quotes, such as "+01:00"
    f:15:17: `utc_offset` "+09:60" is none; write a sign, hours and minutes in quotes, such as "+01:00"
    f:16:27: `days` cannot be "sunday"; write mon or tue or wed or thu or fri or sat or sun
    f:16:39: `from` "24:00" is no time of day; write hours and minutes in quotes, "00:00" to "23:59"
    f:16:52: `to` "600" is no time of day; write hours and minutes in quotes, "00:00" to "23:59"
    f:16:66: min 11 is out of range; write 1 to 10 (not more than `max`)
    f:1:1: `peers` goes with `gateway` only; remove it: an autoscaler has gateways alone
    f:2:1: `autoscaler` and `host` stand in one file; give each role its own file: they are two daemons
    "#);
}

const DISCOVERY: &str = "\
autoscaler:
  gateways:
    directory:
      url: https://directory.example:9473
      token_file: /etc/portway/autoscaler.token
      ca: /etc/portway/ca.pem
      every: 10s
";

#[test]
fn gateways_are_those_of_a_directory() {
    let Gateways::Discovered(discovery) = autoscaler(DISCOVERY).gateways else { panic!() };
    assert_eq!((discovery.at.url.as_str(), discovery.every), ("https://directory.example:9473/", Duration::from_secs(10)));
    assert_eq!(discovery.at.token_file.to_str(), Some("/etc/portway/autoscaler.token"));
    assert_eq!(discovery.at.ca.unwrap().to_str(), Some("/etc/portway/ca.pem"));
    let short = autoscaler(&with(DISCOVERY, &[("      ca: /etc/portway/ca.pem\n      every: 10s\n", "")]));
    let Gateways::Discovered(discovery) = &short.gateways else { panic!() };
    assert_eq!((&discovery.at.ca, discovery.every), (&None, Duration::from_secs(5)));
    assert_eq!(short.gateways.to_string(), "the gateways of the directory at https://directory.example:9473/");
}

#[test]
fn what_is_wrong_with_a_directory_is_said_with_its_place() {
    insta::assert_snapshot!([
        ("directory:\n", "directories:\n"),
        ("https://directory", "http://directory"),
        ("https://directory", "https://me:hunter2@directory"),
        ("      token_file: /etc/portway/autoscaler.token\n", ""),
        ("/etc/portway/autoscaler.token", "autoscaler.token"),
        ("every: 10s", "every: 100ms"),
        ("every: 10s", "every: 2m"),
        ("every: 10s", "state_dir: /var/lib/portway"),
        ("every: 10s\n", "every: 10s\n    list: []\n"),
    ].map(|change| faults(&with(DISCOVERY, &[change]))).join("\n"), @r#"
    f:3:5: unknown key `directories` in `gateways`; did you mean `directory`?
    f:4:12: `url` "http://directory.example:9473" would take the token over the network in clear; write https://directory.example:9473
    f:4:12: `url` holds more than the place of a directory; write where the directory listens, such as https://directory.example:9473
    f:4:7: `directory` lacks `token_file`; add `token_file: /etc/portway/autoscaler.token`
    f:5:19: `token_file` "autoscaler.token" is not an absolute path; write a path from the root, such as /etc/portway/gw-a1.token
    f:7:14: `every` 100ms is out of range; write 1s to 60s
    f:7:14: `every` 120s is out of range; write 1s to 60s
    f:7:7: unknown key `state_dir` in `directory`; the keys here are `url`, `token_file`, `ca`, `every`
    f:8:5: unknown key `list` in `gateways`; the keys here are `directory`
    "#);
    insta::assert_snapshot!(["gateways: gw-a1", "gateways: []", "gateways: {}", "gateways: { directory: [] }", "scrape: 1s"]
        .map(|text| faults(&format!("autoscaler:\n  {text}\n"))).join("\n"), @r#"
    f:2:13: `gateways` must be a list, or a map with `directory`, not "gw-a1"; write `gateways: [{ name: gw-a1, metrics: "http://10.9.0.1:9470/metrics" }]` or `gateways: { directory: { url: https://directory.example:9473, token_file: /etc/portway/autoscaler.token } }`
    f:2:13: `gateways` is an empty list; add an item: `gateways: [{ name: gw-a1, metrics: "http://10.9.0.1:9470/metrics" }]`
    f:2:13: `gateways` lacks `directory`; add `directory: { url: https://directory.example:9473, token_file: /etc/portway/autoscaler.token }`
    f:2:26: `directory` must be a map, not a list; write keys and values: `url: https://directory.example:9473`
    f:1:1: `autoscaler` lacks `gateways`; add `gateways: [{ name: gw-a1, metrics: "http://10.9.0.1:9470/metrics" }]`
    "#);
}

#[test]
fn a_password_is_not_repeated() {
    let text = with(AUTOSCALER, &[("http://10.9.0.2:9470/metrics", "http://me:hunter2@10.9.0.2/metrics")]);
    assert!(!faults(&text).contains("hunter2") && faults(&text) != "no fault", "{}", faults(&text));
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let short = autoscaler("autoscaler: { gateways: [{ name: a, metrics: 'http://127.0.0.1:9470/metrics' }] }");
    let long = autoscaler(
        "autoscaler: { gateways: [{ name: a, metrics: 'http://127.0.0.1:9470/metrics' }], scrape: 1s, dry_run: false, nodes: { min: 2, max: 10, \
         target: 60, out: { cooldown: 15s, nodes: 4, percent: 100 }, in: { cooldown: 5m, nodes: 1, percent: 50 }, window: 5m, stale_after: 15s, \
         start_up: 90s, utc_offset: '+00:00' }, state_dir: /var/lib/portway, runtime_dir: /run/portway, admin: '127.0.0.1:9474' }",
    );
    assert_eq!(short, long);
    assert_eq!((short.nodes.hours, short.nodes.bits_per_second), (vec![], None));
    // A minimum above the default maximum raises that.
    assert_eq!(
        autoscaler("autoscaler: { gateways: [{ name: a, metrics: 'http://127.0.0.1:9470/metrics' }], nodes: { min: 20 } }").nodes.max,
        20
    );
}
