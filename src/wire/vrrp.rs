//! VRRP packets: version 3 (RFC 9568) over IPv4 and IPv6, version 2 (RFC 3768) for old peers, and the authentication trailer.
//!
//! A received packet goes through [`Packet::parse`] (form and checksum) and [`Gate::admit`] (trailer, not heard before); each says a
//! [`Discard`] or hands on. One to be sent is [`Advertisement::encode`]d with [`Gate::seal`].

mod auth;
mod discard;
mod gate;
mod replay;

pub use auth::{Key, Keyring, TRAILER_LEN};
pub use discard::Discard;
pub use gate::Gate;
pub use replay::{Freshness, Replay, Sequence};

use crate::model::{Addresses, AdvertInterval, ChecksumForm, Priority, Vrid, VrrpVersion};
use crate::wire::checksum::Sum;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The IP protocol number.
pub const PROTOCOL: u8 = 112;
/// TTL or hop limit of every advertisement: it has crossed no router (RFC 9568 sections 5.1.1.3, 5.1.2.3).
pub const HOP_LIMIT: u8 = 255;
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

const HEADER_LEN: usize = 8;
/// Version 2 ends in eight bytes of authentication data, whatever its authentication type.
const V2_AUTHENTICATION_LEN: usize = 8;
const ADVERTISEMENT: u8 = 1;
const V2_FIRST: u8 = 0x21;
const V3_FIRST: u8 = 0x31;

/// What the IP layer knows of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
}

/// The content of an advertisement.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-------+-------+---------------+---------------+---------------+
/// |  3    | Type 1|      VRID     |   Priority    | Address count |
/// +-------+-------+---------------+---------------+---------------+
/// | resvd | Max Advertise Interval|           Checksum            |
/// +-------+-----------------------+-------------------------------+
/// |                   addresses, 4 or 16 bytes each               |
/// +---------------------------------------------------------------+
/// ```
/// Version 2 (RFC 3768 section 5.1) has authentication type (8 bits) and interval in seconds (8 bits) in the place of the interval, and
/// eight bytes of authentication data at the end. We send type 0. Of old peers we take types 1 (clear text) and 2 (IP
/// Authentication Header) as well and look at nothing in them: RFC 3768 removed both because they protect from nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement<'a> {
    pub version: VrrpVersion,
    pub vrid: Vrid,
    pub priority: Priority,
    pub interval: AdvertInterval,
    pub addresses: Addresses<'a>,
}

/// An advertisement that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    pub advertisement: Advertisement<'a>,
    /// Which of the forms fitted.
    pub checksum: ChecksumForm,
    message: &'a [u8],
    trailer: Option<&'a [u8; TRAILER_LEN]>,
}

impl<'a> Packet<'a> {
    /// Reads the payload of an IP packet of protocol 112: all checks of RFC 9568 section 7.1 that need no configuration, the cheap ones
    /// first.
    pub fn parse(ip: &Envelope, bytes: &'a [u8]) -> Result<Self, Discard> {
        if ip.hop_limit != HOP_LIMIT {
            return Err(Discard::HopLimit);
        }
        let (&[first, vrid, priority, count, b4, b5, _, _], rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Discard::Length)?;
        let version = match first {
            V2_FIRST if is_carp(bytes) => return Err(Discard::Carp),
            V2_FIRST if ip.source.is_ipv4() => VrrpVersion::V2,
            V3_FIRST => VrrpVersion::V3,
            _ if matches!(first >> 4, 2 | 3) && first & 0xf != ADVERTISEMENT => return Err(Discard::Type),
            _ => return Err(Discard::Version),
        };
        let addresses_len = usize::from(count) * if ip.source.is_ipv4() { 4 } else { 16 };
        let (addresses, behind) = rest.split_at_checked(addresses_len).ok_or(Discard::Length)?;
        let tail = match version {
            VrrpVersion::V2 => behind.get(V2_AUTHENTICATION_LEN..).ok_or(Discard::Length)?,
            VrrpVersion::V3 => behind,
        };
        let trailer = match tail.first_chunk::<TRAILER_LEN>() {
            Some(trailer) if tail.len() == TRAILER_LEN => Some(trailer),
            None if tail.is_empty() => None,
            Some(_) | None => return Err(Discard::Length),
        };
        let vrid = Vrid::try_from(vrid).map_err(|_| Discard::Vrid)?;
        if count == 0 {
            return Err(Discard::NoAddress);
        }
        let interval = match version {
            VrrpVersion::V2 if b4 > 2 => return Err(Discard::AuthenticationType),
            VrrpVersion::V2 => AdvertInterval::from_seconds(b5),
            VrrpVersion::V3 => AdvertInterval::try_from(u16::from_be_bytes([b4 & 0x0f, b5])),
        };
        let interval = interval.map_err(|_| Discard::Interval)?;
        let message = &bytes[..bytes.len() - tail.len()];
        let checksum = matching_form(ip, version, message, bytes).ok_or(Discard::Checksum)?;
        let addresses = if ip.source.is_ipv4() { Addresses::V4(addresses.as_chunks().0) } else { Addresses::V6(addresses.as_chunks().0) };
        let advertisement = Advertisement { version, vrid, priority: Priority(priority), interval, addresses };
        Ok(Packet { advertisement, checksum, message, trailer })
    }
}

impl Advertisement<'_> {
    /// Writes the payload of an IP packet from and to these addresses into `out`, which it empties first.
    ///
    /// `form` counts for version 3 over IPv4 only: the others have one form each. An interval that the version cannot write
    /// ([`AdvertInterval::fits`]) is sent as the longest that it can.
    pub fn encode(&self, ip: &Envelope, form: ChecksumForm, sign: Option<(&Key, Sequence)>, out: &mut Vec<u8>) {
        out.clear();
        let (first, [b4, b5]) = match self.version {
            VrrpVersion::V2 => (V2_FIRST, [0, u8::try_from(self.interval.centiseconds().div_ceil(100)).unwrap_or(u8::MAX)]),
            VrrpVersion::V3 => (V3_FIRST, self.interval.min(AdvertInterval::MAX_V3).centiseconds().to_be_bytes()),
        };
        out.extend([first, self.vrid.get(), self.priority.0, self.addresses.count(), b4, b5, 0, 0]);
        out.extend(self.addresses.bytes());
        if self.version == VrrpVersion::V2 {
            out.extend([0; V2_AUTHENTICATION_LEN]);
        }
        let message = out.len();
        if let Some((key, sequence)) = sign {
            let trailer = key.sign(ip.source, out, sequence);
            out.extend(trailer);
        }
        let form = match (self.version, ip.source) {
            (VrrpVersion::V2, _) => ChecksumForm::Message,
            (VrrpVersion::V3, IpAddr::V4(_)) => form,
            (VrrpVersion::V3, IpAddr::V6(_)) => ChecksumForm::PseudoHeader,
        };
        let checksum = sum(ip, form, covered(ip, message, out)).finish();
        out[6..8].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// CARP's first byte is that of VRRP version 2. But its packets have 36 bytes and a 7 (the length of its HMAC and counter in words) where
/// VRRP counts addresses; 7 addresses make 44 bytes.
fn is_carp(bytes: &[u8]) -> bool {
    bytes.len() == 36 && bytes[3] == 7
}

/// Over IPv6 the kernel fills in the checksum of a raw socket, over all that is sent; over IPv4 the sender does, before the trailer.
fn covered<'a>(ip: &Envelope, message: usize, all: &'a [u8]) -> &'a [u8] {
    if ip.source.is_ipv4() { &all[..message] } else { all }
}

fn matching_form(ip: &Envelope, version: VrrpVersion, message: &[u8], all: &[u8]) -> Option<ChecksumForm> {
    use ChecksumForm::{Message, MulticastPseudoHeader, PseudoHeader};
    let forms: &[ChecksumForm] = match (version, ip.source) {
        (VrrpVersion::V2, _) => &[Message],
        (VrrpVersion::V3, IpAddr::V4(_)) => &[PseudoHeader, Message, MulticastPseudoHeader],
        (VrrpVersion::V3, IpAddr::V6(_)) => &[PseudoHeader, MulticastPseudoHeader],
    };
    let covered = covered(ip, message.len(), all);
    forms.iter().copied().find(|form| sum(ip, *form, covered).is_intact())
}

fn sum(ip: &Envelope, form: ChecksumForm, covered: &[u8]) -> Sum {
    let (group, length) = (form == ChecksumForm::MulticastPseudoHeader, u16::try_from(covered.len()).unwrap_or(u16::MAX));
    let pseudo = match (form, ip.source, ip.destination) {
        (ChecksumForm::Message, _, _) => Sum::default(),
        (_, IpAddr::V4(source), IpAddr::V4(destination)) => {
            Sum::pseudo(source, if group { GROUP_V4 } else { destination }, PROTOCOL, length)
        }
        (_, IpAddr::V6(source), IpAddr::V6(destination)) => {
            // RFC 8200 section 8.1.
            let destination = if group { GROUP_V6 } else { destination };
            Sum::default().with(&source.octets()).with(&destination.octets()).word(length).word(u16::from(PROTOCOL))
        }
        (_, IpAddr::V4(_), IpAddr::V6(_)) | (_, IpAddr::V6(_), IpAddr::V4(_)) => Sum::default(),
    };
    pseudo.with(covered)
}

#[cfg(test)]
mod tests;
