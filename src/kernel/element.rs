//! Elements of named sets and maps, straight over nfnetlink: starting `nft` would cost 2 ms where this costs 10 us.
//!
//! A key is the concatenation of its fields, each padded to 4 bytes. Addresses and what is compared with a packet's bytes
//! are in network order. Interface indices and marks are in host order, except in an interval set, whose keys must compare from their first byte on:
//! there nft converts them to network order, in the rules that it compiles and in elements alike.

use super::attr;
use super::lease;
use super::netlink::{Answer, Netlink, Refused, Request};
use crate::model::{GreKey, Mark};
use crate::plan::{Element, NftTable, SetName};
use ipnet::{IpNet, Ipv4Net};
use netlink_packet_core::NLM_F_CREATE;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

pub const TABLE: &str = "portway";
/// The sets and maps whose elements are added and removed one by one. What other sets a ruleset declares belongs to its text.
pub const SETS: [&str; 9] = ["peers", "senders", "senders_net", "attached", "attached_src", "attached_net", "port", "port_src", "port_net"];
/// Elements in one message: an attribute holds 64 KiB, an element takes at most 64 bytes.
const PER_MESSAGE: usize = 1000;

/// The first four bytes of every GRE header that carries IPv4 and has a key and nothing else (RFC 2784, RFC 2890).
pub const IPV4_WITH_KEY: u32 = 0x2000_0800;

pub type Entry = (Element, Option<Mark>);

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

/// What a set's key is made of, by the numbers that nft gives its data types (6 bits a field in `NFTA_SET_KEY_TYPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Address,
    Sender,
    Interface,
    InterfaceAddress,
    /// An interface's name and an address: of leases (`lease.rs`), never in the sets that are kept element by element.
    Place,
}

impl Key {
    fn from_type(kind: u32) -> Option<Self> {
        const ADDRESS: u32 = 7;
        const INTEGER: u32 = 4;
        const INTERFACE: u32 = 20;
        const SENDER: u32 = ADDRESS << 18 | INTEGER << 12 | INTEGER << 6 | INTEGER;
        const INTERFACE_ADDRESS: u32 = INTERFACE << 6 | ADDRESS;
        const INTERFACE_NAME: u32 = 41;
        const PLACE: u32 = INTERFACE_NAME << 6 | ADDRESS;
        match kind {
            ADDRESS => Some(Key::Address),
            SENDER => Some(Key::Sender),
            INTERFACE => Some(Key::Interface),
            INTERFACE_ADDRESS => Some(Key::InterfaceAddress),
            PLACE => Some(Key::Place),
            _ => None,
        }
    }
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
    let mut payload = header(set.table);
    attr::put_name(&mut payload, nf::LIST_TABLE, TABLE);
    attr::put_name(&mut payload, nf::LIST_SET, &set.name);
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

/// struct nfgenmsg: family (NFPROTO_INET, NFPROTO_NETDEV), version 0, resource 0
pub(super) fn header(table: NftTable) -> Vec<u8> {
    let family = match table {
        NftTable::Inet => 1,
        NftTable::Netdev => 5,
    };
    vec![family, 0, 0, 0]
}

fn message(kind: u16, set: &SetName, entries: &[(&Element, Option<Mark>)]) -> Request {
    Request::new(number(kind), if kind == nf::NEWSETELEM { NLM_F_CREATE } else { 0 }, &payload(set, entries))
}

fn payload(set: &SetName, entries: &[(&Element, Option<Mark>)]) -> Vec<u8> {
    let mut payload = header(set.table);
    payload.reserve(64 + entries.len() * 64);
    attr::put_name(&mut payload, nf::LIST_TABLE, TABLE);
    attr::put_name(&mut payload, nf::LIST_SET, &set.name);
    attr::nest(&mut payload, nf::LIST_ELEMENTS, |list| {
        for (element, value) in entries {
            attr::nest(list, nf::LIST_ELEM, |fields| write(fields, element, *value));
        }
    });
    payload
}

fn write(fields: &mut Vec<u8>, element: &Element, value: Option<Mark>) {
    let mut key = |kind: u16, words: &[u32], address: Option<IpAddr>| {
        attr::nest(fields, kind, |nested| {
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            match address {
                Some(IpAddr::V4(ip)) => bytes.extend(ip.octets()),
                Some(IpAddr::V6(ip)) => bytes.extend(ip.octets()),
                None => {}
            }
            attr::put(nested, nf::DATA_VALUE, &bytes);
        });
    };
    match element {
        Element::Address(ip) => key(nf::ELEM_KEY, &[], Some(*ip)),
        Element::Sender { outer, key: tag, inner } => key(nf::ELEM_KEY, &sender(*outer, *tag), Some(*inner)),
        Element::SenderPrefix { outer, key: tag, inner } => {
            key(nf::ELEM_KEY, &sender(*outer, *tag), Some(inner.network()));
            key(nf::ELEM_KEY_END, &sender(*outer, *tag), Some(inner.broadcast()));
        }
        Element::Interface(index) => key(nf::ELEM_KEY, &[*index], None),
        Element::InterfaceAddress(index, ip) => key(nf::ELEM_KEY, &[*index], Some(*ip)),
        Element::InterfacePrefix(index, net) => {
            key(nf::ELEM_KEY, &[index.to_be()], Some(net.network()));
            key(nf::ELEM_KEY_END, &[index.to_be()], Some(net.broadcast()));
        }
    }
    if let Some(mark) = value {
        attr::nest(fields, nf::ELEM_DATA, |nested| attr::put(nested, nf::DATA_VALUE, &mark.0.to_ne_bytes()));
    }
}

/// What a sender's key begins with, as words whose bytes in memory are those of the packet.
fn sender(outer: IpAddr, key: GreKey) -> Vec<u32> {
    let outer: Vec<u8> = match outer {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    };
    let outer = outer.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    outer.chain([IPV4_WITH_KEY.to_be(), key.0.to_be()]).collect()
}

fn read(key: Key, fields: &[u8]) -> Option<Entry> {
    let bytes = |kind| attr::find(fields, kind).and_then(|nested| attr::find(nested, nf::DATA_VALUE));
    let (start, end) = (bytes(nf::ELEM_KEY)?, bytes(nf::ELEM_KEY_END));
    // Only the last field may be a range.
    let last = start.len().checked_sub(4)?;
    let prefix = || {
        let end = end?;
        (end.get(..last)? == &start[..last]).then_some(IpNet::V4(prefix(address(start, last)?, address(end, last)?)?))
    };
    let sender = || {
        let tag = word(start, 4).map(u32::from_be_bytes) == Some(IPV4_WITH_KEY);
        tag.then_some((address(start, 0)?.into(), GreKey(u32::from_be_bytes(word(start, 8)?))))
    };
    let index = || word(start, 0).map(u32::from_ne_bytes);
    let element = match (key, end) {
        (Key::Address, None) => Element::Address(address(start, 0)?.into()),
        (Key::Sender, None) => sender().and_then(|(outer, key)| Some(Element::Sender { outer, key, inner: address(start, 12)?.into() }))?,
        (Key::Sender, Some(_)) => sender().and_then(|(outer, key)| Some(Element::SenderPrefix { outer, key, inner: prefix()? }))?,
        (Key::Interface, None) => Element::Interface(index()?),
        (Key::InterfaceAddress, None) => Element::InterfaceAddress(index()?, address(start, 4)?.into()),
        (Key::InterfaceAddress, Some(_)) => Element::InterfacePrefix(u32::from_be(index()?), prefix()?),
        _ => return None,
    };
    Some((element, bytes(nf::ELEM_DATA).and_then(|b| word(b, 0)).map(|b| Mark(u32::from_ne_bytes(b)))))
}

fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    word(bytes, at).map(Ipv4Addr::from)
}

/// The prefix from one address to another, if it is one.
fn prefix(first: Ipv4Addr, last: Ipv4Addr) -> Option<Ipv4Net> {
    let length = (first.to_bits() ^ last.to_bits()).leading_zeros() as u8;
    Ipv4Net::new(first, length).ok().filter(|net| net.network() == first && net.broadcast() == last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_reads_back_as_it_was_written() {
        let ip: IpAddr = "10.64.0.9".parse().unwrap();
        let net: IpNet = "10.64.0.0/22".parse().unwrap();
        let elements = [
            (Key::Address, Element::Address(ip)),
            (Key::Sender, Element::Sender { outer: "10.9.0.11".parse().unwrap(), key: GreKey(7), inner: ip }),
            (Key::Sender, Element::SenderPrefix { outer: "10.9.0.11".parse().unwrap(), key: GreKey(u32::MAX), inner: net }),
            (Key::Interface, Element::Interface(7)),
            (Key::InterfaceAddress, Element::InterfaceAddress(7, ip)),
            (Key::InterfaceAddress, Element::InterfacePrefix(7, net)),
        ];
        for (key, element) in elements {
            for value in [None, Some(Mark(0xffff_0001))] {
                let mut fields = Vec::new();
                write(&mut fields, &element, value);
                assert_eq!(read(key, &fields), Some((element.clone(), value)));
            }
        }
    }

    #[test]
    fn a_range_is_a_prefix_only_if_it_is_one() {
        let net = |a: &str, b: &str| prefix(a.parse().unwrap(), b.parse().unwrap()).map(|net| net.to_string());
        assert_eq!(net("10.0.0.0", "10.0.0.255").as_deref(), Some("10.0.0.0/24"));
        assert_eq!(net("0.0.0.0", "255.255.255.255").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(net("10.0.0.1", "10.0.0.1").as_deref(), Some("10.0.0.1/32"));
        assert_eq!(net("10.0.0.1", "10.0.0.2"), None);
        assert_eq!(net("10.0.0.0", "10.0.0.254"), None);
    }
}
