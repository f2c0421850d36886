//! What an attached container says beside its tunnel is the host's business: what the host translates for containers, it translates for this one too.

use super::support::*;
use portway::lab::topology::{PLATFORM, PLATFORM_ADDRESS, Wiring, port};
use portway::lab::{Lab, Servers, Topology, Transfer, whoami};
use rstest::rstest;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};

/// An address that leads to the platform's own by the host's translation only, as a Service's does.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// `host-1` masquerades its container, has a Service, publishes the container's port, and forwards nothing that conntrack cannot place.
fn translate(lab: &Lab) {
    let container = lab.topology.containers[0].address;
    sh(
        lab,
        "host-1",
        &format!(
            "nft -f - <<'END'
table ip runtime {{
    chain before {{ type nat hook prerouting priority dstnat; policy accept;
        ip daddr {SERVICE} dnat to {PLATFORM_ADDRESS}
        iifname plat0 tcp dport {http} dnat to {container}
    }}
    chain after {{ type nat hook postrouting priority srcnat; policy accept;
        ip saddr {container} masquerade
    }}
    chain forward {{ type filter hook forward priority filter; policy accept;
        ct state invalid drop
    }}
}}
END",
            http = port::HTTP
        ),
    );
}

/// The platform, which knows no way back to containers, answers and asks.
fn passes_beside(lab: &Lab, when: &str) {
    let [container, platform] = ["fn-1a", PLATFORM].map(|node| lab.node(node).unwrap());
    for (from, to, answers, sees) in [
        (container, PLATFORM_ADDRESS, "outside", HOST),
        (container, SERVICE, "outside", HOST),
        (platform, HOST, "function", PLATFORM_ADDRESS),
    ] {
        let seen = whoami(from, to, SOON).unwrap_or_else(|error| panic!("{to} {when}: {error}"));
        assert_eq!((seen.tenant.as_str(), seen.seen.ip()), (answers, sees.into()), "{to} {when}");
    }
}

#[rstest]
#[case::veth(Wiring::Veth)]
#[case::bridge(Wiring::Bridge)]
fn what_the_host_translates_goes_on_beside_the_tunnel(#[case] wiring: Wiring) {
    let mut lab = stand(Topology::of(&["acme"], &[wiring]));
    let servers = Servers::new().unwrap();
    servers.start(lab.node(PLATFORM).unwrap(), "outside").unwrap();
    servers.start(lab.node("fn-1a").unwrap(), "function").unwrap();
    translate(&lab);
    passes_beside(&lab, "before it was attached");
    let outside = SocketAddr::from((PLATFORM_ADDRESS, port::ECHO));
    let transfer = Transfer::start(lab.node("fn-1a").unwrap(), outside, Some(1 << 20)).unwrap();
    wait("the transfer", SOON, || transfer.returned() > 100_000);

    let port = lab.topology.containers[0].port.clone();
    attach(&mut lab, "host-1", "a", &json!({ "tenant": "acme", "interface": port }));
    fetches(&lab, "fn-1a").unwrap();
    passes_beside(&lab, "while it is attached");
    lab.daemon("host-1").unwrap().restart().unwrap();
    fetches(&lab, "fn-1a").unwrap();
    passes_beside(&lab, "after a restart");
    let now = transfer.returned();
    wait("the connection of before it was attached", SOON, || transfer.returned() > now + 100_000);
    let done = transfer.stop();
    assert!(done.ok, "{done:?}");

    // Both in the same table: one in the tenant's zone, one in nobody's, and both this attachment's.
    let marked = |lab: &Lab| sh(lab, "host-1", "conntrack -L -m 0x12001 2>/dev/null");
    let zone = |all: &str, to: Ipv4Addr| {
        let mut entries = all.lines().filter(|line| line.contains(&format!(" dst={to} "))).map(|line| line.contains("zone=8193"));
        let first = entries.next().unwrap_or_else(|| panic!("nothing to {to}: {all}"));
        assert!(entries.all(|one| one == first), "{to}: {all}");
        first
    };
    let all = marked(&lab);
    assert_eq!([SERVER, PLATFORM_ADDRESS, SERVICE].map(|to| zone(&all, to)), [true, false, false], "{all}");

    detach(&mut lab, "host-1", "a");
    assert_eq!(marked(&lab), "");
    assert!(fetches(&lab, "fn-1a").is_err());
    passes_beside(&lab, "after it was detached");
}
