//! What goes into an instance and what comes out.

use crate::model::{AddressList, AdvertInterval, Priority};
use crate::wire::vrrp::{Advertisement, Discard};
use std::fmt;
use std::net::IpAddr;

/// What happens to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// RFC 9568's Startup event.
    Start,
    /// Instead of Start, when a process before this one was Active on this node until now, and its addresses and lease stand: nobody shall
    /// notice.
    Resume,
    /// RFC 9568's Shutdown event; while a handover is under way: do not wait for it.
    Shutdown,
    /// Hand over and take over only as the last resort, until `Undrain`.
    Drain,
    Undrain,
    /// A packet that has passed all of `wire::vrrp`, from a configured peer if unicast.
    Advertisement(Heard<'a>),
    /// [`super::Instance::poll_timeout`]'s time has come.
    Timeout,
    /// Tracking has changed the priority. 0 is taken as 1.
    Priority(Priority),
    /// Tracking found something without which the node cannot serve: an interface down, a probe at fault.
    Fault,
    Mended,
    /// Whether the next owner of the addresses has all flows. In Backup that is us: without them a preemption would break connections. In Active
    /// it is whoever would take over: with them it is a planned move.
    InSync(bool),
}

/// An advertisement, and the source address of its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard<'a> {
    pub from: IpAddr,
    pub advertisement: Advertisement<'a>,
}

/// What the shell is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// To all peers, or the group. It moves the lease ([`super::Instance::lease_ends`]).
    SendAdvertisement { priority: Priority },
    /// Commit the tail of the synced flows, then add the addresses, answer ARP and neighbour solicitations for them, and forward.
    /// `accept`: take packets for the addresses themselves too. Addresses that are still there stay (a handover that
    /// came back). `former`: the node that had them until now and goes on forwarding what still comes to it, in a planned move.
    TakeAddresses { accept: bool, former: Option<IpAddr> },
    /// A burst of gratuitous ARP or unsolicited neighbour advertisements for each address. Every one of them is also a reason for a
    /// cloud's reconciler to look whether the addresses are still ours.
    Announce { burst: u8, why: Announced },
    /// The successor answers now: ARP and neighbour solicitations no more, but keep addresses and lease, and go on forwarding.
    StopAnswering,
    /// End the lease, remove the addresses, clear the flows that are stale now.
    ReleaseAddresses,
    /// For log and metrics.
    Changed { from: State, to: State, why: Why },
    /// For log and status, once until it ends and comes again.
    Warn(Warning),
    /// An advertisement that was dropped: count it.
    Discarded(Discard),
}

/// Where an instance is. The RFC's three, and two in which it is Active on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    Initialize,
    Backup,
    Active,
    /// Priority 0 is sent; all else is as in Active, until somebody advertises.
    Offering,
    /// A successor answers; we forward what still comes, then let go.
    Releasing,
}

/// What a burst is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Announced {
    Promoted,
    Repeated,
    Refreshed,
    /// Somebody else of lower priority claims to be Active, and may have announced itself.
    Contested,
    /// That somebody has let go, or has been silent for a while: whoever believed it is to know better.
    Healed,
    /// The same of one that we have taken over from, or that was taken to have let go before: it was no second Active for any time, and nobody has called
    /// hosts meanwhile.
    Yielded,
}

/// Why the state changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Started,
    /// Started with priority 255.
    Owner,
    /// Went on where the process before it left off.
    Resumed,
    /// Nothing heard for Active_Down_Interval.
    ActiveSilent,
    /// Priority 0 heard, and Skew_Time is over.
    ActiveReleased,
    /// The Active's priority is lower than ours.
    Preempted {
        active: IpAddr,
        priority: Priority,
    },
    /// Somebody else is Active, and preferred.
    Outranked {
        by: IpAddr,
        priority: Priority,
    },
    /// We were silent for so long (stopped, starved) that somebody else rightly took over, whatever its priority.
    Overtaken {
        by: IpAddr,
        priority: Priority,
    },
    Fault,
    Shutdown,
    Drain,
    Undrain,
    SuccessorAdvertises {
        successor: IpAddr,
    },
    /// Nobody took over in time.
    NoSuccessor,
    /// The successor is silent again.
    SuccessorSilent,
    /// We have forwarded for long enough.
    HandedOver,
}

/// Something that the operator should mend, with both values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error("{from} advertises every {theirs}, we are configured with {ours}: configure the same interval on both")]
    Interval { from: IpAddr, ours: AdvertInterval, theirs: AdvertInterval },
    #[error("{from} uses our VRID for [{theirs}], we for [{ours}]: configure the same addresses on both, or another VRID")]
    Addresses { from: IpAddr, ours: AddressList, theirs: AddressList },
    #[error("{from} is our own address, and somebody advertises from it: two machines have it, or the network reflects packets")]
    OwnAddress { from: IpAddr },
    #[error("{from} claims to own the addresses, as we do: priority 255 is for one node")]
    TwoOwners { from: IpAddr },
}

impl State {
    pub const ALL: [State; 5] = [State::Initialize, State::Backup, State::Active, State::Offering, State::Releasing];

    /// A metric label.
    pub fn label(self) -> &'static str {
        match self {
            State::Initialize => "initialize",
            State::Backup => "backup",
            State::Active => "active",
            State::Offering => "offering",
            State::Releasing => "releasing",
        }
    }

    /// Whether the addresses are on this node, and it forwards.
    pub fn holds_addresses(self) -> bool {
        match self {
            State::Active | State::Offering | State::Releasing => true,
            State::Initialize | State::Backup => false,
        }
    }
}

impl Announced {
    /// A metric label.
    pub fn label(self) -> &'static str {
        match self {
            Announced::Promoted => "promoted",
            Announced::Repeated => "repeated",
            Announced::Refreshed => "refreshed",
            Announced::Contested => "contested",
            Announced::Healed => "healed",
            Announced::Yielded => "yielded",
        }
    }
}

impl Why {
    /// A metric label.
    pub fn label(self) -> &'static str {
        match self {
            Why::Started => "started",
            Why::Owner => "owner",
            Why::Resumed => "resumed",
            Why::ActiveSilent => "active_silent",
            Why::ActiveReleased => "active_released",
            Why::Preempted { .. } => "preempted",
            Why::Outranked { .. } => "outranked",
            Why::Overtaken { .. } => "overtaken",
            Why::Fault => "fault",
            Why::Shutdown => "shutdown",
            Why::Drain => "drain",
            Why::Undrain => "undrain",
            Why::SuccessorAdvertises { .. } => "successor_advertises",
            Why::NoSuccessor => "no_successor",
            Why::SuccessorSilent => "successor_silent",
            Why::HandedOver => "handed_over",
        }
    }
}

impl Warning {
    /// Whom it is about.
    pub fn from(&self) -> IpAddr {
        match self {
            Warning::Interval { from, .. }
            | Warning::Addresses { from, .. }
            | Warning::OwnAddress { from }
            | Warning::TwoOwners { from } => *from,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Initialize => "Initialize",
            State::Backup => "Backup",
            State::Active => "Active",
            State::Offering => "Offering",
            State::Releasing => "Releasing",
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Started => f.write_str("started"),
            Why::Owner => f.write_str("started as the owner of the addresses"),
            Why::Resumed => f.write_str("went on where the process before left off"),
            Why::ActiveSilent => f.write_str("nothing heard of an Active"),
            Why::ActiveReleased => f.write_str("the Active let go"),
            Why::Preempted { active, priority } => write!(f, "{active} is Active with priority {priority}, lower than ours"),
            Why::Outranked { by, priority } => write!(f, "{by} is Active with priority {priority} and goes before us"),
            Why::Overtaken { by, priority } => write!(f, "{by} (priority {priority}) took over while this process stood still"),
            Why::Fault => f.write_str("tracking found a fault"),
            Why::Shutdown => f.write_str("shut down"),
            Why::Drain => f.write_str("drained"),
            Why::Undrain => f.write_str("no longer drained"),
            Why::SuccessorAdvertises { successor } => write!(f, "{successor} took over"),
            Why::NoSuccessor => f.write_str("nobody took over in time"),
            Why::SuccessorSilent => f.write_str("nothing heard of the successor any more"),
            Why::HandedOver => f.write_str("handed over"),
        }
    }
}
