//! Active: RFC 9568 section 6.4.3.

use super::phase::{Phase, Purpose, Reign, Release, Rival, Watch};
use super::{AdvertInterval, Announced, Discard, Effect, Handover, Heard, Instance, Priority, Why};
use std::time::{Duration, Instant};

/// An advertisement out of turn (section 6.4.3) follows the last one after this part of the interval at the earliest, so that
/// a flood of inferior advertisements is not answered by a flood.
const OUT_OF_TURN_DIVISOR: u32 = 10;
/// An Active that has been silent for so many intervals is no longer one to the others: Active_Down_Interval is at least this.
const SILENT_INTERVALS: u32 = 3;

impl Instance {
    /// Section 6.4.2, Active_Down_Timer fires, and 6.4.1 for an owner. The advertisement goes first, so that nobody else takes over too.
    pub(super) fn promote(&mut self, now: Instant, why: Why) -> Phase {
        let (priority, announcements) = (self.priority(), self.config.announcements);
        let former = match why {
            Why::ActiveReleased => self.heard.map(|heard| heard.from),
            Why::Preempted { active, .. } => Some(active),
            _ => None,
        };
        self.effects.push_back(Effect::SendAdvertisement { priority });
        self.effects.push_back(Effect::TakeAddresses { accept: self.config.accept || priority.is_owner(), former });
        self.effects.push_back(Effect::Announce { burst: announcements.burst, why: Announced::Promoted });
        let announce = Some((now + announcements.repeat_after, true));
        let reign = Reign { adver: now + self.config.interval.duration(), sent: now, announce, alone_since: now, rival: None };
        self.change(now, Phase::Active(reign), why)
    }

    /// The addresses are here and have been announced: a process before us was Active.
    pub(super) fn resume(&mut self, now: Instant) -> Phase {
        if self.fault {
            return self.resign(now, Phase::Initialize, Why::Fault);
        }
        let priority = self.priority();
        self.effects.push_back(Effect::SendAdvertisement { priority });
        self.effects.push_back(Effect::TakeAddresses { accept: self.config.accept || priority.is_owner(), former: None });
        let announce = Some((now + self.config.announcements.repeat_after, true));
        // It has called nobody.
        let alone_since = now.checked_sub(self.config.interval.duration() * SILENT_INTERVALS).unwrap_or(now);
        let reign = Reign { adver: now + self.config.interval.duration(), sent: now, announce, alone_since, rival: None };
        self.change(now, Phase::Active(reign), Why::Resumed)
    }

    /// Section 6.4.3, an advertisement. Version 2 would drop an inferior one in silence (RFC 3768 section 6.4.3); an answer hurts nobody.
    /// An owner listens like anybody else (erratum 8298): of two, which is a mistake, one gives way.
    pub(super) fn defend(&mut self, now: Instant, reign: Reign, heard: &Heard<'_>) -> Phase {
        let (by, advertisement, ours) = (heard.from, &heard.advertisement, self.priority());
        let (priority, interval) = (advertisement.priority, advertisement.interval);
        if priority.is_release() {
            let out_of_turn = self.assert_now(now, reign);
            let rival = Rival { last: now, quiet: now };
            if out_of_turn.sent == reign.sent {
                // Told already; neighbours are, when it is sure to have let go.
                let soon = now + self.config.interval.duration() / OUT_OF_TURN_DIVISOR;
                let quiet = reign.rival.map_or(soon, |rival| rival.quiet.min(soon));
                return Phase::Active(Reign { rival: Some(Rival { quiet, ..rival }), ..reign });
            }
            // Who lets go was Active too, and neighbours may have believed it.
            let alone = self.alone(out_of_turn, rival);
            // Adver_Timer starts anew.
            return Phase::Active(Reign { adver: now + self.config.interval.duration(), ..alone });
        }
        if now >= reign.sent + self.config.interval.duration() * SILENT_INTERVALS {
            // Not in the RFC: our lease is over, and so is what we know of the flows.
            return self.yield_to(now, interval, Why::Overtaken { by, priority });
        }
        if priority > ours || (priority == ours && by > self.config.address) {
            return self.stand_back(now, interval, Why::Outranked { by, priority });
        }
        let reign = self.assert_now(now, reign);
        let reign = self.contest(now, reign, interval);
        self.discard(Discard::LowerPriority, Phase::Active(reign))
    }

    /// A node that is preferred takes over. If it has all our flows, this is a planned move: make before break, as when we are drained. If not, it is
    /// a conflict: after a split brain, above all.
    fn stand_back(&mut self, now: Instant, interval: AdvertInterval, why: Why) -> Phase {
        match self.config.handover {
            Handover::MakeBeforeBreak { forward_for, .. } if self.in_sync => {
                self.effects.push_back(Effect::StopAnswering);
                let release = Release { purpose: Purpose::Drain, until: now + forward_for, successor: Watch::new(interval, now) };
                self.change(now, Phase::Releasing(release), why)
            }
            Handover::MakeBeforeBreak { .. } | Handover::AtOnce => self.yield_to(now, interval, why),
        }
    }

    /// The loser of a conflict lets go at once and says so: the winner may never have heard it, and neighbours may believe the loser.
    pub(super) fn yield_to(&mut self, now: Instant, interval: AdvertInterval, why: Why) -> Phase {
        self.effects.push_back(Effect::SendAdvertisement { priority: Priority::RELEASE });
        self.effects.push_back(Effect::ReleaseAddresses);
        self.change(now, Phase::Backup(Watch::new(interval, now)), why)
    }

    /// Advertises out of turn, unless that has just been done. Adver_Timer runs on.
    pub(super) fn assert_now(&mut self, now: Instant, reign: Reign) -> Reign {
        if now < reign.sent + self.config.interval.duration() / OUT_OF_TURN_DIVISOR {
            return reign;
        }
        self.effects.push_back(Effect::SendAdvertisement { priority: self.priority() });
        Reign { sent: now, ..reign }
    }

    /// Somebody else claims to be Active: neighbours are told at once, and again when it has been silent for long enough.
    pub(super) fn contest(&mut self, now: Instant, reign: Reign, interval: AdvertInterval) -> Reign {
        if reign.rival.is_none() {
            self.announce(Announced::Contested);
        }
        Reign { rival: Some(Rival { last: now, quiet: now + interval.duration() * SILENT_INTERVALS }), ..reign }
    }

    /// Section 6.4.3, timers.
    pub(super) fn rule(&mut self, now: Instant, mut reign: Reign) -> Reign {
        if now >= reign.adver {
            let due = reign.adver;
            reign = self.advertise(now, reign);
            reign.adver = self.after(due, now);
        }
        if let Some((at, repetition)) = reign.announce.filter(|(at, _)| now >= *at) {
            self.announce(if repetition { Announced::Repeated } else { Announced::Refreshed });
            let refresh = self.config.announcements.refresh.filter(|every| !every.is_zero());
            reign.announce = refresh.map(|every| ((at + every).max(now + Duration::from_nanos(1)), false));
        }
        if let Some(rival) = reign.rival.filter(|rival| now >= rival.quiet) {
            reign = self.alone(reign, rival);
        }
        reign
    }

    /// The rival is Active no more. No Backup becomes Active in less than three intervals: whose last word was said sooner, after we became Active or after
    /// the last word of the rival before, is the node that we took over from, or that rival once more.
    fn alone(&mut self, reign: Reign, rival: Rival) -> Reign {
        if rival.last < reign.alone_since + self.config.interval.duration() * SILENT_INTERVALS {
            self.announce(Announced::Yielded);
            return Reign { rival: None, ..reign };
        }
        self.announce(Announced::Healed);
        Reign { alone_since: rival.last, rival: None, ..reign }
    }

    pub(super) fn advertise(&mut self, now: Instant, reign: Reign) -> Reign {
        self.effects.push_back(Effect::SendAdvertisement { priority: self.priority() });
        Reign { sent: now, adver: now + self.config.interval.duration(), ..reign }
    }

    /// One interval after what was due: lateness does not add up. After more than an interval of it, one from now.
    pub(super) fn after(&self, due: Instant, now: Instant) -> Instant {
        let interval = self.config.interval.duration();
        if due + interval > now { due + interval } else { now + interval }
    }

    pub(super) fn announce(&mut self, why: Announced) {
        self.effects.push_back(Effect::Announce { burst: self.config.announcements.burst, why });
    }
}
