//! Whether the security groups of this node's ENIs let through what a gateway sends and gets.

use super::traffic::{ALL, Far, GRE, ICMP, ICMPV6, TCP, Traffic, UDP, VRRP, Verdict, icmp};
use super::{Instance, Seen, shards};
use crate::config::{Gateway, GatewayTenant, GatewayTunnel, Snat, TunnelKind};
use crate::doctor::{Finding, Severity};
use crate::model::{IfName, Permission, PortRange, SecurityGroup, SecurityGroupId};
use crate::wire::ec2;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Networks that are named, and that a command is written for.
const NAMED: usize = 3;
const WRITTEN: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// Something that must pass.
struct Need {
    what: &'static str,
    way: Way,
    protocol: u8,
    ports: RangeInclusive<u16>,
    far: Others,
    severity: Severity,
    /// What happens otherwise.
    otherwise: &'static str,
}

/// Who is at the other end.
#[derive(Clone)]
enum Others {
    These(BTreeSet<IpNet>),
    /// Nodes that only the directory knows. They are taken to have this address, and the groups of this node's interface: what does not let this node in lets none of them in.
    Alike(IpAddr),
    /// Hosts of whom only the key is known, in this network or a part of it.
    Keyed(IpNet),
}

pub fn findings(seen: &Seen, instance: &Instance, gateway: &Gateway) -> Vec<Finding> {
    let mut needs: BTreeMap<&IfName, Vec<Need>> = BTreeMap::new();
    needs.entry(&gateway.platform.interface).or_default().extend(platform(gateway));
    for tenant in &gateway.tenants {
        needs.entry(&tenant.interface).or_default().extend(of_tenant(tenant));
    }
    let mut findings = vec![];
    for (name, needs) in needs {
        let Some(here) = seen.described(name) else { continue };
        let groups: Vec<&SecurityGroup> = here.groups().filter_map(|id| seen.groups.iter().find(|group| group.id == *id)).collect();
        // Of some it is not known what they let through: that is said where they were asked for.
        if groups.is_empty() || groups.len() < here.groups().count() {
            continue;
        }
        let look = Look { seen, instance, here, groups };
        let mut complaints: Vec<Finding> = vec![];
        for finding in needs.iter().flat_map(|need| look.at(name, need)) {
            // Of many needs there may be but one thing to say.
            if !complaints.contains(&finding) {
                complaints.push(finding);
            }
        }
        if complaints.is_empty() {
            findings.push(Finding::ok(format!("the security groups of {name} ({}) let through what a gateway needs", look.names())));
        }
        findings.extend(complaints);
    }
    findings
}

fn platform(gateway: &Gateway) -> Vec<Need> {
    let Some(ha) = &gateway.ha else { return vec![] };
    let mut needs = vec![];
    let mut both = |what, protocol, [to_here, from_here]: [RangeInclusive<u16>; 2], far: Others, otherwise| {
        for (way, ports) in [(Way::In, to_here), (Way::Out, from_here)] {
            needs.push(Need { what, way, protocol, ports, far: far.clone(), severity: Severity::Broken, otherwise });
        }
    };
    let others = ha.nodes.iter().filter(|(name, _)| **name != gateway.node);
    let others = if ha.by_directory() {
        Others::Alike(gateway.platform.address)
    } else {
        Others::These(others.map(|(_, address)| IpNet::from(*address)).collect())
    };
    both("advertisements (VRRP, protocol 112)", VRRP, [ALL; 2], others.clone(), "two gateways would be Active at once");
    both(
        "copies of connections (UDP)",
        UDP,
        [(); 2].map(|()| ha.sync_port..=ha.sync_port),
        others,
        "connections would not survive a gateway, and no shard would move to a preferred one",
    );
    let ipv6 = gateway.platform.address.is_ipv6();
    let hosts = match gateway.platform.tunnel {
        TunnelKind::Gre => {
            let hosts = Others::These(gateway.peers.iter().filter_map(|peer| peer.outer()).map(IpNet::from).collect());
            both("tunnels (GRE, protocol 47)", GRE, [ALL; 2], hosts.clone(), "functions there would reach nothing");
            hosts
        }
        TunnelKind::Wireguard => {
            let hosts = Others::Keyed(if ipv6 { Ipv6Net::default().into() } else { Ipv4Net::default().into() });
            for (_, shard) in shards(gateway) {
                let GatewayTunnel::Wireguard { port, next, .. } = &shard.tunnel else { continue };
                for port in [Some(*port), next.as_ref().map(|next| next.port)].into_iter().flatten() {
                    // A host's tunnels may begin at any port, and what is sent to it goes there.
                    both("tunnels (WireGuard, UDP)", UDP, [port..=port, 1024..=u16::MAX], hosts.clone(), "functions would reach nothing");
                }
            }
            hosts
        }
    };
    let (protocol, ports) = too_long(ipv6);
    let otherwise = "what is too long for the way to a function host would vanish";
    needs.push(Need { what: TOO_LONG, way: Way::In, protocol, ports, far: hosts, severity: Severity::Warning, otherwise });
    needs
}

const TOO_LONG: &str = "word of packets that are too long (ICMP)";

/// "Fragmentation needed" (RFC 1191), "Packet Too Big" (RFC 4443 section 3.2).
fn too_long(ipv6: bool) -> (u8, RangeInclusive<u16>) {
    if ipv6 { (ICMPV6, icmp(2, None)) } else { (ICMP, icmp(3, Some(4))) }
}

fn of_tenant(tenant: &GatewayTenant) -> Vec<Need> {
    const AFTER: &str =
        "an ENI that takes an address over knows no connection of it, so after a takeover a server's packets would be dropped";
    let ports = tenant.shards.iter().map(|shard| match shard.snat {
        Snat::To { ports, .. } | Snat::Masquerade { ports } => ports,
    });
    let range = |PortRange { first, last }: PortRange| first..=last;
    let ports: BTreeSet<PortRange> = ports.collect();
    let mut needs = vec![];
    for allow in &tenant.allow {
        let far = || Others::These(BTreeSet::from([allow.to]));
        let (ping, protocol) = if allow.to.addr().is_ipv6() { ([128, 129], ICMPV6) } else { ([8, 0], ICMP) };
        let mut add = |what, way, protocol, ports, severity, otherwise| {
            needs.push(Need { what, way, protocol, ports, far: far(), severity, otherwise });
        };
        for (answers, asks, protocol, allowed) in
            [("answers (TCP)", "connections (TCP)", TCP, &allow.tcp), ("answers (UDP)", "requests (UDP)", UDP, &allow.udp)]
        {
            for ports in ports.iter().filter(|_| !allowed.is_empty()) {
                add(answers, Way::In, protocol, range(*ports), Severity::Broken, AFTER);
            }
            for ports in allowed {
                add(asks, Way::Out, protocol, range(*ports), Severity::Broken, "`allow` lets functions do it");
            }
        }
        if allow.icmp {
            add("answers to pings (ICMP)", Way::In, protocol, icmp(ping[1], None), Severity::Broken, AFTER);
            add("pings (ICMP)", Way::Out, protocol, icmp(ping[0], None), Severity::Broken, "`allow` lets functions do it");
        }
        let (protocol, ports) = too_long(allow.to.addr().is_ipv6());
        add(TOO_LONG, Way::In, protocol, ports, Severity::Warning, "what is too long for the way would vanish after a takeover");
    }
    needs
}

struct Look<'l> {
    seen: &'l Seen,
    instance: &'l Instance,
    here: &'l ec2::Interface,
    groups: Vec<&'l SecurityGroup>,
}

impl Look<'_> {
    fn at(&self, name: &IfName, need: &Need) -> Vec<Finding> {
        let (mut blocked, mut open, mut findings) = (vec![], BTreeSet::new(), vec![]);
        let judge = |far: Far<'_>| {
            let traffic = Traffic { protocol: need.protocol, ports: need.ports.clone(), far };
            traffic.judge(self.rules(need.way))
        };
        let mut count = |net: IpNet, verdict: Verdict| match verdict {
            Verdict::Blocked => blocked.push(net),
            Verdict::Open(of) => open.extend(of),
            Verdict::Passes => {}
        };
        match &need.far {
            Others::These(nets) => {
                for net in nets {
                    let groups = self.groups_at(*net);
                    count(*net, judge(Far::Network { net: *net, groups: groups.as_ref() }));
                }
            }
            Others::Alike(address) => {
                let groups: BTreeSet<SecurityGroupId> = self.here.groups().cloned().collect();
                let net = IpNet::from(*address);
                count(net, judge(Far::Network { net, groups: Some(&groups) }));
            }
            Others::Keyed(all) => match (judge(Far::Network { net: *all, groups: None }), judge(Far::Somebody)) {
                (Verdict::Passes, _) => {}
                (_, Verdict::Blocked) => count(*all, Verdict::Blocked),
                _ => findings.push(self.to_some(name)),
            },
        }
        let (way, side) = if need.way == Way::In { ("in", "from") } else { ("out", "to") };
        if !blocked.is_empty() {
            let far = match &need.far {
                Others::These(_) => listed(&blocked),
                Others::Alike(_) => "nodes of its own group, who have the same".to_owned(),
                Others::Keyed(_) => "anybody".to_owned(),
            };
            let what =
                format!("the security groups of {name} ({}) do not let {} {way} {side} {far}: {}", self.names(), need.what, need.otherwise);
            findings.push(Finding { severity: need.severity, what, remedy: Some(self.authorize(need, &blocked)) });
        }
        if !open.is_empty() {
            let of: Vec<&str> = open.iter().map(String::as_str).collect();
            let (of, region) = (of.join(", "), &self.instance.region);
            let what = format!("not judged: whether {} may come {way} at {name} depends on who is in {of}", need.what);
            let remedy = match open.iter().find(|id| id.starts_with("pl-")) {
                Some(list) => format!("aws ec2 get-managed-prefix-list-entries --region {region} --prefix-list-id {list}"),
                None => format!(
                    "aws ec2 describe-network-interfaces --region {region} --filters Name=group-id,Values={}",
                    of.replace(", ", ",")
                ),
            };
            findings.push(Finding { remedy: Some(remedy), ..Finding::note(what) });
        }
        findings
    }

    /// Some pass. Which of the hosts are among them, nobody here can say.
    fn to_some(&self, name: &IfName) -> Finding {
        let names = self.names();
        let what = format!(
            "not judged: the security groups of {name} ({names}) are open to some for tunnels, and whether to every function host: of these only the keys are known here"
        );
        let command = format!("aws ec2 describe-security-groups --region {} --group-ids {}", self.instance.region, names.replace(',', ""));
        Finding { remedy: Some(command), ..Finding::note(what) }
    }

    fn rules(&self, way: Way) -> impl Iterator<Item = &Permission> {
        self.groups.iter().flat_map(move |group| if way == Way::In { &group.ingress } else { &group.egress })
    }

    /// Of the interface that has an address of its own here.
    fn groups_at(&self, net: IpNet) -> Option<BTreeSet<SecurityGroupId>> {
        let address: IpAddr = (net.prefix_len() == net.max_prefix_len()).then_some(net.addr())?;
        Some(self.seen.holder(address, &self.here.vpc_id)?.groups().cloned().collect())
    }

    fn names(&self) -> String {
        self.groups.iter().map(|group| group.id.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The command that adds a rule.
    /// <https://docs.aws.amazon.com/cli/latest/reference/ec2/authorize-security-group-ingress.html>
    fn authorize(&self, need: &Need, nets: &[IpNet]) -> String {
        let way = if need.way == Way::In { "ingress" } else { "egress" };
        let group = self.groups.first().map(|group| group.id.as_str()).unwrap_or_default();
        let mut rule = match need.protocol {
            TCP => "IpProtocol=tcp".to_owned(),
            UDP => "IpProtocol=udp".to_owned(),
            ICMP => "IpProtocol=icmp".to_owned(),
            ICMPV6 => "IpProtocol=icmpv6".to_owned(),
            other => format!("IpProtocol={other}"),
        };
        let [kind, code] = need.ports.start().to_be_bytes();
        // Writing to a String cannot fail.
        let _ = match need.protocol {
            TCP | UDP => write!(rule, ",FromPort={},ToPort={}", need.ports.start(), need.ports.end()),
            ICMP | ICMPV6 if need.ports.start() == need.ports.end() => write!(rule, ",FromPort={kind},ToPort={code}"),
            ICMP | ICMPV6 => write!(rule, ",FromPort={kind},ToPort=-1"),
            _ => Ok(()),
        };
        let whole = match need.far {
            Others::These(_) => IpNet::aggregate(&nets.to_vec()),
            Others::Alike(_) => {
                let _ = write!(rule, ",UserIdGroupPairs=[{{GroupId={group}}}]");
                vec![]
            }
            Others::Keyed(all) => {
                let (list, key) = if all.addr().is_ipv6() { ("Ipv6Ranges", "CidrIpv6") } else { ("IpRanges", "CidrIp") };
                let _ = write!(rule, ",{list}=[{{{key}=NETWORK}}]");
                vec![]
            }
        };
        for (list, key, ipv6) in [("IpRanges", "CidrIp", false), ("Ipv6Ranges", "CidrIpv6", true)] {
            let of_family = whole.iter().filter(|net| net.addr().is_ipv6() == ipv6).take(WRITTEN);
            let ranges: Vec<String> = of_family.map(|net| format!("{{{key}={net}}}")).collect();
            if !ranges.is_empty() {
                let _ = write!(rule, ",{list}=[{}]", ranges.join(","));
            }
        }
        format!("aws ec2 authorize-security-group-{way} --region {} --group-id {group} --ip-permissions '{rule}'", self.instance.region)
    }
}

/// The first of them.
fn listed(nets: &[IpNet]) -> String {
    let one = |net: &IpNet| if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() };
    let first: Vec<String> = nets.iter().take(NAMED).map(one).collect();
    match nets.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
