use super::*;
use crate::wire::wireguard::Initiation;
use std::time::Duration;

mod bounds;
mod checks;
mod directory;
mod peers;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// A machine with one interface, and a clock. What the first step leaves is the number of the knock.
pub(super) struct Bench {
    pub machine: Machine<u64>,
    pub now: Instant,
    knocks: u64,
}

pub(super) fn slot(n: u16) -> Slot {
    Slot::try_from(n).expect("a slot")
}

pub(super) fn key(n: u64) -> PublicKey {
    let mut bytes = [0xff; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    PublicKey::try_from(bytes).expect("not nobody's")
}

pub(super) fn peer(n: u64) -> Peer {
    Peer { slot: slot(1), key: key(n) }
}

pub(super) fn gateway() -> PublicKey {
    key(u64::MAX)
}

pub(super) fn from(source: u16) -> SocketAddr {
    let [high, low] = source.to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 51820))
}

pub(super) fn stamp(n: u64) -> Tai64n {
    Tai64n::from_unix(n, 0)
}

pub(super) fn registered(n: u64) -> Arc<Registered> {
    let allowed = vec![format!("10.64.{}.{}/32", n / 256 % 256, n % 256).parse().expect("a prefix")];
    Arc::new(Registered { host: format!("host-{n}").parse().expect("a name"), allowed })
}

/// Nobody's in particular, unlike all others, and with a `mac1` that is right.
pub(super) fn initiation(n: u64) -> Initiation {
    let mut bytes = [0; Initiation::LEN];
    bytes[0] = 1;
    bytes[8..16].copy_from_slice(&n.to_be_bytes());
    Mac1::new(&gateway()).sign(Initiation::try_from(bytes).expect("an initiation"))
}

impl Bench {
    pub fn new(config: Config) -> Self {
        let now = Instant::now();
        let mut machine = Machine::new(config, now);
        machine.serve(slot(1), &[gateway()]);
        Self { machine, now, knocks: 0 }
    }

    pub fn handle(&mut self, input: Input<'_, u64>) -> Vec<Effect<u64>> {
        self.machine.handle(self.now, input);
        self.effects()
    }

    pub fn effects(&mut self) -> Vec<Effect<u64>> {
        std::iter::from_fn(|| self.machine.next_effect()).collect()
    }

    pub fn datagram(&mut self, source: u16, payload: &[u8]) -> Vec<Effect<u64>> {
        self.handle(Input::Datagram { slot: slot(1), from: from(source), payload })
    }

    /// To this time, with everything that is due on the way.
    pub fn wait(&mut self, time: Duration) -> Vec<Effect<u64>> {
        let end = self.now + time;
        while let Some((at, _)) = self.machine.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
        }
        self.now = end;
        self.effects()
    }

    /// A new initiation, up to the first step.
    pub fn knock(&mut self, source: u16) -> (Ticket, Arc<Initiation>) {
        self.knocks += 1;
        let effects = self.datagram(source, initiation(self.knocks).bytes());
        match effects.as_slice() {
            [Effect::Claim { ticket, initiation, .. }] => (*ticket, initiation.clone()),
            other => panic!("no first step: {other:?}"),
        }
    }

    /// A new initiation, with the first step.
    pub fn claim(&mut self, source: u16, of: u64) -> Vec<Effect<u64>> {
        let (ticket, _) = self.knock(source);
        self.handle(Input::Claimed { ticket, claim: Some((key(of), self.knocks)) })
    }

    pub fn answer(&mut self, of: u64, answer: Answer) -> Vec<Effect<u64>> {
        self.handle(Input::Answered { peer: peer(of), answer })
    }

    pub fn found(&mut self, of: u64) -> Vec<Effect<u64>> {
        self.answer(of, Answer::Found(registered(of)))
    }

    /// The second step, of the one `Prove` there is among the effects.
    pub fn prove(&mut self, effects: &[Effect<u64>], stamp: Option<Tai64n>) -> Vec<Effect<u64>> {
        let tickets = proofs(effects);
        assert_eq!(tickets.len(), 1, "{effects:?}");
        self.handle(Input::Proved { ticket: tickets[0], stamp })
    }

    /// A peer, from the knock to the handshake.
    pub fn admit(&mut self, source: u16, of: u64, made: Tai64n) {
        let mut effects = self.claim(source, of);
        if proofs(&effects).is_empty() {
            effects = self.found(of);
        }
        let installing = self.prove(&effects, Some(made));
        assert!(matches!(installing.as_slice(), [Effect::Stamp { .. }, Effect::Install { .. }]), "{installing:?}");
        let installed = self.handle(Input::Installed { peer: peer(of) });
        assert_eq!(installed, [Effect::Initiate { peer: peer(of), endpoint: from(source) }]);
    }

    pub fn refused(&self, why: Refusal) -> u64 {
        self.machine.counters.refused(why)
    }

    /// All that was refused, for whatever reason.
    pub fn refusals(&self) -> Vec<(Refusal, u64)> {
        self.machine.counters.refusals().filter(|(_, count)| *count > 0).collect()
    }
}

pub(super) fn proofs<C>(effects: &[Effect<C>]) -> Vec<Ticket> {
    let proof = |effect: &Effect<C>| if let Effect::Prove { ticket, .. } = effect { Some(*ticket) } else { None };
    effects.iter().filter_map(proof).collect()
}
