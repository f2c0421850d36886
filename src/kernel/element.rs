//! Elements of named sets and maps, straight over nfnetlink: starting `nft` would cost 2 ms where this costs 10 us.

mod codec;

pub use codec::IPV4_WITH_KEY;

use super::attr;
use super::lease;
use super::netlink::{Answer, Netlink, Refused, Request};
use crate::model::Mark;
use crate::plan::{Element, NftTable, SetName};
use codec::{Key, read, write};
use netlink_packet_core::NLM_F_CREATE;
use std::collections::BTreeMap;

pub const TABLE: &str = "portway";
/// The sets and maps whose elements are added and removed one by one. What other sets a ruleset declares belongs to its text.
pub const SETS: [&str; 9] = ["peers", "senders", "senders_net", "attached", "attached_src", "attached_net", "port", "port_src", "port_net"];
/// Elements in one message: an attribute holds 64 KiB, an element takes at most 64 bytes.
const PER_MESSAGE: usize = 1000;

/// include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h
pub(super) mod nf {
    pub const SUBSYSTEM: u16 = 10;
    pub const BATCH_BEGIN: u16 = 0x10;
    pub const BATCH_END: u16 = 0x11;
    pub const GETTABLE: u16 = 1;
    pub const GETSET: u16 = 10;
    pub const NEWSETELEM: u16 = 12;
    pub const GETSETELEM: u16 = 13;
    pub const GETGEN: u16 = 16;
    pub const GEN_ID: u16 = 1;
    pub const DELSETELEM: u16 = 14;
    pub const TABLE_NAME: u16 = 1;
    pub const SET_TABLE: u16 = 1;
    pub const SET_NAME: u16 = 2;
    pub const SET_FLAGS: u16 = 3;
    pub const SET_KEY_TYPE: u16 = 4;
    pub const SET_FLAG_ANONYMOUS: u32 = 1;
    pub const SET_FLAG_TIMEOUT: u32 = 0x10;
    pub const LIST_TABLE: u16 = 1;
    pub const LIST_SET: u16 = 2;
    pub const LIST_ELEMENTS: u16 = 3;
    pub const LIST_ELEM: u16 = 1;
    pub const ELEM_KEY: u16 = 1;
    pub const ELEM_DATA: u16 = 2;
    pub const ELEM_TIMEOUT: u16 = 4;
    pub const ELEM_EXPIRATION: u16 = 5;
    pub const ELEM_KEY_END: u16 = 10;
    pub const DATA_VALUE: u16 = 1;
}

/// A named set of our table.
pub struct Set {
    pub name: String,
    key: Option<Key>,
    /// Whether its elements end by themselves: they are leases (lease.rs), or what packets left there, and no part of any state.
    pub lapses: bool,
}

impl Set {
    /// Whether its elements are IPv4 addresses with the names of interfaces that they are on.
    pub fn has_places(&self) -> bool {
        self.key == Some(Key::Place)
    }

    /// Whether its elements are ours to add and remove one by one.
    pub fn managed(&self) -> bool {
        SETS.contains(&self.name.as_str())
    }
}

/// Adds an element, or replaces the value of one that stands. On return it is in force. A prefix that overlaps another one
/// of the same set is refused: `EEXIST`, `ENOTEMPTY`.
fn set(netlink: &mut Netlink, set: &SetName, element: &Element, value: Option<Mark>) -> Answer {
    let add = || message(nf::NEWSETELEM, set, &[(element, value)]);
    match commit(netlink, vec![add()]) {
        // The key is there with another value, which the kernel does not overwrite: take it out within the same transaction.
        Err(Refused { errno: libc::EBUSY | libc::EEXIST, .. }) if value.is_some() && stands(netlink, set, element)? => {
            commit(netlink, vec![message(nf::DELSETELEM, set, &[(element, None)]), add()])
        }
        other => other,
    }
}

/// Removes an element; one that is gone already, or whose set is, counts as removed.
fn remove(netlink: &mut Netlink, set: &SetName, element: &Element) -> Answer {
    if is_prefix(element) && !stands(netlink, set, element)? {
        return Ok(());
    }
    match commit(netlink, vec![message(nf::DELSETELEM, set, &[(element, None)])]) {
        Err(Refused { errno: libc::ENOENT, .. }) => Ok(()),
        other => other,
    }
}

/// Whether exactly this element stands. Of prefixes the kernel must not be asked to delete any other: it looks for the first
/// address only, and would take a wider prefix that holds it (`nft_pipapo_deactivate`).
fn stands(netlink: &mut Netlink, set: &SetName, element: &Element) -> Result<bool, Refused> {
    let payload = payload(set, &[(element, None)]);
    let found = found(netlink.get(Request::new(number(nf::GETSETELEM), 0, &payload)))?;
    let (mut wanted, mut key) = (Vec::new(), Vec::new());
    write(&mut wanted, element, None);
    if let Some((_, fields)) = elements_of(&found).next() {
        key.extend(attr::each(fields).filter(|(kind, _)| matches!(*kind, nf::ELEM_KEY | nf::ELEM_KEY_END)));
    }
    Ok(!key.is_empty() && key.iter().copied().eq(attr::each(&wanted)))
}

fn is_prefix(element: &Element) -> bool {
    matches!(element, Element::SenderPrefix { .. } | Element::InterfacePrefix(..))
}

/// Adds many to one set, in few transactions. When one of those is refused, its elements go one by one.
pub fn set_all(netlink: &mut Netlink, name: &SetName, entries: &[(&Element, Option<Mark>)]) -> Vec<Answer> {
    bulk(netlink, nf::NEWSETELEM, name, entries, |netlink, (element, value)| set(netlink, name, element, *value))
}

pub fn remove_all(netlink: &mut Netlink, name: &SetName, elements: &[(&Element, Option<Mark>)]) -> Vec<Answer> {
    if elements.iter().any(|(element, _)| is_prefix(element)) {
        return elements.iter().map(|(element, _)| remove(netlink, name, element)).collect();
    }
    bulk(netlink, nf::DELSETELEM, name, elements, |netlink, (element, _)| remove(netlink, name, element))
}

fn bulk<'e>(
    netlink: &mut Netlink,
    kind: u16,
    name: &SetName,
    entries: &[(&'e Element, Option<Mark>)],
    single: impl Fn(&mut Netlink, &(&'e Element, Option<Mark>)) -> Answer,
) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(entries.len());
    for chunk in entries.chunks(PER_MESSAGE) {
        match commit(netlink, vec![message(kind, name, chunk)]) {
            Ok(()) => answers.extend(chunk.iter().map(|_| Ok(()))),
            Err(_) => answers.extend(chunk.iter().map(|entry| single(netlink, entry))),
        }
    }
    answers
}

pub(super) fn commit(netlink: &mut Netlink, steps: Vec<Request>) -> Answer {
    // struct nfgenmsg: no family, version 0, resource: the subsystem, in network order
    let [high, low] = nf::SUBSYSTEM.to_be_bytes();
    let edge = |kind| Request::new(kind, 0, &[0, 0, high, low]);
    netlink.transact(edge(nf::BATCH_BEGIN), steps, edge(nf::BATCH_END))
}

/// Whether the table stands.
pub fn table_exists(netlink: &mut Netlink, table: NftTable) -> Result<bool, Refused> {
    let mut payload = header(table);
    attr::put_name(&mut payload, nf::TABLE_NAME, TABLE);
    found(netlink.get(Request::new(number(nf::GETTABLE), 0, &payload)).map(|_| true))
}

/// The named sets and maps of a table of ours; none if there is no such table.
pub fn sets(netlink: &mut Netlink, table: NftTable) -> Result<Vec<Set>, Refused> {
    let mut payload = header(table);
    attr::put_name(&mut payload, nf::SET_TABLE, TABLE);
    let entries = found(netlink.dump(Request::new(number(nf::GETSET), 0, &payload)))?;
    let named = entries.iter().filter_map(|(_, payload)| {
        let list = payload.get(4..)?;
        let flags = attr::find(list, nf::SET_FLAGS).and_then(attr::be32).unwrap_or(0);
        let key = attr::find(list, nf::SET_KEY_TYPE).and_then(attr::be32).and_then(Key::from_type);
        let lapses = flags & nf::SET_FLAG_TIMEOUT != 0;
        (flags & nf::SET_FLAG_ANONYMOUS == 0).then_some(Set { name: attr::find(list, nf::SET_NAME).map(attr::name)?, key, lapses })
    });
    Ok(named.collect())
}

/// All that stands in our named sets and maps. Sets without elements are left out.
pub fn list(netlink: &mut Netlink, table: NftTable) -> Result<BTreeMap<SetName, BTreeMap<Element, Option<Mark>>>, Refused> {
    let mut all = BTreeMap::new();
    for set in sets(netlink, table)?.into_iter().filter(|set| set.managed() && !set.lapses) {
        let name = SetName { table, name: set.name };
        let mut elements = BTreeMap::new();
        each_raw(netlink, &name, |element| match set.key.and_then(|key| read(key, element)) {
            Some((element, value)) => drop(elements.insert(element, value)),
            None => tracing::warn!(set = %name, "an element that Portway did not make stands in its set and is left alone"),
        })?;
        if !elements.is_empty() {
            all.insert(name, elements);
        }
    }
    Ok(all)
}

/// The elements of a set that is not kept element by element, as bytes that can be compared.
pub fn raw(netlink: &mut Netlink, table: NftTable, set: &Set) -> Result<Vec<Vec<u8>>, Refused> {
    let mut elements = Vec::new();
    each_raw(netlink, &SetName { table, name: set.name.clone() }, |element| elements.push(element.to_vec()))?;
    elements.sort();
    Ok(elements)
}

pub(super) fn each_raw(netlink: &mut Netlink, set: &SetName, mut take: impl FnMut(&[u8])) -> Result<(), Refused> {
    let payload = of_set(set.table, &set.name);
    let mut request = Request::new(number(nf::GETSETELEM), 0, &payload);
    // To the kernel, a change anywhere interrupts the list of any set, and leases are extended all the time.
    let entries = netlink.settled(|netlink| {
        let before = lease::undisturbed(netlink)?;
        let (entries, interrupted) = netlink.dump_once(&mut request)?;
        Ok((entries, !interrupted || before.is_some() && before == lease::undisturbed(netlink)?))
    });
    for (_, payload) in found(entries)? {
        elements_of(&payload).for_each(|(_, element)| take(element));
    }
    Ok(())
}

pub(super) fn elements_of(payload: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attr::each(payload.get(4..).and_then(|list| attr::find(list, nf::LIST_ELEMENTS)).unwrap_or_default())
}

pub(super) fn found<T: Default>(answer: Result<T, Refused>) -> Result<T, Refused> {
    match answer {
        Err(Refused { errno: libc::ENOENT, .. }) => Ok(T::default()),
        other => other,
    }
}

pub(super) fn number(kind: u16) -> u16 {
    nf::SUBSYSTEM << 8 | kind
}

/// struct nfgenmsg: family (NFPROTO_INET, NFPROTO_IPV4, NFPROTO_NETDEV), version 0, resource 0
pub(super) fn header(table: NftTable) -> Vec<u8> {
    let family = match table {
        NftTable::Inet => 1,
        NftTable::Ip => 2,
        NftTable::Netdev => 5,
    };
    vec![family, 0, 0, 0]
}

/// What a message about elements begins with: whose they are.
pub(super) fn of_set(table: NftTable, set: &str) -> Vec<u8> {
    let mut payload = header(table);
    attr::put_name(&mut payload, nf::LIST_TABLE, TABLE);
    attr::put_name(&mut payload, nf::LIST_SET, set);
    payload
}

fn message(kind: u16, set: &SetName, entries: &[(&Element, Option<Mark>)]) -> Request {
    Request::new(number(kind), if kind == nf::NEWSETELEM { NLM_F_CREATE } else { 0 }, &payload(set, entries))
}

fn payload(set: &SetName, entries: &[(&Element, Option<Mark>)]) -> Vec<u8> {
    let mut payload = of_set(set.table, &set.name);
    payload.reserve(entries.len() * 64);
    attr::nest(&mut payload, nf::LIST_ELEMENTS, |list| {
        for (element, value) in entries {
            attr::nest(list, nf::LIST_ELEM, |fields| write(fields, element, *value));
        }
    });
    payload
}
