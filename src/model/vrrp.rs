//! The numbers of VRRP (RFC 9568) as types.

use super::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A Virtual Router Identifier, 1 to 255 (RFC 9568 section 5.2.3). With the interface and the peers it names an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Vrid(u8);

impl Vrid {
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Vrid {
    type Error = Invalid;
    fn try_from(n: u8) -> Result<Self, Invalid> {
        if n == 0 { Err(Invalid("VRID 0 is not one: use 1 to 255".into())) } else { Ok(Vrid(n)) }
    }
}

impl From<Vrid> for u8 {
    fn from(v: Vrid) -> u8 {
        v.0
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who is preferred as the Active: the higher wins (RFC 9568 section 5.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub u8);

impl Priority {
    /// "I let go": an Active that stops taking part says so. Nobody is configured with it.
    pub const RELEASE: Priority = Priority(0);
    /// The lowest that takes part.
    pub const LOWEST: Priority = Priority(1);
    pub const DEFAULT: Priority = Priority(100);
    /// The router to which the addresses belong on its own.
    pub const OWNER: Priority = Priority(255);

    pub fn is_release(self) -> bool {
        self == Priority::RELEASE
    }

    pub fn is_owner(self) -> bool {
        self == Priority::OWNER
    }
}

impl Default for Priority {
    fn default() -> Self {
        Priority::DEFAULT
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Time between two advertisements, in the centiseconds of the wire: 10 ms to 40.95 s in version 3 (RFC 9568 section 5.2.7),
/// whole seconds up to 255 s in version 2 (RFC 3768 section 5.3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct AdvertInterval(u16);

impl AdvertInterval {
    /// 10 ms. RFC 9568 allows it; its text has no router that goes below a tenth of a second in mind.
    pub const MIN: AdvertInterval = AdvertInterval(1);
    /// The longest that fits the 12 bits of version 3: 40.95 s.
    pub const MAX_V3: AdvertInterval = AdvertInterval(4095);
    /// The longest of version 2: 255 s.
    pub const MAX: AdvertInterval = AdvertInterval(25_500);

    pub fn from_seconds(seconds: u8) -> Result<Self, Invalid> {
        Self::try_from(u16::from(seconds) * 100)
    }

    pub fn centiseconds(self) -> u16 {
        self.0
    }

    /// As version 2 writes it: None if it is not a whole number of seconds.
    pub fn whole_seconds(self) -> Option<u8> {
        if self.0.is_multiple_of(100) { u8::try_from(self.0 / 100).ok() } else { None }
    }

    pub fn duration(self) -> Duration {
        Duration::from_millis(u64::from(self.0) * 10)
    }

    /// Whether this version can write it.
    pub fn fits(self, version: VrrpVersion) -> bool {
        match version {
            VrrpVersion::V2 => self.whole_seconds().is_some(),
            VrrpVersion::V3 => self <= Self::MAX_V3,
        }
    }
}

impl Default for AdvertInterval {
    /// One second (RFC 9568 section 5.2.7).
    fn default() -> Self {
        AdvertInterval(100)
    }
}

impl TryFrom<u16> for AdvertInterval {
    type Error = Invalid;
    fn try_from(centiseconds: u16) -> Result<Self, Invalid> {
        if (Self::MIN.0..=Self::MAX.0).contains(&centiseconds) {
            Ok(AdvertInterval(centiseconds))
        } else {
            Err(Invalid(format!("an advertisement interval of {centiseconds} centiseconds is out of range: 1 to {}", Self::MAX.0)))
        }
    }
}

impl TryFrom<Duration> for AdvertInterval {
    type Error = Invalid;
    fn try_from(d: Duration) -> Result<Self, Invalid> {
        let whole = d.subsec_nanos().is_multiple_of(10_000_000);
        let n = u16::try_from(d.as_millis() / 10).ok().filter(|_| whole).and_then(|n| Self::try_from(n).ok());
        n.ok_or_else(|| Invalid(format!("an advertisement interval of {d:?} cannot be sent: use a multiple of 10ms, from 10ms to 40.95s")))
    }
}

impl From<AdvertInterval> for u16 {
    fn from(i: AdvertInterval) -> u16 {
        i.0
    }
}

impl fmt::Display for AdvertInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.duration())
    }
}

/// Which VRRP an instance speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VrrpVersion {
    /// RFC 3768: IPv4, whole seconds. For old peers.
    V2,
    /// RFC 9568.
    #[default]
    V3,
}

impl fmt::Display for VrrpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VrrpVersion::V2 => "2",
            VrrpVersion::V3 => "3",
        })
    }
}

/// What the checksum of a version 3 advertisement over IPv4 covers: three ways are in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChecksumForm {
    /// The message alone: RFC 9568 section 5.2.8 for IPv4, and version 2.
    Message,
    /// The message and a pseudo-header: IPv6, and RFC 5798 as most read it for IPv4 too. Sent by default, because keepalived 2.2 takes
    /// nothing else.
    #[default]
    PseudoHeader,
    /// As before, but the destination in the pseudo-header is the multicast group although the packet is unicast.
    MulticastPseudoHeader,
}

impl ChecksumForm {
    pub const ALL: [ChecksumForm; 3] = [ChecksumForm::Message, ChecksumForm::PseudoHeader, ChecksumForm::MulticastPseudoHeader];

    /// A metric label.
    pub fn label(self) -> &'static str {
        match self {
            ChecksumForm::Message => "message",
            ChecksumForm::PseudoHeader => "pseudo_header",
            ChecksumForm::MulticastPseudoHeader => "multicast_pseudo_header",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_multiple_of_ten_milliseconds() {
        let from = |ms| AdvertInterval::try_from(Duration::from_millis(ms)).map(AdvertInterval::centiseconds).ok();
        assert_eq!([10, 100, 1000, 40_950].map(from), [Some(1), Some(10), Some(100), Some(4095)]);
        assert_eq!([0, 5, 15, 255_010].map(from), [None; 4]);
        assert_eq!(AdvertInterval::try_from(Duration::from_nanos(10_000_001)).ok(), None);
    }

    #[test]
    fn version_2_writes_whole_seconds_and_version_3_twelve_bits() {
        let fits = |n: u16| VERSIONS.map(|version| AdvertInterval::try_from(n).expect("in range").fits(version));
        const VERSIONS: [VrrpVersion; 2] = [VrrpVersion::V2, VrrpVersion::V3];
        assert_eq!(fits(10), [false, true]);
        assert_eq!(fits(4000), [true, true]);
        assert_eq!(fits(4100), [true, false]);
        assert_eq!(AdvertInterval::from_seconds(255).expect("in range"), AdvertInterval::MAX);
    }

    #[test]
    fn nobody_has_vrid_0() {
        assert!(Vrid::try_from(0).is_err());
        assert_eq!(Vrid::try_from(255).map(Vrid::get).ok(), Some(255));
    }
}
