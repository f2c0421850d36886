//! The services, as systemd itself judges them. tests/vm_services.rs runs them.

use crate::{PORTWAY, ROLES, root, run, text, unit};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What `systemd-analyze security` calls OK ends at 5; this is in tenths.
const THRESHOLD: u32 = 30;

/// (key, all its values) of the section `[Service]`.
fn settings(role: &str) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(unit(role)).unwrap();
    let service = text.split("[Service]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in service.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')) {
        settings.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    settings
}

fn one(role: &str, key: &str) -> String {
    settings(role).remove(key).unwrap_or_default().join(" ")
}

#[test]
fn systemd_understands_all_that_the_units_say() {
    let folder = tempfile::tempdir().unwrap();
    for role in ROLES {
        // The program is looked for where it is, not where it will be.
        let copy = folder.path().join(format!("portway-{role}.service"));
        std::fs::write(&copy, std::fs::read_to_string(unit(role)).unwrap().replace("/usr/bin/portway", PORTWAY)).unwrap();
        let output = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("portway"), "{said}");
    }
}

#[test]
fn no_service_is_more_exposed_than_it_may_be() {
    for role in ROLES {
        let threshold = format!("--threshold={THRESHOLD}");
        let table = text(Command::new("systemd-analyze").args(["security", "--no-pager", "--offline=true", &threshold]).arg(unit(role)));
        let told = table.lines().find_map(|line| line.split_once("exposure level for ")?.1.split_once(": "));
        let exposure: f64 = told.and_then(|(_, level)| level.split(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{table}"));
        assert!((0.1..=3.0).contains(&exposure), "{role}: {exposure}");
    }
}

#[test]
fn each_service_has_the_capabilities_that_it_uses_and_no_other() {
    let capabilities = |role| one(role, "CapabilityBoundingSet");
    assert_eq!(capabilities("gateway"), "CAP_NET_ADMIN CAP_NET_RAW");
    // Who opens the network namespace of somebody's process looks into that.
    assert_eq!(capabilities("host"), "CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_PTRACE");
    for role in ["directory", "autoscaler"] {
        assert_eq!(settings(role)["CapabilityBoundingSet"], [""], "{role}");
        assert_eq!(one(role, "User"), format!("portway-{role}"));
    }
    let users: BTreeSet<String> = std::fs::read_to_string(root().join("packaging/sysusers.conf"))
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.strip_prefix("u ")?.split(' ').next()?.to_owned()))
        .collect();
    assert_eq!(users, ["portway-autoscaler", "portway-directory"].map(str::to_owned).into());
}

#[test]
fn what_the_services_have_in_common_is_the_same_in_each() {
    let common = |role| {
        let text = std::fs::read_to_string(unit(role)).unwrap();
        text.split_once("NoNewPrivileges=yes\n").expect("the common settings begin with it").1.to_owned()
    };
    for role in ROLES {
        assert_eq!(common(role), common(ROLES[0]), "{role}");
        let settings = settings(role);
        let expected = [
            ("Type", "notify".to_owned()),
            ("ExecStart", format!("/usr/bin/portway {role} --config /etc/portway/{role}.yaml")),
            ("ExecReload", "/bin/kill -HUP $MAINPID".to_owned()),
            ("Restart", "on-failure".to_owned()),
            ("RuntimeDirectoryPreserve", "yes".to_owned()),
            ("ProtectSystem", "strict".to_owned()),
        ];
        for (key, value) in expected {
            assert_eq!(settings[key], [value], "{role}: {key}");
        }
        assert!(settings.contains_key("WatchdogSec"), "{role}");
    }
    // The defaults of `runtime_dir`, `state_dir` and `flow_log`.
    for role in ["gateway", "host"] {
        for key in ["RuntimeDirectory", "StateDirectory", "LogsDirectory"] {
            assert_eq!(one(role, key), "portway", "{role}: {key}");
        }
        assert!(one(role, "FileDescriptorStoreMax").parse::<u32>().unwrap() > 7391, "a slot has one descriptor at least");
    }
}
