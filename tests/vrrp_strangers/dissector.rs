//! Our advertisements as tshark reads them.

use super::support::{NODES, Speech, World, address, wait};
use super::witness::Witness;
use rstest::rstest;

const FIELDS: [&str; 15] = [
    "ip.src",
    "ip.dst",
    "ip.ttl",
    "ip.dsfield.dscp",
    "vrrp.version",
    "vrrp.type",
    "vrrp.virt_rtr_id",
    "vrrp.prio",
    "vrrp.addr_count",
    "vrrp.short_adver_int",
    "vrrp.adver_int",
    "vrrp.auth_type",
    "vrrp.ip_addr",
    "vrrp.checksum.status",
    "_ws.malformed",
];

/// To tshark the checksum of version 3 covers a pseudo-header, or, so configured, the message alone.
const AS_IN_V2: &str = "vrrp.v3_checksum_as_in_v2:TRUE";
const AS_IN_V3: &str = "vrrp.v3_checksum_as_in_v2:FALSE";
const GOOD: &str = "1";
const BAD: &str = "0";

/// What it does not know: the checksum for 224.0.0.18 in a packet that is unicast, which old routers send, and that a trailer is not part of
/// the message. It reads those packets as well, all but the checksum.
#[rstest]
#[case::unicast(Speech::plain(200), AS_IN_V3, GOOD)]
#[case::multicast(Speech::plain(200).with("cast: multicast"), AS_IN_V3, GOOD)]
#[case::message_alone(Speech::plain(200).with("checksum: message"), AS_IN_V2, GOOD)]
#[case::multicast_message_alone(Speech::plain(200).with("checksum: message").with("cast: multicast"), AS_IN_V2, GOOD)]
#[case::multicast_pseudo_header(Speech::plain(200).with("checksum: multicast-pseudo-header"), AS_IN_V3, BAD)]
#[case::trailer(Speech::signed(200), AS_IN_V3, BAD)]
#[case::version_2(Speech::plain(200).interval("1s").with("version: 2"), AS_IN_V3, GOOD)]
fn tshark_reads_what_we_send(#[case] speech: Speech, #[case] option: &str, #[case] checksum: &str) {
    let mut world = World::new();
    let witness = Witness::on_platform(&world);
    world.start(NODES[0], &speech);
    wait("two advertisements", || witness.seen().iter().filter(|seen| seen.source == address(NODES[0])).count() >= 2);
    let all = witness.dissect(&["-o", option], &FIELDS);
    let destination = if speech.more.contains(&"cast: multicast") { "224.0.0.18" } else { "10.9.0.2" };
    let (version, intervals) = if speech.more.contains(&"version: 2") { ("2", ["", "1", "0"]) } else { ("3", ["10", "", ""]) };
    let head = ["10.9.0.1", destination, "255", "48", version, "1", "51", "200", "2"];
    let wanted = [&head[..], &intervals, &["10.9.0.50,172.16.101.10", checksum, ""]].concat();
    assert!(all.len() >= 2 && all.iter().all(|seen| *seen == wanted), "{all:?}, not {wanted:?}");
}
