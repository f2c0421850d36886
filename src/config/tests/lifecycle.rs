//! `lifecycle:`.

use super::ha::PAIR;
#[cfg(feature = "aws")]
use super::ha::gateway;
use super::*;

fn of_an_instance(aws: &str) -> String {
    with(PAIR, &[("    sync_port: 3790\n", &format!("    sync_port: 3790\n    lifecycle: {{ aws: {aws} }}\n"))])
}

#[cfg(not(feature = "aws"))]
#[test]
fn without_the_feature_aws_nobody_asks_instance_metadata() {
    let refused = faults(&of_an_instance("{}"));
    assert!(refused.starts_with("f:15:23: `aws` needs a Portway that was built with the feature `aws`"), "{refused}");
}

#[cfg(feature = "aws")]
#[test]
fn where_instance_metadata_are_is_read_and_nowhere_else_does_a_token_go() {
    let read = |aws: &str| {
        let of = gateway(&of_an_instance(aws)).ha.expect("ha").lifecycle.expect("written");
        (of.endpoint.to_string(), of.look.as_secs())
    };
    assert_eq!(read("{}"), ("http://169.254.169.254/".to_owned(), 2));
    assert_eq!(read("{ look: 5s, endpoint: 'http://127.0.0.1:8169' }"), ("http://127.0.0.1:8169/".to_owned(), 5));
    assert_eq!(read("{ endpoint: 'http://[fd00:ec2::254]' }").0, "http://[fd00:ec2::254]/");
    for place in
        ["https://169.254.169.254", "http://10.9.0.9", "http://metadata", "http://169.254.169.254/latest", "http://me@127.0.0.1", "imds"]
    {
        let refused = faults(&of_an_instance(&format!("{{ endpoint: '{place}' }}")));
        assert!(
            refused.starts_with("f:15:35: `endpoint` is no place of instance metadata; write http://169.254.169.254"),
            "{place}: {refused}"
        );
    }
    insta::assert_snapshot!(["{ look: 20s }", "{ often: 2s }", "169.254.169.254"].map(|aws| faults(&of_an_instance(aws))).join("\n"), @r#"
    f:15:31: `look` 20s is out of range; write 1s to 10s
    f:15:25: unknown key `often` in `aws`; the keys here are `look`, `endpoint`
    f:15:23: `aws` must be a map, not "169.254.169.254"; write keys and values: `look: 2s`
    "#);
}
