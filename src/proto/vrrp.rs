//! The Virtual Router Redundancy Protocol, version 3 (RFC 9568), and version 2 (RFC 3768) where it differs.

mod active;
mod backup;
mod config;
mod effect;
mod handover;
mod phase;

pub use config::{Announcements, Config, FORWARD_AFTER_HANDOVER, Handover, Preempt, Preferred};
pub use effect::{Announced, Effect, Heard, Input, State, Warning, Why};

use crate::model::{AdvertInterval, Priority, VrrpVersion};
use crate::wire::vrrp::Discard;
use phase::{Offer, Phase, Purpose, Release, Watch};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

/// How many warnings are remembered so as not to repeat them. More peers than that contradicting us at once are warned of again and again.
const WARNINGS_REMEMBERED: usize = 32;

/// One virtual router on one node.
///
/// ```text
///                     Start, Mended: priority 255;  Resume
///           +-----------------------------------------------------+
///           |                                                     v
///   +--------------+  Start,   +------------+  timer fires  +------------+
///   |  Initialize  |  Mended   |   Backup   |-------------->|   Active   |
///   |              |---------->|            |<--------------|            |<------+
///   +--------------+           +------------+  outranked,   +------------+       |
///     ^  ^  ^   ^ Shutdown, Fault |     ^      overtaken        |   ^            |
///     |  |  |   +-----------------+     |          Shutdown,    |   | Undrain,   |
///     |  |  |                           |             Drain     v   | nobody     | successor
///     |  |  |  Shutdown: nobody came    |                   +------------+ came  | silent
///     |  |  +---------------------------|-------------------|  Offering  |       | (Drain)
///     |  |                              |                   +------------+       |
///     |  |                              |      successor        |   (or Active, overtaken
///     |  |                              |      advertises       |    by one that is in sync)
///     |  |      Shutdown: time is over  |                       v                |
///     |  +------------------------------|-------------------+------------+       |
///     |                                 +-------------------| Releasing  |-------+
///     |                           Drain: time is over       +------------+
///     +--- Fault, from every state;  with Handover::AtOnce Shutdown and Drain lead from Active to Initialize and Backup at once
/// ```
///
/// Contract: feed every [`Input`] to [`Instance::handle`], then take all of [`Instance::poll_effect`], then ask
/// [`Instance::poll_timeout`], which may have changed. A `Timeout` that comes early does nothing; one that comes late does what was due. **Read
/// what waits in the sockets before giving a late `Timeout`**: a process that stood still must hear who took over before it advertises.
/// Packets of one sender must come in the order in which they were sent, or be dropped (`wire::vrrp::Gate` does): an advertisement that
/// arrives behind the priority 0 that followed it would make a successor let go again.
#[derive(Debug)]
pub struct Instance {
    config: Config,
    phase: Phase,
    /// When the state began.
    since: Instant,
    /// The priority as tracking has it, not 0.
    priority: Priority,
    drained: bool,
    in_sync: bool,
    /// Between Start and Shutdown.
    started: bool,
    fault: bool,
    heard: Option<LastHeard>,
    succeeded: bool,
    warned: Vec<Warning>,
    effects: VecDeque<Effect>,
}

/// For `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    pub since: Instant,
    /// As we advertise it: drained, the lowest.
    pub priority: Priority,
    pub drained: bool,
    pub in_sync: bool,
    pub fault: bool,
    pub heard: Option<LastHeard>,
}

/// The last advertisement from somebody else, of whatever priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastHeard {
    pub from: IpAddr,
    pub priority: Priority,
    pub at: Instant,
}

impl Instance {
    /// In Initialize; flows not in sync.
    pub fn new(config: Config, now: Instant) -> Instance {
        Instance {
            phase: Phase::Initialize,
            since: now,
            priority: config.priority.max(Priority::LOWEST),
            drained: false,
            in_sync: false,
            started: false,
            fault: false,
            heard: None,
            succeeded: false,
            warned: vec![],
            effects: VecDeque::new(),
            config,
        }
    }

    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Advertisement(heard) => match self.admit(now, &heard) {
                Ok(()) => {}
                Err(why) => return self.effects.push_back(Effect::Discarded(why)),
            },
            Input::Priority(priority) if priority.max(Priority::LOWEST) == self.priority => return,
            Input::Priority(priority) => self.priority = priority.max(Priority::LOWEST),
            Input::InSync(in_sync) => self.in_sync = in_sync,
            Input::Drain => self.drained = true,
            Input::Undrain => self.drained = false,
            Input::Fault => self.fault = true,
            Input::Mended => self.fault = false,
            Input::Start | Input::Resume => self.started = true,
            Input::Shutdown => self.started = false,
            Input::Timeout => {}
        }
        self.phase = self.step(now, self.phase, input);
    }

    /// Takes another configuration up while it runs: of the same router at the same address, for the same addresses, in the same version.
    pub fn configure(&mut self, config: Config) {
        debug_assert!(config.goes_on_from(&self.config));
        self.config = config;
    }

    /// An advertisement with our VRID for other addresses altogether: another router's, or somebody's mistake. Nothing comes of it but a
    /// warning.
    pub fn overhear(&mut self, heard: &Heard<'_>) {
        let (from, ours, theirs) = (heard.from, self.config.addresses.clone(), heard.advertisement.addresses.to_list());
        self.warn(Warning::Addresses { from, ours, theirs });
    }

    /// The next thing to do. Take all of them after every input.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to give a `Timeout`, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let timers = self.phase.timers(self.config.version, self.priority());
        timers.into_iter().flatten().min_by_key(|(at, _)| *at).map(|(at, timer)| (at, timer.label()))
    }

    /// Until when the addresses may be answered and sent from if nothing more is heard of this process: the dead man's switch. Look after every
    /// input, and move the lease when it has changed. None: end it.
    ///
    /// It lapses 2.5 intervals after the last advertisement, before the first Backup takes over (3 and more); after a handover with the
    /// handover.
    pub fn lease_ends(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Initialize | Phase::Backup(_) => None,
            Phase::Active(reign) | Phase::Offering(Offer { reign, .. }) => Some(reign.sent + self.config.interval.duration() * 5 / 2),
            Phase::Releasing(release) => Some(release.until),
        }
    }

    pub fn state(&self) -> State {
        self.phase.state()
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn status(&self) -> Status {
        let (state, since, priority) = (self.state(), self.since, self.priority());
        Status { state, since, priority, drained: self.drained, in_sync: self.in_sync, fault: self.fault, heard: self.heard }
    }

    /// After addresses were released: whether somebody else is known to have taken them over.
    pub fn is_succeeded(&self) -> bool {
        self.succeeded
    }

    /// What is to be mended.
    pub fn warnings(&self) -> &[Warning] {
        &self.warned
    }

    /// Drained, we take over only if nobody else does.
    fn priority(&self) -> Priority {
        if self.drained { Priority::LOWEST } else { self.priority }
    }

    fn step(&mut self, now: Instant, phase: Phase, input: Input<'_>) -> Phase {
        use Input as I;
        use Phase as P;
        match (phase, input) {
            (P::Initialize, I::Start | I::Mended) => self.enter(now),
            (P::Initialize, I::Resume) => self.resume(now),
            (P::Initialize, I::Advertisement(_)) => self.discard(Discard::NotRunning, phase),
            (P::Initialize, I::Shutdown | I::Drain | I::Undrain | I::Timeout | I::Priority(_) | I::Fault | I::InSync(_)) => phase,

            (P::Backup(watch), I::Advertisement(heard)) => self.listen(now, watch, &heard),
            (P::Backup(watch), I::Timeout) if now >= watch.fires(self.config.version, self.priority()) => {
                let why = self.why_promoted(now, &watch);
                self.promote(now, why)
            }
            (P::Backup(watch), I::Priority(_) | I::InSync(_) | I::Drain) => P::Backup(self.reconsider(watch)),
            (P::Backup(_), I::Shutdown) => self.change(now, P::Initialize, Why::Shutdown),
            (P::Backup(_), I::Fault) => self.change(now, P::Initialize, Why::Fault),
            (P::Backup(_), I::Timeout | I::Start | I::Resume | I::Undrain | I::Mended) => phase,

            (P::Active(reign), I::Advertisement(heard)) => self.defend(now, reign, &heard),
            (P::Active(reign), I::Timeout) => P::Active(self.rule(now, reign)),
            (P::Active(reign), I::Priority(_) | I::Undrain) => P::Active(self.advertise(now, reign)),
            (P::Active(reign), I::Shutdown) => self.hand_over(now, reign, Purpose::Shutdown),
            (P::Active(reign), I::Drain) => self.hand_over(now, reign, Purpose::Drain),
            (P::Active(_), I::Fault) => self.resign(now, P::Initialize, Why::Fault),
            (P::Active(_), I::Start | I::Resume | I::Mended | I::InSync(_)) => phase,

            (P::Offering(offer), I::Advertisement(heard)) => self.await_successor(now, offer, &heard),
            (P::Offering(offer), I::Timeout) => self.offer_again(now, offer),
            (P::Offering(offer), I::Undrain) => match offer.purpose {
                Purpose::Drain => self.stay(now, offer.reign, Why::Undrain),
                Purpose::Shutdown => phase,
            },
            (P::Offering(offer), I::Shutdown) => match offer.purpose {
                Purpose::Drain => self.hand_over(now, offer.reign, Purpose::Shutdown),
                Purpose::Shutdown => self.let_go(now, P::Initialize, Why::Shutdown),
            },
            (P::Offering(_), I::Fault) => self.let_go(now, P::Initialize, Why::Fault),
            (P::Offering(_), I::Start | I::Resume | I::Mended | I::Drain | I::Priority(_) | I::InSync(_)) => phase,

            (P::Releasing(release), I::Advertisement(heard)) => {
                let (advertisement, successor) = (heard.advertisement, release.successor);
                let released = advertisement.priority.is_release();
                let successor = if released { successor.released(now) } else { successor.follow(advertisement.interval, now) };
                P::Releasing(Release { successor, ..release })
            }
            (P::Releasing(release), I::Timeout) => self.release(now, release),
            (P::Releasing(release), I::Shutdown) => match release.purpose {
                Purpose::Drain => P::Releasing(Release { purpose: Purpose::Shutdown, ..release }),
                Purpose::Shutdown => self.let_go(now, P::Initialize, Why::Shutdown),
            },
            (P::Releasing(_), I::Fault) => self.let_go(now, P::Initialize, Why::Fault),
            (P::Releasing(_), I::Start | I::Resume | I::Mended | I::Drain | I::Undrain | I::Priority(_) | I::InSync(_)) => phase,
        }
    }

    /// Checks that need the configuration (section 7.1), and warnings of contradicting ones.
    fn admit(&mut self, now: Instant, heard: &Heard<'_>) -> Result<(), Discard> {
        let (from, advertisement, config) = (heard.from, &heard.advertisement, &self.config);
        if advertisement.vrid != config.vrid || from.is_ipv4() != config.address.is_ipv4() {
            return Err(Discard::UnknownVrid);
        }
        if from == config.address {
            self.warn(Warning::OwnAddress { from });
            return Err(Discard::OwnAddress);
        }
        if advertisement.version != config.version {
            return Err(Discard::Version);
        }
        let (version, ours, theirs) = (config.version, config.interval, advertisement.interval);
        let other_addresses = !advertisement.addresses.are(config.addresses.as_addresses());
        let two_owners = self.priority().is_owner() && advertisement.priority.is_owner();
        self.warned.retain(|known| match known {
            Warning::Interval { .. } => known.from() != from || ours != theirs,
            Warning::Addresses { .. } => known.from() != from || other_addresses,
            Warning::TwoOwners { .. } => known.from() != from || two_owners,
            Warning::OwnAddress { .. } => true,
        });
        if other_addresses {
            // Section 7.1 leaves it to us whether to drop it. Two nodes that do not listen to each other would both be Active.
            let (ours, theirs) = (self.config.addresses.clone(), advertisement.addresses.to_list());
            self.warn(Warning::Addresses { from, ours, theirs });
        }
        if two_owners {
            self.warn(Warning::TwoOwners { from });
        }
        if ours != theirs {
            self.warn(Warning::Interval { from, ours, theirs });
            match version {
                VrrpVersion::V2 => return Err(Discard::IntervalMismatch), // RFC 3768 section 7.1
                VrrpVersion::V3 => {}
            }
        }
        self.heard = Some(LastHeard { from, priority: advertisement.priority, at: now });
        Ok(())
    }

    /// Section 6.4.1.
    fn enter(&mut self, now: Instant) -> Phase {
        if !self.started || self.fault {
            Phase::Initialize
        } else if self.priority().is_owner() {
            self.promote(now, Why::Owner)
        } else {
            self.change(now, Phase::Backup(Watch::new(self.config.interval, now)), Why::Started)
        }
    }

    fn change(&mut self, now: Instant, to: Phase, why: Why) -> Phase {
        self.succeeded = matches!(why, Why::HandedOver | Why::Outranked { .. } | Why::Overtaken { .. } | Why::SuccessorAdvertises { .. });
        self.effects.push_back(Effect::Changed { from: self.phase.state(), to: to.state(), why });
        self.since = now;
        to
    }

    fn discard(&mut self, why: Discard, next: Phase) -> Phase {
        self.effects.push_back(Effect::Discarded(why));
        next
    }

    fn warn(&mut self, warning: Warning) {
        if !self.warned.contains(&warning) {
            if self.warned.len() == WARNINGS_REMEMBERED {
                self.warned.remove(0);
            }
            self.warned.push(warning.clone());
            self.effects.push_back(Effect::Warn(warning));
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
