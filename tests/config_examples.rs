//! Every file in examples/ is a configuration that Portway accepts.

use portway::config::{self, Cast, Config, Gateway, GatewayTunnel, PeerEnd, Snat};
use portway::gateway::peers::{Peers, Refusal};
use portway::model::GreKey;
use std::path::PathBuf;

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples")
}

#[test]
fn every_example_is_accepted() {
    let mut files = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "yaml") {
            config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
            files += 1;
        }
    }
    assert!(files >= 8, "only {files} examples");
}

#[test]
fn the_gateway_example_means_what_it_says() {
    let Config::Gateway(gateway) = config::load(examples().join("gateway.yaml")).unwrap() else { panic!("not a gateway") };
    let acme = &gateway.tenants[0];
    assert_eq!((gateway.node.as_str(), gateway.platform.mtu), ("gw-a1", Some(1500)));
    assert_eq!(acme.shards[0].tunnel, GatewayTunnel::Gre { key: GreKey(7) });
    let ports: Vec<String> = acme.allow[0].tcp.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["5432", "8000-8099"]);
    assert_eq!(acme.allow[1].tcp[0].to_string(), "1-65535");
    assert!(matches!(acme.shards[0].snat, Snat::To { address, ports } if address.to_string() == "172.16.101.10" && ports.first == 1024));
    let inner = gateway.peers[0].inner.values().next().unwrap();
    assert_eq!(inner.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.64.0.9/32", "10.64.1.0/28"]);
}

fn pair() -> Gateway {
    match config::load(examples().join("gateway-pair.yaml")) {
        Ok(Config::Gateway(gateway)) => gateway,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_pair_means_what_it_says_and_writes_the_defaults() {
    let gateway = pair();
    let ha = gateway.ha.as_ref().unwrap();
    assert_eq!((ha.nodes.len(), ha.interval.centiseconds(), ha.cast, ha.sync_port), (2, 10, Cast::Unicast, 3790));
    assert_eq!(gateway.served().count(), 2);
    let locals: Vec<String> = gateway.tenants[0].shards.iter().map(|shard| shard.local.to_string()).collect();
    assert_eq!(locals, ["10.9.0.50", "10.9.0.51"]);
    let tracked: Vec<String> =
        ha.track.iter().chain(&gateway.tenants[0].track).map(|one| format!("{} {:?}", one.watched, one.cost)).collect();
    assert_eq!(
        tracked,
        [
            "interface eth2 Weight(50)",
            "tcp 172.16.101.20:5432 Weight(150)",
            "http://172.16.101.20:8080/health Weight(150)",
            "icmp 172.16.101.1 Weight(150)",
            "script /usr/local/bin/check-disk /var Weight(20)",
        ]
    );
    let text = std::fs::read_to_string(examples().join("gateway-pair.yaml")).unwrap();
    let optional = ["interval", "version", "checksum", "cast", "preempt", "accept", "authentication", "sync_port"];
    let short: String = text
        .lines()
        .filter(|line| !optional.iter().any(|key| line.starts_with(&format!("    {key}:"))))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(short.len() + 8 * 10 < text.len());
    assert_eq!(config::parse(&short, "short").unwrap(), Config::Gateway(gateway));
}

#[test]
fn the_file_and_the_api_refuse_the_same_outer_addresses() {
    let (text, gateway) = (std::fs::read_to_string(examples().join("gateway-pair.yaml")).unwrap(), pair());
    let cases = [
        ("10.9.0.103", true),
        ("10.9.0.1", false),
        ("10.9.0.2", false),
        ("10.9.0.50", false),
        ("10.9.0.51", false),
        ("172.16.101.10", false),
        ("10.64.0.1", false),
        ("127.0.0.1", false),
        ("224.0.0.18", false),
        ("fd00::1", false),
    ];
    for (outer, good) in cases {
        let file = config::parse(&text.replacen("outer: 10.9.0.101", &format!("outer: \"{outer}\""), 1), "file");
        assert_eq!(file.is_ok(), good, "{outer}: {file:?}");
        let mut peer = gateway.peers[0].clone();
        peer.end = PeerEnd::Gre { outer: outer.parse().unwrap() };
        let api = Peers::default().check(&gateway, &peer);
        assert!(if good { api == Ok(true) } else { matches!(api, Err(Refusal::Invalid(_))) }, "{outer}: {api:?}");
    }
}

/// What stands there as a comment, as if it were none.
#[test]
fn the_flow_log_of_the_examples_is_one_and_has_the_defaults() {
    for name in ["gateway.yaml", "host.yaml"] {
        let text = std::fs::read_to_string(examples().join(name)).unwrap();
        let (before, rest) = text.split_once("  # flow_log:\n").unwrap();
        let (block, after) = rest.split_once("\n\n").unwrap();
        let block: String = block.lines().map(|line| format!("  {}\n", line.strip_prefix("  # ").unwrap())).collect();
        let defaults: String = block.lines().filter(|line| line.contains("file:")).flat_map(|line| [line, "\n"]).collect();
        let [written, short] = [block, defaults].map(|block| {
            let with = format!("{before}  flow_log:\n{block}\n{after}");
            match config::parse(&with, name).unwrap_or_else(|faults| panic!("{faults}")) {
                Config::Gateway(gateway) => gateway.flow_log,
                Config::Host(host) => host.flow_log,
                other => panic!("{other:?}"),
            }
        });
        assert!(written.is_some() && written == short, "{name}: {written:?} {short:?}");
    }
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let Config::Host(host) = config::load(examples().join("host-many-tenants.yaml")).unwrap() else { panic!("not a host") };
    assert_eq!(host.runtime_dir.to_str(), Some("/run/portway"));
    assert_eq!(host.admin.to_string(), "127.0.0.1:9471");
    assert_eq!(host.backend, config::Backend::Auto);
    let Config::Gateway(gateway) = config::load(examples().join("gateway-many-tenants.yaml")).unwrap() else { panic!("not a gateway") };
    assert_eq!(gateway.admin.to_string(), "127.0.0.1:9470");
    assert_eq!(gateway.platform.mtu, None);
}

#[test]
fn what_the_autoscaler_example_leaves_out_is_accepted_too() {
    let text = std::fs::read_to_string(examples().join("autoscaler.yaml")).unwrap().replace("  #: ", "  ");
    let Ok(Config::Autoscaler(autoscaler)) = config::parse(&text, "autoscaler.yaml") else { panic!("{text}") };
    let (webhooks, prometheus) = (autoscaler.webhooks.unwrap(), autoscaler.prometheus.unwrap());
    assert_eq!((webhooks.keys.len(), webhooks.tokens.len(), webhooks.topics.len(), prometheus.queries.len()), (1, 1, 1, 1));
}
