//! From a topology to what `ip -batch` and /proc/sys are told. Text only; [`super::Lab`] carries it out.

use super::topology::{Container, Gateway, Host, METADATA, PLATFORM, PLATFORM_ADDRESS, PLATFORM_IF, Tenant, Topology, Wiring};

/// A virtual cable: (node, interface) at both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cable {
    pub ends: [(String, String); 2],
}

/// What is done inside one namespace once its cables are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    pub node: String,
    /// Below /proc/sys/net, before the addresses.
    pub sysctls: Vec<(String, String)>,
    /// Lines for `ip -batch`: links and addresses.
    pub links: Vec<String>,
    /// Lines for `ip -batch`, repeatable: also used to mend a node whose interfaces were down.
    pub routes: Vec<String>,
}

pub fn cables(lab: &Topology) -> Vec<Cable> {
    let cable = |a: &str, a_if: &str, b: &str, b_if: &str| Cable { ends: [(a.into(), a_if.into()), (b.into(), b_if.into())] };
    let mut all = Vec::new();
    let platform_side = lab.hosts.iter().map(|h| &h.node).chain(lab.gateways.iter().map(|g| &g.node));
    for (n, node) in platform_side.enumerate() {
        all.push(cable(node, PLATFORM_IF, PLATFORM, &format!("p{n}")));
    }
    for (n, (gateway, eni)) in lab.gateways.iter().flat_map(|g| g.enis.iter().map(move |e| (g, e))).enumerate() {
        all.push(cable(&gateway.node, &eni.interface, &format!("db-{}", eni.tenant), &format!("p{n}")));
    }
    for container in &lab.containers {
        all.push(cable(&container.node, "eth0", &container.host, &container.port));
    }
    all
}

/// A switch, in the namespace of this node.
pub fn bridge(node: &str) -> &'static str {
    if node == PLATFORM { "br0" } else { "vpc0" }
}

pub fn setups(lab: &Topology) -> Vec<Setup> {
    let cables = cables(lab);
    let mut all = vec![platform(lab, &cables)];
    all.extend(lab.hosts.iter().map(|h| host(lab, h)));
    all.extend(lab.gateways.iter().map(|g| gateway(lab, g)));
    all.extend(lab.tenants.iter().map(|t| server(t, &cables)));
    all.extend(lab.containers.iter().map(container));
    all
}

impl Setup {
    fn new(node: impl Into<String>) -> Self {
        let quiet = ["ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"];
        let mut setup = Self {
            node: node.into(),
            sysctls: quiet.map(|k| (k.into(), "1".into())).into(),
            links: vec!["link set lo up".into()],
            routes: vec![],
        };
        setup.sysctl("ipv4/ip_forward", 0);
        setup.rp_filter(0);
        setup
    }

    fn sysctl(&mut self, key: &str, value: u8) {
        self.sysctls.push((key.into(), value.to_string()));
    }

    fn rp_filter(&mut self, value: u8) {
        self.sysctl("ipv4/conf/all/rp_filter", value);
        self.sysctl("ipv4/conf/default/rp_filter", value);
    }

    fn link(&mut self, line: impl Into<String>) {
        self.links.push(line.into());
    }

    fn route(&mut self, line: impl AsRef<str>) {
        self.routes.push(format!("route replace {}", line.as_ref()));
    }

    fn bridge<'a>(&mut self, name: &str, address: &str, ports: impl Iterator<Item = &'a str>) {
        // One that snoops on multicast says so by IGMP at every port (RFC 4286): nobody's traffic but its own.
        self.link(format!("link add {name} type bridge mcast_snooping 0"));
        self.link(format!("addr add {address} dev {name}"));
        self.link(format!("link set {name} up"));
        for port in ports {
            self.link(format!("link set {port} master {name} up"));
        }
    }
}

/// The interfaces that cables bring to a node.
fn ends<'a>(cables: &'a [Cable], node: &'a str) -> impl Iterator<Item = &'a str> {
    cables.iter().flat_map(|c| &c.ends).filter(move |(n, _)| n == node).map(|(_, interface)| interface.as_str())
}

fn platform(lab: &Topology, cables: &[Cable]) -> Setup {
    let mut setup = Setup::new(PLATFORM);
    setup.bridge(bridge(PLATFORM), &format!("{PLATFORM_ADDRESS}/24"), ends(cables, PLATFORM));
    if lab.decoy {
        let mut decoys: Vec<_> = lab.tenants.iter().flat_map(|t| [t.server, t.own]).collect();
        decoys.sort_unstable();
        decoys.dedup();
        for address in decoys {
            setup.link(format!("addr add {address}/32 dev lo"));
        }
        for container in &lab.containers {
            if let Some(host) = lab.host(&container.host) {
                setup.route(format!("{}/32 via {}", container.address, host.outer));
            }
        }
    }
    setup
}

fn host(lab: &Topology, host: &Host) -> Setup {
    let mut setup = Setup::new(&host.node);
    // What every container runtime has done before us.
    setup.sysctl("ipv4/ip_forward", 1);
    setup.rp_filter(lab.rp_filter);
    setup.link(format!("addr add {}/24 dev {PLATFORM_IF}", host.outer));
    setup.link(format!("link set {PLATFORM_IF} up"));
    let mine: Vec<_> = lab.containers.iter().filter(|c| c.host == host.node).collect();
    match host.wiring {
        Wiring::Veth => {
            for c in &mine {
                setup.link(format!("addr add {}/32 dev {}", c.first_hop(), c.port));
                setup.link(format!("link set {} up", c.port));
                setup.route(format!("{}/32 dev {}", c.address, c.port));
            }
        }
        Wiring::Bridge => {
            if let Some(first) = mine.first() {
                setup.bridge("cni0", &format!("{}/24", first.first_hop()), mine.iter().map(|c| c.port.as_str()));
            }
        }
    }
    if lab.decoy {
        let mut vpcs: Vec<_> = lab.tenants.iter().map(|t| t.vpc).collect();
        vpcs.dedup();
        for vpc in vpcs {
            setup.route(format!("{vpc} via {PLATFORM_ADDRESS}"));
        }
    }
    setup
}

fn gateway(lab: &Topology, gateway: &Gateway) -> Setup {
    let mut setup = Setup::new(&gateway.node);
    setup.rp_filter(lab.rp_filter);
    setup.link(format!("addr add {}/24 dev {PLATFORM_IF}", gateway.outer));
    setup.link(format!("link set {PLATFORM_IF} up"));
    for (n, eni) in gateway.enis.iter().enumerate() {
        setup.link(format!("addr add {}/24 dev {}", eni.address, eni.interface));
        setup.link(format!("link set {} up", eni.interface));
        if n == 0 {
            setup.route(format!("{METADATA}/32 dev {}", eni.interface));
        }
    }
    setup
}

fn server(tenant: &Tenant, cables: &[Cable]) -> Setup {
    let mut setup = Setup::new(tenant.node());
    setup.bridge(bridge(&tenant.node()), &format!("{}/24", tenant.server), ends(cables, &tenant.node()));
    setup.link(format!("addr add {}/32 dev lo", tenant.own));
    setup.link(format!("addr add {METADATA}/32 dev lo"));
    setup
}

fn container(container: &Container) -> Setup {
    let mut setup = Setup::new(&container.node);
    setup.link(format!("addr add {}/24 dev eth0", container.address));
    setup.link("link set eth0 up");
    setup.route(format!("default via {}", container.first_hop()));
    setup
}
