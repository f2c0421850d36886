//! The packet mark: who sent it, and where it may go.
//!
//! ```text
//!  31            16 15 14 13 12            0
//! +----------------+-----+--+---------------+
//! |      who       |  -  |1 |     slot      |
//! +----------------+-----+--+---------------+
//! ```
//! *who* is an attachment on a function host and a peer (function host) on a gateway. *slot* names the
//! (tenant, shard) and selects its route table and conntrack zone; bit 13 says that there is one, so that somebody
//! else's small mark (fwmark 1 is everybody's favourite) is never taken for ours. Bits 14 and 15 stay free:
//! kube-proxy uses them (0x4000 masquerade, 0x8000 drop).

use super::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Every bit of the mark that Portway reads or writes.
pub const MARK_MASK: u32 = 0xffff_3fff;
/// The bits that select the route table.
pub const SLOT_MASK: u32 = 0x0000_3fff;
/// The bits that say who.
pub const WHO_MASK: u32 = 0xffff_0000;
/// Set in every mark that has a slot.
pub const SLOT_PRESENT: u32 = 0x0000_2000;

/// A place in this node's tables for one (tenant, shard): 1 to 7,391 (as many as `plan::rules` has priorities for).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Slot(u16);

impl Slot {
    pub const MIN: Slot = Slot(1);
    pub const MAX: Slot = Slot(7391);

    /// The route table of this slot: 0x70000 + slot.
    pub fn table(self) -> u32 {
        0x70000 + u32::from(self.0)
    }

    /// The slot's bits of a mark: what rules match under [`SLOT_MASK`].
    pub fn bits(self) -> u32 {
        SLOT_PRESENT | u32::from(self.0)
    }

    /// The conntrack zone of this slot: the same number as [`Slot::bits`], away from the small zones that others use.
    pub fn zone(self) -> u16 {
        0x2000 | self.0
    }

    /// The conntrack zone of what the gateway itself asks through this slot's table: no connection of a function is in it, and none is copied
    /// from it to other gateways.
    pub fn probe_zone(self) -> u16 {
        0x6000 | self.0
    }

    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Slot {
    type Error = Invalid;
    fn try_from(n: u16) -> Result<Self, Invalid> {
        if (Self::MIN.0..=Self::MAX.0).contains(&n) {
            Ok(Slot(n))
        } else {
            Err(Invalid(format!("slot {n} is out of range: 1 to {}", Self::MAX.0)))
        }
    }
}

impl From<Slot> for u16 {
    fn from(s: Slot) -> u16 {
        s.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who a packet came from on this node: an attachment (host) or a peer (gateway), 1 to 65,535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Who(u16);

impl Who {
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Who {
    type Error = Invalid;
    fn try_from(n: u16) -> Result<Self, Invalid> {
        if n == 0 { Err(Invalid("0 stands for nobody: use 1 to 65535".into())) } else { Ok(Who(n)) }
    }
}

impl From<Who> for u16 {
    fn from(w: Who) -> u16 {
        w.0
    }
}

/// A whole mark as it stands on a packet or a conntrack entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(pub u32);

impl Mark {
    pub fn new(who: Option<Who>, slot: Option<Slot>) -> Mark {
        Mark(who.map_or(0, |w| u32::from(w.0) << 16) | slot.map_or(0, Slot::bits))
    }

    pub fn slot(self) -> Option<Slot> {
        let present = self.0 & SLOT_PRESENT != 0;
        u16::try_from(self.0 & SLOT_MASK & !SLOT_PRESENT).ok().filter(|_| present).and_then(|n| Slot::try_from(n).ok())
    }

    pub fn who(self) -> Option<Who> {
        u16::try_from(self.0 >> 16).ok().and_then(|n| Who::try_from(n).ok())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}
