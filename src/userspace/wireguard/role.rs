//! What a descriptor is for, as text that systemd's FDSTORE takes.

use crate::model::{IfName, Invalid};
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::str::FromStr;

/// An interface has one of each for every thread, from 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `wg-udp-0-pw-1`
    Udp(IfName, usize),
    /// `wg-tun-0-pw-1`
    Tun(IfName, usize),
}

/// The descriptors that a successor goes on with.
pub type Descriptors = BTreeMap<Role, OwnedFd>;

impl Role {
    pub fn interface(&self) -> &IfName {
        match self {
            Role::Udp(interface, _) | Role::Tun(interface, _) => interface,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Udp(interface, n) => write!(f, "wg-udp-{n}-{interface}"),
            Role::Tun(interface, n) => write!(f, "wg-tun-{n}-{interface}"),
        }
    }
}

impl FromStr for Role {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid(format!("{s:?} names no descriptor of the WireGuard device: wg-udp-N-INTERFACE or wg-tun-N-INTERFACE"));
        let parts = |rest: &str| {
            let (n, interface) = rest.split_once('-').ok_or_else(wrong)?;
            Ok((interface.parse()?, n.parse().map_err(|_| wrong())?))
        };
        if let Some(rest) = s.strip_prefix("wg-udp-") {
            parts(rest).map(|(interface, n)| Role::Udp(interface, n))
        } else if let Some(rest) = s.strip_prefix("wg-tun-") {
            parts(rest).map(|(interface, n)| Role::Tun(interface, n))
        } else {
            Err(wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let name: IfName = "pw-17".parse().unwrap();
        for role in [Role::Udp(name.clone(), 0), Role::Tun(name, 12)] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        for text in ["wg-udp-pw-17", "tun-pw-1", "wg-tun-0-", "wg-tun--1-pw-1"] {
            assert!(text.parse::<Role>().is_err(), "{text}");
        }
    }
}
