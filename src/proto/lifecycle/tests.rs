use super::*;
use proptest::prelude::*;

const EVERY: Duration = Duration::from_secs(2);

struct Bench {
    now: Instant,
    holds: usize,
    lifecycle: Lifecycle,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { now, holds: 1, lifecycle: Lifecycle::new(now, EVERY) }
    }

    fn effects(&mut self) -> String {
        let mut all = vec![];
        while let Some(effect) = self.lifecycle.next_effect() {
            all.push(match effect {
                Effect::Look => "look".to_owned(),
                Effect::Drain { again: false } => "drain".to_owned(),
                Effect::Drain { again: true } => "drain again".to_owned(),
                Effect::Said(Said::NoGroup) => "no group".to_owned(),
                Effect::Said(Said::Target(state)) => state,
                Effect::Silent(text) => format!("silent: {text}"),
                Effect::Answers { failures } => format!("answers after {failures}"),
            });
        }
        all.join("; ")
    }

    fn tick(&mut self) -> String {
        self.lifecycle.tick(self.now, self.holds);
        self.effects()
    }

    /// Goes on to the next look.
    fn look(&mut self) {
        self.now = self.lifecycle.timeout().unwrap();
        assert_eq!(self.tick(), "look");
    }

    fn answer(&mut self, said: Result<Said, String>) -> String {
        self.lifecycle.said(self.now, said, 1.0);
        self.effects()
    }

    /// The next look finds this.
    fn finds(&mut self, state: &str) -> String {
        self.look();
        self.answer(Ok(Said::Target(state.to_owned())))
    }

    fn drained(&mut self, kept: usize) {
        self.holds = kept;
        self.lifecycle.drained(self.now, kept);
    }

    /// Looks that find the same for so long; what else there was.
    fn pass(&mut self, seconds: u64, state: &str) -> String {
        let until = self.now + Duration::from_secs(seconds);
        let mut all = vec![];
        while let Some(at) = self.lifecycle.timeout().filter(|at| *at <= until) {
            self.now = at;
            for effect in self.tick().split("; ") {
                all.push(if effect == "look" { self.answer(Ok(Said::Target(state.to_owned()))) } else { effect.to_owned() });
            }
        }
        self.now = until;
        all.retain(|effect| !effect.is_empty());
        all.join("; ")
    }
}

#[test]
fn an_instance_that_goes_is_drained_once() {
    let mut bench = Bench::new();
    assert_eq!([bench.finds("InService"), bench.finds("InService")], ["InService", ""]);
    assert_eq!(bench.finds("Terminated"), "Terminated; drain");
    assert_eq!(bench.pass(20, "Terminated"), "");
    assert_eq!(bench.lifecycle.status(bench.now).drain, "under_way");
    bench.drained(0);
    assert_eq!(bench.pass(600, "Terminated"), "");
    let status = bench.lifecycle.status(bench.now);
    assert_eq!((status.target.as_deref(), status.in_group, status.going, status.drain), (Some("Terminated"), Some(true), true, "over"));
    assert_eq!(bench.lifecycle.counters().drains, 1);
}

#[test]
fn looks_follow_each_other_and_one_at_a_time() {
    let mut bench = Bench::new();
    bench.look();
    // As long as it takes.
    assert_eq!(bench.lifecycle.timeout(), None);
    bench.now += Duration::from_secs(60);
    assert_eq!([bench.tick(), bench.answer(Ok(Said::NoGroup))], ["", "no group"]);
    assert_eq!(bench.lifecycle.timeout(), Some(bench.now + EVERY));
    // An answer that nobody waits for is none.
    assert_eq!(bench.answer(Ok(Said::Target("Terminated".into()))), "");
    assert_eq!(bench.lifecycle.status(bench.now).in_group, Some(false));
}

#[test]
fn whatever_leaves_the_machine_running_leads_to_nothing() {
    let mut bench = Bench::new();
    for state in ["Standby", "Detached", "Warmed:Running", "Warmed:Stopped", "Warmed:Hibernated", "terminated", "<html>", ""] {
        assert_eq!(bench.finds(state), state);
        assert_eq!(bench.lifecycle.status(bench.now).drain, "no");
    }
    assert_eq!(bench.finds("Warmed:Terminated"), "Warmed:Terminated; drain");
}

#[test]
fn shards_that_nobody_took_or_that_came_back_are_handed_over_again() {
    let mut bench = Bench::new();
    bench.finds("Terminated");
    bench.effects();
    bench.drained(1);
    assert_eq!(bench.pass(29, "Terminated"), "");
    assert_eq!(bench.lifecycle.status(bench.now).kept, 1);
    assert_eq!(bench.pass(3, "Terminated"), "drain again");
    bench.drained(0);
    assert_eq!(bench.pass(300, "Terminated"), "");
    // The other node has died.
    bench.holds = 1;
    assert_eq!(bench.pass(3, "Terminated"), "drain again");
    assert_eq!(bench.lifecycle.counters().drains, 3);
}

#[test]
fn metadata_that_do_not_answer_change_nothing_and_are_told_of_once() {
    let mut bench = Bench::new();
    bench.finds("InService");
    let mut waits = vec![];
    for failure in 0..6 {
        bench.look();
        let told = bench.answer(Err("no route".into()));
        assert_eq!(told, if failure == 0 { "silent: no route" } else { "" });
        waits.push((bench.lifecycle.timeout().unwrap() - bench.now).as_secs());
    }
    assert_eq!(waits, [2, 4, 8, 15, 15, 15]);
    let status = bench.lifecycle.status(bench.now);
    assert_eq!((status.target.as_deref(), status.failures, status.failure.as_deref()), (Some("InService"), 6, Some("no route")));
    assert_eq!(bench.finds("InService"), "answers after 6");
    assert_eq!(bench.lifecycle.counters(), Counters { answered: 2, no_group: 0, failed: 6, drains: 0 });
}

#[test]
fn what_was_known_counts_while_metadata_are_silent() {
    let mut bench = Bench::new();
    bench.finds("Terminated");
    bench.drained(1);
    bench.look();
    bench.answer(Err("no route".into()));
    bench.now += AGAIN;
    assert_eq!(bench.tick(), "look; drain again");
}

#[test]
fn a_drain_that_somebody_has_undone_stays_undone_for_this_end() {
    for under_way in [true, false] {
        let mut bench = Bench::new();
        bench.finds("Terminated");
        if !under_way {
            bench.drained(0);
        }
        bench.lifecycle.undone(bench.now);
        bench.drained(1);
        assert_eq!(bench.pass(600, "Terminated"), "");
        assert_eq!(bench.lifecycle.status(bench.now).drain, "undone");
        assert_eq!([bench.finds("InService"), bench.finds("Terminated")], ["InService", "Terminated; drain"]);
    }
}

#[test]
fn a_way_back_ends_no_drain_and_an_undo_before_keeps_none_from_beginning() {
    let mut bench = Bench::new();
    bench.lifecycle.undone(bench.now);
    assert_eq!(bench.finds("Terminated"), "Terminated; drain");
    bench.drained(0);
    assert_eq!(bench.finds("InService"), "InService");
    bench.holds = 1;
    assert_eq!(bench.pass(60, "InService"), "");
    assert_eq!(bench.lifecycle.status(bench.now).drain, "over");
}

proptest! {
    /// However looks, ends of drains, undoing and the clock come: one drain at a time, none for an instance that stays, and a look is never far.
    #[test]
    fn drains_are_for_instances_that_go(acts in prop::collection::vec((0u8..8, 0u64..40, 0usize..3), 1..200)) {
        let mut bench = Bench::new();
        let (mut looking, mut draining, mut going, mut undone) = (false, false, false, false);
        for (act, seconds, holds) in acts {
            bench.holds = holds;
            match act {
                0 => bench.now += Duration::from_secs(seconds),
                1..=4 if looking => {
                    let said = match act {
                        1 => Err("away".to_owned()),
                        2 => Ok(Said::NoGroup),
                        3 => Ok(Said::Target("InService".to_owned())),
                        _ => Ok(Said::Target("Terminated".to_owned())),
                    };
                    if act != 1 {
                        going = act == 4;
                        undone &= going;
                    }
                    bench.lifecycle.said(bench.now, said, 0.5);
                    looking = false;
                }
                5 if draining => { bench.lifecycle.drained(bench.now, holds); draining = false; }
                6 => { bench.lifecycle.undone(bench.now); undone = going; }
                _ => bench.lifecycle.tick(bench.now, holds),
            }
            while let Some(effect) = bench.lifecycle.next_effect() {
                match effect {
                    Effect::Look => { prop_assert!(!looking); looking = true; }
                    Effect::Drain { .. } => { prop_assert!(going && !undone); draining = true; }
                    Effect::Said(_) | Effect::Silent(_) | Effect::Answers { .. } => {}
                }
            }
            if !looking {
                let at = bench.lifecycle.timeout().unwrap();
                prop_assert!(at <= bench.now + LONGEST);
            }
        }
    }
}
