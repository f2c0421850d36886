//! What an instance is configured with.

use crate::model::{AddressList, AdvertInterval, Invalid, Priority, Vrid, VrrpVersion};
use std::net::IpAddr;
use std::time::Duration;

/// How long a node that has handed over goes on forwarding what still comes to it: neighbours believe a gratuitous ARP within
/// milliseconds, but a cloud's own tables take longer.
pub const FORWARD_AFTER_HANDOVER: Duration = Duration::from_secs(1);

/// The longest of the times that can be configured.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// One virtual router on one node: one address family (RFC 9568 section 1.4: the families are independent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub vrid: Vrid,
    pub version: VrrpVersion,
    /// 1 to 255; 0 is taken as 1.
    pub priority: Priority,
    /// The address that we send advertisements from: between equals the numerically higher is preferred.
    pub address: IpAddr,
    /// What is advertised. What moves with it (the other side's address of a shard) is the shell's to know.
    pub addresses: AddressList,
    /// Advertisement_Interval: how often we advertise, and what we expect of others until we have heard one.
    pub interval: AdvertInterval,
    pub preempt: Preempt,
    /// Who is to take the addresses from a node that is not to keep them, where that is known.
    pub preferred: Option<Preferred>,
    /// Accept_Mode: whether an Active that is not the owner takes packets that are for the addresses themselves (section 6.1).
    pub accept: bool,
    pub announcements: Announcements,
    pub handover: Handover,
}

impl Config {
    /// Whether an instance can run with it, and what would have to change.
    pub fn check(&self) -> Result<(), Invalid> {
        let (v4, first) = (self.address.is_ipv4(), self.addresses.as_addresses());
        if v4 != first.is_ipv4() {
            return Err(Invalid(format!("{} cannot advertise [{first}]: an instance has addresses of one family", self.address)));
        }
        if self.version == VrrpVersion::V2 && !v4 {
            return Err(Invalid("VRRP version 2 knows no IPv6: use version 3".into()));
        }
        if !self.interval.fits(self.version) {
            let range = match self.version {
                VrrpVersion::V2 => "whole seconds, 1s to 255s",
                VrrpVersion::V3 => "10ms to 40.95s",
            };
            return Err(Invalid(format!("VRRP version {} cannot write an interval of {}: use {range}", self.version, self.interval)));
        }
        if self.priority.is_release() {
            return Err(Invalid("priority 0 means letting go: use 1 to 255".into()));
        }
        let longest = self.durations().into_iter().max().unwrap_or_default();
        if longest > LONGEST {
            return Err(Invalid(format!("{longest:?} is too long to wait for anything here: at most {LONGEST:?}")));
        }
        match self.handover {
            Handover::MakeBeforeBreak { successor_within, .. } if successor_within <= self.interval.duration() => {
                let interval = self.interval;
                Err(Invalid(format!("nobody takes over within {successor_within:?}: Backups wait for up to an interval, {interval}")))
            }
            Handover::MakeBeforeBreak { .. } | Handover::AtOnce => Ok(()),
        }
    }
}

impl Config {
    /// Whether a running instance can take this up instead of what it has.
    pub fn goes_on_from(&self, other: &Config) -> bool {
        let same = |config: &Config| (config.vrid, config.version, config.address);
        same(self) == same(other) && self.addresses == other.addresses
    }

    fn durations(&self) -> [Duration; 5] {
        let preempt = match self.preempt {
            Preempt::Never => Duration::ZERO,
            Preempt::After(delay) => delay,
        };
        let [successor_within, forward_for] = match self.handover {
            Handover::AtOnce => [Duration::ZERO; 2],
            Handover::MakeBeforeBreak { successor_within, forward_for } => [successor_within, forward_for],
        };
        [preempt, successor_within, forward_for, self.announcements.repeat_after, self.announcements.refresh.unwrap_or_default()]
    }
}

/// Whether a Backup takes the addresses from an Active of lower priority (Preempt_Mode, section 6.1). It does so only while its flows are in
/// sync, and never while it is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preempt {
    Never,
    /// After it could have for so long; zero is the RFC's Preempt_Mode.
    After(Duration),
}

/// Of several that may take the addresses from the same Active, the one that does. All of them learn at about the same time that they may, and the addresses
/// would move twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preferred {
    pub address: IpAddr,
    /// Of no higher priority than this, what it depends on is broken, and it is preferred no more.
    pub above: Priority,
}

impl Preferred {
    /// By so many intervals the others preempt later: more than Active_Down_Interval of the lowest priority (section 6.1), which begins an interval apart.
    pub const OTHERS_WAIT: u32 = 5;
}

/// Gratuitous ARP, or unsolicited neighbour advertisements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcements {
    /// Packets of a burst for each address; the shell spreads them over some 100 ms.
    pub burst: u8,
    /// After becoming Active, once more after this time: switches learn late.
    pub repeat_after: Duration,
    /// Again and again while Active.
    pub refresh: Option<Duration>,
}

impl Default for Announcements {
    fn default() -> Self {
        Announcements { burst: 5, repeat_after: Duration::from_secs(1), refresh: Some(Duration::from_secs(60)) }
    }
}

/// How an Active lets go when it is drained or shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// As RFC 9568 section 6.4.3 says: priority 0, and the addresses are gone. Packets are lost until the successor has noticed.
    AtOnce,
    /// Our deviation: priority 0 first, while address, lease and forwarding stay; then, when a successor advertises, no more
    /// answers to ARP; then, after a while, the addresses go.
    MakeBeforeBreak {
        /// How long to wait for a successor. Then a drained node stays Active, one that shuts down lets go. Longer than the peers'
        /// Skew_Time, which is less than an interval.
        successor_within: Duration,
        /// From the successor's first advertisement to letting the addresses go: [`FORWARD_AFTER_HANDOVER`].
        forward_for: Duration,
    },
}

impl Handover {
    /// Make-before-break, patient enough for this interval with some advertisements lost.
    pub fn planned(interval: AdvertInterval) -> Handover {
        let successor_within = (interval.duration() * 5).max(Duration::from_secs(1));
        Handover::MakeBeforeBreak { successor_within, forward_for: FORWARD_AFTER_HANDOVER }
    }
}
