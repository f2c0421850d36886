use super::*;
use crate::proto::scale::sample::{Meter, Told};
use rstest::rstest;

fn sample(clock: f64, bits: f64) -> Sample {
    let conntrack = Some(Conntrack { entries: 50.0, room: 100.0 });
    Sample { clock, bits, packets: bits / 10.0, conntrack, softirq: Some(0.25), exceeded: [Some(0.0), None, Some(3.0), None, None] }
}

#[test]
fn two_readings_make_rates_by_the_gateways_own_clock() {
    let (now, mut meter) = (Instant::now(), Meter::default());
    assert_eq!(meter.read(now, sample(100.0, 1000.0)), Ok(None));
    let mut later = sample(104.0, 1800.0);
    later.exceeded[Allowance::Packets as usize] = Some(4.0);
    let rates = meter.read(now + s(5), later).unwrap().unwrap();
    let conntrack = Told { at: now + s(5), value: Conntrack { entries: 50.0, room: 100.0 } };
    assert_eq!((rates.bits, rates.packets, rates.conntrack), (200.0, 20.0, Some(conntrack)));
    assert_eq!(rates.softirq, Some(Told { at: now + s(5), value: 0.25 }));
    assert_eq!(rates.risen().collect::<Vec<_>>(), [Allowance::Packets]);
    assert_eq!(meter.rates(), Some(&rates));
}

#[rstest]
#[case::nan(|s: &mut Sample| s.bits = f64::NAN, Nonsense::NoNumber)]
#[case::infinite(|s: &mut Sample| s.packets = f64::INFINITY, Nonsense::NoNumber)]
#[case::nan_clock(|s: &mut Sample| s.clock = f64::NAN, Nonsense::NoNumber)]
#[case::nan_allowance(|s: &mut Sample| s.exceeded[0] = Some(f64::NAN), Nonsense::NoNumber)]
#[case::negative(|s: &mut Sample| s.softirq = Some(-0.1), Nonsense::Negative)]
#[case::busier_than_wholly(|s: &mut Sample| s.softirq = Some(1.5), Nonsense::Impossible)]
#[case::no_room(|s: &mut Sample| s.conntrack = Some(Conntrack { entries: 0.0, room: 0.0 }), Nonsense::Impossible)]
#[case::overfull(|s: &mut Sample| s.conntrack = Some(Conntrack { entries: 300.0, room: 100.0 }), Nonsense::Impossible)]
#[case::faster_than_any(|s: &mut Sample| s.bits = 1e15, Nonsense::Impossible)]
#[case::bits_back(|s: &mut Sample| s.bits = 10.0, Nonsense::Restarted)]
#[case::clock_back(|s: &mut Sample| s.clock = 1.0, Nonsense::Restarted)]
#[case::driver_reset(|s: &mut Sample| s.exceeded[2] = Some(0.0), Nonsense::Restarted)]
#[case::kept_by_somebody(|s: &mut Sample| s.clock = 100.0, Nonsense::Repeated)]
#[case::clock_leaps(|s: &mut Sample| s.clock = 5000.0, Nonsense::Clock)]
fn nonsense_is_refused_and_what_came_before_stays(#[case] spoil: fn(&mut Sample), #[case] why: Nonsense) {
    let (now, mut meter) = (Instant::now(), Meter::default());
    meter.read(now, sample(99.0, 800.0)).unwrap();
    let good = meter.read(now + s(1), sample(100.0, 1000.0)).unwrap().unwrap();
    let mut bad = sample(101.0, 1200.0);
    spoil(&mut bad);
    assert_eq!(meter.read(now + s(2), bad), Err(why));
    assert_eq!(meter.rates(), Some(&good));
    // And it is mended by good ones.
    let (next, last) = (sample(102.0, 1400.0), sample(103.0, 1600.0));
    let _ = meter.read(now + s(3), next);
    let rates = meter.read(now + s(4), last).unwrap().unwrap();
    assert_eq!((rates.bits, rates.at), (200.0, now + s(4)));
}

#[test]
fn a_gateway_that_talks_nonsense_is_counted_and_missing() {
    let mut bench = Bench::new(policy(), 3);
    bench.seconds(30, 1.5);
    for _ in 0..30 {
        bench.second(1.5, |number| number != 2);
        let mut bad = bench.sample(&node(2), 0.0);
        bad.bits = f64::NAN;
        let refused = bench.scaler.handle(bench.now, Input::Reading(node(2), bad)).unwrap_err();
        assert_eq!(refused.to_string(), "the reading of gw-2 is not used: it holds what is no number");
    }
    assert_eq!(bench.held(), Some("missing"));
    assert_eq!(bench.scaler.counters.refused().find(|(why, _)| *why == Nonsense::NoNumber), Some((Nonsense::NoNumber, 30)));
    let status = bench.scaler.status(bench.now);
    assert_eq!((status.gateways[2].current, status.gateways[2].refused), (false, Some(Nonsense::NoNumber)));
    assert!(status.gateways[1].current);
}

#[test]
fn the_highest_dimension_is_what_is_used() {
    let read = |bench: &mut Bench, clock: f64, softirq: f64, entries: f64, packets: f64| {
        for number in 0..2 {
            let conntrack = Some(Conntrack { entries, room: 100.0 });
            let sample = Sample { clock, bits: clock, packets: packets * clock, conntrack, softirq: Some(softirq), ..Sample::default() };
            bench.scaler.handle(bench.now, Input::Reading(node(number), sample)).unwrap();
        }
        bench.now += s(1);
    };
    for (from, softirq, entries, packets, dimension, used) in [
        (10.0, 0.1, 20.0, 30.0, Dimension::Packets, 0.3),
        (20.0, 0.5, 20.0, 30.0, Dimension::Softirq, 0.5),
        (30.0, 0.5, 70.0, 30.0, Dimension::Conntrack, 0.7),
        (40.0, 0.0, 0.0, 0.0, Dimension::Bits, 0.1),
    ] {
        let mut bench =
            Bench::new(Policy { capacity: Capacity { bits: Some(EACH), packets: Some(100.0), connections: None }, ..policy() }, 2);
        read(&mut bench, from, softirq, entries, packets);
        read(&mut bench, from + 1.0, softirq, entries, packets);
        let gateway = bench.scaler.status(bench.now).gateways[0].clone();
        assert_eq!(gateway.dimension, Some(dimension));
        assert!((gateway.utilisation.unwrap() - used).abs() < 1e-9, "{gateway:?}");
    }
}

#[test]
fn what_a_gateway_tells_no_more_is_kept_until_it_starts_anew() {
    let (now, mut meter) = (Instant::now(), Meter::default());
    let less = |clock: f64| Sample { conntrack: None, softirq: None, ..sample(clock, clock) };
    meter.read(now, sample(100.0, 100.0)).unwrap();
    meter.read(now + s(1), sample(101.0, 101.0)).unwrap();
    let rates = meter.read(now + s(2), less(102.0)).unwrap().unwrap();
    assert_eq!(rates.softirq, Some(Told { at: now + s(1), value: 0.25 }));
    assert_eq!(rates.conntrack.map(|told| told.at), Some(now + s(1)));
    assert_eq!(meter.read(now + s(3), less(1.0)), Err(Nonsense::Restarted));
    let rates = meter.read(now + s(4), less(2.0)).unwrap().unwrap();
    assert_eq!((rates.softirq, rates.conntrack), (None, None));
}
