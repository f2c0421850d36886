//! What the fake EC2 of tests/doctor_aws has not.

use super::*;
use crate::doctor::Severity;
use crate::model::Permission;

const GATEWAY: &str = "
gateway:
  node: gw-1
  platform: { interface: plat0, address: 10.9.0.1 }
  tunnel: wireguard
  ha: { nodes: NODES, keys: [{ id: 1, file: /etc/portway/ha.key }], CAST }
  cloud: { aws: {} }
  DIRECTORY
  tenants:
    - { name: acme, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, udp: [53] }], inner: 10.64.0.0/16,
        shards: [{ shard: 2, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10, wireguard: { private_key: /etc/portway/acme.key } }] }
";

const TWO: &str = "{ gw-1: 10.9.0.1, gw-2: 10.9.0.2 }";

fn gateway(nodes: &str, cast: &str, directory: &str) -> Config {
    let text = GATEWAY.replace("NODES", nodes).replace("CAST", cast).replace("DIRECTORY", directory);
    crate::config::parse(&text, "gateway.yaml").expect("a configuration")
}

fn of_members(protocol: &str, ports: (i32, i32), networks: &[&str], groups: &[&str]) -> Permission {
    let networks = networks.iter().map(|net| net.parse().expect("a network")).collect();
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Permission { protocol: protocol.into(), from: Some(ports.0), to: Some(ports.1), networks, groups, prefix_lists: vec![] }
}

/// One interface of each side, and who else is in that subnet: (id, instance, address, group).
fn seen(others: &[(&str, &str, &str, &str)]) -> Seen {
    let own = [("eni-00000001", "i-00000001", "10.9.0.1", "sg-0000000a"), ("eni-00000002", "i-00000001", "172.16.101.4", "sg-0000000b")];
    let item = |(id, instance, address, group): &(&str, &str, &str, &str)| {
        format!(
            "<item><networkInterfaceId>{id}</networkInterfaceId><subnetId>subnet-{0}</subnetId><vpcId>vpc-{0}</vpcId><availabilityZone>eu-central-1a</availabilityZone>\
             <groupSet><item><groupId>{group}</groupId></item></groupSet><attachment><instanceId>{instance}</instanceId></attachment>\
             <privateIpAddressesSet><item><privateIpAddress>{address}</privateIpAddress></item></privateIpAddressesSet></item>",
            &address[..2]
        )
    };
    let items: String = own.iter().chain(others).map(item).collect();
    let ports = [of_members("112", (-1, -1), &["10.9.0.0/24"], &[]), of_members("udp", (3790, 51822), &["10.9.0.0/24"], &[])];
    let group = |id: &str, ingress: &[Permission]| SecurityGroup {
        id: id.parse().expect("a group"),
        ingress: ingress.to_vec(),
        egress: vec![of_members("-1", (-1, -1), &["0.0.0.0/0"], &[])],
    };
    let interface =
        |id: &str, net: &str| Ok(Interface { id: id.parse().expect("an ENI"), networks: vec![net.parse().expect("a network")] });
    let name = |name: &str| name.parse::<IfName>().expect("a name");
    let instance = Instance { id: "i-00000001".into(), region: "eu-central-1".into(), zone: "eu-central-1a".into(), role: None };
    let answers = [of_members("udp", (1024, 65535), &["172.16.0.0/16"], &[]), of_members("icmp", (3, 4), &["172.16.0.0/16"], &[])];
    Seen {
        instance: Some(Ok(instance)),
        own: [(name("plat0"), interface("eni-00000001", "10.9.0.0/24")), (name("eni0"), interface("eni-00000002", "172.16.101.0/24"))]
            .into(),
        credentials: Some(Ok(())),
        interfaces: ec2::interfaces(&format!("<R><networkInterfaceSet>{items}</networkInterfaceSet></R>")).expect("interfaces"),
        groups: vec![group("sg-0000000a", &ports), group("sg-0000000b", &answers)],
        ..Seen::new(Reach::Answers)
    }
}

fn judged(seen: Seen, config: &Config) -> Vec<Finding> {
    let facts = Facts { cloud: Some(seen), ..crate::doctor::tests::well() };
    findings(&facts, Some(config)).into_iter().filter(|finding| finding.severity != Severity::Ok).collect()
}

#[test]
fn the_ports_of_wireguard_are_to_be_open_to_somebody() {
    let config = gateway(TWO, "", "");
    assert_eq!(judged(seen(&[]), &config), []);
    let mut closed = seen(&[]);
    closed.groups[0].ingress[1].to = Some(51821);
    let found = judged(closed, &config);
    let [finding] = &found[..] else { panic!("{found:#?}") };
    assert!(finding.what.contains("do not let tunnels (WireGuard, UDP) in from anybody"), "{finding:?}");
    let rule = "'IpProtocol=udp,FromPort=51822,ToPort=51822,IpRanges=[{CidrIp=NETWORK}]'";
    assert!(finding.remedy.as_ref().is_some_and(|remedy| remedy.ends_with(rule)), "{finding:?}");
}

#[test]
fn members_of_a_group_are_known_where_their_interface_is() {
    let config = gateway(TWO, "", "");
    let of_group = || {
        let mut seen = seen(&[]);
        seen.groups[0].ingress[0] = of_members("112", (-1, -1), &[], &["sg-0000000c"]);
        seen
    };
    let found = judged(of_group(), &config);
    assert!(
        found.len() == 1 && found[0].severity == Severity::Note && found[0].what.contains("depends on who is in sg-0000000c"),
        "{found:#?}"
    );
    let other = |group| Seen { interfaces: seen(&[("eni-00000003", "i-00000002", "10.9.0.2", group)]).interfaces, ..of_group() };
    assert_eq!(judged(other("sg-0000000c"), &config), []);
    let found = judged(other("sg-0000000a"), &config);
    assert!(found.len() == 1 && found[0].severity == Severity::Broken && found[0].what.contains("VRRP"), "{found:#?}");
}

/// Where the directory knows the group, its other nodes are not in the file.
#[test]
fn whose_the_other_interface_is_a_directory_may_know() {
    let others = [("eni-00000003", "i-00000002", "10.9.0.50", "sg-0000000a")];
    let directory = "directory: { url: \"https://127.0.0.1:9473\", token_file: /etc/portway/token }";
    let found = judged(seen(&others), &gateway("directory", "", directory));
    assert!(
        found.len() == 1 && found[0].severity == Severity::Note && found[0].what.contains("see that this is a gateway of the group"),
        "{found:#?}"
    );
    let found = judged(seen(&others), &gateway(TWO, "", ""));
    assert!(found.len() == 1 && found[0].severity == Severity::Broken, "{found:#?}");
}

#[test]
fn no_vpc_carries_multicast() {
    let found = judged(seen(&[]), &gateway(TWO, "cast: multicast", ""));
    assert!(found.len() == 1 && found[0].what.contains("which no VPC carries"), "{found:#?}");
}

/// Nobody is known whose policy a command could change.
#[test]
fn credentials_of_no_role_are_told_the_statement() {
    let failure = crate::model::Failure { why: crate::model::Why::Refused, text: String::new(), after: None };
    let refusal = Refusal { code: "UnauthorizedOperation".into(), failure };
    let mut seen = seen(&[]);
    seen.refused.push(Refused {
        action: "ReplaceRoute",
        about: vec!["arn:aws:ec2:eu-central-1:*:route-table/rtb-1".into()],
        dry: true,
        refusal,
    });
    let found = judged(seen, &gateway(TWO, "", ""));
    let remedy = found[0].remedy.as_deref().unwrap_or_default();
    let statement = r#"{"Effect": "Allow", "Action": "ec2:ReplaceRoute", "Resource": "arn:aws:ec2:eu-central-1:*:route-table/rtb-1"}"#;
    assert_eq!(remedy, format!("add to the policy of whose credentials it has: {statement}"));
}
