//! Backup: RFC 9568 section 6.4.2.

use super::phase::{Phase, Wait, Watch};
use super::{Discard, Heard, Instance, Preempt, Preferred, Priority, Why};
use std::net::IpAddr;
use std::time::{Duration, Instant};

impl Instance {
    /// Section 6.4.2, an advertisement.
    pub(super) fn listen(&mut self, now: Instant, watch: Watch, heard: &Heard<'_>) -> Phase {
        let advertisement = &heard.advertisement;
        if advertisement.priority.is_release() {
            return Phase::Backup(watch.released(now));
        }
        let may_at = self.may_preempt(heard.from, advertisement.priority).map(|delay| watch.preempt_at.unwrap_or(now + delay));
        let watch = Watch { preempt_at: may_at, ..watch };
        if may_at.is_some_and(|at| now >= at) {
            // The timer runs on, and when it fires we are Active.
            return self.discard(Discard::LowerPriority, Phase::Backup(watch));
        }
        Phase::Backup(watch.follow(advertisement.interval, now))
    }

    /// Whether this Active is to be preempted, and after which delay. (A drained node has the lowest priority: never.)
    pub(super) fn may_preempt(&self, active: IpAddr, priority: Priority) -> Option<Duration> {
        let stands_back = |preferred: Preferred| match preferred.address == self.config.address {
            true => self.priority() <= preferred.above,
            false => active != preferred.address,
        };
        let intervals = if self.config.preferred.is_some_and(stands_back) { Preferred::OTHERS_WAIT } else { 0 };
        let gives_way = self.config.interval.duration() * intervals;
        match self.config.preempt {
            Preempt::After(delay) if priority < self.priority() && self.in_sync => Some(delay + gives_way),
            Preempt::After(_) | Preempt::Never => None,
        }
    }

    /// A preemption under way ends if it is no longer allowed; what was heard meanwhile counts again.
    pub(super) fn reconsider(&self, watch: Watch) -> Watch {
        match (watch.preempt_at, self.heard) {
            (Some(_), Some(heard)) if self.may_preempt(heard.from, heard.priority).is_none() => {
                Watch { armed: watch.armed.max(heard.at), preempt_at: None, ..watch }
            }
            (Some(_) | None, Some(_) | None) => watch,
        }
    }

    pub(super) fn why_promoted(&self, now: Instant, watch: &Watch) -> Why {
        match (watch.wait, self.heard) {
            (Wait::Skew, _) => Why::ActiveReleased,
            (Wait::Down, Some(heard)) if heard.at > watch.armed && watch.preempt_at.is_some_and(|at| now >= at) => {
                Why::Preempted { active: heard.from, priority: heard.priority }
            }
            (Wait::Down, Some(_) | None) => Why::ActiveSilent,
        }
    }
}
