use super::super::*;
use super::{complaints, well};
use crate::directory::types::{Role, Whoami};

const HOST: &str = "host:\n  node: host-1\n  platform: { interface: plat0, address: 10.9.0.1 }\n  tunnel: wireguard\n  directory: { url: https://d.example:9473, cidrs: [172.16.0.0/16] }\n";

fn asked(directory: Result<Whoami, String>) -> Vec<(Severity, String, String)> {
    let config = crate::config::parse(HOST, "host.yaml").expect("a configuration");
    let facts = Facts { directory: Some(directory), ..well() };
    let found = complaints(&facts, Some(&config)).into_iter();
    found
        .filter(|finding| finding.what.contains("directory") || finding.what.contains("token"))
        .map(|finding| (finding.severity, finding.what, finding.remedy.unwrap_or_default()))
        .collect()
}

fn whoami(role: Role, name: &str) -> Result<Whoami, String> {
    Ok(Whoami { role, name: Some(name.parse().expect("a name")), tenants: None })
}

#[test]
fn a_host_whom_the_directory_knows_has_nothing_to_mend() {
    assert_eq!(asked(whoami(Role::Host, "host-1")), []);
}

#[test]
fn a_directory_that_is_of_no_help_is_told_with_what_mends_it() {
    let of = |found: Vec<(Severity, String, String)>| {
        found.into_iter().map(|(severity, what, remedy)| format!("{severity:?} {what}; {remedy}")).collect::<Vec<_>>()
    };
    assert_eq!(
        of(asked(Err("connection refused".into()))),
        [
            "Warning the directory at https://d.example:9473/ is of no help: connection refused; what was known before is served until then; docs/directory.md says what is needed"
        ]
    );
    for other in [whoami(Role::Host, "host-2"), whoami(Role::Gateway, "host-1")] {
        let found = of(asked(other));
        assert!(
            found[0].starts_with("Broken /var/lib/portway/host.token holds another's token: ") && found[0].contains("portway enroll"),
            "{found:?}"
        );
    }
}
