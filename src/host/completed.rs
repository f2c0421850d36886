//! What a host serves: its file, completed by what the directory says. Pure.

use crate::config::{Host, HostShard, HostTenant, HostTunnel};
use crate::directory::types::{Membership, Shard};
use crate::model::{Pools, Slot, TenantName, TenantShard};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Something that is not served, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub of: String,
    pub why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not served: {}", self.of, self.why)
    }
}

/// Tenants whose shards the file lists stay as they are there. What the directory says is held against what a file would be held against.
pub fn completed(file: &Host, membership: &Membership) -> (Host, Vec<LeftOut>) {
    let Some(directory) = &file.directory else { return (file.clone(), Vec::new()) };
    let mut host = Host { tenants: file.tenants.iter().filter(|tenant| !tenant.shards.is_empty()).cloned().collect(), ..file.clone() };
    let mut left_out = Vec::new();
    let mut named: BTreeMap<&TenantName, Vec<&Shard>> = BTreeMap::new();
    for shard in &membership.shards {
        named.entry(&shard.of.tenant).or_default().push(shard);
    }
    for tenant in file.tenants.iter().filter(|tenant| tenant.shards.is_empty() && !named.contains_key(&tenant.name)) {
        let why = "the directory does not have this host serve it".into();
        left_out.push(LeftOut { of: tenant.name.to_string(), why });
    }
    let mut room = usize::from(Slot::MAX.get()).saturating_sub(host.served().count());
    for (name, shards) in named {
        let own = file.tenants.iter().find(|tenant| tenant.name == *name);
        if own.is_some_and(|tenant| !tenant.shards.is_empty()) {
            continue;
        }
        let cidrs = own.map_or(&directory.cidrs, |tenant| &tenant.cidrs).clone();
        if cidrs.is_empty() {
            let why = "nothing says which networks are its: add it to `tenants` with its `cidrs`, or `cidrs` to `directory`".into();
            left_out.push(LeftOut { of: name.to_string(), why });
            continue;
        }
        let told = membership.egress.as_ref().and_then(|egress| egress.get(name));
        let egress = own.and_then(|tenant| tenant.egress.as_ref()).or(told).cloned();
        for (pool, shard) in egress.iter().flat_map(Pools::iter).flat_map(|(pool, all)| all.iter().map(move |shard| (pool, *shard))) {
            if !shards.iter().any(|known| known.of.shard == shard) {
                let why = format!("the tenant's pool {pool} has it, and the directory does not have this host serve it");
                left_out.push(LeftOut { of: TenantShard { tenant: name.clone(), shard }.to_string(), why });
            }
        }
        let mut tenant = HostTenant { name: name.clone(), cidrs, shards: Vec::new(), egress, left_out: BTreeSet::new() };
        let mut seen = Seen::default();
        for shard in shards {
            let inner = membership.host.inner.get(&shard.of).map_or(&[][..], Vec::as_slice);
            match seen.checked(file, &tenant, shard, inner) {
                Ok(_) if room == 0 => {
                    tenant.left_out.insert(shard.of.shard);
                    left_out.push(LeftOut {
                        of: shard.of.to_string(),
                        why: format!("{} shards are the most that a host can serve", Slot::MAX),
                    });
                }
                Ok(shard) => {
                    room -= 1;
                    tenant.shards.push(shard);
                }
                Err(why) => {
                    tenant.left_out.insert(shard.of.shard);
                    left_out.push(LeftOut { of: shard.of.to_string(), why });
                }
            }
        }
        if !tenant.shards.is_empty() {
            host.tenants.push(tenant);
        }
    }
    (host, left_out)
}

/// What no two shards of a tenant share.
#[derive(Default)]
struct Seen<'a> {
    endpoints: BTreeMap<SocketAddr, &'a TenantShard>,
    inner: BTreeSet<IpAddr>,
}

impl<'a> Seen<'a> {
    fn checked(&mut self, file: &Host, tenant: &HostTenant, shard: &'a Shard, inner: &[IpNet]) -> Result<HostShard, String> {
        let (Some(mut endpoint), Some(mut public_key)) = (shard.endpoint, shard.public_key) else {
            return Err("no gateway has told the directory of it yet".into());
        };
        // The tunnel that stands goes on until the gateway answers under the other key (`plan::host::generations`).
        if let (Some(next_key), Some(next_port)) = (shard.next_key, shard.next_port) {
            (endpoint, public_key) = (SocketAddr::new(endpoint.ip(), next_port), next_key);
        }
        let platform = file.platform.address;
        let covering = |address: IpAddr| tenant.cidrs.iter().find(|cidr| cidr.contains(&address));
        // A pod's address is translated to one; of a wider prefix the first that a machine could have.
        let Some(inner) = inner.first().and_then(|net| net.hosts().next()) else {
            return Err("the directory has no inner address for this host in it".into());
        };
        if !endpoint.is_ipv4() || !inner.is_ipv4() {
            return Err("IPv6 is not supported yet".into());
        }
        if endpoint.ip() == platform {
            return Err(format!("its gateway {endpoint} would be this host itself"));
        }
        if let Some(cidr) = covering(endpoint.ip()) {
            return Err(format!("its gateway {endpoint} lies in the tenant's network {cidr}: the tunnel would run inside itself"));
        }
        if inner == platform {
            return Err(format!("its inner address {inner} is this host's platform address"));
        }
        if let Some(cidr) = covering(inner) {
            return Err(format!(
                "its inner address {inner} lies in the tenant's network {cidr}: give the tenant another range in the directory"
            ));
        }
        if let Some(other) = self.endpoints.insert(endpoint, &shard.of) {
            return Err(format!("its gateway {endpoint} is that of {other}, too"));
        }
        if !self.inner.insert(inner) {
            return Err(format!("its inner address {inner} is that of another shard, too"));
        }
        let tunnel = HostTunnel::Wireguard { public_key, port: endpoint.port() };
        Ok(HostShard { shard: shard.of.shard, gateway: endpoint.ip(), tunnel, inner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, parse};
    use crate::model::PublicKey;
    use serde_json::json;

    fn host(more: &str) -> Host {
        let yaml = format!("host:\n  node: host-1\n  platform: {{ interface: plat0, address: 10.9.0.11 }}\n  tunnel: wireguard\n{more}\n");
        match parse(&yaml, "f").unwrap() {
            Config::Host(host) => host,
            other => panic!("{other:?}"),
        }
    }

    const ANY: &str = "  directory: { url: https://d.example, cidrs: [172.16.0.0/16] }";

    fn key(number: u8) -> PublicKey {
        PublicKey::try_from([number; 32]).unwrap()
    }

    /// (shard, endpoint, inner prefixes)
    fn membership(all: &[(&str, Option<&str>, &[&str])]) -> Membership {
        let shards: Vec<_> = all
            .iter()
            .map(|(of, endpoint, _)| json!({"of": of, "endpoint": endpoint, "public_key": endpoint.map(|_| key(1)), "gateways": []}))
            .collect();
        let inner: BTreeMap<&str, &[&str]> =
            all.iter().filter(|(_, _, inner)| !inner.is_empty()).map(|(of, _, inner)| (*of, *inner)).collect();
        let text = json!({"host": {"name": "host-1", "keys": [], "inner": inner, "revision": 1}, "shards": shards});
        serde_json::from_value(text).unwrap()
    }

    /// `acme/1 10.9.0.50:51820 10.64.0.9 [cidrs]`, and what is left out.
    fn told(file: &Host, membership: &Membership) -> Vec<String> {
        let (host, left_out) = completed(file, membership);
        let served = host.served().map(|(tenant, shard)| {
            let HostTunnel::Wireguard { port, .. } = shard.tunnel else { panic!("{shard:?}") };
            format!("{} {}:{port} {} {:?}", tenant.of(shard.shard), shard.gateway, shard.inner, tenant.cidrs)
        });
        served.chain(left_out.iter().map(ToString::to_string)).collect()
    }

    #[test]
    fn the_directory_says_who_is_served_and_the_file_where_to() {
        let all = membership(&[
            ("acme/0", Some("10.9.0.50:51820"), &["10.64.0.9/32"]),
            ("acme/1", Some("10.9.0.51:7000"), &["10.64.1.16/28"]),
            ("globex/0", Some("10.9.0.50:51821"), &["10.64.0.9/32"]),
        ]);
        assert_eq!(
            told(&host(ANY), &all),
            [
                "acme/0 10.9.0.50:51820 10.64.0.9 [172.16.0.0/16]",
                "acme/1 10.9.0.51:7000 10.64.1.17 [172.16.0.0/16]",
                "globex/0 10.9.0.50:51821 10.64.0.9 [172.16.0.0/16]",
            ]
        );
        let narrow = host(
            "  directory: { url: https://d.example }\n  tenants: [{ name: acme, cidrs: [192.168.0.0/16] }, { name: hooli, cidrs: [172.16.0.0/16] }]",
        );
        assert_eq!(
            told(&narrow, &all),
            [
                "acme/0 10.9.0.50:51820 10.64.0.9 [192.168.0.0/16]",
                "acme/1 10.9.0.51:7000 10.64.1.17 [192.168.0.0/16]",
                "hooli is not served: the directory does not have this host serve it",
                "globex is not served: nothing says which networks are its: add it to `tenants` with its `cidrs`, or `cidrs` to `directory`",
            ]
        );
        assert_eq!(told(&host(ANY), &membership(&[])), [""; 0]);
    }

    #[test]
    fn the_next_key_of_a_gateway_is_taken_as_soon_as_it_is_answered_somewhere() {
        let mut all = membership(&[("acme/0", Some("10.9.0.50:51820"), &["10.64.0.9/32"])]);
        for (next_port, told_of) in [(None, (key(1), 51820)), (Some(51819), (key(2), 51819))] {
            (all.shards[0].next_key, all.shards[0].next_port) = (Some(key(2)), next_port);
            let (host, _) = completed(&host(ANY), &all);
            let HostTunnel::Wireguard { public_key, port } = host.tenants[0].shards[0].tunnel else { panic!("{host:?}") };
            assert_eq!((public_key, port), told_of);
        }
    }

    #[test]
    fn a_tenant_whose_shards_the_file_lists_is_the_files() {
        let file = host(&format!(
            "{ANY}\n  tenants: [{{ name: acme, cidrs: [172.16.0.0/16], shards: [{{ shard: 0, gateway: 10.9.0.1, inner: 10.64.0.1, wireguard: {{ public_key: \"{}\" }} }}] }}]",
            key(9)
        ));
        let all =
            membership(&[("acme/1", Some("10.9.0.51:7000"), &["10.64.1.16/32"]), ("globex/0", Some("10.9.0.50:1"), &["10.64.0.9/32"])]);
        let (host, left_out) = completed(&file, &all);
        assert_eq!((host.tenants[0].clone(), host.tenants.len(), left_out.len()), (file.tenants[0].clone(), 2, 0));
    }

    #[test]
    fn what_would_harm_is_left_out_and_the_rest_is_served() {
        for (endpoint, inner, why) in [
            (None, "10.64.0.9/32", "no gateway has told the directory of it yet"),
            (Some("10.9.0.11:51820"), "10.64.0.9/32", "would be this host itself"),
            (Some("172.16.0.1:51820"), "10.64.0.9/32", "the tunnel would run inside itself"),
            (Some("[fd00::1]:51820"), "10.64.0.9/32", "IPv6 is not supported yet"),
            (Some("10.9.0.50:1"), "fd00::1/128", "IPv6 is not supported yet"),
            (Some("10.9.0.50:1"), "172.16.0.9/32", "give the tenant another range"),
            (Some("10.9.0.50:1"), "10.9.0.11/32", "is this host's platform address"),
            (Some("10.9.0.51:51820"), "10.64.0.9/32", "is that of acme/0, too"),
            (Some("10.9.0.50:1"), "10.64.0.8/32", "is that of another shard, too"),
        ] {
            let good = ("acme/0", Some("10.9.0.51:51820"), &["10.64.0.8/32"][..]);
            let all = told(&host(ANY), &membership(&[good, ("acme/1", endpoint, &[inner])]));
            assert_eq!(all.len(), 2);
            assert!(all[0].starts_with("acme/0 ") && all[1].starts_with("acme/1 is not served: ") && all[1].contains(why), "{all:?}");
        }
        let without = told(&host(ANY), &membership(&[("acme/0", Some("10.9.0.51:51820"), &[])]));
        assert_eq!(without, ["acme/0 is not served: the directory has no inner address for this host in it"]);
    }

    #[test]
    fn there_are_never_more_tunnels_than_a_host_can_have() {
        let of: Vec<String> = (0..=Slot::MAX.get()).map(|n| format!("acme/{n}")).collect();
        let endpoints: Vec<String> = (0..=Slot::MAX.get()).map(|n| format!("10.9.0.50:{}", n + 1)).collect();
        let inner: Vec<String> = (0..=Slot::MAX.get()).map(|n| format!("10.64.{}.{}/32", n >> 8, n & 0xff)).collect();
        let inner: Vec<[&str; 1]> = inner.iter().map(|net| [net.as_str()]).collect();
        let all: Vec<_> = of
            .iter()
            .zip(&endpoints)
            .zip(&inner)
            .map(|((of, endpoint), inner)| (of.as_str(), Some(endpoint.as_str()), &inner[..]))
            .collect();
        let (host, left_out) = completed(&host(ANY), &membership(&all));
        assert_eq!((host.served().count(), left_out.len()), (usize::from(Slot::MAX.get()), 1));
    }

    #[test]
    fn pools_are_the_directorys_unless_the_file_has_its_own() {
        let mut all =
            membership(&[("acme/0", Some("10.9.0.50:51820"), &["10.64.0.9/32"]), ("blue/0", Some("10.9.0.51:51820"), &["10.64.0.9/32"])]);
        let pools = |value| serde_json::from_value::<Pools>(value).unwrap();
        let told = [("acme", json!({"partners": [0]})), ("blue", json!({"crawlers": [0]})), ("green", json!({"gone": [0]}))];
        all.egress = Some(told.map(|(tenant, value)| (tenant.parse().unwrap(), pools(value))).into());
        let served = |own: &str| {
            let (host, left_out) = completed(&host(&format!("{ANY}\n  tenants: [{{ name: blue, cidrs: [172.16.0.0/16]{own} }}]")), &all);
            let of =
                |name: &str| host.tenants.iter().find(|tenant| tenant.name.as_str() == name).unwrap().egress.as_ref().unwrap().to_string();
            ([of("acme"), of("blue")], left_out.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(served(""), (["partners".into(), "crawlers".into()], vec![]));
        assert_eq!(served(", egress: {}"), (["partners".into(), String::new()], vec![]), "none, whatever the directory says");
        let (pools, left_out) = served(", egress: { own: [0, 7] }");
        assert_eq!(pools, ["partners", "own"]);
        assert!(left_out[0].starts_with("blue/7 is not served: the tenant's pool own has it"), "{left_out:?}");
    }
}
