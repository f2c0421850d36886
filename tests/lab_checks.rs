//! The checks can fail: in a lab where nobody keeps tenants apart they all do, and tell a leak from a failure.

use portway::lab::checks::{right_tenant, spoofed, unattached, unreachable};
use portway::lab::{Lab, Topology, rights};

/// Two tenants on one host, no daemons, and a main table that leads everybody to a stranger.
fn unguarded() -> Lab {
    rights::check().unwrap_or_else(|e| panic!("{e}"));
    let mut lab = Lab::build(Topology::overlap(2)).unwrap();
    lab.serve().unwrap();
    lab
}

#[test]
fn a_stranger_who_answers_is_a_leak() {
    let lab = unguarded();
    let [one, _] = lab.topology.containers.as_slice() else { panic!("one container for each tenant") };
    let mut found = vec![right_tenant(&lab, one).unwrap(), unattached(&lab, one).unwrap()];
    found.extend(unreachable(&lab, one).unwrap().into_iter().filter(|c| !c.claim.contains("metadata")));
    assert_eq!(found.len(), 4);
    for check in found {
        assert!(!check.held && check.leaked, "{check:?}");
    }
}

#[test]
fn silence_where_the_honest_packet_is_lost_too_is_no_success() {
    let lab = unguarded();
    let [one, two] = lab.topology.containers.as_slice() else { panic!("one container for each tenant") };
    let check = spoofed(&lab, one, two).unwrap();
    assert!(!check.held && !check.leaked && check.detail.contains("honest"), "{check:?}");
}
