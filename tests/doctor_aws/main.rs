//! `portway doctor` of a gateway with `cloud: aws`, as a user runs it: in a network namespace with its instance's metadata and EC2 on its loopback.

#![cfg(feature = "aws")]

mod attach;
#[path = "../aws_support/mod.rs"]
mod aws_support;
mod groups;
mod moves;
mod twice;

use aws_support::{groups, id, rule, security_groups};
use portway::lab::Netns;
use portway::lab::cloud::Cloud;
use portway::lab::cloud::gateways::METADATA;
use portway::lab::cloud::metadata::Metadata;
use portway::model::EniId;
use rstest::rstest;
use serde_json::Value;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const CONFIG: &str = "
gateway:
  node: gw-1
  platform: { interface: plat0, address: 10.9.0.1 }
  runtime_dir: DIRECTORY
  ha: { nodes: { gw-1: 10.9.0.1, gw-2: 10.9.0.2 }, keys: [{ id: 1, file: DIRECTORY/ha.key }] }
  cloud: { aws: { METADATA, endpoint: \"http://127.0.0.1:8170\" } }
  tenants:
    - { name: acme, key: 7, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: [5432], icmp: true }], inner: 10.64.0.0/16,
        shards: [{ shard: 0, vrid: 51, platform: HAVIP, tenant: 172.16.101.10 }] }
peers:
  static: [{ host: host-1, outer: 10.9.0.11, inner: { acme: [10.64.0.9] } }]
";

const WELL: &str = "
ip link set lo up
ip link add plat0 type veth peer name plat1; ip addr add 10.9.0.1/24 dev plat0; ip link set plat0 up; ip link set plat1 up
ip link add eni0 type veth peer name eni1; ip addr add 172.16.101.4/24 dev eni0; ip link set eni0 up; ip link set eni1 up
";

const PLATFORM_HAVIP: &str = "10.9.0.50";

/// This node's, then the other node's.
fn enis() -> [EniId; 4] {
    ["eni-00000001", "eni-00000002", "eni-00000003", "eni-00000004"].map(id)
}

struct Bed {
    netns: Netns,
    directory: tempfile::TempDir,
    cloud: Cloud,
    metadata: Metadata,
    runtime: Runtime,
}

struct Findings {
    /// (severity, what, remedy)
    all: Vec<[String; 3]>,
    code: Option<i32>,
}

impl Bed {
    fn new() -> Self {
        Self::with(&format!("metadata: \"http://{METADATA}\""), PLATFORM_HAVIP)
    }

    /// `written`: what stands below `aws`.
    fn with(written: &str, havip: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let cloud = runtime.block_on(Cloud::start()).unwrap();
        let netns = Netns::create().expect("these tests make network namespaces: run them as root");
        let directory = tempfile::tempdir().unwrap();
        let config =
            CONFIG.replace("DIRECTORY", &directory.path().display().to_string()).replace("METADATA", written).replace("HAVIP", havip);
        std::fs::write(directory.path().join("gateway.yaml"), config).unwrap();
        let key = directory.path().join("ha.key");
        let script = format!("{WELL}(umask 077; echo {} > {})", "5a".repeat(32), key.display());
        let output = netns.command("sh").args(["-ec", &script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let entered = runtime.enter();
        let metadata = cloud.serve_instance("i-00000001", &netns).unwrap();
        drop(entered);
        let bed = Self { netns, directory, cloud, metadata, runtime };
        let [platform, tenant, other_platform, other_tenant] = enis();
        bed.eni(&platform, "i-00000001", &bed.mac("plat0"), "10.9.0.0/24", "10.9.0.1");
        bed.eni(&tenant, "i-00000001", &bed.mac("eni0"), "172.16.101.0/24", "172.16.101.4");
        bed.eni(&other_platform, "i-00000002", "02:00:00:00:00:03", "10.9.0.0/24", "10.9.0.2");
        bed.eni(&other_tenant, "i-00000002", "02:00:00:00:00:04", "172.16.101.0/24", "172.16.101.5");
        for (eni, group) in enis().iter().zip(groups().iter().cycle()) {
            bed.cloud.grouped(eni, std::slice::from_ref(group));
        }
        security_groups().into_iter().for_each(|group| bed.cloud.security_group(group));
        bed
    }

    fn eni(&self, eni: &EniId, instance: &str, mac: &str, subnet: &str, address: &str) {
        self.cloud.eni(eni, instance, mac, id(subnet), id(address));
    }

    fn mac(&self, interface: &str) -> String {
        let output = self.netns.command("ip").args(["-j", "link", "show", "dev", interface]).output().unwrap();
        let links: Value = serde_json::from_slice(&output.stdout).unwrap();
        links[0]["address"].as_str().unwrap().to_owned()
    }

    fn doctor(&self) -> Findings {
        let mut command = self.netns.command(env!("CARGO_BIN_EXE_portway"));
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_PROFILE").env("HOME", self.directory.path());
        let output = command.args(["doctor", "--json", "--config"]).arg(self.directory.path().join("gateway.yaml")).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let field = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let list = answer["findings"].as_array().unwrap();
        let all = list.iter().map(|finding| ["severity", "what", "remedy"].map(|name| field(finding, name))).collect();
        Findings { all, code: output.status.code() }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
    }
}

impl Findings {
    /// Its remedy.
    fn find(&self, severity: &str, what: &str) -> &str {
        let found = self.all.iter().find(|[is, says, _]| is == severity && says.contains(what));
        &found.unwrap_or_else(|| panic!("no {severity} with {what:?}: {:#?}", self.all))[2]
    }

    fn broken(&self, what: &str, remedy: &str) {
        let said = self.find("broken", what);
        assert!(said.contains(remedy), "{said}");
        assert_eq!(self.code, Some(1));
    }

    fn says_nothing_of(&self, what: &str) {
        assert!(!self.all.iter().any(|[_, says, _]| says.contains(what)), "{:#?}", self.all);
    }

    fn are_well(&self) {
        self.are_well_with("AssignPrivateIpAddresses, Describe");
    }

    /// `calls`: that it may make.
    fn are_well_with(&self, calls: &str) {
        assert_eq!(self.code, Some(0), "{:#?}", self.all);
        self.find("ok", "i-00000001 in eu-central-1a, by metadata of version 2");
        self.find("ok", &format!("EC2 answers, and lets this node call {calls}"));
        self.find("ok", "2 HaVips can move to this node's ENIs");
        self.find("ok", "the security groups of plat0 (sg-0000000a) let through what a gateway needs");
        self.find("ok", "the security groups of eni0 (sg-0000000b) let through what a gateway needs");
    }
}

#[test]
fn where_all_is_well_nothing_is_broken_and_nothing_moves() {
    let bed = Bed::new();
    bed.doctor().are_well();
    assert!(bed.cloud.moved().is_empty());
    assert_eq!(bed.cloud.owner(id(PLATFORM_HAVIP)), None);
    // The other node has them.
    bed.cloud.assign(id(PLATFORM_HAVIP), &enis()[2]);
    bed.cloud.assign(id("172.16.101.10"), &enis()[3]);
    bed.doctor().are_well();
}

#[rstest]
#[case::away(|_: &Bed| (), "metadata: \"http://127.0.0.1:8168\"", "instance metadata cannot be reached at http://127.0.0.1:8168 (", "ip route get 169.254.169.254")]
#[case::hop_limit(|bed: &Bed| bed.metadata.mute(), "", "may live for one hop alone (HttpPutResponseHopLimit)", "--http-put-response-hop-limit 2")]
#[case::switched_off(|bed: &Bed| bed.metadata.switch_off(), "", "answers with 403: metadata are switched off", "modify-instance-metadata-options --instance-id i-... --http-endpoint enabled")]
#[case::region(|_: &Bed| (), "region: us-east-1", "`region` is us-east-1, and this instance is in eu-central-1a", "write `region: eu-central-1`")]
#[case::no_role(|bed: &Bed| bed.metadata.without_role(), "", "no credentials (", "aws ec2 associate-iam-instance-profile --region eu-central-1 --instance-id i-00000001")]
#[case::no_eni(
    |bed: &Bed| bed.eni(&enis()[1], "i-00000001", "02:00:00:00:00:09", "172.16.101.0/24", "172.16.101.4"),
    "", ") is no ENI of this instance's", "--filters Name=attachment.instance-id,Values=i-00000001"
)]
fn who_this_is(#[case] spoil: fn(&Bed), #[case] written: &str, #[case] what: &str, #[case] remedy: &str) {
    let metadata = if written.contains("metadata") { String::new() } else { format!("metadata: \"http://{METADATA}\", ") };
    let bed = Bed::with(format!("{metadata}{written}").trim_end_matches(", "), PLATFORM_HAVIP);
    spoil(&bed);
    bed.doctor().broken(what, remedy);
}

#[test]
fn a_permission_that_is_missing_is_named_with_the_command_that_gives_it() {
    let bed = Bed::new();
    let denied = ["AssignPrivateIpAddresses", "DescribeSecurityGroups", "DescribeNetworkInterfaces"];
    for action in denied {
        bed.cloud.deny(action);
        let found = bed.doctor();
        let remedy = found.find("broken", &format!("the role portway-gateway may not call {action}"));
        let (command, document) = remedy.split_once(" --policy-document ").unwrap();
        assert_eq!(command, format!("aws iam put-role-policy --role-name portway-gateway --policy-name portway-{action}"));
        let policy: Value = serde_json::from_str(document.trim_matches('\'')).unwrap();
        let statement = &policy["Statement"][0];
        assert_eq!((&statement["Effect"], &statement["Action"]), (&"Allow".into(), &format!("ec2:{action}").into()));
        let all =
            ["arn:aws:ec2:eu-central-1:*:network-interface/eni-00000001", "arn:aws:ec2:eu-central-1:*:network-interface/eni-00000002"];
        assert_eq!(statement["Resource"], if action.starts_with("Describe") { "*".into() } else { serde_json::json!(all) });
        assert_eq!(found.code, Some(1));
        bed.cloud.permit(action);
    }
    bed.doctor().are_well();
}

#[test]
fn calls_that_are_never_answered_are_named_and_hold_nobody_up() {
    let bed = Bed::new();
    bed.cloud.ignore("DescribeSecurityGroups");
    bed.cloud.ignore("AssignPrivateIpAddresses");
    let began = Instant::now();
    let found = bed.doctor();
    let took = began.elapsed();
    found.broken(
        "AssignPrivateIpAddresses, DescribeSecurityGroups: AWS does not answer",
        "aws ec2 create-vpc-endpoint --region eu-central-1",
    );
    // Nobody knows whether it may move them.
    found.says_nothing_of("can move");
    assert!(took < Duration::from_secs(15), "{took:?}");
    bed.cloud.ignore("DescribeNetworkInterfaces");
    bed.doctor().broken("DescribeNetworkInterfaces: AWS does not answer", "--service-name com.amazonaws.eu-central-1.ec2");
}

#[test]
fn late_answers_and_throttled_calls_are_waited_for() {
    let bed = Bed::new();
    bed.cloud.latency(Duration::from_secs(2));
    bed.cloud.refuse("DescribeNetworkInterfaces", [(503, "RequestLimitExceeded"), (503, "RequestLimitExceeded")]);
    bed.cloud.refuse("DescribeSecurityGroups", [(503, "RequestLimitExceeded")]);
    bed.doctor().are_well();
}

/// An answer that comes twice is not taken for that of the next call.
#[test]
fn answers_that_come_twice_count_once() {
    let bed = Bed::new();
    let written = "endpoint: \"http://127.0.0.1:8170\"";
    let config = bed.directory.path().join("gateway.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains(written));
    std::fs::write(&config, text.replace("127.0.0.1:8170", "127.0.0.1:8171")).unwrap();
    let listener = bed.netns.run(|| TcpListener::bind("127.0.0.1:8171")).unwrap();
    let copies = twice::serve(listener, bed.cloud.endpoint.trim_start_matches("http://").parse().unwrap());
    bed.doctor().are_well();
    assert!(copies.load(std::sync::atomic::Ordering::Relaxed) >= 5, "{copies:?}");
}
