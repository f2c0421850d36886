//! A group of which the directory says who is in it, and no file.

use super::support::*;
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Probe, Topology, poll_until};

/// Three gateways, of which these do not run yet, and two shards.
fn group_by_directory(absent: &[&str]) -> Lab {
    let topology = Topology::group(&["acme"], 3, 2, &[Wiring::Veth]).with_containers(2);
    let topology = topology.with_tunnel(TunnelKind::Wireguard).with_group_by_directory();
    let topology = absent.iter().fold(topology, |topology, node| topology.with_absent(node));
    let mut lab = Lab::build(topology).unwrap();
    lab.serve().unwrap();
    lab.start_daemons(program(), Backend::Auto).unwrap();
    lab.attach_all().unwrap();
    lab.await_in_sync().unwrap();
    lab
}

fn part(lab: &Lab, node: &str) -> String {
    status(lab, node)["ha"]["part"].as_str().unwrap_or_default().to_owned()
}

fn unharmed(probe: Probe, what: &str) {
    let probed = probe.stop();
    assert_eq!(probed.lost, 0, "{what}: {probed:?}");
}

/// What each knew is in force as long as the directory is away; who has never known anything serves nothing, and is nobody's rival.
#[test]
fn serial_a_group_goes_on_without_its_directory() {
    let mut lab = group_by_directory(&["gw-3"]);
    lab.await_settled(std::time::Duration::from_secs(1)).unwrap();
    let (flows, restarts) = (flows(&lab, 40), probe(&lab));
    lab.directory().unwrap().fail();
    for node in ["gw-1", "gw-2"] {
        lab.daemon(node).unwrap().restart().unwrap();
        goes_on(&restarts);
        assert_eq!(part(&lab, node), "member", "{}", log(&lab, node));
        lab.await_in_sync().unwrap();
    }
    unharmed(restarts, "restarts");
    let (before, newcomer) = (lab.await_owners().unwrap(), probe(&lab));
    lab.topology.group.iter_mut().for_each(|group| group.absent.clear());
    lab.start_gateway("gw-3", program(), Backend::Auto).unwrap();
    goes_on(&newcomer);
    assert_eq!((part(&lab, "gw-3").as_str(), lab.shards_at("gw-3").unwrap().unwrap().len()), ("unknown", 0));
    assert_eq!(lab.await_owners().unwrap(), before);

    unharmed(newcomer, "a newcomer that knows nobody");
    let moves = probe(&lab);
    lab.directory().unwrap().resume().unwrap();
    for node in ["gw-1", "gw-2", "gw-3"] {
        lab.await_group(node).unwrap();
    }
    poll_until("a part for the newcomer", SOON * 3, || Ok(part(&lab, "gw-3") == "member")).unwrap();
    let homes = lab.topology.homes();
    poll_until("every shard at home", SOON * 3, || Ok(lab.owners()?.as_ref() == Some(&homes))).unwrap();
    goes_on(&moves);
    unharmed(moves, "the newcomer takes its part");
    survived(flows);
}

#[test]
fn the_last_who_may_serve_a_shard_does_not_leave() {
    let lab = group_by_directory(&[]);
    let leave = |node: &str, deadline_s: u32| {
        let body = format!(r#"{{"leave": true, "deadline_s": {deadline_s}}}"#);
        portway::lab::unix_within(&lab.socket(node).unwrap(), "POST", "/v1/drain", Some(&body), SOON * 7).unwrap()
    };
    let left = leave("gw-3", 60);
    assert!(left.status == 200 && left.body.contains(r#""kept":[]"#), "{}", left.body);
    assert!(lab.shards_at("gw-3").unwrap().unwrap().is_empty());
    // Nobody but this one could keep what the last one has.
    let keeps = leave("gw-2", 3);
    assert!(keeps.status == 200 && keeps.body.contains("acme/1"), "{}", keeps.body);
    let stays = leave("gw-1", 60);
    assert!(stays.status == 409 && stays.body.contains("nobody stays who may serve"), "{}", stays.body);
    for node in ["gw-2", "gw-3"] {
        portway::lab::unix_ok(&lab.socket(node).unwrap(), "DELETE", "/v1/drain", None).unwrap();
    }
    poll_until("members again", SOON * 3, || Ok(["gw-1", "gw-2", "gw-3"].iter().all(|node| part(&lab, node) == "member"))).unwrap();
    lab.await_in_sync().unwrap();
}

/// Where files list the nodes, one that leaves is to be written there.
#[test]
fn who_is_in_a_file_is_told_what_to_write() {
    let lab = group(2, 1);
    let said = portway::lab::unix(&lab.socket("gw-1").unwrap(), "POST", "/v1/drain", Some(r#"{"leave": true}"#)).unwrap();
    assert_eq!(said.status, 409);
    assert!(said.body.contains("leaving: [gw-1]"), "{}", said.body);
}
