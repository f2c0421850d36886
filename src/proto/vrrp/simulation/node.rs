//! A machine with an instance on it, and a shell that checks what the instance wants of it.

use super::schedule::{Machine, Time};
use crate::model::{Addresses, AdvertInterval, Priority, Vrid, VrrpVersion};
use crate::proto::vrrp::{Effect, Heard, Input, Instance, State, Warning, Why};
use crate::wire::vrrp::Advertisement;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A packet. Who sent it stands in the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub from: usize,
    pub priority: Priority,
    pub sequence: usize,
}

pub struct Node<'a> {
    machine: &'a Machine,
    epoch: Instant,
    /// None: not running.
    pub instance: Option<Instance>,
    pub frozen: bool,
    /// What came while it stood still.
    pub queue: Vec<Message>,
    /// The last sequence number of each sender.
    heard: [usize; 5],
    /// Shutting down: gone when it reaches Initialize.
    pub leaving: bool,
    pub in_sync: bool,
    pub priority: Priority,
    /// Why its state changed, ever.
    pub whys: BTreeSet<&'static str>,
    /// The shell's.
    state: State,
    holding: bool,
    answering: bool,
}

impl<'a> Node<'a> {
    pub fn new(machine: &'a Machine, epoch: Instant) -> Self {
        let (in_sync, priority) = (machine.in_sync, machine.config.priority);
        let state = State::Initialize;
        Node {
            machine,
            epoch,
            instance: None,
            frozen: false,
            queue: vec![],
            heard: [0; 5],
            leaving: false,
            in_sync,
            priority,
            whys: BTreeSet::new(),
            state,
            holding: false,
            answering: false,
        }
    }

    pub fn boot(&mut self, now: Time) {
        (self.state, self.holding, self.answering, self.leaving) = (State::Initialize, false, false, false);
        self.heard = [0; 5];
        self.instance = Some(Instance::new(self.machine.config.clone(), self.local(now)));
    }

    pub fn crash(&mut self) {
        self.instance = None;
        self.queue.clear();
    }

    /// What the node's own clock says.
    fn local(&self, now: Time) -> Instant {
        self.epoch + Duration::from_nanos((i128::from(now) * i128::from(1_000_000 + self.machine.drift) / 1_000_000) as u64)
    }

    /// When the node wants to be woken, on everybody's clock: never before its own says so.
    pub fn wakes(&self) -> Option<Time> {
        let (at, _) = self.instance.as_ref()?.poll_timeout()?;
        Some(((at - self.epoch).as_nanos() * 1_000_000).div_ceil((1_000_000 + self.machine.drift) as u128) as Time)
    }

    pub fn is_active(&self) -> bool {
        !self.frozen && self.instance.is_some() && matches!(self.state, State::Active)
    }

    /// Whether somebody serves: also while it offers.
    pub fn serves(&self) -> bool {
        !self.frozen && self.instance.is_some() && matches!(self.state, State::Active | State::Offering)
    }

    /// Whether no later packet of the same sender has come before.
    pub fn is_in_order(&mut self, message: Message) -> bool {
        let last = &mut self.heard[message.from];
        let in_order = message.sequence > *last;
        *last = message.sequence.max(*last);
        in_order
    }

    pub fn hear(&mut self, now: Time, message: Message, interval: AdvertInterval, sent: &mut Vec<Priority>) -> Result<(), String> {
        const ADDRESSES: Addresses<'static> = Addresses::V4(&[[10, 0, 0, 100]]);
        let vrid = Vrid::try_from(7).expect("a VRID");
        let advertisement = Advertisement { version: VrrpVersion::V3, vrid, priority: message.priority, interval, addresses: ADDRESSES };
        self.handle(now, Input::Advertisement(Heard { from: [10, 0, 0, message.from as u8 + 1].into(), advertisement }), sent)
    }

    /// Hands an input on and carries the effects out: what was sent goes to `sent`.
    pub fn handle(&mut self, now: Time, input: Input<'_>, sent: &mut Vec<Priority>) -> Result<(), String> {
        let local = self.local(now);
        let Some(instance) = &mut self.instance else { return Ok(()) };
        instance.handle(local, input);
        while let Some(effect) = instance.poll_effect() {
            let right = match &effect {
                Effect::SendAdvertisement { priority } => {
                    sent.push(*priority);
                    true
                }
                Effect::TakeAddresses { .. } => !std::mem::replace(&mut self.answering, true) | !std::mem::replace(&mut self.holding, true),
                Effect::StopAnswering => self.holding && std::mem::take(&mut self.answering),
                Effect::ReleaseAddresses => {
                    self.answering = false;
                    std::mem::take(&mut self.holding)
                }
                Effect::Announce { .. } => self.holding && self.answering,
                Effect::Changed { from, to, why } => {
                    self.whys.insert(why.label());
                    let preempted = matches!(why, Why::Preempted { .. });
                    std::mem::replace(&mut self.state, *to) == *from && (self.in_sync || !preempted)
                }
                Effect::Warn(warning) => matches!(warning, Warning::TwoOwners { .. }),
                Effect::Discarded(_) => true,
            };
            if !right {
                return Err(format!("{effect:?} of {:?} out of order", self.machine.config.address));
            }
        }
        let state = instance.state();
        let answers = matches!(state, State::Active | State::Offering);
        if state != self.state || self.holding != state.holds_addresses() || self.answering != answers {
            return Err(format!("{state:?}, but reported {:?}, holds {}, answers {}", self.state, self.holding, self.answering));
        }
        if instance.lease_ends().is_some_and(|ends| ends > local) != state.holds_addresses() && input == Input::Timeout {
            return Err(format!("{state:?}, but the lease ends {:?}", instance.lease_ends()));
        }
        if input == Input::Timeout && instance.poll_timeout().is_some_and(|(at, _)| at <= local) {
            return Err(format!("{:?} is due again at once", instance.poll_timeout()));
        }
        Ok(())
    }
}
