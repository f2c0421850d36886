//! Two gateways that share addresses: their keys change and their program is replaced, under a transfer.

use crate::fleet::Fleet;
use portway::config::Backend;
use portway::lab::topology::Wiring;
use portway::lab::{Probe, Topology};
use serde_json::json;
use std::time::Duration;

const GATEWAYS: [&str; 2] = ["gw-1", "gw-2"];
const NEW_KEY: &str = "2b7c90d1e6f34a58b1c9d0e7f6a5243819c8b7d6e5f40312a9b8c7d6e5f40312";

#[test]
fn a_pair_changes_its_key_and_its_program_and_nothing_is_lost() {
    let mut fleet = Fleet::build(Topology::group(&["acme"], 2, 1, &[Wiring::Veth]), Backend::Userspace);
    fleet.package();
    fleet.play("install", &["--extra-vars", "portway_gateways_at_once=2"]).expect("to be installed");
    fleet.attach();
    fleet.carries();
    let transfer = fleet.transfer();
    let (container, server) = (&fleet.lab.topology.containers[0], fleet.lab.topology.tenants[0].server);
    let probe = Probe::start(fleet.lab.node(&container.node).unwrap(), server, Duration::from_millis(20)).unwrap();

    // Not at once: the other node would hear nobody any more.
    let secrets = |fleet: &mut Fleet, keys: &[(&str, &str)]| {
        let secrets: Vec<_> = keys.iter().map(|(path, content)| json!({ "path": path, "content": content })).collect();
        fleet.vars.insert("portway_gateway_secrets".into(), json!(secrets));
    };
    secrets(&mut fleet, &[("/etc/portway/ha.key", NEW_KEY)]);
    let refused = fleet.play("install", &["--limit", "gw-1"]).expect_err("another key in the same file");
    assert!(refused[0].contains("/etc/portway/ha.key: another key is in force"), "{refused:#?}");
    secrets(&mut fleet, &[("/etc/portway/ha-2.key", NEW_KEY)]);
    for node in GATEWAYS {
        fleet.edit(node, "keys: [{ id: 1, file: \"/etc/portway/ha.key\" }]", "keys: [{ id: 2, file: /etc/portway/ha-2.key }]");
    }
    let refused = fleet.play("install", &["--limit", "gw-1"]).expect_err("another key");
    assert!(refused[0].contains("rotate-keys.yml"), "{refused:#?}");
    let daemons: Vec<_> = GATEWAYS.map(|node| fleet.machines[node].daemon("gateway")).into();

    fleet.play("rotate-keys", &[]).expect("another key, in rounds");
    for node in GATEWAYS {
        let machine = &fleet.machines[node];
        assert_eq!(machine.ok(&["ls", "/etc/portway"]), "README\ngateway.yaml\nha-2.key\n");
        assert_eq!(machine.ok(&["cat", "/etc/portway/ha-2.key"]), format!("{NEW_KEY}\n"));
        assert_eq!(machine.ok(&["stat", "--format=%a %U", "/etc/portway/ha-2.key"]), "600 root\n");
        // At the start, and in each round: the new key's file comes, it is known, it signs, the former one goes.
        assert_eq!(machine.status()["configuration"]["times"], 5, "{node}");
    }
    assert_eq!(GATEWAYS.map(|node| fleet.machines[node].daemon("gateway")).to_vec(), daemons);
    let again = fleet.play("install", &["--limit", "portway_gateways", "--extra-vars", "portway_gateways_at_once=2"]);
    assert_eq!(again.expect("to be looked at").changed(), 0, "after the keys");

    fleet.release("2", b"another");
    fleet.play("upgrade", &[]).expect("to be upgraded");
    for (node, machine) in &fleet.machines {
        let role = if node == "host-1" { "host" } else { "gateway" };
        let pid = machine.daemon(role);
        let runs = machine.ok(&["tail", "--bytes=7", &format!("/proc/{}/exe", pid.trim())]);
        assert_eq!(runs, "another", "{node} runs the former program");
        assert!(!daemons.contains(&pid), "{node}");
    }
    let status = fleet.machines["gw-1"].status();
    assert_eq!(status["ha"]["shards"][0]["drained"], false, "{status}");
    assert_eq!(fleet.play("upgrade", &[]).expect("to be passed over").changed(), 0, "nothing is to be replaced");

    // One that cannot hand over is not touched, nor is the other.
    let standing = GATEWAYS.map(|node| fleet.machines[node].daemon("gateway"));
    fleet.machines["gw-2"].ok(&["systemctl", "stop", "portway-gateway.service"]);
    fleet.release("3", b"a third");
    fleet.vars.insert("portway_patience_s".into(), json!(2));
    let refused = fleet.play("upgrade", &[]).expect_err("nobody could take over");
    assert!(refused.iter().any(|why| why.contains("nobody else has its connections")), "{refused:#?}");
    assert_eq!(fleet.machines["gw-1"].daemon("gateway"), standing[0]);

    let (transferred, probed) = (transfer.stop(), probe.stop());
    assert!(transferred.ok, "{transferred:?}");
    assert_eq!(probed.lost, 0, "{probed:?}");
}
