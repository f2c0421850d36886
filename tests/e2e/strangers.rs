//! What nobody should send, in GRE or sealed by a host: dropped, counted by reason, and neither the daemon nor honest traffic minds.

use super::support::*;
use portway::config::TunnelKind;
use portway::lab::topology::{METADATA, PLATFORM};
use portway::lab::{Lab, Probe, answers, icmp_echo, ipv4, udp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Of each packet, so many.
const COPIES: u64 = 3;

/// Drops by reason, as the metrics page tells them, from the ruleset and from the userspace data path.
fn drops(page: &BTreeMap<String, f64>) -> BTreeMap<String, u64> {
    let mut drops = BTreeMap::new();
    for (name, value) in page.iter().filter(|(name, _)| name.contains("dropped_packets_total{")) {
        let reason = name.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        *drops.entry(reason.to_owned()).or_default() += *value as u64;
    }
    drops
}

/// The same by `portway status --json`.
fn drops_of_status(lab: &Lab, node: &str) -> BTreeMap<String, u64> {
    let status: Value = serde_json::from_str(&portway(lab, node, &["status", "--json"]).out).unwrap();
    let mut drops: BTreeMap<String, u64> = serde_json::from_value(status["drops"].clone()).unwrap();
    for (reason, count) in status["userspace"]["drops"].as_object().into_iter().flatten() {
        *drops.entry(reason.clone()).or_default() += count.as_u64().unwrap();
    }
    drops
}

/// (what, sent by, payload of the outer packet, reasons of which one is counted: the ruleset's or the userspace data path's)
type Bad = (&'static str, &'static str, Vec<u8>, &'static [&'static str]);

fn bad_packets() -> Vec<Bad> {
    let ping = |source| ipv4(source, SERVER, ICMP, &icmp_echo(0x4242, 1, b"bad packet"));
    let honest = ping(INNER);
    let header = |flags: u16, protocol: u16, rest: &[u8]| [&flags.to_be_bytes(), &protocol.to_be_bytes(), rest].concat();
    let key = KEY.to_be_bytes();
    let with = |inner: Vec<u8>| tunnelled(KEY, &inner);
    let ipv6: Vec<u8> = [&[0x60, 0, 0, 0, 0, 0, 59, 64][..], &[0; 32]].concat();
    let mut long = honest.clone();
    long[2..4].copy_from_slice(&2000u16.to_be_bytes());
    let mut short_header = honest.clone();
    short_header[0] = 0x41;
    vec![
        ("nothing at all", "host-1", vec![], &["truncated", "gre_header"]),
        ("half a header", "host-1", vec![0x20, 0], &["truncated", "gre_header"]),
        ("a header that ends in its key", "host-1", vec![0x20, 0, 8, 0, 0, 0], &["truncated", "gre_header"]),
        ("a header and nothing in it", "host-1", with(vec![]), &["truncated", "spoofed_inner"]),
        ("an inner packet cut short", "host-1", with(long), &["truncated", "spoofed_inner"]),
        ("an inner header of 4 bytes", "host-1", with(short_header), &["malformed", "spoofed_inner"]),
        ("no key", "host-1", header(0, 0x0800, &honest), &["no_key", "gre_header"]),
        ("a key of nobody", "host-1", tunnelled(0xdead_beef, &honest), &["wrong_key", "gre_key"]),
        ("a checksum", "host-1", header(0xa000, 0x0800, &[&[0; 4], &key[..], &honest].concat()), &["unsupported_flags", "gre_header"]),
        (
            "a sequence number",
            "host-1",
            header(0x3000, 0x0800, &[&key[..], &[0; 4], &honest].concat()),
            &["unsupported_flags", "gre_header"],
        ),
        ("source routing", "host-1", header(0x6000, 0x0800, &[&[0; 4], &key[..], &honest].concat()), &["unsupported_flags", "gre_header"]),
        ("version 1", "host-1", header(0x2001, 0x880b, &[&key[..], &honest].concat()), &["unsupported_version", "gre_header"]),
        ("IPv6 inside", "host-1", header(0x2000, 0x86dd, &[&key[..], &ipv6].concat()), &["unsupported_protocol", "gre_protocol"]),
        ("IPv6 that says it is IPv4", "host-1", with(ipv6.clone()), &["unsupported_protocol", "spoofed_inner"]),
        ("Ethernet inside", "host-1", header(0x2000, 0x6558, &[&key[..], &[0; 64]].concat()), &["unsupported_protocol", "gre_protocol"]),
        ("an unlisted sender", PLATFORM, with(honest.clone()), &["unlisted_source"]),
        ("another tenant's host", "host-2", with(ping(Ipv4Addr::new(10, 64, 0, 102))), &["wrong_key", "spoofed_inner"]),
        ("another's inner source", "host-1", with(ping(Ipv4Addr::new(10, 64, 0, 102))), &["spoofed_inner"]),
        ("the server's address as inner source", "host-1", with(ping(SERVER)), &["spoofed_inner"]),
        ("GRE in GRE", "host-1", with(ipv4(INNER, SERVER, 47, &tunnelled(KEY, &honest))), &["nested"]),
        ("IP in IP", "host-1", with(ipv4(INNER, SERVER, 4, &honest)), &["nested"]),
        ("IPv6 in IP", "host-1", with(ipv4(INNER, SERVER, 41, &ipv6)), &["nested"]),
        ("VXLAN", "host-1", with(ipv4(INNER, SERVER, 17, &udp(50000, 4789, &[8; 64]))), &["nested"]),
        ("Geneve", "host-1", with(ipv4(INNER, SERVER, 17, &udp(50000, 6081, &[0; 64]))), &["nested"]),
        ("the gateway's own address", "host-1", with(ipv4(INNER, GATEWAY, ICMP, &icmp_echo(1, 1, b"x"))), &["to_node"]),
        ("a port that is not allowed", "host-1", with(ipv4(INNER, SERVER, 17, &udp(50000, 53, b"x"))), &["policy"]),
    ]
}

/// Two hosts that the gateway lists, the second one not for `acme`.
fn listed_and_unlisted() -> Lab {
    let edit = |node: &str, yaml: String| {
        let both = "acme: [10.64.0.102], blue: [10.64.0.102]";
        if node == "gw" { replaced(&yaml, both, "blue: [10.64.0.102]") } else { yaml }
    };
    let mut lab = stand_edited(shared(), edit);
    lab.attach_all().unwrap();
    lab
}

#[test]
fn every_bad_packet_is_dropped_and_counted_by_its_reason() {
    let lab = listed_and_unlisted();
    all_are_dropped(lab, bad_packets(), |lab, from, packet| send(lab.node(from).unwrap(), GATEWAY, GRE, packet));
}

/// Whose a packet is, the seal says; what is in it is looked at all the same.
#[test]
fn every_bad_packet_that_a_host_seals_is_dropped_and_counted_by_its_reason() {
    let mut lab = stand(Forger::into(shared(), TunnelKind::Wireguard));
    lab.attach_all().unwrap();
    let forger = Forger::of(&lab);
    let inner = forger.inner;
    let honest = ipv4(inner, SERVER, ICMP, &icmp_echo(0x4242, 1, b"bad packet"));
    let ipv6: Vec<u8> = [&[0x60, 0, 0, 0, 0, 0, 59, 64][..], &[0; 32]].concat();
    let from = |source| ipv4(source, SERVER, ICMP, &icmp_echo(0x4242, 1, b"bad packet"));
    let to = |destination| ipv4(inner, destination, ICMP, &icmp_echo(0x4242, 1, b"bad packet"));
    let carrying = |protocol, payload: &[u8]| ipv4(inner, SERVER, protocol, payload);
    let bad: Vec<Bad> = vec![
        ("another host's inner source", "host-1", from(INNER), &["spoofed_inner"]),
        ("the server's address as inner source", "host-1", from(SERVER), &["spoofed_inner"]),
        ("the gateway's address as inner source", "host-1", from(GATEWAY), &["spoofed_inner"]),
        ("GRE", "host-1", carrying(47, &tunnelled(KEY, &honest)), &["nested"]),
        ("IP in IP", "host-1", carrying(4, &honest), &["nested"]),
        ("IPv6 in IP", "host-1", carrying(41, &ipv6), &["nested"]),
        ("VXLAN", "host-1", carrying(17, &udp(50000, 4789, &[8; 64])), &["nested"]),
        ("Geneve", "host-1", carrying(17, &udp(50000, 6081, &[0; 64])), &["nested"]),
        ("the gateway's own address", "host-1", to(GATEWAY), &["to_node"]),
        ("cloud metadata", "host-1", to(METADATA), &["policy"]),
        ("a port that is not allowed", "host-1", carrying(17, &udp(50000, 53, b"x")), &["policy"]),
    ];
    all_are_dropped(lab, bad, |lab, _, packet| forger.send(lab, packet));
}

/// Each of these, sent by `send`, while honest traffic goes on.
fn all_are_dropped(mut lab: Lab, bad: Vec<Bad>, send: impl Fn(&Lab, &str, &[u8])) {
    let probe = Probe::start(lab.node("fn-1a").unwrap(), SERVER, Duration::from_millis(2)).unwrap();
    wait("honest traffic", SOON, || probe.answered() > 100);
    let capture = Capture::start(&lab, "db-acme", "vpc0", "ip");
    let pid = lab.daemon("gw").unwrap().pid();
    for (what, from, packet, reasons) in bad {
        let before = drops(&metrics(&mut lab, "gw"));
        for _ in 0..COPIES {
            send(&lab, from, &packet);
        }
        let counted = |lab: &mut Lab| {
            let now = drops(&metrics(lab, "gw"));
            let changed: Vec<(String, u64)> =
                now.iter().map(|(reason, n)| (reason.clone(), n - before.get(reason).unwrap_or(&0))).filter(|(_, n)| *n > 0).collect();
            changed
        };
        let mut seen = vec![];
        for _ in 0..400 {
            seen = counted(&mut lab);
            if seen.iter().map(|s| s.1).sum::<u64>() >= COPIES {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(
            seen.len() == 1 && reasons.contains(&seen[0].0.as_str()) && seen[0].1 == COPIES,
            "{what}: counted as {seen:?}, not as {reasons:?}"
        );
    }
    assert_eq!(drops(&metrics(&mut lab, "gw")), drops_of_status(&lab, "gw"), "two faces, two truths");
    // curl on the admin listener sees the same page.
    let page = sh(&lab, "gw", "curl -sf -H 'accept: application/openmetrics-text' http://127.0.0.1:9470/metrics");
    assert!(page.contains("reason=\"nested\"") && page.trim_end().ends_with("# EOF"), "{page}");

    assert_eq!(lab.daemon("gw").unwrap().pid(), pid);
    let now = probe.answered();
    wait("honest traffic", SOON, || probe.answered() > now + 100);
    let probed = probe.stop();
    assert_eq!(probed.lost, 0, "{probed:?}");
    assert!(!capture.has(b"bad packet"), "a bad packet came through");
    fetches(&lab, "fn-1a").unwrap();
}

/// An outer packet in fragments: (offset in bytes, more to come) of its payload.
fn fragment(id: u16, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(HOST, GATEWAY, 47, payload);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
    // The kernel fills in the checksum of packets written with their own header (raw(7)).
    packet[10..12].fill(0);
    packet
}

#[test]
fn fragments_are_put_together_or_come_to_nothing() {
    let mut lab = listed_and_unlisted();
    let capture = Capture::start(&lab, "db-acme", "vpc0", "icmp[0] == 8");
    let ping = |data: &[u8]| tunnelled(KEY, &ipv4(INNER, SERVER, ICMP, &icmp_echo(0x4343, 1, data)));
    let host = lab.node("host-1").unwrap().clone();
    // First parts without an end, last parts without a beginning, parts that overlap, a part beyond 65,535 bytes.
    let alone = ping(b"never-complete..");
    for id in 1..=200 {
        send(&host, GATEWAY, RAW, &fragment(id, 0, true, &alone[..16]));
        send(&host, GATEWAY, RAW, &fragment(0x1000 + id, 16, false, &alone[16..]));
        send(&host, GATEWAY, RAW, &fragment(0x2000 + id, 0, true, &alone[..24]));
        send(&host, GATEWAY, RAW, &fragment(0x2000 + id, 16, false, &alone[16..]));
        send(&host, GATEWAY, RAW, &fragment(0x3000 + id, 65528, false, &alone[..40]));
    }
    // An honest packet may come in two parts, in any order.
    let whole = ping(b"two-parts-whole.");
    let cut = 32;
    send(&host, GATEWAY, RAW, &fragment(0x4444, cut, false, &whole[usize::from(cut)..]));
    send(&host, GATEWAY, RAW, &fragment(0x4444, 0, true, &whole[..usize::from(cut)]));
    capture.wait_for(b"two-parts-whole.");
    assert!(!capture.has(b"never-complete.."));
    lab.daemon("gw").unwrap().process().check_alive().unwrap();
    fetches(&lab, "fn-1a").unwrap();
}

#[test]
fn noise_harms_nobody() {
    let mut lab = listed_and_unlisted();
    // A fixed sequence (xorshift), so that a failure can be seen again.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let honest = tunnelled(KEY, &ipv4(INNER, SERVER, ICMP, &icmp_echo(1, 1, b"noise")));
    for round in 0..3000 {
        let mut packet = if round % 2 == 0 { honest.clone() } else { (0..next() % 200).map(|_| next() as u8).collect() };
        for _ in 0..1 + next() % 4 {
            if let Some(at) = (next() as usize).checked_rem(packet.len()) {
                packet[at] = next() as u8;
            }
        }
        packet.truncate(packet.len() - (next() as usize % 8).min(packet.len()));
        send(lab.node(if round % 3 == 0 { PLATFORM } else { "host-1" }).unwrap(), GATEWAY, GRE, &packet);
        // And to a host, as if from its gateway.
        let mut back = ipv4(GATEWAY, HOST, 47, &packet);
        back[10..12].fill(0);
        send(lab.node("gw").unwrap(), HOST, RAW, &back);
    }
    for node in ["gw", "host-1"] {
        lab.daemon(node).unwrap().process().check_alive().unwrap();
    }
    fetches(&lab, "fn-1a").unwrap();
    for node in ["gw", "host-1"] {
        let counted: u64 = drops(&metrics(&mut lab, node)).values().sum();
        assert!(counted > 1000, "{node}: only {counted} counted");
    }
}

#[test]
fn a_dead_daemon_does_not_say_that_gre_is_unreachable() {
    let mut lab = simple();
    for (dead, other, to, from) in [("gw-acme", "host-1", GATEWAY, HOST), ("host-1", "gw-acme", HOST, GATEWAY)] {
        let process = lab.daemon(dead).unwrap().process();
        process.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
        process.wait(SOON).unwrap().unwrap();
        let capture = Capture::start(&lab, other, "plat0", "icmp");
        let sender = lab.node(other).unwrap();
        for _ in 0..5 {
            send(sender, to, GRE, &tunnelled(KEY, &ipv4(INNER, SERVER, ICMP, &icmp_echo(1, 1, b"x"))));
        }
        // Protocol 253, for experiments (RFC 3692), which nobody speaks: the kernel says so, and by then it has said all before.
        send(sender, to, 253, b"control-control.");
        capture.wait_for(b"control-control.");
        let said = capture.read("icmp.type == 3", &["icmp.code", "ip.src"]);
        assert_eq!(said, [["2", &to.to_string()]], "only the control may be answered by {dead} to {from}");
        lab.daemon(dead).unwrap().start_again().unwrap();
        wait("traffic", SOON, || answers(lab.node("fn-1a").unwrap(), SERVER, SILENCE).unwrap());
    }
}
