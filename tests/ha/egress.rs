//! The address that the tenant sees a function by: as it was asked for, whichever gateway serves.

use super::support::*;
use portway::lab::{Kill, Lab, poll_until, unix, whoami};
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;

fn attached(lab: &Lab, place: usize, egress: Option<&str>) -> (u16, String) {
    let container = &lab.topology.containers[place];
    let mut body = json!({ "tenant": container.tenant, "interface": container.port });
    if let Some(pool) = egress {
        body["egress"] = pool.into();
    }
    let path = format!("/v1/attachments/{}", container.node);
    let answer = unix(&lab.socket("host-1").unwrap(), "PUT", &path, Some(&body.to_string())).unwrap();
    (answer.status, answer.body)
}

fn seen(lab: &Lab, place: usize) -> IpAddr {
    whoami(lab.node(&lab.topology.containers[place].node).unwrap(), SERVER, SOON).unwrap().seen.ip()
}

#[test]
fn a_function_keeps_the_outbound_address_of_its_pool_when_its_gateway_dies() {
    let mut lab = group(2, 3);
    for container in lab.topology.containers.clone() {
        lab.detach(&container).unwrap();
    }
    reload(&mut lab, "host-1", |yaml| yaml.replacen("      shards:", "      egress: { partners: [2], crawlers: [1] }\n      shards:", 1));
    poll_until("the pools", SOON, || Ok(attached(&lab, 0, Some("partners")).0 == 201)).unwrap();
    assert_eq!([attached(&lab, 1, Some("crawlers")).0, attached(&lab, 2, None).0], [201, 201]);
    let (status, said) = attached(&lab, 0, Some("others"));
    assert!(status == 404 && said.contains("acme has no pool others: it has crawlers, partners"), "{status} {said}");

    let shards = lab.topology.shards_of("acme");
    let source = |shard: u8| IpAddr::from(shards.iter().find(|one| one.shard == shard).unwrap().source);
    let wanted = [source(2), source(1), source(0)];
    let all = |lab: &Lab| [0, 1, 2].map(|place| seen(lab, place));
    assert_eq!(all(&lab), wanted);
    let flows = flows(&lab, 30);
    let first = lab.active("acme", 2).unwrap().unwrap();
    let other = if first == "gw-1" { "gw-2" } else { "gw-1" };
    lab.fail(&first, Kill::Daemon).unwrap();
    for shard in 0..3 {
        lab.await_active(other, "acme", shard).unwrap();
    }
    assert_eq!(all(&lab), wanted, "by {other}");
    survived(flows);
    // And the host's next process knows whose is what.
    lab.daemon("host-1").unwrap().restart().unwrap();
    poll_until("the same addresses", SOON + Duration::from_secs(10), || Ok(all(&lab) == wanted)).unwrap();
}
