//! One element of a set or map, in bytes.
//!
//! A key is the concatenation of its fields, each padded to 4 bytes. Addresses and what is compared with a packet's bytes
//! are in network order. Interface indices and marks are in host order, except in an interval set, whose keys must compare from their first byte on:
//! there nft converts them to network order, in the rules that it compiles and in elements alike.

use super::super::attr;
use super::nf;
use crate::model::{GreKey, Mark};
use crate::plan::Element;
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};

/// The first four bytes of every GRE header that carries IPv4 and has a key and nothing else (RFC 2784, RFC 2890).
pub const IPV4_WITH_KEY: u32 = 0x2000_0800;

pub type Entry = (Element, Option<Mark>);

/// What a set's key is made of, by the numbers that nft gives its data types (6 bits a field in `NFTA_SET_KEY_TYPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Address,
    Sender,
    Interface,
    InterfaceAddress,
    /// An interface's name and an address: of leases (kernel/lease.rs), never in the sets that are kept element by element.
    Place,
}

impl Key {
    pub fn from_type(kind: u32) -> Option<Self> {
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

pub fn write(fields: &mut Vec<u8>, element: &Element, value: Option<Mark>) {
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

pub fn read(key: Key, fields: &[u8]) -> Option<Entry> {
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
