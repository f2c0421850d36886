//! `portway enroll`, over TLS.

use super::support::*;
use portway::daemon::key_file;
use portway::directory::types::*;
use portway::lab::secret;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Exit code, and what was said on both ways.
fn enroll(bed: &Bed, ca: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
    command.arg("enroll").args(arguments).args(["--url", &bed.url(), "--ca"]).arg(ca);
    let output = command.env_clear().env("PORTWAY_STATE_DIR", state(bed)).output().unwrap();
    (output.status.code(), [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

fn state(bed: &Bed) -> PathBuf {
    bed.dir.path().join("state")
}

async fn token_file(bed: &Bed, spec: TokenSpec) -> String {
    let file = bed.dir.path().join("enroll.token");
    secret(&file, &format!("{}\n", bed.operator().add_token(&spec).await.unwrap().token)).unwrap();
    file.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_becomes_a_host_and_may_do_so_again() {
    let bed = Bed::sqlite().await;
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let ca = bed.ca.clone();
    let file = token_file(&bed, enroll_spec(None)).await;
    assert_eq!(enroll(&bed, &ca, &["--name", "host-1"]).0, Some(2), "with nothing to show");
    let (code, said) = enroll(&bed, &ca, &["--rotate"]);
    assert!(code == Some(1) && said.contains("this host has not enrolled"), "{said}");
    // Another's certificate: nothing is sent to it.
    let (stranger, _) = certificate(bed.dir.path(), "stranger");
    let (code, said) = enroll(&bed, &stranger, &["--token-file", &file, "--name", "host-1"]);
    assert!(code == Some(1) && said.contains("does not answer") && said.contains("certificate"), "{said}");
    let (code, said) = enroll(&bed, &ca, &["--token-file", &file, "--name", "host-1"]);
    assert!(code == Some(0) && said.contains("acme/0 as 10.64.0.1/32 through a gateway that is not there yet"), "{said}");
    let key = key_file::private_key(&state(&bed).join("host.key")).unwrap();
    assert_eq!(bed.operator().host(&node("host-1")).await.unwrap().keys[0].public_key, key.public());
    let credential = std::fs::read_to_string(state(&bed).join("host.token")).unwrap();
    assert_eq!(bed.with(credential.trim()).whoami().await.unwrap().name, Some(node("host-1")));
    // The token is used; by the host itself, who may have lost the answer, it may be shown again.
    let (code, said) = enroll(&bed, &ca, &["--token-file", &file, "--name", "host-2"]);
    assert!(code == Some(1) && said.contains("needs a token"), "{said}");
    assert_eq!(enroll(&bed, &ca, &["--token-file", &file, "--name", "host-1"]).0, Some(0));
    assert_eq!(key_file::private_key(&state(&bed).join("host.key")).unwrap(), key);
    assert_ne!(std::fs::read_to_string(state(&bed).join("host.token")).unwrap(), credential);
    // A key that others could have read is none to be known by.
    std::fs::set_permissions(state(&bed).join("host.key"), PermissionsExt::from_mode(0o644)).unwrap();
    let file = token_file(&bed, enroll_spec(Some("host-1"))).await;
    let (code, said) = enroll(&bed, &ca, &["--token-file", &file, "--name", "host-1"]);
    assert!(code == Some(1) && said.contains("chmod 600"), "{said}");
}

fn enroll_spec(host: Option<&str>) -> TokenSpec {
    TokenSpec { host: host.map(node), ..super::support::enroll(&["acme"]) }
}
