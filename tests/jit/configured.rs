//! Whom the configuration names is nobody's to let in, to change, or to remove, whatever the directory knows.

use crate::gate::*;
use crate::support::*;
use portway::gateway::jit::{Adopted, News, Order};
use portway::model::{Lane, PublicKey, Registered};
use portway::plan::gateway::ends::End;
use portway::proto::jit::{Answer, Reaped};
use std::sync::Arc;
use std::time::Instant;

fn configure(gate: &Gate, peers: &[(u8, &str)]) {
    let peers = peers.iter().map(|(n, prefix)| (public(*n), vec![prefix.parse().unwrap()])).collect();
    gate.door.order(Order::Configured { slot: slot(), peers });
}

/// Of the interface: no two of its peers have the same prefix.
fn stands_with(gate: &Gate, n: u8, prefix: &str) -> bool {
    let (device, other) = (gate.device.read().unwrap(), public(99));
    match device.set_peer(&pw(), other, &allowed(&[prefix], None)) {
        Ok(()) => device.remove_peer(&pw(), &other).map(|_| false).unwrap(),
        Err(error) => error.to_string().contains(&public(n).to_string()),
    }
}

fn reaped(gate: &mut Gate) -> (PublicKey, Reaped) {
    gate.news(|news| if let News::Reaped { key, why, .. } = news { Some((key, why)) } else { None })
}

/// A member becomes the configuration's and ceases to be.
#[test]
fn a_reload_takes_a_peer_out_of_the_directorys_hands_and_gives_it_back() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(public(THEIRS), registered("10.64.0.9/32"));
    let mut stranger = net.stranger();
    assert!(!net.pings("-c 1 -W 1"), "that address is not its own");
    gate.await_installed(public(THEIRS));
    gate.device.read().unwrap().set_peer(&pw(), public(THEIRS), &allowed(&["10.64.0.1/32"], None)).unwrap();
    configure(&gate, &[(THEIRS, "10.64.0.1/32")]);
    until(|| gate.door.board().peers(&shard()).is_empty(), || "it to be no member".into());
    net.ping();
    // Neither another word of the directory nor its end is anything to it, nor is a knock.
    gate.directory.says(public(THEIRS), registered("10.64.0.8/32"));
    gate.door.order(Order::Changed(vec![public(THEIRS)]));
    gate.directory.says(public(THEIRS), Answer::Unknown);
    gate.door.order(Order::AllChanged);
    gate.door.order(Order::Gone { slot: slot(), key: public(THEIRS) });
    socket(&net, 4000).send(&initiation(&key(8), 1)).unwrap();
    gate.await_refused(portway::proto::jit::Refusal::Unknown, 1);
    assert!(stands_with(&gate, THEIRS, "10.64.0.1/32"));
    net.ping();
    // The owner removes it and says so.
    gate.device.read().unwrap().remove_peer(&pw(), &public(THEIRS)).unwrap();
    gate.door.order(Order::ConfiguredNoMore { slot: slot(), keys: vec![public(THEIRS)] });
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    gate.door.order(Order::Changed(vec![public(THEIRS)]));
    stranger.restart(&net);
    net.ping();
    gate.await_installed(public(THEIRS));
}

/// What hands have begun when the configuration changes ends as the configuration says.
#[test]
fn an_install_that_is_under_way_does_not_overwrite_the_configuration() {
    let net = Net::new();
    for _ in 0..10 {
        let gate = Gate::open(&net);
        gate.directory.says(public(THEIRS), registered("10.64.0.9/32"));
        gate.directory.holds();
        socket(&net, 4000).send(&initiation(&key(THEIRS), 1)).unwrap();
        until(|| gate.directory.asked() == 1, || "the question".into());
        gate.directory.goes_on();
        gate.device.read().unwrap().set_peer(&pw(), public(THEIRS), &allowed(&["10.64.0.1/32"], None)).unwrap();
        configure(&gate, &[(THEIRS, "10.64.0.1/32")]);
        let over = || {
            let report = gate.door.report();
            let greeted = report.greeted;
            report.jobs == 0 && report.counters.configured + greeted.answered + greeted.initiated + greeted.failed > 0
        };
        until(over, || format!("the knock to come to something: {:?}", gate.door.report()));
        until(|| gate.door.board().peers(&shard()).is_empty(), || "it to be no member".into());
        until(|| stands_with(&gate, THEIRS, "10.64.0.1/32"), || "what is configured".into());
        net.gateway.ip("link delete pw-1");
    }
}

/// Nor is anybody given an address that the configuration gives to another.
#[test]
fn the_directory_gives_nobody_what_the_configuration_gives_to_another() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    let member = |n: u8, prefix: &str| {
        gate.device.read().unwrap().set_peer(&pw(), public(n), &allowed(&[prefix], None)).unwrap();
        let registered = Arc::new(Registered { host: "host-1".parse().unwrap(), allowed: vec![prefix.parse().unwrap()] });
        (public(n), Adopted { endpoint: at("10.0.0.1:51820"), registered, heard: Instant::now() })
    };
    let members = vec![member(7, "10.64.0.7/32"), member(8, "10.64.0.8/32")];
    for n in [7, 8, 9] {
        gate.directory.says(public(n), registered(&format!("10.64.0.{n}/32")));
    }
    gate.door.order(Order::Adopt { slot: slot(), peers: members });
    configure(&gate, &[(THEIRS, "10.64.0.8/31")]);
    assert_eq!(reaped(&mut gate), (public(8), Reaped::Revoked));
    socket(&net, 4000).send(&initiation(&key(9), 1)).unwrap();
    gate.await_refused(portway::proto::jit::Refusal::Unknown, 1);
    assert!(gate.stands(&public(7)) && !gate.stands(&public(9)));
    assert_eq!(gate.door.board().peers(&shard()).keys().collect::<Vec<_>>(), [&public(7)]);
}

/// A shard goes and comes back. Whoever sets its peers before the actor knows of them has a reconciler beside it, that removes whom the board does not name.
#[test]
fn adopted_peers_are_on_the_board_at_once_and_without_a_gap() {
    let net = Net::new();
    let gate = Gate::open(&net);
    gate.directory.holds();
    let registered = Arc::new(Registered { host: "host-1".parse().unwrap(), allowed: vec!["10.64.0.7/32".parse().unwrap()] });
    for round in 0..200 {
        gate.door.order(Order::Release { slot: slot() });
        gate.door.order(Order::Serve { of: shard(), slot: slot(), ends: vec![End { lane: Lane::First, key: key(OURS), port: 51_820 }] });
        let adopted = Adopted { endpoint: at("10.0.0.1:51820"), registered: registered.clone(), heard: Instant::now() };
        gate.door.adopt(&shard(), slot(), vec![(public(7), adopted)]);
        let looks = (0..200).filter(|_| gate.door.board().peers(&shard()).contains_key(&public(7))).count();
        assert_eq!(looks, 200, "round {round}");
    }
}
