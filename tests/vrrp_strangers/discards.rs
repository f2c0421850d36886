//! Every receive check of RFC 9568 section 7.1, and those of our own, violated by packets that were made by hand: each dropped, counted
//! under its reason, and no state changed. All claim a priority that would depose the Active.

use super::forge::{Message, inject, sign};
use super::support::{NODES, Speech, THIRD_ADDRESS, World, address, wait};
use super::witness::Witness;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Of each packet, so many.
const COPIES: u64 = 3;

/// What, sender as it claims, TTL, payload, reason.
type Bad = (&'static str, Ipv4Addr, u8, Vec<u8>, &'static str);

/// Sends all of them to a node; each must be counted under its reason, and nothing else.
fn all_are_dropped(world: &World, node: &str, bad: Vec<Bad>) {
    let (state, transitions) = (world.state(node), world.transitions(node));
    for (what, source, ttl, payload, reason) in bad {
        let before = world.discards(node);
        let expected = before.get(reason).copied().unwrap_or_default() + COPIES;
        (0..COPIES).for_each(|_| inject(world, source, address(node), ttl, &payload));
        let mut after = BTreeMap::new();
        let arrived = portway::lab::poll_until(what, Duration::from_secs(3), || {
            after = world.discards(node);
            Ok(after.values().sum::<u64>() >= before.values().sum::<u64>() + COPIES)
        });
        let mut wanted = before;
        wanted.insert(reason.to_owned(), expected);
        assert!(arrived.is_ok() && after == wanted, "{what}: {after:?}, not {wanted:?}; {payload:02x?}");
        assert_eq!((world.state(node), world.transitions(node)), (state.clone(), transitions), "{what}");
    }
}

fn v3() -> Message {
    Message::v3(250)
}

#[test]
fn what_breaks_a_rule_is_dropped_and_counted() {
    let [ours, theirs] = NODES.map(address);
    let mut world = World::new();
    world.start(NODES[0], &Speech::plain(200));
    world.await_state(NODES[0], "active");
    // Otherwise the kernel drops what comes from its own address, before we can count it.
    world.sh(NODES[0], "echo 1 > /proc/sys/net/ipv4/conf/plat0/accept_local");
    let good = |message: Message| message.sealed(theirs, ours);
    let carp = [&[0x21, 51, 0, 7, 0, 1, 0, 0][..], &[0x5a; 28]].concat();
    let bad: Vec<Bad> = vec![
        ("TTL 254", theirs, 254, good(v3()), "hop_limit"),
        ("TTL 64", theirs, 64, good(v3()), "hop_limit"),
        ("TTL 1", theirs, 1, good(v3()), "hop_limit"),
        ("version 4", theirs, 255, good(Message { first: 0x41, ..v3() }), "version"),
        ("version 1", theirs, 255, good(Message { first: 0x11, ..v3() }), "version"),
        ("version 0", theirs, 255, good(Message { first: 0x01, ..v3() }), "version"),
        ("version 2 to version 3", theirs, 255, good(Message::v2(250)), "version"),
        ("type 0", theirs, 255, good(Message { first: 0x30, ..v3() }), "type"),
        ("type 2", theirs, 255, good(Message { first: 0x32, ..v3() }), "type"),
        ("type 2 of version 2", theirs, 255, good(Message { first: 0x22, ..Message::v2(250) }), "type"),
        ("nothing at all", theirs, 255, vec![], "length"),
        ("a header without its end", theirs, 255, good(v3())[..7].to_vec(), "length"),
        ("an address cut off", theirs, 255, good(v3())[..15].to_vec(), "length"),
        ("more addresses counted than there are", theirs, 255, good(Message { count: 3, ..v3() }), "length"),
        ("255 addresses counted", theirs, 255, good(Message { count: 255, ..v3() }), "length"),
        ("fewer addresses counted than there are", theirs, 255, good(Message { count: 1, ..v3() }), "length"),
        ("a byte too many", theirs, 255, [good(v3()), vec![0]].concat(), "length"),
        ("version 2 without its last eight bytes", theirs, 255, good(Message { tail: vec![], ..Message::v2(250) }), "length"),
        ("VRID 0", theirs, 255, good(Message { vrid: 0, ..v3() }), "vrid"),
        ("another VRID", theirs, 255, good(Message { vrid: 52, ..v3() }), "unknown_vrid"),
        ("no address", theirs, 255, good(Message { count: 0, addresses: vec![], ..v3() }), "no_address"),
        ("a wrong checksum", theirs, 255, damaged(good(v3())), "checksum"),
        ("no checksum", theirs, 255, v3().bytes(), "checksum"),
        ("a checksum for another sender", theirs, 255, v3().sealed(THIRD_ADDRESS, ours), "checksum"),
        ("an interval of zero", theirs, 255, good(Message { interval: [0, 0], ..v3() }), "interval"),
        ("an interval of zero, reserved bits set", theirs, 255, good(Message { interval: [0xf0, 0], ..v3() }), "interval"),
        ("CARP", theirs, 255, carp, "carp"),
        ("an unlisted source", THIRD_ADDRESS, 255, v3().sealed(THIRD_ADDRESS, ours), "unlisted_source"),
        ("our own address", ours, 255, v3().sealed(ours, ours), "own_address"),
        ("a trailer nobody asked for", theirs, 255, sign(good(v3()), theirs, 0, 1), "unexpected_trailer"),
    ];
    all_are_dropped(&world, NODES[0], bad);
    let warnings = world.status(NODES[0])["shards"][0]["warnings"].to_string();
    assert!(warnings.contains("10.9.0.1 is our own address"), "{warnings}");
    // What the others were made of is good.
    inject(&world, theirs, ours, 255, &good(v3()));
    world.await_state(NODES[0], "backup");
}

/// One bit.
fn damaged(mut payload: Vec<u8>) -> Vec<u8> {
    payload[9] ^= 0x10;
    payload
}

/// One bit of the HMAC.
fn forged(mut payload: Vec<u8>) -> Vec<u8> {
    *payload.last_mut().expect("a trailer") ^= 1;
    payload
}

#[test]
fn what_breaks_a_rule_of_version_2_is_dropped_and_counted() {
    let [ours, theirs] = NODES.map(address);
    let mut world = World::new();
    world.start(NODES[0], &Speech::plain(200).interval("1s").with("version: 2"));
    world.await_state(NODES[0], "active");
    let good = |message: Message| message.sealed(theirs, ours);
    let v2 = || Message::v2(250);
    let bad: Vec<Bad> = vec![
        ("TTL 254", theirs, 254, good(v2()), "hop_limit"),
        ("version 3 to version 2", theirs, 255, good(v3()), "version"),
        ("an authentication type of nobody", theirs, 255, good(Message { interval: [3, 1], ..v2() }), "authentication_type"),
        ("an interval of zero", theirs, 255, good(Message { interval: [0, 0], ..v2() }), "interval"),
        ("another interval", theirs, 255, good(Message { interval: [0, 2], ..v2() }), "interval_mismatch"),
        ("a wrong checksum", theirs, 255, damaged(good(v2())), "checksum"),
        ("a checksum with a pseudo-header", theirs, 255, v2().sealed_as_v3(theirs, ours), "checksum"),
        ("a byte too many", theirs, 255, [good(v2()), vec![0]].concat(), "length"),
    ];
    all_are_dropped(&world, NODES[0], bad);
    let warnings = world.status(NODES[0])["shards"][0]["warnings"].to_string();
    assert!(warnings.contains("10.9.0.2 advertises every 2s, we are configured with 1s"), "{warnings}");
    inject(&world, theirs, ours, 255, &good(v2()));
    world.await_state(NODES[0], "backup");
}

#[test]
fn what_is_not_signed_as_it_should_be_is_dropped_and_counted() {
    let [ours, theirs] = NODES.map(address);
    let mut world = World::new();
    let witness = Witness::on_platform(&world);
    world.start(NODES[0], &Speech::signed(200));
    world.await_state(NODES[0], "active");
    world.start(NODES[1], &Speech::signed(100));
    wait("an advertisement heard by the Backup", || !world.status(NODES[1])["shards"][0]["heard"].is_null());

    let good = || v3().sealed(theirs, ours);
    let with = |at: usize, value: u8| {
        let mut bytes = sign(good(), theirs, 0, 1);
        bytes[16 + at] = value;
        bytes
    };
    let bad: Vec<Bad> = vec![
        ("no trailer", theirs, 255, good(), "unauthenticated"),
        ("half a trailer", theirs, 255, sign(good(), theirs, 0, 1)[..30].to_vec(), "length"),
        ("a trailer of another type", theirs, 255, with(0, 2), "trailer"),
        ("something in the reserved field", theirs, 255, with(3, 1), "trailer"),
        ("a key of nobody", theirs, 255, sign(good(), theirs, 0, 9), "unknown_key"),
        ("a wrong HMAC", theirs, 255, forged(sign(good(), theirs, 0, 1)), "hmac"),
        ("signed for another sender", theirs, 255, sign(good(), THIRD_ADDRESS, 0, 1), "hmac"),
        (
            "an unlisted source with our key",
            THIRD_ADDRESS,
            255,
            sign(v3().sealed(THIRD_ADDRESS, ours), THIRD_ADDRESS, 0, 1),
            "unlisted_source",
        ),
        ("signed ten seconds ago", theirs, 255, sign(good(), theirs, -10, 1), "stale"),
        ("signed in ten seconds", theirs, 255, sign(good(), theirs, 10, 1), "stale"),
        ("signed an age ago", theirs, 255, sign(good(), theirs, -1_000_000, 1), "stale"),
    ];
    all_are_dropped(&world, NODES[0], bad);

    // What the Active said, again, to the Backup.
    let recorded = witness.payloads(ours).pop().expect("it advertises");
    all_are_dropped(&world, NODES[1], vec![("a recording", ours, 255, recorded, "replayed")]);
    let before = world.transitions(NODES[0]);
    inject(&world, theirs, ours, 255, &sign(good(), theirs, 0, 1));
    // It stands back, for a while: the other does not take over.
    wait("the Active to be deposed", || world.transitions(NODES[0]) > before);
}
