//! The sender of docs/autoscaling.md, run as it stands there.

use super::*;
use std::process::Command;

/// What it would give to curl.
fn arguments(of: &str, key: &str) -> Vec<String> {
    let documents = include_str!("../../../../../docs/autoscaling.md");
    let script = documents.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).find(|script| script.contains(of)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("functions.key"), key).unwrap();
    std::fs::write(directory.path().join("functions.token"), TOKEN).unwrap();
    let told = format!("set -eu\ncurl() {{ printf '%s\\0' \"$@\"; }}\n{script}");
    let output = Command::new("sh").args(["-c", &told]).current_dir(directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect()
}

/// The request that curl would make of them.
fn request(arguments: &[String]) -> (Parts, Vec<u8>) {
    let after = |name: &str| {
        let values = arguments.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].as_str());
        values.collect::<Vec<_>>()
    };
    let mut request = Request::post(arguments.last().unwrap());
    for (name, value) in after("-H").iter().map(|header| header.split_once(": ").unwrap()) {
        request = request.header(name, value);
    }
    let body = after("--data-binary")[0].as_bytes().to_vec();
    (request.body(()).unwrap().into_parts().0, body)
}

#[rstest]
#[case("Authorization: Bearer", "token")]
#[case("Portway-Signature", "signature")]
fn what_the_documented_sender_sends_is_admitted(#[case] of: &str, #[case] by: &str) {
    let (head, body) = request(&arguments(of, &format!("{}\n", "01".repeat(32))));
    let now = SystemTime::now();
    let pass = both().door(&head, now).unwrap();
    assert_eq!(format!("{pass:?}"), format!("Pass(by a {by})"));
    let admitted = pass.admit(&body).unwrap();
    assert!(crate::wire::webhook::demand::Demand::parse(admitted.body, now).is_ok());
    let (head, body) = request(&arguments(of, &"02".repeat(32)));
    let others = prove(&both(), &head, &body, seconds_since_1970(SystemTime::now()));
    assert_eq!(label(&others), if by == "token" { "" } else { "wrong_signature" });
}
