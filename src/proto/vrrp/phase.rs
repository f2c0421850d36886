//! The state with what belongs to it, and its timers.

use super::State;
use crate::model::{AdvertInterval, Priority, VrrpVersion};
use std::time::{Duration, Instant};

/// Each state with what it has to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Initialize,
    Backup(Watch),
    Active(Reign),
    Offering(Offer),
    Releasing(Release),
}

/// Listening to an Active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watch {
    /// Active_Adver_Interval: learned from the Active (RFC 9568 section 6.1).
    pub interval: AdvertInterval,
    /// When Active_Down_Timer was set, and to what.
    pub armed: Instant,
    pub wait: Wait,
    /// Since an Active of lower priority was heard: when it may be preempted.
    pub preempt_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Active_Down_Interval.
    Down,
    /// Skew_Time: the Active has let go.
    Skew,
}

/// Being Active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reign {
    /// Adver_Timer.
    pub adver: Instant,
    /// When the last advertisement was sent.
    pub sent: Instant,
    /// The next burst, and whether it is the repetition after the first.
    pub announce: Option<(Instant, bool)>,
    /// The beginning, or the last word of a rival that had been Active beside us.
    pub alone_since: Instant,
    pub rival: Option<Rival>,
}

/// Somebody else who claims to be Active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rival {
    /// When it said so last, or that it lets go.
    pub last: Instant,
    /// When it will have been silent long enough.
    pub quiet: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    pub purpose: Purpose,
    pub reign: Reign,
    pub deadline: Instant,
    pub forward_for: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Release {
    pub purpose: Purpose,
    pub until: Instant,
    /// The successor is watched as a Backup would.
    pub successor: Watch,
}

/// What we hand over for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Drained, or relieved by a preferred node: goes on as a Backup.
    Drain,
    Shutdown,
}

/// What an instance waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// When to become Active, nothing having been heard: Active_Down_Timer.
    ActiveDown,
    /// When to become Active, the Active having let go: Active_Down_Timer, set to Skew_Time.
    Skew,
    /// When to send the next advertisement: Adver_Timer.
    Advertise,
    /// When to send the next burst of gratuitous ARP.
    Announce,
    /// When to take a split brain for healed.
    RivalQuiet,
    /// When to give up waiting for a successor.
    NoSuccessor,
    /// When to take over again from a successor that is not heard any more.
    SuccessorSilent,
    /// When to let the addresses go after a handover.
    LetGo,
}

impl Timer {
    pub fn label(self) -> &'static str {
        match self {
            Timer::ActiveDown => "active_down",
            Timer::Skew => "skew",
            Timer::Advertise => "advertise",
            Timer::Announce => "announce",
            Timer::RivalQuiet => "rival_quiet",
            Timer::NoSuccessor => "no_successor",
            Timer::SuccessorSilent => "successor_silent",
            Timer::LetGo => "let_go",
        }
    }
}

impl Watch {
    pub fn new(interval: AdvertInterval, now: Instant) -> Watch {
        Watch { interval, armed: now, wait: Wait::Down, preempt_at: None }
    }

    /// Takes an advertisement as the Active's (RFC 9568 section 6.4.2): its interval counts, the timer starts anew.
    pub fn follow(self, interval: AdvertInterval, now: Instant) -> Watch {
        Watch { interval, armed: now, wait: Wait::Down, preempt_at: self.preempt_at }
    }

    /// Priority 0 was heard: the timer is set to Skew_Time. (Once. The RFC sets it anew each time, and waits for ever if priority 0 is repeated
    /// quickly.)
    pub fn released(self, now: Instant) -> Watch {
        match self.wait {
            Wait::Down => Watch { armed: now, wait: Wait::Skew, ..self },
            Wait::Skew => self,
        }
    }

    /// When Active_Down_Timer fires for a node of this priority.
    pub fn fires(&self, version: VrrpVersion, priority: Priority) -> Instant {
        let skew = skew_time(version, self.interval, priority);
        match self.wait {
            Wait::Down => self.armed + self.interval.duration() * 3 + skew,
            Wait::Skew => self.armed + skew,
        }
    }
}

/// Skew_Time (RFC 9568 section 6.1), in nanoseconds, so that it does not come to nothing at short intervals. In version 2 it is
/// a part of a second, whatever the interval (RFC 3768 section 6.1).
pub(super) fn skew_time(version: VrrpVersion, interval: AdvertInterval, priority: Priority) -> Duration {
    let whole = match version {
        VrrpVersion::V2 => Duration::from_secs(1),
        VrrpVersion::V3 => interval.duration(),
    };
    whole * (256 - u32::from(priority.0)) / 256
}

impl Phase {
    pub fn state(&self) -> State {
        match self {
            Phase::Initialize => State::Initialize,
            Phase::Backup(_) => State::Backup,
            Phase::Active(_) => State::Active,
            Phase::Offering(_) => State::Offering,
            Phase::Releasing(_) => State::Releasing,
        }
    }

    /// All that this state waits for.
    pub fn timers(&self, version: VrrpVersion, priority: Priority) -> [Option<(Instant, Timer)>; 3] {
        match self {
            Phase::Initialize => [None; 3],
            Phase::Backup(watch) => {
                let timer = match watch.wait {
                    Wait::Down => Timer::ActiveDown,
                    Wait::Skew => Timer::Skew,
                };
                [Some((watch.fires(version, priority), timer)), None, None]
            }
            Phase::Active(reign) => [
                Some((reign.adver, Timer::Advertise)),
                reign.announce.map(|(at, _)| (at, Timer::Announce)),
                reign.rival.map(|rival| (rival.quiet, Timer::RivalQuiet)),
            ],
            Phase::Offering(offer) => [Some((offer.reign.adver, Timer::Advertise)), Some((offer.deadline, Timer::NoSuccessor)), None],
            Phase::Releasing(release) => {
                let silent = match release.purpose {
                    Purpose::Drain => Some((release.successor.fires(version, priority), Timer::SuccessorSilent)),
                    Purpose::Shutdown => None,
                };
                [Some((release.until, Timer::LetGo)), silent, None]
            }
        }
    }
}
