use super::*;
use crate::proto::scale::capacity::{Capacities, Known, Pupils};
use crate::proto::scale::sample::Rates;
use proptest::prelude::*;

/// One node, a reading every second.
struct School {
    now: Instant,
    pupils: Pupils,
    known: Capacities,
}

impl School {
    fn new() -> Self {
        let known = Known::new(Capacity::Learned);
        Self { now: Instant::now(), pupils: Pupils::default(), known: Capacities { bits: known, packets: known } }
    }

    fn carry(&mut self, seconds: u32, bits: f64, held_back: impl Fn(u32) -> bool) -> Option<f64> {
        for second in 0..seconds {
            self.now += s(1);
            let mut risen = [false; 5];
            risen[Allowance::BandwidthOut as usize] = held_back(second);
            let rates = Rates { at: self.now, bits, packets: 1.0, conntrack: None, softirq: None, risen };
            self.pupils.read(&rates, &mut self.known);
        }
        self.known.bits.per_second()
    }
}

#[test]
fn a_node_that_is_held_back_all_the_time_carries_what_it_can() {
    let mut school = School::new();
    assert_eq!(school.carry(60, 500.0, |_| false), None, "nothing is known of what was never reached");
    assert_eq!(school.carry(60, 500.0, |second| second % 7 == 0), None, "bursts teach nothing");
    assert_eq!(school.carry(22, 1000.0, |_| true), Some(1000.0));
    assert_eq!(school.known.packets.per_second(), None);
    assert_eq!(school.carry(22, 1200.0, |_| false), Some(1200.0), "more went through than was thought");
    assert_eq!(school.carry(60, 300.0, |_| false), Some(1200.0), "less says nothing");
    assert_eq!(school.carry(22, 800.0, |_| true), Some(800.0), "its burst is used up: this is what it can do in the long run");
}

#[test]
fn what_is_configured_counts_and_what_was_learned_comes_back() {
    let mut school = School::new();
    school.carry(22, 1000.0, |_| true);
    school.known.bits.configure(Capacity::Configured(50.0));
    assert_eq!(school.known.bits.per_second(), Some(50.0));
    school.known.bits.configure(Capacity::Learned);
    assert_eq!(school.known.bits.per_second(), Some(1000.0));
}

#[test]
fn without_capacities_softirq_and_connections_speak() {
    let school = School::new();
    let rates = Rates { at: school.now, bits: 1e9, packets: 1e6, conntrack: None, softirq: None, risen: [false; 5] };
    assert_eq!(school.known.utilisation(&rates), None);
    let rates = Rates { softirq: Some(0.4), conntrack: Some(0.1), ..rates };
    assert_eq!(school.known.utilisation(&rates), Some((0.4, Dimension::Softirq)));
}

proptest! {
    /// Whatever it sees, it never believes in more than a node has carried for a while, nor in less than nothing.
    #[test]
    fn it_is_a_rate_that_was_seen(seen in proptest::collection::vec((0.0f64..1e12, any::<bool>(), 1u32..40), 1..30)) {
        let mut school = School::new();
        let most = seen.iter().map(|(rate, ..)| *rate).fold(0.0, f64::max);
        for (rate, held_back, seconds) in seen {
            if let Some(learned) = school.carry(seconds, rate, |_| held_back) {
                prop_assert!(learned > 0.0 && learned <= most * 1.000001, "{learned} of {most}");
            }
        }
    }
}
