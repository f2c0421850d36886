//! Ports and ranges of ports.

use super::Invalid;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// One port or an inclusive range of ports, 1 to 65,535: `5432` or `8000-8099`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    pub fn new(first: u16, last: u16) -> Result<Self, Invalid> {
        if first == 0 {
            return Err(Invalid("port 0 cannot be used: ports are 1 to 65535".into()));
        }
        if last < first {
            return Err(Invalid(format!("{first}-{last} runs backwards: write {last}-{first}")));
        }
        Ok(Self { first, last })
    }
}

impl FromStr for PortRange {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let port = |p: &str| {
            p.trim()
                .parse::<u16>()
                .map_err(|_| Invalid(format!("{s:?} is not a port or a range of ports: write 5432 or 8000-8099, each 1 to 65535")))
        };
        match s.split_once('-') {
            Some((a, b)) => Self::new(port(a)?, port(b)?),
            None => Self::new(port(s)?, port(s)?),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl de::Visitor<'_> for V {
            type Value = PortRange;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a port such as 5432 or a range such as 8000-8099")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<PortRange, E> {
                let n = u16::try_from(n).map_err(|_| E::custom(format!("{n} is not a port: ports are 1 to 65535")))?;
                PortRange::new(n, n).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<PortRange, E> {
                u64::try_from(n).map_err(|_| E::custom(format!("{n} is not a port: ports are 1 to 65535"))).and_then(|n| self.visit_u64(n))
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<PortRange, E> {
                s.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(V)
    }
}
