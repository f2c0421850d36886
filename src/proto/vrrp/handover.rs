//! Letting go: at once as RFC 9568 has it, or make-before-break.

use super::phase::{Offer, Phase, Purpose, Reign, Release, Watch};
use super::{Effect, Handover, Heard, Instance, Priority, Why};
use std::time::Instant;

/// Priority 0 is repeated after so many intervals. After one, a Backup of priority 1 would set its timer anew, to Skew_Time of 255/256 of an
/// interval, just before it fires, if its clock is a little slow: again and again.
const REPEAT_INTERVALS: u32 = 2;

impl Instance {
    pub(super) fn hand_over(&mut self, now: Instant, reign: Reign, purpose: Purpose) -> Phase {
        let (next, why) = match purpose {
            Purpose::Drain => (Phase::Backup(Watch::new(self.config.interval, now)), Why::Drain),
            Purpose::Shutdown => (Phase::Initialize, Why::Shutdown),
        };
        match self.config.handover {
            Handover::AtOnce => self.resign(now, next, why),
            Handover::MakeBeforeBreak { successor_within, forward_for } => {
                self.effects.push_back(Effect::SendAdvertisement { priority: Priority::RELEASE });
                let reign = Reign { adver: now + self.config.interval.duration() * REPEAT_INTERVALS, sent: now, ..reign };
                self.change(now, Phase::Offering(Offer { purpose, reign, deadline: now + successor_within, forward_for }), why)
            }
        }
    }

    /// Section 6.4.3, Shutdown: priority 0, and gone.
    pub(super) fn resign(&mut self, now: Instant, next: Phase, why: Why) -> Phase {
        self.effects.push_back(Effect::SendAdvertisement { priority: Priority::RELEASE });
        self.let_go(now, next, why)
    }

    pub(super) fn let_go(&mut self, now: Instant, next: Phase, why: Why) -> Phase {
        self.effects.push_back(Effect::ReleaseAddresses);
        self.change(now, next, why)
    }

    /// Offering, an advertisement: whoever sends one other than 0 is the successor.
    pub(super) fn await_successor(&mut self, now: Instant, offer: Offer, heard: &Heard<'_>) -> Phase {
        if heard.advertisement.priority.is_release() {
            return Phase::Offering(offer);
        }
        self.effects.push_back(Effect::StopAnswering);
        let successor = Watch::new(heard.advertisement.interval, now);
        let release = Release { purpose: offer.purpose, until: now + offer.forward_for, successor };
        self.change(now, Phase::Releasing(release), Why::SuccessorAdvertises { successor: heard.from })
    }

    /// Offering, timers. Priority 0 is repeated: it may have been lost.
    pub(super) fn offer_again(&mut self, now: Instant, mut offer: Offer) -> Phase {
        if now >= offer.deadline {
            return match offer.purpose {
                Purpose::Drain => {
                    self.drained = false;
                    self.stay(now, offer.reign, Why::NoSuccessor)
                }
                Purpose::Shutdown => self.let_go(now, Phase::Initialize, Why::NoSuccessor),
            };
        }
        if now >= offer.reign.adver {
            self.effects.push_back(Effect::SendAdvertisement { priority: Priority::RELEASE });
            offer.reign.sent = now;
            offer.reign.adver = now + self.config.interval.duration() * REPEAT_INTERVALS;
        }
        Phase::Offering(offer)
    }

    /// Offering ends, and nothing has happened, but for what was due meanwhile.
    pub(super) fn stay(&mut self, now: Instant, reign: Reign, why: Why) -> Phase {
        let reign = self.advertise(now, reign);
        let reign = self.rule(now, reign);
        self.change(now, Phase::Active(reign), why)
    }

    /// Releasing, timers.
    pub(super) fn release(&mut self, now: Instant, release: Release) -> Phase {
        match release.purpose {
            Purpose::Drain if now >= release.successor.fires(self.config.version, self.priority()) => {
                self.promote(now, Why::SuccessorSilent)
            }
            Purpose::Drain if now >= release.until => self.let_go(now, Phase::Backup(release.successor), Why::HandedOver),
            Purpose::Shutdown if now >= release.until => self.let_go(now, Phase::Initialize, Why::HandedOver),
            Purpose::Drain | Purpose::Shutdown => Phase::Releasing(release),
        }
    }
}
