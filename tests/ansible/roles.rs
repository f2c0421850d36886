//! One gateway, one host: what the roles do, do again, would do, and refuse.

use crate::fleet::Fleet;
use portway::config::Backend;
use portway::lab::Topology;
use portway::lab::topology::Wiring;
use serde_json::{Value, json};

const GATEWAY: &str = "gw-acme";

#[test]
fn roles_install_once_reload_what_can_be_and_refuse_what_is_wrong() {
    let mut fleet = Fleet::build(Topology::of(&["acme"], &[Wiring::Veth]), Backend::Userspace);
    let network =
        json!({ "cniVersion": "1.0.0", "name": "functions", "plugins": [{ "type": "ptp" }, { "type": "portway-cni", "tenant": "acme" }] });
    fleet.vars.extend([("portway_host_cni_bin".into(), json!("/opt/cni/bin")), ("portway_host_cni_network".into(), network.clone())]);
    let gateway = &fleet.machines[GATEWAY];
    let file = || gateway.ok(&["cat", "/etc/portway/gateway.yaml"]);

    let would = fleet.play("install", &["--check", "--diff"]).expect("check mode on machines without anything");
    assert_eq!(would.changed(), 8, "program and files of each; two folders, plugin and network of the host: {would:?}");
    for machine in fleet.machines.values() {
        assert!(!machine.run(&["ls", "/etc/portway"]).0 && !machine.run(&["ls", "/usr/bin/portway"]).0, "check mode changed something");
    }

    fleet.play("install", &[]).expect("to be installed");
    fleet.attach();
    fleet.carries();
    assert_eq!(gateway.ok(&["sysctl", "-n", "net.ipv4.conf.all.arp_ignore"]), "1\n");
    for (machine, role) in [(gateway, "gateway"), (&fleet.machines["host-1"], "host")] {
        let unit = format!("portway-{role}.service");
        assert_eq!(machine.ok(&["systemctl", "is-enabled", &unit]), "enabled\n");
        assert_eq!(machine.status()["configuration"]["times"], 1, "what was just started need not be reloaded");
    }
    let host = &fleet.machines["host-1"];
    assert_eq!(serde_json::from_str::<Value>(&host.ok(&["cat", "/etc/cni/net.d/10-portway.conflist"])).unwrap(), network);
    assert!(host.ok(&["sh", "-ec", "CNI_COMMAND=VERSION /opt/cni/bin/portway-cni < /dev/null"]).contains("supportedVersions"));
    let transfer = fleet.transfer();
    let daemon = gateway.daemon("gateway");
    assert_eq!(fleet.play("install", &[]).expect("to be looked at").changed(), 0, "the second time");

    // What is allowed is taken up while it runs.
    let before = file();
    fleet.edit(GATEWAY, "udp: [\"5201-5210\"]", "udp: [\"5201-5210\", 53]");
    assert_eq!(fleet.play("install", &["--check", "--diff", "--limit", GATEWAY]).expect("check mode").changed(), 1);
    assert_eq!((file(), gateway.daemon("gateway")), (before, daemon.clone()), "check mode changed something");
    fleet.play("install", &["--limit", GATEWAY]).expect("to be reloaded");
    let status = gateway.status();
    assert_eq!((gateway.daemon("gateway"), &status["configuration"]["times"]), (daemon.clone(), &2.into()));
    assert!(status["tenants"][0]["allow"].to_string().contains("53"), "{status}");

    // A fault is shown, before anything is in its place; in check mode too.
    let before = file();
    fleet.edit(GATEWAY, "icmp: true", "icmp: sometimes");
    for arguments in [&["--limit", GATEWAY, "--check"][..], &["--limit", GATEWAY]] {
        let failed = fleet.play("install", arguments).expect_err("a faulty configuration");
        assert!(failed.iter().any(|why| why.contains("sometimes")), "{failed:#?}");
    }
    assert_eq!((file(), gateway.daemon("gateway")), (before, daemon.clone()));
    fleet.edit(GATEWAY, "icmp: sometimes", "icmp: true");

    // What is looked at only at a start is taken up by a start.
    fleet.edit(GATEWAY, "admin: 127.0.0.1:9470", "admin: 127.0.0.1:9475");
    fleet.play("install", &["--limit", GATEWAY]).expect("to be started again");
    assert_ne!(gateway.daemon("gateway"), daemon);
    assert!(gateway.ok(&["curl", "--silent", "--fail", "http://127.0.0.1:9475/readyz"]).contains("ready"));
    // The same by way of Terraform's outputs, where it stands as text.
    // And what somebody has replaced by hand is what runs then.
    let (host, before) = (&fleet.machines["host-1"], fleet.machines["host-1"].daemon("host"));
    host.ok(&["sh", "-ec", "cp --preserve /usr/bin/portway /usr/bin/other; mv /usr/bin/other /usr/bin/portway"]);
    let outputs = fleet.terraform_outputs();
    let outputs = json!({ "portway_terraform_outputs": outputs, "portway_gateway_config": {}, "portway_host_config": {} }).to_string();
    assert_eq!(fleet.play("install", &["--extra-vars", &outputs]).expect("to be looked at").changed(), 2, "found and started again");
    assert_ne!(host.daemon("host"), before);

    let transferred = transfer.stop();
    assert!(transferred.ok, "{transferred:?}");
}
