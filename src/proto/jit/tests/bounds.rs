//! Whatever happens, in whatever order: nothing grows beyond its limit, and nothing is left over.

use super::*;
use crate::proto::rate::Rate;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Event {
    Datagram { source: u16, slot: u16 },
    Claimed { which: usize, key: Option<u64> },
    Answered { which: usize, how: u8 },
    Proved { which: usize, stamp: Option<u64> },
    Installed { which: usize, well: bool },
    Odd { key: u64, how: u8 },
    Wait { ms: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0u16..40, 1u16..4).prop_map(|(source, slot)| Event::Datagram { source, slot }),
        8 => (any::<usize>(), proptest::option::weighted(0.9, 0u64..30)).prop_map(|(which, key)| Event::Claimed { which, key }),
        4 => (any::<usize>(), 0u8..4).prop_map(|(which, how)| Event::Answered { which, how }),
        6 => (any::<usize>(), proptest::option::weighted(0.8, 0u64..1000)).prop_map(|(which, stamp)| Event::Proved { which, stamp }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, well)| Event::Installed { which, well }),
        1 => (0u64..30, 0u8..7).prop_map(|(key, how)| Event::Odd { key, how }),
        2 => prop_oneof![0u64..50, 0u64..20_000].prop_map(|ms| Event::Wait { ms }),
    ]
}

/// All of them small, so that all of them are reached.
fn tight() -> Config {
    Config {
        per_source: Rate { per_second: 50, burst: 5 },
        steps: Rate { per_second: 500, burst: 10 },
        sources: 16,
        repeats: 32,
        backlog: 12,
        at_work: 6,
        waiting: 12,
        look_ups: 4,
        look_ups_per_source: 2,
        known: 8,
        unknowns: 8,
        peers: 5,
        stamps: 16,
        idle: 10 * S,
        fresh: S,
        stale: 8 * S,
        give_up: 5 * S,
        ..Config::default()
    }
}

fn within(sizes: &Sizes, limits: &Config) {
    let pairs = [
        (sizes.sources, limits.sources),
        (sizes.repeats, limits.repeats),
        (sizes.backlog, limits.backlog),
        (sizes.at_work, limits.at_work),
        (sizes.waiting, limits.waiting),
        (sizes.looking_up, limits.look_ups),
        // Besides those who wait, what the directory itself has called changed.
        (sizes.asked, limits.waiting + limits.look_ups),
        (sizes.known, limits.known),
        (sizes.unknown, limits.unknowns),
        (sizes.peers, limits.peers),
        (sizes.installing, limits.peers),
        (sizes.stamps, limits.stamps),
    ];
    for (i, (size, limit)) in pairs.into_iter().enumerate() {
        assert!(size <= limit, "number {i}: {sizes:?}");
    }
}

/// What the shell has not answered yet.
#[derive(Default)]
struct Open {
    claims: Vec<Ticket>,
    proofs: Vec<Ticket>,
    look_ups: Vec<Peer>,
    installs: Vec<Peer>,
}

impl Open {
    fn take(&mut self, effects: Vec<Effect<u64>>) {
        for effect in effects {
            match effect {
                Effect::Claim { ticket, .. } => self.claims.push(ticket),
                Effect::Prove { ticket, .. } => self.proofs.push(ticket),
                Effect::LookUp { peer } => self.look_ups.push(peer),
                Effect::Install { peer, .. } => {
                    assert!(!self.installs.contains(&peer), "twice at once");
                    self.installs.push(peer);
                }
                Effect::Stamp { .. } | Effect::Initiate { .. } | Effect::Update { .. } | Effect::Reap { .. } => {}
            }
        }
    }
}

fn pick<T>(from: &mut Vec<T>, which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(which % from.len()))
}

fn happen(bench: &mut Bench, open: &mut Open, event: Event, n: u64) -> Vec<Effect<u64>> {
    match event {
        Event::Datagram { source, slot: at } => {
            bench.handle(Input::Datagram { slot: slot(at), from: from(source), payload: initiation(n).bytes() })
        }
        Event::Claimed { which, key: of } => match pick(&mut open.claims, which) {
            Some(ticket) => bench.handle(Input::Claimed { ticket, claim: of.map(|of| (key(of), n)) }),
            None => vec![],
        },
        Event::Answered { which, how } => match pick(&mut open.look_ups, which) {
            Some(peer) => {
                let answer = match how {
                    0 => Answer::Unknown,
                    1 => Answer::Failed,
                    _ => Answer::Found(registered(u64::from(how))),
                };
                bench.handle(Input::Answered { peer, answer })
            }
            None => vec![],
        },
        Event::Proved { which, stamp: at } => match pick(&mut open.proofs, which) {
            Some(ticket) => bench.handle(Input::Proved { ticket, stamp: at.map(stamp) }),
            None => vec![],
        },
        Event::Installed { which, well } => match pick(&mut open.installs, which) {
            Some(peer) if well => bench.handle(Input::Installed { peer }),
            Some(peer) => bench.handle(Input::InstallFailed { peer }),
            None => vec![],
        },
        Event::Odd { key, how } => match how {
            // An install that is under way is not gone: only what stands can go.
            0 if !open.installs.contains(&peer(key)) => bench.handle(Input::Gone { peer: peer(key) }),
            0 | 1 => bench.handle(Input::Changed { peer: peer(key) }),
            2 => bench.handle(Input::Seen { peer: peer(key), at: bench.now }),
            3 => bench.answer(key, Answer::Unknown),
            4 => bench.found(key),
            5 => {
                bench.machine.release(slot(2));
                open.installs.retain(|peer| peer.slot != slot(2));
                vec![]
            }
            _ => {
                bench.machine.serve(slot(2), &[gateway()]);
                vec![]
            }
        },
        Event::Wait { ms } => bench.wait(ms as u32 * MS),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_grows_beyond_its_limit_and_nothing_is_left_over(events in proptest::collection::vec(event(), 0..600)) {
        let (mut bench, mut open) = (Bench::new(tight()), Open::default());
        bench.machine.serve(slot(2), &[gateway()]);
        for (n, event) in events.into_iter().enumerate() {
            let effects = happen(&mut bench, &mut open, event, n as u64);
            for effect in &effects {
                if let Effect::Reap { peer, .. } = effect {
                    open.installs.retain(|installing| installing != peer);
                }
            }
            open.take(effects);
            within(&bench.machine.sizes(), &tight());
        }
        // Then everything is answered, and time passes.
        for _ in 0..1000 {
            while let Some(ticket) = pick(&mut open.claims, 0) {
                let effects = bench.handle(Input::Claimed { ticket, claim: None });
                open.take(effects);
            }
            while let Some(ticket) = pick(&mut open.proofs, 0) {
                let effects = bench.handle(Input::Proved { ticket, stamp: None });
                open.take(effects);
            }
            open.look_ups.clear();
            let effects = bench.wait(S);
            open.take(effects);
        }
        let sizes = bench.machine.sizes();
        let left = (sizes.backlog, sizes.at_work, sizes.waiting, sizes.looking_up, sizes.asked, sizes.peers, sizes.installing);
        prop_assert_eq!(left, (0, 0, 0, 0, 0, 0, 0));
        prop_assert_eq!(bench.machine.poll_timeout(), None);
    }
}
