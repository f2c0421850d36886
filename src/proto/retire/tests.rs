use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

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
                Effect::Complete { instance, drained: true } => format!("complete {instance}"),
                Effect::Complete { instance, drained: false } => format!("complete {instance}, late"),
            });
        }
        all.join("; ")
    }

    fn waiting(&mut self, instances: &[&str]) -> String {
        self.retire.waiting(self.now, instances.iter().copied());
        self.effects()
    }

    fn drained(&mut self, instance: &str) -> String {
        self.retire.drained(self.now, instance);
        self.effects()
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
    assert_eq!(bench.drained("i-1"), "complete i-1");
    bench.retire.completed(bench.now, "i-1", true);
    // The group may say for a while that it still waits.
    assert_eq!([bench.waiting(&["i-1"]), bench.pass(1000), bench.drained("i-1"), bench.waiting(&[])], [""; 4]);
    assert_eq!(bench.retire.counters(), Counters { drained: 1, late: 0 });
    assert!(bench.retire.leaving(bench.now).is_empty());
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
    assert_eq!(bench.retire.counters(), Counters { drained: 0, late: 1 });
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
    assert_eq!(bench.retire.leaving(bench.now), [Leaving { instance: "i-2".into(), since: 5.0, over: false }]);
    assert_eq!(bench.waiting(&["i-1", "i-2"]), "drain i-1");
}

proptest! {
    /// However looks, drains, failures and the clock come: one is completed only after it was drained or the deadline, and in the end all are.
    #[test]
    fn nobody_is_let_go_early_and_nobody_waits_for_ever(acts in prop::collection::vec((0u8..6, 0usize..3, 0u64..60), 1..120)) {
        const NAMES: [&str; 3] = ["i-1", "i-2", "i-3"];
        let mut bench = Bench::new();
        let [mut drained, mut over, mut asked]: [BTreeSet<String>; 3] = Default::default();
        let begun = bench.now;
        let end = std::iter::repeat_n((0u8, 0usize, 40u64), 40).chain(std::iter::once((5, 0, 0)));
        bench.retire.waiting(bench.now, NAMES);
        for (act, which, time) in acts.into_iter().chain(end) {
            let name = NAMES[which];
            match act {
                0 => { bench.now += s(time); bench.retire.tick(bench.now); }
                1 => { bench.retire.drained(bench.now, name); drained.insert(name.to_owned()); }
                2 => { bench.retire.completed(bench.now, name, false); asked.remove(name); }
                3 => bench.retire.waiting(bench.now, NAMES),
                4 => bench.retire.tick(begun),
                _ => for name in std::mem::take(&mut asked) {
                    bench.retire.completed(bench.now, &name, true);
                    over.insert(name);
                }
            }
            while let Some(effect) = bench.retire.next_effect() {
                if let Effect::Complete { instance, drained: by } = effect {
                    prop_assert!(!over.contains(&instance) && asked.insert(instance.clone()));
                    let may = if by { drained.contains(&instance) } else { bench.now - begun >= DEADLINE };
                    prop_assert!(may);
                }
            }
        }
        prop_assert_eq!(over.len(), 3);
        let counters = bench.retire.counters();
        prop_assert_eq!(counters.drained + counters.late, 3);
    }
}
