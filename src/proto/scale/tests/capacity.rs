use super::*;
use crate::proto::scale::sample::{Rates, Told};

fn rates(bits: f64, entries: f64, softirq: Option<f64>) -> Rates {
    let at = Instant::now();
    let conntrack = Some(Told { at, value: Conntrack { entries, room: 1000.0 } });
    Rates { at, bits, packets: 1e6, conntrack, softirq: softirq.map(|value| Told { at, value }), risen: [false; 5] }
}

fn parts(capacity: Capacity, rates: &Rates) -> [Option<f64>; 4] {
    capacity.parts(rates).map(|part| part.map(|told| told.value))
}

#[test]
fn without_capacities_softirq_and_connections_speak() {
    assert_eq!(parts(Capacity::default(), &rates(1e9, 100.0, Some(0.4))), [None, None, Some(0.1), Some(0.4)]);
    assert_eq!(parts(Capacity::default(), &rates(1e9, 100.0, None)), [None, None, Some(0.1), None]);
}

#[test]
fn what_is_configured_is_what_a_node_carries_and_a_table_never_holds_more_than_it_has_room_for() {
    let capacity = Capacity { bits: Some(2e9), packets: Some(4e6), connections: Some(200.0) };
    assert_eq!(parts(capacity, &rates(1e9, 100.0, None)), [Some(0.5), Some(0.25), Some(0.5), None]);
    let capacity = Capacity { connections: Some(5000.0), ..capacity };
    assert_eq!(parts(capacity, &rates(1e9, 100.0, None))[2], Some(0.1));
}

#[test]
fn a_gateway_that_is_held_back_teaches_nobody() {
    let mut bench = Bench::new(Policy { capacity: Capacity::default(), ..policy() }, 4);
    // The cloud gives one of them a fifth of what the others have.
    for _ in 0..60 {
        bench.pass();
        for number in 0..4 {
            let mut sample = bench.sample(&node(number), if number == 0 { 0.1 } else { 0.5 });
            sample.softirq = Some(0.4);
            sample.exceeded[Allowance::BandwidthIn as usize] = (number == 0).then_some(sample.clock);
            bench.scaler.handle(bench.now, Input::Reading(node(number), sample)).unwrap();
        }
        bench.tick();
    }
    let gateway = bench.scaler.status(bench.now).gateways[1].clone();
    assert_eq!((gateway.utilisation, gateway.dimension), (Some(0.4), Some(Dimension::Softirq)));
}
