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

const DIRECTORY: &str = "directory: { url: \"https://127.0.0.1:9473\", token_file: /etc/portway/token }";

const TWO: &str = "{ gw-1: 10.9.0.1, gw-2: 10.9.0.2 }";

fn gateway(nodes: &str, cast: &str, directory: &str) -> Config {
    parsed(&GATEWAY.replace("NODES", nodes).replace("CAST", cast).replace("DIRECTORY", directory))
}

/// Of a list of nodes, with something else in one place.
fn with(place: &str, written: &str) -> Config {
    let text = GATEWAY.replace("NODES", TWO).replace("CAST", "").replace("DIRECTORY", "");
    assert!(text.contains(place));
    parsed(&text.replace(place, written))
}

fn parsed(text: &str) -> Config {
    crate::config::parse(text, "gateway.yaml").expect("a configuration")
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
    let ports = [
        of_members("112", (-1, -1), &["10.9.0.0/24"], &[]),
        of_members("udp", (3790, 51822), &["0.0.0.0/0"], &[]),
        of_members("icmp", (3, 4), &["0.0.0.0/0"], &[]),
    ];
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

fn all(seen: Seen, config: &Config) -> Vec<Finding> {
    let facts = Facts { cloud: Some(seen), ..crate::doctor::tests::well() };
    findings(&facts, Some(config))
}

fn judged(seen: Seen, config: &Config) -> Vec<Finding> {
    all(seen, config).into_iter().filter(|finding| finding.severity != Severity::Ok).collect()
}

fn refused(action: &'static str) -> Refused {
    let failure = crate::model::Failure { why: crate::model::Why::Throttled, text: String::new(), after: None };
    Refused { action, about: vec![], dry: false, refusal: Refusal { code: "RequestLimitExceeded".into(), failure } }
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

/// What lets some of them in is not said to be enough.
#[test]
fn whether_every_host_is_let_in_is_not_known_by_its_key() {
    for limited in [1..2, 2..3, 1..3] {
        let mut seen = seen(&[]);
        for rule in &mut seen.groups[0].ingress[limited] {
            rule.networks = vec!["10.9.0.0/24".parse().expect("a network")];
        }
        let found = all(seen, &gateway(TWO, "", ""));
        let notes: Vec<&Finding> = found.iter().filter(|finding| finding.severity == Severity::Note).collect();
        assert!(
            notes.len() == 1 && notes[0].what.contains("are open to some for tunnels, and whether to every function host"),
            "{found:#?}"
        );
        assert!(!found.iter().any(|finding| finding.what.contains("the security groups of plat0 (sg-0000000a) let through")), "{found:#?}");
    }
}

/// They are in the groups of this one. A rule for somebody else lets none of them in.
#[test]
fn nodes_that_the_directory_alone_knows_are_as_this_one() {
    let config = gateway("directory", "", DIRECTORY);
    let of = |rule: Permission| {
        let mut seen = seen(&[]);
        seen.groups[0].ingress[0] = rule;
        judged(seen, &config)
    };
    assert_eq!(of(of_members("112", (-1, -1), &[], &["sg-0000000a"])), []);
    for other in [of_members("-1", (-1, -1), &["192.0.2.7/32"], &[]), of_members("112", (-1, -1), &[], &["sg-0000000c"])] {
        let found = of(other);
        let [finding] = &found[..] else { panic!("{found:#?}") };
        assert_eq!(finding.severity, Severity::Broken);
        assert!(finding.what.contains("do not let advertisements (VRRP, protocol 112) in from nodes of its own group"), "{finding:?}");
        let rule = "--group-id sg-0000000a --ip-permissions 'IpProtocol=112,UserIdGroupPairs=[{GroupId=sg-0000000a}]'";
        assert!(finding.remedy.as_ref().is_some_and(|remedy| remedy.ends_with(rule)), "{finding:?}");
    }
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
    let found = judged(seen(&others), &gateway("directory", "", DIRECTORY));
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

/// "2 HaVips can move" is said of what was seen, all of it.
#[test]
fn what_could_not_be_asked_is_not_said_to_be_well() {
    let tables = with("aws: {}", "aws: { platform: { route_tables: [rtb-0000000a] } }");
    let public = with("aws: {}", "aws: { tenants: { acme: { public: { 2: eipalloc-0000000a } } } }");
    let config = gateway(TWO, "", "");
    let can_move = |seen: Seen, config| all(seen, config).iter().any(|finding| finding.what.contains("2 HaVips can move"));
    assert!(can_move(seen(&[]), &config));
    for action in ["DescribeNetworkInterfaces", "AssignPrivateIpAddresses"] {
        assert!(!can_move(Seen { refused: vec![refused(action)], ..seen(&[]) }, &config), "{action}");
    }
    assert!(can_move(Seen { refused: vec![refused("DescribeSecurityGroups")], ..seen(&[]) }, &config));
    let mut unknown = seen(&[]);
    unknown.interfaces.remove(1);
    assert!(!can_move(unknown, &config));
    assert!(!can_move(seen(&[]), &tables) && !can_move(seen(&[]), &public));
}

/// <https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html>
#[test]
fn five_addresses_of_a_subnet_are_nobodys() {
    for (address, is_kept) in [("10.9.0.3", true), ("10.9.0.255", true), ("10.9.0.4", false), ("10.9.0.254", false)] {
        let found = judged(seen(&[]), &with("10.9.0.50", address));
        let what = format!("the HaVip {address} of acme/2 is one of the five addresses of 10.9.0.0/24 that AWS keeps for itself");
        assert_eq!(found.iter().map(|finding| finding.what == what).collect::<Vec<_>>(), vec![true; usize::from(is_kept)], "{found:#?}");
    }
}

#[test]
fn an_elastic_address_is_the_groups_or_nobodys() {
    let public = "aws: { tenants: { acme: { public: { 2: eipalloc-0000000a } } } }";
    let listed = with("aws: {}", public);
    let by_directory =
        parsed(&GATEWAY.replace("aws: {}", public).replace("NODES", "directory").replace("CAST", "").replace("DIRECTORY", DIRECTORY));
    let associated = |of: &str| {
        let xml = format!(
            "<R><addressesSet><item><publicIp>192.0.2.1</publicIp><allocationId>eipalloc-0000000a</allocationId>{of}</item></addressesSet></R>"
        );
        let others = [("eni-00000003", "i-00000002", "10.9.0.2", "sg-0000000a")];
        Seen { elastics: ec2::elastics(&xml).expect("addresses"), ..seen(&others) }
    };
    let with = |eni: &str, instance: &str| format!("<networkInterfaceId>{eni}</networkInterfaceId>{instance}");
    let of = |instance: &str| format!("<instanceId>{instance}</instanceId>");
    for own in [String::new(), with("eni-00000002", &of("i-00000001")), with("eni-00000004", &of("i-00000002"))] {
        assert_eq!(judged(associated(&own), &listed), [], "{own}");
    }
    let strangers = with("eni-00000009", &of("i-00000009"));
    // A NAT gateway's is no instance's.
    for (to, config, severity) in [
        (&strangers, &listed, Severity::Broken),
        (&strangers, &by_directory, Severity::Note),
        (&with("eni-00000009", ""), &by_directory, Severity::Broken),
    ] {
        let found = judged(associated(to), config);
        assert!(found.len() == 1 && found[0].severity == severity && found[0].what.contains("is with eni-00000009"), "{found:#?}");
    }
    // Whose the other instances are was not said.
    let unknown = Seen { refused: vec![refused("DescribeNetworkInterfaces")], ..associated(&strangers) };
    assert!(!judged(unknown, &listed).iter().any(|finding| finding.what.contains("eni-00000009")));
}

/// Between two nodes an interface of the pool is nobody's, with all its addresses.
#[test]
fn what_gateways_attach_belongs_to_the_group() {
    let others = [("eni-00000003", "i-00000009", "172.16.101.10", "sg-0000000b")];
    let config = gateway(TWO, "", "");
    let found = judged(seen(&others), &config);
    assert!(
        found.len() == 1 && found[0].severity == Severity::Broken && found[0].what.contains("is no gateway of this group"),
        "{found:#?}"
    );
    let mut pooled = seen(&others);
    pooled.pools.insert("acme".parse().expect("a name"), vec![pooled.interfaces[2].clone()]);
    assert_eq!(judged(pooled, &config), []);
}
