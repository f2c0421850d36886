//! Security groups of a gateway, for a lab's addresses.

use portway::model::{Permission, SecurityGroup, SecurityGroupId};

pub fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// Of the platform's side, and of the tenant's.
pub fn groups() -> [SecurityGroupId; 2] {
    ["sg-0000000a", "sg-0000000b"].map(id)
}

pub fn rule(protocol: &str, ports: (i32, i32), networks: &[&str]) -> Permission {
    let networks = networks.iter().map(|text| id(text)).collect();
    Permission { protocol: protocol.into(), from: Some(ports.0), to: Some(ports.1), networks, groups: vec![], prefix_lists: vec![] }
}

/// Of members of the platform's group.
pub fn among_nodes(protocol: &str, port: i32) -> Permission {
    Permission { groups: vec![groups()[0].to_string()], ..rule(protocol, (port, port), &[]) }
}

/// They let in what terraform/modules/appliance lets in, and everything out.
pub fn security_groups() -> [SecurityGroup; 2] {
    let egress = vec![rule("-1", (-1, -1), &["0.0.0.0/0"])];
    let platform = vec![
        among_nodes("112", -1),
        among_nodes("udp", 3790),
        rule("47", (-1, -1), &["10.9.0.0/25", "10.9.0.128/25"]),
        rule("icmp", (3, 4), &["10.9.0.0/24"]),
    ];
    let tenant = ["tcp", "udp"].map(|protocol| rule(protocol, (1024, 65535), &["172.16.0.0/16"]));
    let tenant = tenant.into_iter().chain([rule("icmp", (-1, -1), &["172.16.0.0/16"])]).collect();
    let [of_platform, of_tenant] = groups();
    [SecurityGroup { id: of_platform, ingress: platform, egress: egress.clone() }, SecurityGroup { id: of_tenant, ingress: tenant, egress }]
}
