//! What an operator does to a group that runs: nobody is to notice.

use super::support::*;
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::Wiring;
use portway::lab::{Kill, Lab, Topology, poll_until, secret, unix_ok};
use rstest::rstest;
use std::collections::BTreeMap;

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn serial_a_restart_of_the_active_is_noticed_by_nobody(#[case] tunnel: TunnelKind) {
    let mut lab = group_with(2, 1, tunnel);
    let (flows, probe) = (flows(&lab, 40), probe(&lab));
    let before = shard(&lab, "gw-2")["transitions"].clone();
    for _ in 0..3 {
        lab.daemon("gw-1").unwrap().restart().unwrap();
        goes_on(&probe);
    }
    let probed = probe.stop();
    assert_eq!(probed.lost, 0, "{probed:?}");
    assert_eq!(shard(&lab, "gw-2")["transitions"], before, "{}", log(&lab, "gw-2"));
    assert_eq!(shard(&lab, "gw-1")["state"], "active");
    survived(flows);
}

#[test]
fn serial_a_backup_restarts_and_knows_everything_again() {
    let mut lab = group(2, 1);
    let (flows, probe) = (flows(&lab, 40), probe(&lab));
    lab.daemon("gw-2").unwrap().restart().unwrap();
    lab.await_in_sync().unwrap();
    lab.fail("gw-1", Kill::Daemon).unwrap();
    lab.await_active("gw-2", "acme", 0).unwrap();
    goes_on(&probe);
    probe.stop();
    survived(flows);
}

fn owners(lab: &Lab) -> BTreeMap<(String, u8), String> {
    lab.await_in_sync().unwrap();
    lab.await_owners().unwrap()
}

/// The group of a configuration without, or again with, a node.
fn without(yaml: String, node: &str, address: &str) -> String {
    yaml.replace(&format!(", {node}: {address}"), "")
}

#[test]
fn serial_a_node_leaves_the_group_and_joins_it_again_and_shards_follow_in_sync() {
    let mut lab = group(3, 6);
    let home = lab.await_settled(std::time::Duration::from_secs(2)).unwrap();
    let flows = flows(&lab, 60);
    let spread: Vec<usize> = ["gw-1", "gw-2", "gw-3"].map(|node| home.values().filter(|owner| *owner == node).count()).into();
    assert!(spread.iter().filter(|shards| **shards > 0).count() > 1, "{home:?}");
    let with = std::fs::read_to_string(lab.daemon("gw-1").unwrap().config()).unwrap();
    assert!(with.contains(", gw-3: 10.9.0.3"), "{with}");

    let probe = probe(&lab);
    lab.fail("gw-3", Kill::Sigterm).unwrap();
    poll_until("the end of gw-3", SOON * 2, || Ok(lab.daemon("gw-3")?.left(std::time::Duration::from_millis(50))?.is_some())).unwrap();
    for node in ["gw-1", "gw-2"] {
        reload(&mut lab, node, |yaml| without(yaml, "gw-3", "10.9.0.3"));
    }
    let smaller = owners(&lab);
    assert!(smaller.values().all(|owner| owner != "gw-3"));
    let stayed = home.iter().filter(|(shard, owner)| *owner != "gw-3" && smaller[*shard] == **owner).count();
    assert_eq!(stayed, home.values().filter(|owner| *owner != "gw-3").count(), "only its shards have moved: {home:?} {smaller:?}");

    // Those who are there learn of the newcomer first.
    for node in ["gw-1", "gw-2"] {
        reload(&mut lab, node, |yaml| yaml.replace("gw-2: 10.9.0.2", "gw-2: 10.9.0.2, gw-3: 10.9.0.3"));
    }
    lab.heal("gw-3").unwrap();
    poll_until("every shard at home", SOON * 3, || Ok(lab.owners()?.as_ref() == Some(&home))).unwrap();
    let probed = probe.stop();
    assert_eq!(probed.lost, 0, "{probed:?}");
    survived(flows);
}

#[test]
fn serial_keys_are_changed_without_a_change_of_state() {
    let mut lab = group(2, 1);
    let probe = probe(&lab);
    let before = shard(&lab, "gw-2")["transitions"].clone();
    let key = lab.dir().config("gw-1").with_file_name("second.key");
    secret(&key, &"5a".repeat(32)).unwrap();
    let second = format!("{{ id: 2, file: {:?} }}", key.display().to_string());
    let first = |yaml: &str| {
        let begins = yaml.find("keys: [").unwrap() + "keys: [".len();
        yaml[begins..begins + yaml[begins..].find(']').unwrap()].to_owned()
    };
    let old = first(&std::fs::read_to_string(lab.daemon("gw-1").unwrap().config()).unwrap());
    let mut present = old.clone();
    for next in [format!("{old}, {second}"), format!("{second}, {old}"), second.clone()] {
        for node in ["gw-1", "gw-2"] {
            reload(&mut lab, node, |yaml| yaml.replace(&present, &next));
            lab.await_in_sync().unwrap();
            goes_on(&probe);
        }
        present = next;
    }
    assert_eq!(probe.stop().lost, 0);
    assert_eq!(shard(&lab, "gw-2")["transitions"], before, "{}", log(&lab, "gw-2"));
    for node in ["gw-1", "gw-2"] {
        for reason in ["unknown_key", "hmac", "unauthenticated"] {
            let discarded = lab.metric(node, &format!("portway_vrrp_discarded_packets_total{{reason=\"{reason}\"}}")).unwrap();
            assert_eq!(discarded, 0.0, "{node}: {reason}");
        }
        assert!(!log(&lab, node).contains("5a5a5a"), "a key is in the log");
    }
}

#[test]
fn a_successor_that_cannot_read_a_key_leaves_the_running_one_alone() {
    let mut lab = group(2, 1);
    let config = lab.daemon("gw-1").unwrap().config().to_owned();
    let yaml = std::fs::read_to_string(&config).unwrap();
    let begins = yaml.find("file: ").unwrap() + "file: ".len();
    let key = yaml[begins..].split(['}', ',']).next().unwrap().trim().trim_matches('"');
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let successor = lab.node("gw-1").unwrap().command(program()).arg("gateway").arg("--config").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&successor.stderr).into_owned() + &String::from_utf8_lossy(&successor.stdout);
    assert!(!successor.status.success() && said.contains("chmod 600"), "{said}");
    assert_eq!(shard(&lab, "gw-1")["state"], "active");
    let going_on = probe(&lab);
    goes_on(&going_on);
    going_on.stop();
}

#[test]
fn a_key_that_others_may_read_is_refused_and_the_old_one_stays() {
    let mut lab = group(2, 1);
    let key = lab.dir().config("gw-1").with_file_name("open.key");
    std::fs::write(&key, "5a".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    reload(&mut lab, "gw-2", |yaml| yaml.replace("keys: [", &format!("keys: [{{ id: 9, file: {:?} }}, ", key.display().to_string())));
    poll_until("a complaint", SOON, || Ok(log(&lab, "gw-2").contains("chmod 600"))).unwrap();
    lab.await_in_sync().unwrap();
    assert_eq!(shard(&lab, "gw-1")["state"], "active");
}

#[test]
fn serial_another_interval_is_taken_up_without_a_change_of_state() {
    let mut lab = group(2, 1);
    let probe = probe(&lab);
    let before = ["gw-1", "gw-2"].map(|node| shard(&lab, node)["transitions"].clone());
    // The longer one first where it is waited for.
    for node in ["gw-2", "gw-1"] {
        reload(&mut lab, node, |yaml| yaml.replace("interval: 100ms", "interval: 200ms"));
        poll_until("the interval", SOON, || Ok(status(&lab, node)["ha"]["interval_ms"] == 200)).unwrap();
        goes_on(&probe);
    }
    assert_eq!(probe.stop().lost, 0);
    lab.await_in_sync().unwrap();
    assert_eq!(["gw-1", "gw-2"].map(|node| shard(&lab, node)["transitions"].clone()), before, "{}", log(&lab, "gw-1"));
}

#[test]
fn serial_tenants_with_one_vrid_do_not_move_each_others_shards() {
    let mut lab = Lab::build(Topology::group(&["acme", "blue"], 2, 1, &[Wiring::Veth])).unwrap();
    lab.serve().unwrap();
    lab.start_daemons_edited(program(), Backend::Auto, |_, yaml| yaml.replace("vrid: 52", "vrid: 51")).unwrap();
    for tenant in ["acme", "blue"] {
        lab.await_active("gw-1", tenant, 0).unwrap();
    }
    lab.await_in_sync().unwrap();
    // One tenant's shard is better off elsewhere; the other's stays.
    for (node, priority) in [("gw-1", 200), ("gw-2", 100)] {
        let blue = "shard: 0, vrid: 51, platform: 10.9.0.51";
        reload(&mut lab, node, |yaml| {
            let at = yaml.find(blue).unwrap();
            let (before, after) = yaml.split_at(at);
            before.to_owned() + &after.replacen(&format!("priority: {priority}"), &format!("priority: {}", 300 - priority), 1)
        });
    }
    lab.await_active("gw-2", "blue", 0).unwrap();
    lab.await_active("gw-1", "acme", 0).unwrap();
    lab.await_in_sync().unwrap();
    for node in ["gw-1", "gw-2"] {
        let shards = status(&lab, node)["ha"]["shards"].clone();
        for shard in shards.as_array().unwrap() {
            assert_eq!(shard["warnings"].as_array().map(Vec::len), Some(0), "{node}: {shard}");
        }
    }
}

/// Each reading of the kernel's table holds a processor for some ten milliseconds, packets included.
#[test]
fn serial_a_shard_moves_there_and_back_and_nobody_reads_the_table_for_it() {
    let lab = group(2, 1);
    let flows = flows(&lab, 40);
    lab.await_in_sync().unwrap();
    let readings = || ["gw-1", "gw-2"].map(|node| lab.metric(node, "portway_sync_walks_total").unwrap());
    let before = readings();
    assert!(before.iter().all(|read| *read >= 1.0), "each began with what stood: {before:?}");
    for (method, active) in [("POST", "gw-2"), ("DELETE", "gw-1")] {
        unix_ok(&lab.socket("gw-1").unwrap(), method, "/v1/drain", None).unwrap();
        lab.await_active(active, "acme", 0).unwrap();
        lab.await_in_sync().unwrap();
    }
    // Those of the last owner are gone from its kernel, and come back as copies: told, not read.
    assert_eq!(readings(), before);
    survived(flows);
}
