//! `cloud:`.

use super::ha::PAIR;
#[cfg(feature = "aws")]
use super::ha::gateway;
use super::*;

fn in_cloud(cloud: &str) -> String {
    with(PAIR, &[("  ha:\n", &format!("  cloud: {cloud}\n  ha:\n"))])
}

#[cfg(not(feature = "aws"))]
#[test]
fn without_the_feature_aws_nobody_calls_ec2() {
    let refused = faults(&in_cloud("{ aws: {} }"));
    assert!(refused.contains("`aws` needs a Portway that was built with the feature `aws`"), "{refused}");
}

#[cfg(feature = "aws")]
#[test]
fn how_addresses_move_is_read() {
    assert_eq!(gateway(&in_cloud("arp")).cloud, None);
    let aws = gateway(&in_cloud("{ aws: {} }")).cloud.expect("written");
    assert_eq!((aws.region, aws.endpoint, aws.metadata.as_str(), aws.calls), (None, None, "http://169.254.169.254/", 50));
    let all = "{ aws: { region: eu-central-1, calls: 20, platform: { route_tables: [rtb-0000000a, rtb-0000000b] }, tenants: { acme: { public: { 0: eipalloc-0000000a } } } } }";
    let aws = gateway(&in_cloud(all)).cloud.expect("written");
    assert_eq!((aws.region.as_deref(), aws.calls, aws.platform.route_tables.len()), (Some("eu-central-1"), 20, 2));
    let acme = &aws.tenants[&"acme".parse().unwrap()];
    assert_eq!(acme.public[&"0".parse().unwrap()].as_str(), "eipalloc-0000000a");
}

#[cfg(feature = "aws")]
#[test]
fn what_is_wrong_with_it_is_told() {
    let told = |aws: &str| faults(&in_cloud(&format!("{{ aws: {aws} }}")));
    for (aws, wanted) in [
        ("{ calls: 0 }", "calls 0 is out of range; write 1 to 100"),
        ("{ metadata: 'http://10.0.0.1' }", "`metadata` is no place of instance metadata"),
        ("{ endpoint: 'http://10.0.0.1' }", "neither https nor, on loopback, http"),
        ("{ platform: { route_tables: [subnet-1] } }", "\"subnet-1\" is no route table; write it as `rtb-0123456789abcdef0`"),
        ("{ tenants: { blue: {} } }", "`cloud` has a tenant blue that the gateway has not; write names of `tenants`"),
        ("{ tenants: { acme: { public: { 9: eipalloc-0000000a } } } }", "`public` has a shard 9 that acme has not; write shards of acme"),
        ("{ tenants: { acme: { public: { x: eipalloc-0000000a } } } }", "\"x\" is no number of a shard; write 0 to 65535"),
        ("{ regoin: eu-central-1 }", "did you mean `region`?"),
    ] {
        assert!(told(aws).contains(wanted), "{aws}: {}", told(aws));
    }
    assert!(faults(&in_cloud("aws")).contains("`cloud` must be a map"));
}
