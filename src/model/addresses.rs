//! The addresses of one VRRP instance: a list of one family.

use super::Invalid;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// 1 to 255 addresses of one family, in the order in which they are advertised. Of IPv6 the first should be link-local
/// (RFC 9568 section 5.2.9).
#[derive(Clone, PartialEq, Eq)]
pub enum AddressList {
    V4(Vec<[u8; 4]>),
    V6(Vec<[u8; 16]>),
}

/// A borrowed [`AddressList`], or one in a received packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Addresses<'a> {
    V4(&'a [[u8; 4]]),
    V6(&'a [[u8; 16]]),
}

impl AddressList {
    pub fn new(addresses: &[IpAddr]) -> Result<Self, Invalid> {
        let Some(first) = addresses.first() else { return Err(Invalid("no address: an instance has at least one".into())) };
        if addresses.len() > 255 {
            return Err(Invalid(format!("{} addresses: an instance has at most 255", addresses.len())));
        }
        if let Some(other) = addresses.iter().find(|a| a.is_ipv4() != first.is_ipv4()) {
            return Err(Invalid(format!("{first} and {other} are of two families: an instance has one")));
        }
        let v4 = |a: &IpAddr| if let IpAddr::V4(a) = a { Some(a.octets()) } else { None };
        let v6 = |a: &IpAddr| if let IpAddr::V6(a) = a { Some(a.octets()) } else { None };
        Ok(match first {
            IpAddr::V4(_) => AddressList::V4(addresses.iter().filter_map(v4).collect()),
            IpAddr::V6(_) => AddressList::V6(addresses.iter().filter_map(v6).collect()),
        })
    }

    pub fn as_addresses(&self) -> Addresses<'_> {
        match self {
            AddressList::V4(list) => Addresses::V4(list),
            AddressList::V6(list) => Addresses::V6(list),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.as_addresses().iter()
    }
}

impl<'a> Addresses<'a> {
    pub fn iter(self) -> impl Iterator<Item = IpAddr> + use<'a> {
        let (v4, v6) = match self {
            Addresses::V4(list) => (list, &[][..]),
            Addresses::V6(list) => (&[][..], list),
        };
        v4.iter().map(|a| IpAddr::V4(Ipv4Addr::from(*a))).chain(v6.iter().map(|a| IpAddr::V6(Ipv6Addr::from(*a))))
    }

    /// As they stand in a packet.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Addresses::V4(list) => list.as_flattened(),
            Addresses::V6(list) => list.as_flattened(),
        }
    }

    /// How many: 0 to 255, as longer lists cannot be made or received.
    pub fn count(self) -> u8 {
        let n = match self {
            Addresses::V4(list) => list.len(),
            Addresses::V6(list) => list.len(),
        };
        u8::try_from(n).unwrap_or(u8::MAX)
    }

    pub fn is_ipv4(self) -> bool {
        matches!(self, Addresses::V4(_))
    }

    /// Whether both are the same addresses, in whatever order: it means nothing (RFC 9568 section 5.2.9).
    pub fn are(self, others: Addresses<'_>) -> bool {
        let within = |these: Addresses<'_>, those: Addresses<'_>| these.iter().all(|this| those.iter().any(|that| this == that));
        self == others || self.count() == others.count() && within(self, others) && within(others, self)
    }

    /// Whether any address is in both.
    pub fn share(self, others: Addresses<'_>) -> bool {
        self.iter().any(|this| others.iter().any(|that| this == that))
    }

    pub fn to_list(self) -> AddressList {
        match self {
            Addresses::V4(list) => AddressList::V4(list.to_vec()),
            Addresses::V6(list) => AddressList::V6(list.to_vec()),
        }
    }
}

impl fmt::Display for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, address) in self.iter().enumerate() {
            write!(f, "{}{address}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Display for AddressList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_addresses().fmt(f)
    }
}

impl fmt::Debug for AddressList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_addresses(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_addresses_means_nothing() {
        let list = |texts: &[&str]| AddressList::new(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>()).unwrap();
        let are = |some: &[&str], others: &[&str]| list(some).as_addresses().are(list(others).as_addresses());
        assert!(are(&["10.0.0.1", "10.0.0.2"], &["10.0.0.2", "10.0.0.1"]));
        for others in [&["10.0.0.1"][..], &["10.0.0.1", "10.0.0.3"], &["10.0.0.1", "10.0.0.1"], &["10.0.0.1", "10.0.0.2", "10.0.0.3"]] {
            assert!(!are(&["10.0.0.1", "10.0.0.2"], others) && !are(others, &["10.0.0.1", "10.0.0.2"]), "{others:?}");
        }
        assert!(!are(&["fe80::1"], &["10.0.0.1"]));
    }
}
