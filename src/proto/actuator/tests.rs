use super::*;
use proptest::prelude::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn order(serial: u64, nodes: u32) -> Order {
    Order { serial, nodes }
}

fn failure(why: Why) -> Failure {
    Failure { why, text: why.as_str().into(), after: None }
}

fn asks(why: Why, after: Duration) -> Failure {
    Failure { after: Some(after), ..failure(why) }
}

struct Bench {
    now: Instant,
    actuator: Actuator,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { now, actuator: Actuator::new(now, s(10)) }
    }

    /// All effects, in short.
    fn effects(&mut self) -> String {
        let mut all = vec![];
        while let Some(effect) = self.actuator.next_effect() {
            all.push(match effect {
                Effect::Call { order, call } => format!("call {}: {} nodes, {call}", order.serial, order.nodes),
                Effect::Hang => "hang".into(),
                Effect::Answer { serial, taken } => format!("{serial} {}", if taken { "taken" } else { "not taken" }),
                Effect::Failed { failure, row, again } => {
                    format!("{} x{row}{}", failure.text, again.map_or(String::new(), |again| format!(", again in {again:?}")))
                }
                Effect::Recovered { failures } => format!("recovered after {failures}"),
            });
        }
        all.join("; ")
    }

    fn order(&mut self, order: Order) -> String {
        self.actuator.order(self.now, order);
        self.effects()
    }

    /// With the longest backoff.
    fn ended(&mut self, outcome: Outcome) -> String {
        self.actuator.ended(self.now, outcome, 1.0);
        self.effects()
    }

    fn pass(&mut self, time: Duration) -> String {
        self.now += time;
        self.actuator.tick(self.now, 1.0);
        self.effects()
    }

    /// As a shell waits.
    fn wait(&mut self) -> (Duration, String) {
        let time = self.actuator.timeout().map_or(Duration::ZERO, |at| at.saturating_duration_since(self.now));
        (time, self.pass(time))
    }
}

#[test]
fn an_order_goes_out_at_once_and_is_answered() {
    let mut bench = Bench::new();
    assert_eq!(bench.actuator.timeout(), None);
    assert_eq!(bench.order(order(1, 4)), "call 1: 4 nodes, 1");
    assert_eq!(bench.ended(Ok(())), "1 taken");
    assert_eq!((bench.actuator.timeout(), bench.pass(s(1000))), (None, String::new()));
    let status = bench.actuator.status(bench.now);
    assert_eq!((status.taken, status.taken_ago, status.waiting, status.alarm), (Some(order(1, 4)), Some(1000.0), None, false));
}

#[test]
fn the_same_order_twice_is_one_and_an_older_one_is_none() {
    let mut bench = Bench::new();
    bench.order(order(5, 4));
    assert_eq!([bench.order(order(5, 4)), bench.order(order(4, 3))], ["", ""]);
    assert_eq!(bench.ended(Ok(())), "5 taken");
    assert_eq!([bench.order(order(5, 4)), bench.order(order(4, 3))], ["", ""]);
    assert_eq!(bench.order(order(6, 4)), "call 6: 4 nodes, 1");
}

#[test]
fn who_cannot_is_asked_again_further_and_further_apart_with_the_same_serial() {
    let mut bench = Bench::new();
    bench.order(order(1, 4));
    let waits: Vec<Duration> = (0..9)
        .map(|_| {
            bench.ended(Err(failure(Why::Unavailable)));
            let mut waited = Duration::ZERO;
            loop {
                let (time, effects) = bench.wait();
                waited += time;
                if effects.contains("call 1: 4 nodes") {
                    break waited;
                }
                assert_eq!(effects, "1 not taken");
            }
        })
        .collect();
    assert_eq!(waits, [ms(500), s(1), s(2), s(4), s(8), s(16), s(30), s(30), s(30)]);
    assert_eq!(bench.ended(Ok(())), "1 taken; recovered after 9");
}

#[test]
fn the_backoff_is_spread() {
    for (failures, least, most) in [(0, ms(250), ms(500)), (1, ms(500), s(1)), (40, s(15), s(30))] {
        let backoff = |jitter| backoff((FIRST, LONGEST), failures, jitter);
        assert_eq!((backoff(0.0), backoff(1.0)), (least, most));
        assert_eq!((backoff(-7.0), backoff(7.0)), (least, most));
    }
}

#[test]
fn who_is_throttled_waits_as_long_as_is_asked_but_not_for_ever() {
    for (asked, waits) in [(s(20), s(20)), (s(0), ms(500)), (s(86400), s(300)), (Duration::MAX, s(300))] {
        let mut bench = Bench::new();
        bench.order(order(1, 4));
        assert_eq!(bench.ended(Err(asks(Why::Throttled, asked))), format!("throttled x1, again in {waits:?}"));
        bench.now += waits - ms(1);
        assert!(!bench.pass(Duration::ZERO).contains("call"));
        assert_eq!(bench.pass(ms(1)), "call 1: 4 nodes, 2");
    }
}

#[test]
fn a_newer_order_waits_its_turn_too_when_it_is_asked_to() {
    let mut bench = Bench::new();
    bench.order(order(1, 4));
    bench.ended(Err(asks(Why::Unavailable, s(5))));
    assert_eq!([bench.order(order(2, 5)), bench.pass(s(4))], ["", ""]);
    assert_eq!(bench.pass(s(1)), "call 2: 5 nodes, 1");
}

#[test]
fn who_refuses_is_left_alone_until_the_decision_machine_says_it_again() {
    let mut bench = Bench::new();
    bench.order(order(1, 4));
    assert_eq!(bench.ended(Err(failure(Why::Refused))), "1 not taken; refused x1");
    assert_eq!((bench.actuator.timeout(), bench.actuator.status(bench.now).waiting), (None, None));
    assert_eq!([bench.order(order(1, 4)), bench.pass(s(1000))], ["", ""]);
    assert_eq!(bench.order(order(2, 4)), "call 2: 4 nodes, 1");
}

#[test]
fn a_call_that_hangs_is_dropped() {
    let mut bench = Bench::new();
    bench.order(order(1, 4));
    assert_eq!(bench.pass(ms(9_999)), "");
    let hung = "no answer within 10s: is it overloaded, or is something between that drops packets?";
    assert_eq!(bench.pass(ms(1)), format!("hang; {hung} x1, again in 500ms"));
    // Its outcome comes too late to be that of another.
    assert_eq!(bench.ended(Ok(())), "");
    assert_eq!(bench.pass(ms(500)), "call 1: 4 nodes, 2");
}

#[test]
fn of_those_that_come_during_a_call_the_newest_goes_next() {
    let mut bench = Bench::new();
    bench.order(order(1, 4));
    assert_eq!([bench.order(order(2, 5)), bench.order(order(3, 6))], ["", ""]);
    assert_eq!(bench.ended(Ok(())), "1 taken; call 3: 6 nodes, 1");
    assert_eq!(bench.order(order(4, 2)), "");
    // What was replaced is not tried again; and that it is refused says nothing of the next.
    assert_eq!(bench.ended(Err(failure(Why::Refused))), "3 not taken; refused x1; call 4: 2 nodes, 1");
}

#[test]
fn the_decision_machine_is_told_once_and_before_it_would_ask() {
    let mut bench = Bench::new();
    bench.order(order(1, 4));
    bench.ended(Err(asks(Why::Unavailable, s(100))));
    assert_eq!(bench.wait(), (s(45), "1 not taken".into()));
    // It is kept all the same.
    assert_eq!(bench.wait(), (s(55), "call 1: 4 nodes, 2".into()));
    assert_eq!(bench.ended(Ok(())), "1 taken; recovered after 1");
}

#[test]
fn the_alarm_begins_with_the_third_failure_and_ends_with_what_is_taken() {
    let mut bench = Bench::new();
    bench.order(order(1, 4));
    let mut alarms = vec![];
    for why in [Why::Throttled, Why::Unreachable, Why::TimedOut, Why::Unavailable] {
        bench.ended(Err(failure(why)));
        let status = bench.actuator.status(bench.now);
        assert_eq!((status.failure.unwrap().why, status.waiting), (why, Some(order(1, 4))));
        alarms.push(status.alarm);
        while !bench.wait().1.contains("call") {}
    }
    assert_eq!(alarms, [false, false, true, true]);
    bench.ended(Ok(()));
    let status = bench.actuator.status(bench.now);
    assert_eq!((status.alarm, status.failures, status.failure), (false, 0, None));
    let counted: Vec<_> = bench.actuator.counters().all().collect();
    assert_eq!(counted, [("taken", 1), ("refused", 0), ("throttled", 1), ("unavailable", 1), ("timed_out", 1), ("unreachable", 1)]);
}

#[test]
fn a_status_says_what_can_be_done() {
    let said = [200, 202, 299, 301, 308, 400, 401, 404, 408, 409, 425, 429, 500, 503, 599].map(|status| (status, Why::of_status(status)));
    let of = |why: Option<Why>| said.iter().filter(|said| said.1 == why).map(|said| said.0).collect::<Vec<_>>();
    assert_eq!(of(None), [200, 202, 299]);
    assert_eq!(of(Some(Why::Throttled)), [429]);
    assert_eq!(of(Some(Why::Unavailable)), [408, 425, 500, 503, 599]);
    assert_eq!(of(Some(Why::Refused)), [301, 308, 400, 401, 404, 409]);
}

#[derive(Debug, Clone)]
enum Act {
    Order(u32),
    Ended(Option<(usize, u64)>),
    Pass(u64),
    Back(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (2u32..9).prop_map(Act::Order),
        proptest::option::weighted(0.8, (0..Why::ALL.len(), 0u64..400)).prop_map(Act::Ended),
        (0u64..20_000).prop_map(Act::Pass),
        (0u64..100_000).prop_map(Act::Back),
    ]
}

proptest! {
    /// Whatever happens: one call at a time, the newest first, none in a rest, and in the end the last order is taken.
    #[test]
    fn the_newest_order_arrives_whatever_happens(acts in prop::collection::vec(act(), 1..60), jitter in 0.0..1.0) {
        let start = Instant::now();
        let (mut now, mut serial, mut calling, mut rest) = (start + s(1_000_000), 0, None, None::<Instant>);
        let (mut clock, mut taken, mut told) = (now, None, None);
        let mut actuator = Actuator::new(now, s(10));
        // Time that went back has to come again first.
        let back: u64 = acts.iter().map(|act| if let Act::Back(time) = act { *time } else { 0 }).sum();
        let end = std::iter::repeat_n([Act::Pass(back + 400_000), Act::Ended(None)], 3).flatten();
        for act in [Act::Order(7)].into_iter().chain(acts).chain(end) {
            clock = clock.max(now);
            match act {
                Act::Order(nodes) => { serial += 1; actuator.order(now, order(serial, nodes)); }
                Act::Pass(time) => { now += ms(time); clock = clock.max(now); actuator.tick(now, jitter); }
                Act::Back(time) => now -= ms(time),
                Act::Ended(None) => actuator.ended(now, Ok(()), jitter),
                Act::Ended(Some((why, after))) => {
                    let asked = (after < 300).then(|| s(after));
                    if calling.is_some() && Why::ALL[why] != Why::Refused {
                        rest = asked.map(|after| clock + after);
                    }
                    actuator.ended(now, Err(Failure { after: asked, ..failure(Why::ALL[why]) }), jitter);
                }
            }
            while let Some(effect) = actuator.next_effect() {
                match effect {
                    Effect::Call { order, .. } => {
                        prop_assert_eq!(calling.replace(order.serial), None);
                        prop_assert_eq!(order.serial, serial);
                        prop_assert!(rest.is_none_or(|rest| rest <= clock));
                    }
                    Effect::Hang => prop_assert!(calling.is_some()),
                    Effect::Answer { serial, taken: yes } => {
                        told = told.max(Some(serial));
                        if yes { taken = Some(serial); }
                    }
                    Effect::Failed { .. } => calling = None,
                    Effect::Recovered { .. } => {}
                }
                if taken.is_some() && taken == calling { calling = None; }
            }
            if let Some(at) = actuator.timeout() {
                prop_assert!(at <= clock + LONGEST_ASKED);
            }
        }
        // It was refused, which the decision machine knows, or it is taken.
        prop_assert_eq!(told, Some(serial));
        prop_assert!(taken == Some(serial) || actuator.status(now).waiting.is_none());
    }
}
