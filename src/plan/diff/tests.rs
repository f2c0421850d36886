use super::*;
use crate::model::{GreKey, PrivateKey, PublicKey, Slot};
use crate::plan::{Endpoint, Link, RouteKey, Ruleset, Sysctl, SysctlKey, rule_tree};
use proptest::prelude::*;

fn name(n: u8) -> IfName {
    format!("pw-{n}").parse().unwrap()
}

fn ip(n: u8) -> std::net::IpAddr {
    [10, 0, 0, n].into()
}

fn peer_key(n: u8) -> PublicKey {
    PublicKey::try_from([n + 1; 32]).unwrap()
}

fn wireguard_peer(n: u8) -> WireguardPeer {
    let at = (ip(n), 51820).into();
    let endpoint = if n < 2 { Endpoint::Roams(Some(at)) } else { Endpoint::Fixed(at) };
    WireguardPeer { allowed: [ip(n / 2).into()].into(), endpoint, keepalive: 0 }
}

/// States small enough to collide in every part.
fn state() -> impl Strategy<Value = State> {
    let few = || 0u8..4;
    let map = |max| proptest::collection::btree_map(few(), few(), 0..max);
    (map(4), map(4), map(4), map(4), map(4), map(4), proptest::collection::btree_set(1u16..40, 0..6)).prop_map(
        |(links, routes, neighbours, peers, elements, sysctls, slots)| {
            let kind = |k: u8| match k {
                0 => LinkKind::Tun,
                1 => LinkKind::Gre { local: ip(1), remote: None, key: GreKey(k.into()) },
                _ => LinkKind::Wireguard { key: PrivateKey::new([k; 32]), port: 51820 + u16::from(k) },
            };
            let links: BTreeMap<_, _> = links
                .into_iter()
                .map(|(n, k)| {
                    (name(n), Link { kind: kind(k), mtu: 1400 + u32::from(k % 2), alias: String::new(), group: IfName::GROUP, up: true })
                })
                .collect();
            // Only what stands on an interface that exists can exist.
            let on = |n: u8| links.contains_key(&name(n)).then(|| name(n));
            let table = NftTable::Inet;
            let elements_stand = elements.len() > 1;
            let set = SetName { table, name: "peers".into() };
            State {
                tables: elements_stand.then(|| (table, Ruleset::new(format!("{}", elements.len())))).into_iter().collect(),
                sysctls: sysctls
                    .iter()
                    .filter_map(|(n, v)| Some((Sysctl { interface: on(*n)?, key: SysctlKey::Forwarding }, v.to_string())))
                    .collect(),
                addresses: routes.iter().filter_map(|(n, a)| Some((on(*n)?, ip(*a).into()))).collect(),
                neighbours: neighbours.iter().filter_map(|(n, a)| Some(((on(*n)?, ip(*a)), ip(a + 100)))).collect(),
                wireguard: peers.iter().filter_map(|(n, k)| Some(((on(*n)?, peer_key(k % 2)), wireguard_peer(*k)))).collect(),
                routes: routes
                    .iter()
                    .filter_map(|(n, d)| {
                        let key = RouteKey { table: 0x70001, destination: ip(*d).into(), metric: 0 };
                        let throw = (*d == 3).then_some(Route::Throw);
                        Some((key, throw.or_else(|| Some(Route::Unicast { interface: on(*n)?, via: None, mtu: None }))?))
                    })
                    .collect(),
                rules: rule_tree(slots.into_iter().map(|n| Slot::try_from(n).unwrap())),
                elements: if elements_stand {
                    [(set, elements.into_iter().map(|(n, v)| (Element::Address(ip(n)), Some(Mark(v.into())))).collect())].into()
                } else {
                    BTreeMap::new()
                },
                flow_devices: neighbours.keys().filter_map(|n| on(*n)).filter(|_| elements_stand).collect(),
                links,
            }
        },
    )
}

/// Empty sets are as good as none, and nobody minds what else is set on our own interfaces.
fn tidy(mut state: State) -> State {
    state.sysctls.clear();
    state.elements.retain(|_, elements| !elements.is_empty());
    // Where one is that moves about is its own business.
    for peer in state.wireguard.values_mut() {
        if let Endpoint::Roams(_) = peer.endpoint {
            peer.endpoint = Endpoint::Roams(None);
        }
    }
    state
}

proptest! {
    #[test]
    fn after_the_plan_is_carried_out_the_next_plan_is_empty(desired in state(), observed in state()) {
        let mut now = observed.clone();
        for step in &plan(&desired, &observed).steps {
            now.follow(step);
        }
        prop_assert_eq!(tidy(now.clone()), tidy(desired.clone()));
        prop_assert!(plan(&desired, &now).is_empty());
    }

    #[test]
    fn what_stands_is_left_alone(both in state()) {
        prop_assert!(plan(&both, &both).is_empty());
    }

    #[test]
    fn policy_stands_before_any_tunnel(desired in state()) {
        let steps = plan(&desired, &State::default()).steps;
        let table = steps.iter().rposition(|step| matches!(step, Step::ReplaceTable(..)));
        let link = steps.iter().position(|step| matches!(step, Step::AddLink(..)));
        if let (Some(table), Some(link)) = (table, link) { prop_assert!(table < link); }
    }
}

#[test]
fn a_plan_prints_what_it_will_do() {
    let link = Link { kind: LinkKind::Tun, mtu: 1472, alias: "portway acme/0".into(), group: IfName::GROUP, up: true };
    let desired = State { links: [(name(1), link)].into(), ..State::default() };
    assert_eq!(plan(&desired, &State::default()).to_string(), "+ link pw-1: tun mtu 1472 up (portway acme/0)\n");
}
