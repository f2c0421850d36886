//! The steps from what is to what should be.

use super::{Element, Endpoint, LinkKind, NftTable, Plan, Route, RuleAction, SetName, State, Step, WireguardPeer};
use crate::model::{IfName, Mark};
use std::collections::{BTreeMap, BTreeSet};

/// The steps that turn `observed` into `desired`, in an order that never opens a gap: policy stands before the tunnel
/// that it guards, a table's routes before the rule that leads there; removals go the other way.
///
/// After all of them were carried out, the plan is empty.
pub fn plan(desired: &State, observed: &State) -> Plan {
    let rebuilt: BTreeSet<&IfName> =
        desired.links.iter().filter(|(name, link)| replaces(observed, name, &link.kind)).map(|(name, _)| name).collect();
    let lost = |interface: &IfName| rebuilt.contains(interface);
    let stands = State {
        // What hangs on an interface goes with it.
        sysctls: without(&observed.sysctls, |sysctl| lost(&sysctl.interface)),
        addresses: observed.addresses.iter().filter(|(interface, _)| !lost(interface)).cloned().collect(),
        neighbours: without(&observed.neighbours, |(interface, _)| lost(interface)),
        wireguard: without(&observed.wireguard, |(interface, _)| lost(interface)),
        routes: observed
            .routes
            .iter()
            .filter(|(_, route)| !matches!(route, Route::Unicast { interface, .. } if lost(interface)))
            .map(|(key, route)| (key.clone(), route.clone()))
            .collect(),
        flow_devices: observed.flow_devices.iter().filter(|interface| !lost(interface)).cloned().collect(),
        ..State::default()
    };

    let mut steps = Vec::new();
    steps.extend(changed(&desired.tables, &observed.tables).map(|(table, ruleset)| Step::ReplaceTable(*table, ruleset.clone())));
    steps.extend(stale_elements(desired, observed));
    if desired.has_table(NftTable::Inet) {
        steps.extend(stands.flow_devices.difference(&desired.flow_devices).cloned().map(Step::RemoveFlowDevice));
    }
    steps.extend(observed.rules.difference(&desired.rules).cloned().map(Step::RemoveRule));
    steps.extend(gone(&desired.routes, &stands.routes).cloned().map(Step::RemoveRoute));
    steps.extend(gone(&desired.neighbours, &stands.neighbours).map(|(link, address)| Step::RemoveNeighbour(link.clone(), *address)));
    steps.extend(gone(&desired.wireguard, &stands.wireguard).map(|(link, key)| Step::RemovePeer(link.clone(), *key)));
    steps.extend(stands.addresses.difference(&desired.addresses).map(|(link, address)| Step::RemoveAddress(link.clone(), *address)));
    steps.extend(gone(&desired.links, &observed.links).chain(rebuilt.iter().copied()).cloned().map(Step::RemoveLink));
    steps.extend(changed(&desired.links, &observed.links).map(|(name, link)| {
        if observed.links.contains_key(name) && !lost(name) {
            Step::ChangeLink(name.clone(), link.clone())
        } else {
            Step::AddLink(name.clone(), link.clone())
        }
    }));
    steps.extend(changed(&desired.sysctls, &stands.sysctls).map(|(sysctl, value)| Step::SetSysctl(sysctl.clone(), value.clone())));
    steps.extend(desired.addresses.difference(&stands.addresses).map(|(link, address)| Step::AddAddress(link.clone(), *address)));
    steps.extend(
        changed(&desired.neighbours, &stands.neighbours).map(|((link, hop), outer)| Step::SetNeighbour(link.clone(), *hop, *outer)),
    );
    steps.extend(changed_peers(desired, &stands));
    steps.extend(missing_elements(desired, observed));
    steps.extend(desired.flow_devices.difference(&stands.flow_devices).cloned().map(Step::AddFlowDevice));
    steps.extend(changed(&desired.routes, &stands.routes).map(|(key, route)| Step::SetRoute(key.clone(), route.clone())));
    steps.extend(missing_rules(desired, observed));
    // Those of an interface of ours go with it.
    steps.extend(gone(&desired.sysctls, &observed.sysctls).filter(|sysctl| !sysctl.interface.is_ours()).cloned().map(Step::RestoreSysctl));
    steps.extend(gone(&desired.tables, &observed.tables).copied().map(Step::RemoveTable));
    Plan { steps }
}

fn replaces(observed: &State, name: &IfName, kind: &LinkKind) -> bool {
    observed.links.get(name).is_some_and(|link| match (&link.kind, kind) {
        // Key and port can be changed on one that stands, with its peers.
        (LinkKind::Wireguard { .. }, LinkKind::Wireguard { .. }) => false,
        (stands, wanted) => stands != wanted,
    })
}

/// Peers that are missing or differ. One that stands and roams is left where it is.
fn changed_peers<'s>(desired: &'s State, stands: &'s State) -> impl Iterator<Item = Step> + 's {
    let same = |wanted: &WireguardPeer, stands: &WireguardPeer| {
        let endpoint = wanted.endpoint.is_met_by(stands.endpoint);
        endpoint && (&wanted.allowed, wanted.keepalive) == (&stands.allowed, stands.keepalive)
    };
    desired.wireguard.iter().filter_map(move |(key, wanted)| {
        let mut peer = wanted.clone();
        if let Some(stands) = stands.wireguard.get(key) {
            if same(wanted, stands) {
                return None;
            }
            if let Endpoint::Roams(_) = peer.endpoint {
                peer.endpoint = Endpoint::Roams(None);
            }
        }
        Some(Step::SetPeer(key.0.clone(), key.1, peer))
    })
}

fn without<K: Ord + Clone, V: Clone>(map: &BTreeMap<K, V>, lost: impl Fn(&K) -> bool) -> BTreeMap<K, V> {
    map.iter().filter(|(key, _)| !lost(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Entries of `desired` that are missing in `observed` or differ there.
fn changed<'s, K: Ord, V: PartialEq>(desired: &'s BTreeMap<K, V>, observed: &'s BTreeMap<K, V>) -> impl Iterator<Item = (&'s K, &'s V)> {
    desired.iter().filter(|(key, value)| observed.get(key) != Some(value))
}

/// Keys of `observed` that nobody desires.
fn gone<'s, K: Ord, V>(desired: &'s BTreeMap<K, V>, observed: &'s BTreeMap<K, V>) -> impl Iterator<Item = &'s K> {
    observed.keys().filter(|key| !desired.contains_key(key))
}

type Elements = BTreeMap<Element, Option<Mark>>;
static NONE: Elements = BTreeMap::new();

fn missing_elements<'s>(desired: &'s State, observed: &'s State) -> impl Iterator<Item = Step> + 's {
    desired.elements.iter().flat_map(|(set, elements)| {
        let stand = observed.elements.get(set).unwrap_or(&NONE);
        changed(elements, stand).map(|(element, value)| Step::SetElement(set.clone(), element.clone(), *value))
    })
}

/// Elements of a table that goes altogether go with it.
fn stale_elements<'s>(desired: &'s State, observed: &'s State) -> impl Iterator<Item = Step> + 's {
    let stays = |set: &SetName| desired.tables.contains_key(&set.table) || !observed.tables.contains_key(&set.table);
    observed.elements.iter().filter(move |(set, _)| stays(set)).flat_map(|(set, elements)| {
        let wanted = desired.elements.get(set).unwrap_or(&NONE);
        gone(wanted, elements).map(|element| Step::RemoveElement(set.clone(), element.clone()))
    })
}

/// Leaves first, so that no `goto` leads to where nothing stands yet; the one that lets marks in last.
fn missing_rules<'s>(desired: &'s State, observed: &'s State) -> impl Iterator<Item = Step> + 's {
    desired.rules.iter().rev().filter(|rule| !observed.rules.contains(rule)).cloned().map(Step::AddRule)
}

impl State {
    /// Adds all of `other`, which wins where both say something.
    pub fn merge(&mut self, other: State) {
        let State { tables, sysctls, links, addresses, neighbours, wireguard, routes, rules, elements, flow_devices } = other;
        self.tables.extend(tables);
        self.sysctls.extend(sysctls);
        self.links.extend(links);
        self.addresses.extend(addresses);
        self.neighbours.extend(neighbours);
        self.wireguard.extend(wireguard);
        self.routes.extend(routes);
        self.rules.extend(rules);
        self.flow_devices.extend(flow_devices);
        for (set, entries) in elements {
            self.elements.entry(set).or_default().extend(entries);
        }
    }

    /// What this state is after a step: how the reconciler follows its own small changes without reading the kernel anew.
    pub fn follow(&mut self, step: &Step) {
        match step.clone() {
            Step::ReplaceTable(table, ruleset) => drop(self.tables.insert(table, ruleset)),
            Step::RemoveTable(table) => {
                self.tables.remove(&table);
                self.elements.retain(|set, _| set.table != table);
                if table == NftTable::Inet {
                    self.flow_devices.clear();
                }
            }
            Step::SetSysctl(sysctl, value) => drop(self.sysctls.insert(sysctl, value)),
            Step::RestoreSysctl(sysctl) => drop(self.sysctls.remove(&sysctl)),
            Step::AddLink(name, link) | Step::ChangeLink(name, link) => drop(self.links.insert(name, link)),
            Step::RemoveLink(name) => {
                self.links.remove(&name);
                self.sysctls.retain(|sysctl, _| sysctl.interface != name);
                self.addresses.retain(|(link, _)| *link != name);
                self.neighbours.retain(|(link, _), _| *link != name);
                self.wireguard.retain(|(link, _), _| *link != name);
                self.flow_devices.remove(&name);
                self.routes.retain(|_, route| !matches!(route, Route::Unicast { interface, .. } if *interface == name));
            }
            Step::AddAddress(link, address) => drop(self.addresses.insert((link, address))),
            Step::RemoveAddress(link, address) => drop(self.addresses.remove(&(link, address))),
            Step::SetNeighbour(link, hop, outer) => drop(self.neighbours.insert((link, hop), outer)),
            Step::RemoveNeighbour(link, hop) => drop(self.neighbours.remove(&(link, hop))),
            Step::SetPeer(link, key, mut peer) => {
                if let (Endpoint::Roams(None), Some(stands)) = (peer.endpoint, self.wireguard.get(&(link.clone(), key))) {
                    peer.endpoint = Endpoint::Roams(stands.endpoint.address());
                }
                self.wireguard.insert((link, key), peer);
            }
            Step::RemovePeer(link, key) => drop(self.wireguard.remove(&(link, key))),
            Step::SetRoute(key, route) => drop(self.routes.insert(key, route)),
            Step::RemoveRoute(key) => drop(self.routes.remove(&key)),
            Step::AddRule(rule) => drop(self.rules.insert(rule)),
            Step::RemoveRule(rule) => drop(self.rules.remove(&rule)),
            Step::SetElement(set, element, value) => drop(self.elements.entry(set).or_default().insert(element, value)),
            Step::RemoveElement(set, element) => {
                if let Some(elements) = self.elements.get_mut(&set) {
                    elements.remove(&element);
                }
            }
            Step::AddFlowDevice(name) => drop(self.flow_devices.insert(name)),
            Step::RemoveFlowDevice(name) => drop(self.flow_devices.remove(&name)),
        }
    }

    /// The tables that rules lead to.
    pub fn ruled_tables(&self) -> BTreeSet<u32> {
        self.rules.iter().filter_map(|rule| if let RuleAction::Table(table) = rule.action { Some(table) } else { None }).collect()
    }

    /// Whether a table of this family stands.
    pub fn has_table(&self, table: NftTable) -> bool {
        self.tables.contains_key(&table)
    }
}

#[cfg(test)]
mod tests;
