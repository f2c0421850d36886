//! The Debian package: made of the program that is tested here, looked into, installed below another root, run from there, removed.

use crate::{MACHINE, PORTWAY, ROLES, bom, root, run, sh, text};
use portway::lab::Netns;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Made {
    folder: tempfile::TempDir,
    package: PathBuf,
}

fn make() -> Made {
    let folder = tempfile::tempdir().unwrap();
    text(Command::new(root().join("scripts/package")).args(["--quick", "--binary", PORTWAY]).arg(folder.path()));
    let package = sh(folder.path(), "ls portway_*.deb").trim().to_owned();
    Made { package: folder.path().join(package), folder }
}

/// dpkg of another root than this machine's.
fn dpkg(at: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("dpkg");
    // Of that root's packages there are none; maintainer scripts run here, told where they are at work.
    command
        .args(["--force-script-chrootless", "--force-depends", "--force-unsafe-io", "--log=/dev/null"])
        .arg(format!("--root={}", at.display()));
    command.args(words);
    command
}

const GATEWAY: &str = "
gateway:
  node: gw
  platform: { interface: plat0, address: 10.9.0.1 }
  backend: userspace
  runtime_dir: DIRECTORY
  tenants:
    - { name: acme, key: 7, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16 }
peers:
  static: [{ host: host-1, outer: 10.9.0.11, inner: { acme: [10.64.0.9] } }]
";

#[test]
fn the_package_is_installed_run_and_removed() {
    let made = make();
    what_is_in_it(&made);
    what_comes_with_it(&made);
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    sh(at, "mkdir -p var/lib/dpkg/info var/lib/dpkg/updates; : > var/lib/dpkg/status; : > var/lib/dpkg/available");
    text(dpkg(at, &["--install"]).arg(&made.package));
    let at_work = |script: &str| sh(at, script);
    assert_eq!(text(&mut dpkg(at, &["--verify", "portway"])), "", "what is there is what was packed");
    for user in ["portway-directory", "portway-autoscaler"] {
        assert!(at_work("cat etc/passwd").lines().any(|line| line.starts_with(&format!("{user}:"))), "{user}");
    }
    for role in ROLES {
        assert!(at.join(format!("usr/lib/systemd/system/portway-{role}.service")).exists(), "{role}");
    }
    assert_eq!(at_work("usr/bin/portway --version"), format!("portway {}\n", env!("CARGO_PKG_VERSION")));
    assert!(at_work("CNI_COMMAND=VERSION usr/lib/cni/portway-cni < /dev/null").contains("supportedVersions"));
    for example in std::fs::read_dir(at.join("usr/share/doc/portway/examples")).unwrap() {
        text(Command::new(at.join("usr/bin/portway")).arg("check").arg(example.unwrap().path()));
    }
    the_doctor_is_content(at);

    sh(
        at,
        "echo PORTWAY_LOG=debug >> etc/default/portway; mkdir -p var/lib/portway var/lib/portway-directory; echo > etc/portway/gateway.yaml",
    );
    text(&mut dpkg(at, &["--remove", "portway"]));
    assert!(!at.join("usr/bin/portway").exists() && at_work("cat etc/default/portway").contains("debug"), "what was changed stays");
    text(&mut dpkg(at, &["--purge", "portway"]));
    let left = at_work("find etc var/lib -name 'portway*' -o -name gateway.yaml | sort");
    assert_eq!(
        left, "etc/portway\netc/portway/gateway.yaml\nvar/lib/portway-directory\n",
        "an operator's own, and the directory's database"
    );
}

fn what_is_in_it(made: &Made) {
    let field = |name| text(Command::new("dpkg-deb").arg("--field").arg(&made.package).arg(name)).trim().to_owned();
    assert_eq!((field("Package"), field("Version")), ("portway".into(), env!("CARGO_PKG_VERSION").into()));
    let depends = field("Depends");
    for package in ["libc6 (>=", "nftables (>=", "systemd (>="] {
        assert!(depends.contains(package), "{depends}");
    }
    assert!(!depends.contains('$') && field("Description").contains("started before it is configured"), "{depends}");
    assert!(field("Installed-Size").parse::<u32>().unwrap() > 5_000);
    // Mode, owner, size, date, time, path.
    let listing = text(Command::new("dpkg-deb").arg("--contents").arg(&made.package));
    let files: BTreeMap<&str, &str> =
        listing.lines().filter_map(|line| Some((line.split_once(" ./")?.1, line.split_once(' ')?.0))).collect();
    assert!(listing.lines().all(|line| line.contains(" root/root ")), "{listing}");
    assert_eq!(files["usr/bin/portway"], "-rwxr-xr-x");
    assert_eq!(files["usr/lib/cni/portway-cni -> ../../bin/portway"], "lrwxrwxrwx");
    for file in [
        "etc/default/portway",
        "etc/portway/README",
        "usr/lib/systemd/system/portway-gateway.service",
        "usr/lib/sysusers.d/portway.conf",
        "usr/share/bash-completion/completions/portway",
        "usr/share/doc/portway/changelog.gz",
        "usr/share/doc/portway/copyright",
        "usr/share/doc/portway/examples/gateway-pair.yaml",
        "usr/share/doc/portway/operations.md",
        "usr/share/fish/vendor_completions.d/portway.fish",
        "usr/share/man/man1/portway-directory-token-add.1.gz",
        "usr/share/man/man1/portway.1.gz",
        "usr/share/zsh/vendor-completions/_portway",
    ] {
        assert_eq!(files.get(file), Some(&"-rw-r--r--"), "{file} in {listing}");
    }
    let conffiles = sh(made.folder.path(), &format!("dpkg-deb --info {} conffiles", made.package.display()));
    assert_eq!(conffiles, "/etc/default/portway\n/etc/portway/README\n");
    let placed = |path: &str| path.is_empty() || path.ends_with('/') || path.starts_with("usr/") || path.starts_with("etc/");
    let others: Vec<_> = files.keys().filter(|path| !placed(path)).collect();
    assert!(others.is_empty(), "{others:?}");
}

fn what_comes_with_it(made: &Made) {
    let at = made.folder.path();
    sh(at, "sha256sum --check --strict --quiet SHA256SUMS");
    let listed: serde_json::Value = serde_json::from_str(&sh(at, "cat portway.cdx.json")).unwrap();
    assert_eq!(listed, bom::made());
    let licences = sh(at, "gzip -dc third-party.txt.gz");
    let told =
        licences.lines().filter_map(|line| line.strip_prefix("#### ")?.split_once(" (")).map(|(library, _)| library.to_owned()).collect();
    assert_eq!(bom::libraries(&listed), told);
    for words in ["Apache License", "Permission is hereby granted, free of charge", "Redistribution and use in source and binary forms"] {
        assert!(licences.contains(words), "{words}");
    }
}

/// As after an installation: the program as it was installed, a machine as it should be.
fn the_doctor_is_content(at: &Path) {
    let netns = Netns::create().expect("these tests make network namespaces: run them as root");
    let config = at.join("etc/portway/gateway.yaml");
    std::fs::write(&config, GATEWAY.replace("DIRECTORY", &at.join("run/portway").display().to_string())).unwrap();
    text(netns.command("sh").args(["-ec", MACHINE]));
    let output = run(netns.command(at.join("usr/bin/portway")).args(["doctor", "--json", "--config"]).arg(&config));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert!(output.status.success() && ["ok", "note"].iter().any(|good| said["worst"] == *good), "{said:#}");
    std::fs::remove_file(&config).unwrap();
}
