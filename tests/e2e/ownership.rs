//! `portway plan` tells the difference, and `--teardown` removes what is ours and nothing else.

use super::support::*;
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Topology, configs, keys};
use rstest::rstest;
use serde_json::{Value, json};

/// Other people's routes, rules, tables and devices, some as near to ours as can be.
const FOREIGN: &str = "
    ip link add foreign0 type veth peer name foreign1; ip link set foreign0 up; ip link set foreign1 up
    ip addr add 192.0.2.1/24 dev foreign0
    ip link add br-foreign type bridge; ip tuntap add tun-foreign mode tun
    ip route add 198.51.100.0/24 dev foreign0 table 100
    ip route add 198.51.100.0/24 dev foreign0 table 0x70001 proto static
    ip route add 203.0.113.0/24 dev foreign0 table 0x6ffff proto 0x70
    ip rule add fwmark 1 lookup 100 priority 500
    ip rule add from 192.0.2.0/24 lookup 100 priority 6999
    ip rule add from 192.0.2.0/24 lookup 100 priority 8000
    nft 'table inet foreign { chain c { type filter hook forward priority 10; counter; }; }'
    nft 'table ip6 portway { set s { type ipv6_addr; elements = { 2001:db8::9 } }; chain forward { type filter hook forward priority 5; }; }'
    nft 'table inet portway2 { chain c { }; }'
    ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev foreign0 nud permanent";

/// The whole of a namespace's network, without what counts or numbers.
fn everything(lab: &Lab, node: &str) -> String {
    sh(
        lab,
        node,
        "ip -d link show | sed 's/^[0-9]*: //'; ip -o addr | sed 's/^[0-9]*: //'; ip route show table all; ip rule; ip neigh show nud permanent
         nft -s list ruleset
         cd /proc/sys/net/ipv4; grep -r . conf ip_forward fwmark_reflect | sort",
    )
}

/// Plan's exit code and steps.
fn plan(lab: &Lab, node: &str) -> (i32, Vec<String>) {
    let config = lab.dir().config(node);
    let ran = portway(lab, node, &["plan", "--config", config.to_str().unwrap(), "--json"]);
    let answer: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.err));
    let text = portway(lab, node, &["plan", "--config", config.to_str().unwrap()]);
    assert_eq!(text.code, ran.code);
    let steps: Vec<String> = serde_json::from_value(answer["steps"].clone()).unwrap();
    if steps.is_empty() {
        assert_eq!(text.out, "nothing to do\n");
    } else {
        assert!(steps.iter().all(|step| text.out.contains(step)), "{}\n{steps:?}", text.out);
    }
    (ran.code, steps)
}

/// A lab whose configurations are written and whose daemons have never run.
fn written(topology: Topology) -> Lab {
    let lab = Lab::build(topology).unwrap();
    if lab.topology.tunnel == TunnelKind::Wireguard {
        keys::write(&lab.topology, &lab.dir().runtime("node")).unwrap();
    }
    for gateway in &lab.topology.gateways {
        let yaml = configs::gateway(&lab.topology, gateway, Backend::Auto, &lab.dir().runtime(&gateway.node));
        std::fs::write(lab.dir().config(&gateway.node), yaml).unwrap();
    }
    for host in &lab.topology.hosts {
        let yaml = configs::host(&lab.topology, host, Backend::Auto, &lab.dir().runtime(&host.node));
        std::fs::write(lab.dir().config(&host.node), yaml).unwrap();
    }
    lab
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn planned_applied_torn_down_and_everybody_elses_things_stand(#[case] tunnel: TunnelKind) {
    let mut lab = written(Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(tunnel));
    let nodes = [("gw-acme", "gateway"), ("host-1", "host")];
    sh(&lab, "host-1", "echo 0 > /proc/sys/net/ipv4/conf/fn1a/forwarding");
    let before = nodes.map(|(node, _)| {
        sh(&lab, node, FOREIGN);
        wait("carriers", SOON, || !sh(&lab, node, "ip link show type veth").contains("NO-CARRIER"));
        everything(&lab, node)
    });
    for ((node, _), before) in nodes.iter().zip(&before) {
        let (code, steps) = plan(&lab, node);
        assert_eq!(code, 2, "{steps:?}");
        for of in ["table inet portway", "pw-1", "rule", "route"] {
            assert!(steps.iter().any(|step| step.contains(of)), "{node}: no step about {of}: {steps:#?}");
        }
        assert_eq!(everything(&lab, node), *before, "{node}: planning has changed something");
    }

    lab.serve().unwrap();
    lab.start_daemons(program(), Backend::Auto).unwrap();
    lab.attach_all().unwrap();
    fetches(&lab, "fn-1a").unwrap();
    let late = peer(tunnel, "host-late", "10.9.0.150", "10.64.0.150");
    assert_eq!(call(&mut lab, "gw-acme", "PUT", "/v1/peers/host-late", Some(&late)).0, 201);
    let kept = |lab: &Lab| {
        let names = ["host-1/attachments", "gw-acme/peers"].map(|at| at.split_once('/').expect("as written"));
        names.map(|(node, kept)| std::fs::read_dir(lab.dir().runtime(node).join(kept)).map_or(0, Iterator::count))
    };
    assert_eq!(kept(&lab), [1, 1]);
    for (node, _) in nodes {
        assert_eq!(plan(&lab, node), (0, vec![]), "{node}");
        assert_eq!(portway(&lab, node, &["plan", "--json", "--config", lab.dir().config(node).to_str().unwrap()]).out, "{\"steps\":[]}\n");
    }

    // A teardown beside a running daemon would be repaired at once: it is refused.
    for (node, role) in nodes {
        let ran = daemon(&lab, role, node, &["--teardown"]);
        assert!(ran.code == 1 && ran.err.contains(&format!("another `portway {role}`")), "{ran:?}");
    }
    fetches(&lab, "fn-1a").unwrap();

    for ((node, role), before) in nodes.iter().zip(&before) {
        lab.daemon(node).unwrap().stop().unwrap();
        assert_eq!(plan(&lab, node), (0, vec![]), "{node}: a stopped daemon leaves all standing");
        let ran = daemon(&lab, role, node, &["--teardown"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.starts_with("removed "), "{ran:?}");
        assert_eq!(everything(&lab, node), *before, "{node}");
        let again = daemon(&lab, role, node, &["--teardown"]);
        assert_eq!((again.code, again.out.as_str()), (0, "removed 0 of 0 things\n"));
        assert_eq!(plan(&lab, node).0, 2, "{node}");
    }
    assert_eq!(kept(&lab), [0, 0]);
    // And up again: nobody is attached, nobody was added.
    for (node, _) in nodes {
        lab.daemon(node).unwrap().start_again().unwrap();
    }
    assert_eq!(call(&mut lab, "host-1", "GET", "/v1/attachments", None).1, json!([]));
    assert_eq!(call(&mut lab, "gw-acme", "GET", "/v1/status", None).1["peers"], 1);
    attach(&mut lab, "host-1", "fn-1a", &json!({"tenant": "acme", "interface": "fn1a"}));
    fetches(&lab, "fn-1a").unwrap();
}
