//! Names: what may stand in a configuration, a file name, a metric label and a kernel interface.

use super::Invalid;
use super::text::kept_as_text;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        kept_as_text!($type);

        impl FromStr for $type {
            type Err = Invalid;
            fn from_str(s: &str) -> Result<Self, Invalid> {
                let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                if s.is_empty() || s.len() > $max || !s.chars().all(good) || !s.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                    return Err(Invalid(format!(
                        "{s:?} is not a {}: use 1 to {} letters, digits, '-', '_' or '.', a letter or digit first",
                        $what, $max
                    )));
                }
                Ok(Self(s.to_owned()))
            }
        }
    };
}

name!(
    /// A tenant: one customer VPC.
    TenantName, "tenant name", 48
);
name!(
    /// A gateway node or function host.
    NodeName, "node name", 63
);
name!(
    /// Some of a tenant's shards: a pool of outbound addresses.
    PoolName, "name of a pool", 63
);
name!(
    /// An attachment: a container, pod or microVM bound to a tenant.
    AttachmentName, "attachment name", 128
);

name!(
    /// An autoscaler: what a post is meant for, so that it counts nowhere else.
    AutoscalerName, "name of an autoscaler", 63
);
name!(
    /// Who says how many nodes are needed, and of whom counts what was said last: a function platform, a sale.
    SourceName, "name of a source", 63
);

/// A network interface's name: 1 to 15 bytes, no `/`, no white space (`dev_valid_name` in net/core/dev.c).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl IfName {
    /// The device group of every interface that Portway creates (`IFLA_GROUP`; /etc/iproute2/group may give it a name).
    pub const GROUP: u32 = 0x7000;
    /// What they are all called.
    pub const OURS: &'static str = "pw-";

    /// Whether Portway made this interface and may change or remove it.
    pub fn is_ours(&self) -> bool {
        self.0.starts_with(Self::OURS)
    }

    /// What stands for all interfaces among the kernel's settings.
    pub fn all() -> IfName {
        IfName("all".to_owned())
    }

    /// The tunnel interface of a slot.
    pub fn tunnel(slot: super::Slot) -> IfName {
        Self::lane(slot, Lane::First)
    }

    /// One of the two that a slot may have: `pw-7`, `pw-7-b`.
    pub fn lane(slot: super::Slot, lane: Lane) -> IfName {
        match lane {
            Lane::First => IfName(format!("{}{slot}", Self::OURS)),
            Lane::Second => IfName(format!("{}{slot}{SECOND}", Self::OURS)),
        }
    }

    /// Whose tunnel this is, if it is one.
    pub fn slot(&self) -> Option<(super::Slot, Lane)> {
        let rest = self.0.strip_prefix(Self::OURS)?;
        let (number, lane) = rest.strip_suffix(SECOND).map_or((rest, Lane::First), |number| (number, Lane::Second));
        Some((number.parse::<u16>().ok()?.try_into().ok()?, lane))
    }
}

/// What the name of a slot's second interface ends with.
const SECOND: &str = "-b";

/// A slot's tunnel is one interface, or two while its keys are changed: each is the new one in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    First,
    Second,
}

impl Lane {
    pub fn other(self) -> Lane {
        match self {
            Lane::First => Lane::Second,
            Lane::Second => Lane::First,
        }
    }
}

impl FromStr for IfName {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        // A quote or a backslash would have to be escaped in a ruleset; no sane interface has one.
        let bad = |c: char| c == '/' || c == ':' || c == '"' || c == '\\' || c.is_whitespace() || c.is_control();
        if s.is_empty() || s.len() > 15 || s == "." || s == ".." || s.contains(bad) {
            return Err(Invalid(format!("{s:?} is not an interface name: use 1 to 15 characters without '/', ':', quotes or white space")));
        }
        Ok(Self(s.to_owned()))
    }
}

kept_as_text!(IfName);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Slot;

    #[test]
    fn a_slot_is_known_by_the_names_of_its_tunnels() {
        for (text, of) in
            [("pw-7", Some((7, Lane::First))), ("pw-7-b", Some((7, Lane::Second))), ("pw-", None), ("pw-b", None), ("pw-0", None)]
        {
            let name: IfName = text.parse().unwrap();
            assert_eq!(name.slot().map(|(slot, lane)| (slot.get(), lane)), of, "{text}");
            if let Some((slot, lane)) = name.slot() {
                assert_eq!(IfName::lane(slot, lane), name);
            }
        }
        assert_eq!(IfName::lane(Slot::MAX, Lane::Second).as_str().parse::<IfName>().unwrap().slot(), Some((Slot::MAX, Lane::Second)));
    }
}
