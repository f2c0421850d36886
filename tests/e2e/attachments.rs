//! Every form of attachment carries its own packets and nobody else's; an end is an end, and a restart is none.

use super::support::*;
use portway::config::TunnelKind;
use portway::lab::topology::{Wiring, port};
use portway::lab::{Lab, Probe, Topology, Transfer, icmp_echo, ipv4};
use rstest::rstest;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A second function on container `fn-1a`'s interface: one more address there.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 88, 1, 77);

/// An echo request that says in its data that it is the `number`th.
fn echo(source: Ipv4Addr, number: u16) -> Vec<u8> {
    ipv4(source, SERVER, ICMP, &icmp_echo(0x5000 + number, 1, format!("number-{number}.").as_bytes()))
}

/// Sends an echo request from each source by `container`, the honest one last; the places of the sources whose request
/// came to the tenant's server.
fn received(lab: &Lab, container: &str, sources: &[Ipv4Addr]) -> Vec<usize> {
    let capture = Capture::start(lab, &format!("db-{}", lab.topology.container(container).unwrap().tenant), "vpc0", "icmp[0] == 8");
    for (number, source) in (0..).zip(sources) {
        send(lab.node(container).unwrap(), SERVER, RAW, &echo(*source, number));
    }
    capture.wait_for(format!("number-{}.", sources.len() - 1).as_bytes());
    (0..sources.len()).filter(|number| capture.has(format!("number-{number}.").as_bytes())).collect()
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_namespace_an_interface_an_address_and_a_network_each_carry_what_is_theirs(#[case] tunnel: TunnelKind) {
    let mut lab = stand(Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(tunnel));
    let own = lab.topology.containers[0].address;
    sh(&lab, "fn-1a", &format!("ip addr add {SECOND}/24 dev eth0; ip addr add 10.88.1.130/24 dev eth0"));
    sh(&lab, "host-1", &format!("ip route add {SECOND}/32 dev fn1a; ip route add 10.88.1.130/32 dev fn1a"));
    let netns = lab.node("fn-1a").unwrap().path();
    let all = [SECOND, Ipv4Addr::new(10, 88, 1, 130), own];
    for (spec, arrives) in [
        (json!({"tenant": "acme", "netns": netns}), vec![0, 1, 2]),
        (json!({"tenant": "acme", "interface": "fn1a"}), vec![0, 1, 2]),
        (json!({"tenant": "acme", "interface": "fn1a", "source": own}), vec![2]),
        (json!({"tenant": "acme", "netns": netns, "source": format!("{own}/32")}), vec![2]),
        (json!({"tenant": "acme", "interface": "fn1a", "source": "10.88.1.0/25"}), vec![0, 2]),
    ] {
        attach(&mut lab, "host-1", "a", &spec);
        fetches(&lab, "fn-1a").unwrap_or_else(|error| panic!("{spec}: {error}"));
        assert_eq!(received(&lab, "fn-1a", &all), arrives, "{spec}");
        detach(&mut lab, "host-1", "a");
        assert!(!portway::lab::answers(lab.node("fn-1a").unwrap(), SERVER, SILENCE).unwrap(), "{spec}: answered after its end");
    }
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_neighbour_on_the_bridge_gets_nothing_by_anothers_address(#[case] tunnel: TunnelKind) {
    let mut topology = Topology::of(&["acme", "blue"], &[Wiring::Bridge]).with_tunnel(tunnel);
    topology.rp_filter = 0;
    let mut lab = stand(topology);
    let [acme, blue] = [0, 1].map(|n: usize| lab.topology.containers[n].clone());
    attach(&mut lab, "host-1", "acme", &json!({"tenant": "acme", "interface": acme.port, "source": acme.address}));
    // The neighbour, attached to nobody, claims to be acme's function; then acme's function itself sends.
    let capture = Capture::start(&lab, "db-acme", "vpc0", "icmp[0] == 8");
    for _ in 0..5 {
        send(lab.node(&blue.node).unwrap(), SERVER, RAW, &echo(acme.address, 6));
    }
    send(lab.node(&acme.node).unwrap(), SERVER, RAW, &echo(acme.address, 7));
    capture.wait_for(b"number-7.");
    assert_eq!(capture.read("icmp.type == 8", &["data.data"]), [[hex("number-7.")]], "only the honest one may arrive");

    // Attached to another tenant, its own packets go to its own VPC, the spoofed ones nowhere.
    let netns = lab.node(&blue.node).unwrap().path();
    attach(&mut lab, "host-1", "blue", &json!({"tenant": "blue", "netns": netns, "source": blue.address}));
    fetches(&lab, &acme.node).unwrap();
    fetches(&lab, &blue.node).unwrap();
    let check = portway::lab::checks::spoofed(&lab, &blue, &acme).unwrap();
    assert!(check.held, "{check:?}");
    // Bridged traffic between the neighbours is none of our business and goes on.
    assert!(portway::lab::answers(lab.node(&blue.node).unwrap(), acme.address, SOON).unwrap());
    let listing = sh(&lab, "host-1", "nft list table netdev portway");
    assert!(listing.contains(&format!("device \"{}\"", acme.port)) && listing.contains(&format!("device \"{}\"", blue.port)), "{listing}");
    detach(&mut lab, "host-1", "acme");
    detach(&mut lab, "host-1", "blue");
    assert!(try_sh(&lab, "host-1", "nft list table netdev portway").code != 0, "the last port gone, so is the table");
}

/// As tshark prints data.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Conntrack entries of a node whose original source is this address.
fn entries(lab: &Lab, node: &str, source: Ipv4Addr) -> Vec<String> {
    let all = sh(lab, node, "conntrack -L 2>/dev/null");
    all.lines().filter(|line| line.contains(&format!(" src={source} dst={SERVER}"))).map(str::to_owned).collect()
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn detaching_ends_its_connections_and_no_others_and_a_reused_address_inherits_nothing(#[case] tunnel: TunnelKind) {
    let mut lab = stand(Topology::of(&["acme", "blue"], &[Wiring::Veth]).with_tunnel(tunnel));
    sh(&lab, "fn-1a", &format!("ip addr add {SECOND}/24 dev eth0"));
    sh(&lab, "host-1", &format!("ip route add {SECOND}/32 dev fn1a"));
    let own = lab.topology.containers[0].address;
    let other = lab.topology.containers[1].clone();
    // Two functions of acme's behind one interface, one of blue's behind another.
    attach(&mut lab, "host-1", "leaver", &json!({"tenant": "acme", "interface": "fn1a", "source": own}));
    attach(&mut lab, "host-1", "stayer", &json!({"tenant": "acme", "interface": "fn1a", "source": SECOND}));
    attach(&mut lab, "host-1", "blue", &json!({"tenant": "blue", "interface": other.port}));
    let echo = SocketAddr::from((SERVER, port::ECHO));
    let leaver = Transfer::start(lab.node("fn-1a").unwrap(), echo, Some(1 << 20)).unwrap();
    let blue = Transfer::start(lab.node(&other.node).unwrap(), echo, Some(1 << 20)).unwrap();
    // Of the second address on the same interface.
    sh(&lab, "fn-1a", &format!("ip route replace {SERVER}/32 via 10.88.1.1 src {SECOND}"));
    let stayer = Transfer::start(lab.node("fn-1a").unwrap(), echo, Some(1 << 20)).unwrap();
    wait("all three transfers", SOON, || [&leaver, &stayer, &blue].iter().all(|t| t.returned() > 100_000));
    for (source, zone) in [(own, "zone=8193"), (SECOND, "zone=8193"), (other.address, "zone=8194")] {
        let found = entries(&lab, "host-1", source);
        assert!(found.len() == 1 && found[0].contains(zone), "{source}: {found:?}");
    }

    detach(&mut lab, "host-1", "leaver");
    assert_eq!(entries(&lab, "host-1", own), Vec::<String>::new());
    assert_eq!(entries(&lab, "host-1", SECOND).len(), 1);
    assert_eq!(entries(&lab, "host-1", other.address).len(), 1);
    let at_the_end = leaver.returned();
    let before = [&stayer, &blue].map(Transfer::returned);
    wait("the others' transfers", SOON, || stayer.returned() > before[0] + 500_000 && blue.returned() > before[1] + 500_000);
    assert!(leaver.returned() - at_the_end < 64 << 10, "what was on its way may come, and nothing after it");

    // The address comes back under another tenant: the old connection stays dead, and blue's server is reached.
    attach(&mut lab, "host-1", "heir", &json!({"tenant": "blue", "interface": "fn1a", "source": own}));
    sh(&lab, "fn-1a", &format!("ip route replace {SERVER}/32 via 10.88.1.1 src {own}"));
    let seen = portway::lab::whoami(lab.node("fn-1a").unwrap(), SERVER, SOON).unwrap();
    assert_eq!(seen.tenant, "blue");
    let before = leaver.returned();
    let goes_on = stayer.returned();
    wait("the stayer's transfer", SOON, || stayer.returned() > goes_on + 500_000);
    assert_eq!(leaver.returned(), before, "the former connection has come back to life");
    for transfer in [stayer, blue] {
        let done = transfer.stop();
        assert!(done.ok, "{done:?}");
    }
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn attachments_outlive_every_kind_of_restart(#[case] tunnel: TunnelKind) {
    let mut lab = simple_over(tunnel);
    let [before, ..] = [call(&mut lab, "host-1", "GET", "/v1/attachments", None)];
    let listing = sh(&lab, "host-1", "nft list map inet portway attached");
    let same = |lab: &mut Lab, how: &str| {
        assert_eq!(call(lab, "host-1", "GET", "/v1/attachments", None), before, "{how}");
        assert_eq!(sh(lab, "host-1", "nft list map inet portway attached"), listing, "{how}");
        fetches(lab, "fn-1a").unwrap_or_else(|error| panic!("{how}: {error}"));
    };
    let transfer = Transfer::start(lab.node("fn-1a").unwrap(), SocketAddr::from((SERVER, port::ECHO)), Some(1 << 20)).unwrap();
    lab.daemon("host-1").unwrap().restart().unwrap();
    same(&mut lab, "taken over");
    lab.daemon("host-1").unwrap().stop().unwrap();
    lab.daemon("host-1").unwrap().start_again().unwrap();
    same(&mut lab, "SIGTERM and start");
    let process = lab.daemon("host-1").unwrap().process();
    process.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
    process.wait(SOON).unwrap().unwrap();
    lab.daemon("host-1").unwrap().start_again().unwrap();
    same(&mut lab, "kill -9 and start");
    // The connection was stalled for moments at the most; it is the same one.
    let now = transfer.returned();
    wait("the transfer", SOON, || transfer.returned() > now + 100_000);
    let done = transfer.stop();
    assert!(done.ok, "{done:?}");
    detach(&mut lab, "host-1", "fn-1a");
    assert!(fetches(&lab, "fn-1a").is_err());
}

/// A new cable between a container's namespace and the host's, of the same name as the old one.
pub(super) fn replug(lab: &Lab) {
    let netns = lab.node("fn-1a").unwrap().path();
    sh(
        lab,
        "host-1",
        &format!(
            "ip link add fn1a type veth peer name eth0 netns {} && ip addr add 10.88.1.1/32 dev fn1a && ip link set fn1a up && ip route add 10.88.1.2/32 dev fn1a",
            netns.display()
        ),
    );
    sh(lab, "fn-1a", "ip addr add 10.88.1.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.88.1.1");
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_new_interface_of_an_old_name_is_nobodys(#[case] tunnel: TunnelKind) {
    let mut lab = simple_over(tunnel);
    fetches(&lab, "fn-1a").unwrap();
    sh(&lab, "host-1", "ip link del fn1a");
    let took = wait("the end of the attachment", SOON, || call(&mut lab, "host-1", "GET", "/v1/attachments", None).1 == json!([]));
    assert!(took < Duration::from_secs(1), "{took:?}");
    replug(&lab);
    assert!(!portway::lab::answers(lab.node("fn-1a").unwrap(), SERVER, SILENCE).unwrap());
    attach(&mut lab, "host-1", "fn-1a", &json!({"tenant": "acme", "interface": "fn1a"}));
    fetches(&lab, "fn-1a").unwrap();

    // The same while no daemon looks: gone and back before it starts.
    lab.daemon("host-1").unwrap().stop().unwrap();
    sh(&lab, "host-1", "ip link del fn1a");
    replug(&lab);
    lab.daemon("host-1").unwrap().start_again().unwrap();
    assert_eq!(call(&mut lab, "host-1", "GET", "/v1/attachments", None).1, json!([]));
    assert!(!portway::lab::answers(lab.node("fn-1a").unwrap(), SERVER, SILENCE).unwrap());
    let elements = sh(&lab, "host-1", "nft list map inet portway attached");
    assert!(!elements.contains("elements"), "{elements}");
    attach(&mut lab, "host-1", "fn-1a", &json!({"tenant": "acme", "interface": "fn1a"}));
    let probe = Probe::start(lab.node("fn-1a").unwrap(), SERVER, Duration::from_millis(5)).unwrap();
    wait("answers", SOON, || probe.answered() > 20);
    assert_eq!(probe.stop().lost, 0);
}
