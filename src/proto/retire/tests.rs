use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct Bench {
    now: Instant,
    retire: Retire,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { now, retire: Retire::new(now) }
    }

    fn effects(&mut self) -> String {
        let mut all = vec![];
        while let Some(effect) = self.retire.next_effect() {
            all.push(match effect {
                Effect::Drain(instance) => format!("drain {instance}"),
                Effect::Heartbeat(instance) => format!("heartbeat {instance}"),
                Effect::Complete { instance, how, .. } => format!("complete {instance}, {}", how.as_str()),
            });
        }
        all.join("; ")
    }

    fn waiting(&mut self, instances: &[&str]) -> String {
        self.retire.waiting(self.now, instances.iter().copied());
        self.effects()
    }

    /// So many shards and connections.
    fn carries(&mut self, instance: &str, load: Option<(u64, Option<u64>)>) -> String {
        let load = load.map(|(shards, connections)| Load { shards, connections });
        self.retire.carries(self.now, instance, load);
        self.effects()
    }

    fn drained(&mut self, instance: &str) -> String {
        self.carries(instance, Some((0, Some(0))))
    }

    fn let_go(&self) -> [u64; 3] {
        self.retire.counters().0
    }

    fn pass(&mut self, seconds: u64) -> String {
        self.now += s(seconds);
        self.retire.tick(self.now);
        self.effects()
    }
}

#[test]
fn a_node_is_drained_once_kept_waiting_and_let_go_when_it_carries_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.waiting(&["i-1"]), "drain i-1");
    assert_eq!([bench.waiting(&["i-1"]), bench.pass(9)], ["", ""]);
    assert_eq!([bench.pass(1), bench.pass(9), bench.pass(1)], ["heartbeat i-1", "", "heartbeat i-1"]);
    assert_eq!(bench.carries("i-1", Some((1, Some(7)))), "");
    assert_eq!(bench.drained("i-1"), "complete i-1, drained");
    bench.retire.completed(bench.now, "i-1", true);
    // The group may say for a while that it still waits.
    assert_eq!([bench.waiting(&["i-1"]), bench.pass(1000), bench.drained("i-1"), bench.waiting(&[])], [""; 4]);
    assert_eq!(bench.let_go(), [1, 0, 0]);
    assert!(bench.retire.leaving(bench.now).is_empty());
}

#[test]
fn a_shard_that_nobody_takes_keeps_a_node_only_while_there_are_connections() {
    let mut bench = Bench::new();
    bench.waiting(&["i-1"]);
    // Nothing goes through it from the beginning, but the drain has its time.
    for second in 0..29 {
        assert_eq!(bench.carries("i-1", Some((1, Some(0)))), "", "{second}");
        assert!(!bench.pass(1).contains("complete"), "{second}");
    }
    assert_eq!(bench.pass(1), "complete i-1, quiet; heartbeat i-1");
    bench.retire.completed(bench.now, "i-1", true);
    assert_eq!(bench.let_go(), [0, 1, 0]);
}

#[test]
fn a_connection_or_not_knowing_begins_the_quiet_time_anew() {
    for stirs in [Some((1, Some(1))), Some((1, None)), None] {
        let mut bench = Bench::new();
        bench.waiting(&["i-1"]);
        bench.pass(60);
        bench.carries("i-1", Some((1, Some(0))));
        bench.pass(9);
        assert_eq!(bench.carries("i-1", stirs), "");
        assert_eq!(bench.carries("i-1", Some((1, Some(0)))), "");
        assert!(!bench.pass(9).contains("complete"));
        assert_eq!(bench.pass(1).replace("; heartbeat i-1", ""), "complete i-1, quiet", "{stirs:?}");
    }
}

#[test]
fn what_is_left_is_told_and_goes_with_whom_it_is_let_go() {
    let mut bench = Bench::new();
    bench.waiting(&["i-1"]);
    let load = Load { shards: 2, connections: Some(31) };
    bench.carries("i-1", Some((2, Some(31))));
    assert_eq!(bench.retire.leaving(bench.now), [Leaving { instance: "i-1".into(), since: 0.0, load: Some(load), over: false }]);
    bench.now += DEADLINE;
    bench.retire.tick(bench.now);
    assert_eq!(bench.retire.next_effect(), Some(Effect::Complete { instance: "i-1".into(), how: How::Late, load: Some(load) }));
}

#[test]
fn a_node_that_never_gets_empty_is_let_go_at_the_deadline() {
    let mut bench = Bench::new();
    bench.waiting(&["i-1"]);
    let mut effects = vec![];
    for _ in 0..349 {
        effects.push(bench.pass(1));
    }
    effects.retain(|effect| !effect.is_empty());
    assert_eq!(effects, ["heartbeat i-1"; 34]);
    assert_eq!(bench.pass(1), "complete i-1, late; heartbeat i-1");
    bench.retire.completed(bench.now, "i-1", true);
    assert_eq!(bench.let_go(), [0, 0, 1]);
}

#[test]
fn what_was_not_taken_is_said_again_later_and_the_hook_is_kept_open() {
    let mut bench = Bench::new();
    bench.waiting(&["i-1"]);
    bench.drained("i-1");
    let mut waits = vec![];
    for _ in 0..6 {
        bench.retire.completed(bench.now, "i-1", false);
        let before = bench.now;
        while !bench.pass(1).contains("complete i-1") {}
        waits.push((bench.now - before).as_secs());
    }
    assert_eq!(waits, [2, 4, 8, 16, 30, 30]);
    // An answer that nobody waits for is none.
    bench.retire.completed(bench.now, "i-1", true);
    bench.retire.completed(bench.now, "i-1", false);
    assert_eq!(bench.pass(1000), "");
}

#[test]
fn who_is_gone_or_stays_after_all_is_forgotten() {
    let mut bench = Bench::new();
    assert_eq!(bench.waiting(&["i-1", "i-2"]), "drain i-1; drain i-2");
    assert_eq!(bench.waiting(&["i-2"]), "");
    assert_eq!(bench.drained("i-1"), "");
    bench.retire.completed(bench.now, "i-1", true);
    bench.now += s(5);
    assert_eq!(bench.retire.leaving(bench.now), [Leaving { instance: "i-2".into(), since: 5.0, load: None, over: false }]);
    assert_eq!(bench.waiting(&["i-1", "i-2"]), "drain i-1");
}

proptest! {
    /// However looks, loads, failures and the clock come: one is completed only if it may be, and in the end all are.
    #[test]
    fn nobody_is_let_go_early_and_nobody_waits_for_ever(acts in prop::collection::vec((0u8..7, 0usize..3, 0u64..60), 1..120)) {
        const NAMES: [&str; 3] = ["i-1", "i-2", "i-3"];
        let mut bench = Bench::new();
        let [mut drained, mut over, mut asked, mut failed]: [BTreeSet<String>; 4] = Default::default();
        let mut quiet: BTreeMap<&str, Instant> = BTreeMap::new();
        let begun = bench.now;
        let end = std::iter::repeat_n((0u8, 0usize, 40u64), 40).chain(std::iter::once((5, 0, 0)));
        bench.retire.waiting(bench.now, NAMES);
        for (act, which, time) in acts.into_iter().chain(end) {
            let name = NAMES[which];
            match act {
                0 => { bench.now += s(time); bench.retire.tick(bench.now); }
                1 => {
                    bench.retire.carries(bench.now, name, Some(Load { shards: 0, connections: Some(0) }));
                    drained.insert(name.to_owned());
                    quiet.entry(name).or_insert(bench.now);
                }
                6 => {
                    let load = Load { shards: 1, connections: (time % 3).checked_sub(1) };
                    bench.retire.carries(bench.now, name, Some(load));
                    if load.connections == Some(0) { quiet.entry(name).or_insert(bench.now); } else { quiet.remove(name); }
                }
                2 => {
                    bench.retire.completed(bench.now, name, false);
                    if asked.remove(name) { failed.insert(name.to_owned()); }
                }
                3 => bench.retire.waiting(bench.now, NAMES),
                4 => bench.retire.tick(begun),
                _ => for name in std::mem::take(&mut asked) {
                    bench.retire.completed(bench.now, &name, true);
                    over.insert(name);
                }
            }
            while let Some(effect) = bench.retire.next_effect() {
                if let Effect::Complete { instance, how, .. } = effect {
                    prop_assert!(!over.contains(&instance) && asked.insert(instance.clone()));
                    let may = match how {
                        How::Drained => drained.contains(&instance),
                        // What was said since it was decided changes nothing any more.
                        How::Quiet => bench.now - begun >= MOVES,
                        How::Late => bench.now - begun >= DEADLINE,
                    };
                    prop_assert!(may);
                    if how == How::Quiet && act == 0 {
                        prop_assert!(quiet.get(instance.as_str()).is_some_and(|since| bench.now - *since >= QUIET) || failed.contains(&instance));
                    }
                }
            }
        }
        prop_assert_eq!(over.len(), 3);
        prop_assert_eq!(bench.let_go().iter().sum::<u64>(), 3);
    }
}
