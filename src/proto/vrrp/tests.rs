//! Every transition, as lists of effects. Times are in milliseconds; the interval is 100 ms, our priority 100, our address 10.0.0.5.

mod active;
mod backup;
mod handover;
mod initialize;

use super::phase::skew_time;
use super::*;
use crate::model::{AddressList, Addresses, Vrid};
use crate::wire::vrrp::Advertisement;
use rstest::rstest;
use std::time::Duration;

const ADDRESSES: Addresses<'static> = Addresses::V4(&[[10, 0, 0, 100]]);
const LOWER: [u8; 4] = [10, 0, 0, 4];
const HIGHER: [u8; 4] = [10, 0, 0, 6];
/// 3 x 100 ms + (256 - 100) / 256 x 100 ms.
const DOWN: f64 = 360.9375;
const SKEW: f64 = 60.9375;

/// An instance with its clock.
struct Node {
    instance: Instance,
    epoch: Instant,
}

fn config() -> Config {
    Config {
        vrid: Vrid::try_from(7).expect("a VRID"),
        version: VrrpVersion::V3,
        priority: Priority(100),
        address: [10, 0, 0, 5].into(),
        addresses: ADDRESSES.to_list(),
        interval: interval(10),
        preempt: Preempt::After(Duration::ZERO),
        preferred: None,
        accept: false,
        announcements: Announcements { burst: 5, repeat_after: Duration::from_millis(1000), refresh: Some(Duration::from_millis(10_000)) },
        handover: Handover::MakeBeforeBreak { successor_within: Duration::from_millis(500), forward_for: Duration::from_millis(1000) },
    }
}

fn interval(centiseconds: u16) -> AdvertInterval {
    AdvertInterval::try_from(centiseconds).expect("in range")
}

fn heard(from: [u8; 4], priority: u8) -> Input<'static> {
    let (vrid, priority, interval) = (Vrid::try_from(7).expect("a VRID"), Priority(priority), interval(10));
    let advertisement = Advertisement { version: VrrpVersion::V3, vrid, priority, interval, addresses: ADDRESSES };
    Input::Advertisement(Heard { from: from.into(), advertisement })
}

/// The same, with something changed.
fn odd(from: [u8; 4], priority: u8, change: impl FnOnce(&mut Advertisement<'static>)) -> Input<'static> {
    let Input::Advertisement(mut heard) = heard(from, priority) else { unreachable!("made above") };
    change(&mut heard.advertisement);
    Input::Advertisement(heard)
}

impl Node {
    fn new(change: impl FnOnce(&mut Config)) -> Node {
        let (mut config, epoch) = (config(), Instant::now());
        change(&mut config);
        Node { instance: Instance::new(config, epoch), epoch }
    }

    /// A Backup since 0 ms, in sync.
    fn backup(change: impl FnOnce(&mut Config)) -> Node {
        let mut node = Node::new(change);
        node.at(0.0, Input::InSync(true));
        assert_eq!(node.at(0.0, Input::Start), [changed(State::Initialize, State::Backup, Why::Started)]);
        node
    }

    /// Active since 361 ms; its next advertisement is due at 461 ms.
    fn active(change: impl FnOnce(&mut Config)) -> Node {
        let mut node = Node::backup(change);
        node.at(361.0, Input::Timeout);
        assert_eq!(node.instance.state(), State::Active);
        node
    }

    fn at(&mut self, ms: f64, input: Input<'_>) -> Vec<Effect> {
        self.instance.handle(self.epoch + Duration::from_secs_f64(ms / 1000.0), input);
        std::iter::from_fn(|| self.instance.poll_effect()).collect()
    }

    fn timeout(&self) -> Option<(f64, &'static str)> {
        self.instance.poll_timeout().map(|(at, why)| (ms(at - self.epoch), why))
    }

    fn state(&self) -> State {
        self.instance.state()
    }
}

/// In milliseconds, to 100 ns.
fn ms(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e7).round() / 1e4
}

fn send(priority: u8) -> Effect {
    Effect::SendAdvertisement { priority: Priority(priority) }
}

fn announce(why: Announced) -> Effect {
    Effect::Announce { burst: 5, why }
}

fn changed(from: State, to: State, why: Why) -> Effect {
    Effect::Changed { from, to, why }
}

fn discarded(why: Discard) -> Vec<Effect> {
    vec![Effect::Discarded(why)]
}

fn promotion(priority: u8, from: State, why: Why) -> Vec<Effect> {
    // In a planned move the node before is known, and goes on forwarding; one that fell silent is dead.
    let former = match why {
        Why::ActiveReleased => Some(HIGHER.into()),
        Why::Preempted { active, .. } => Some(active),
        _ => None,
    };
    vec![send(priority), Effect::TakeAddresses { accept: false, former }, announce(Announced::Promoted), changed(from, State::Active, why)]
}

/// Figures of facts known from the wild, and the smallest: it must not come to nothing.
#[rstest]
#[case::default_interval(VrrpVersion::V3, 100, 100, 609_375_000)]
#[case::keepalived_at_200_ms(VrrpVersion::V3, 20, 100, 121_875_000)]
#[case::shortest_interval_highest_priority(VrrpVersion::V3, 1, 254, 78_125)]
#[case::shortest_interval_lowest_priority(VrrpVersion::V3, 1, 1, 9_960_937)]
#[case::version_2_does_not_scale(VrrpVersion::V2, 300, 100, 609_375_000)]
fn skew_time_is_exact(#[case] version: VrrpVersion, #[case] centiseconds: u16, #[case] priority: u8, #[case] nanoseconds: u64) {
    assert_eq!(skew_time(version, interval(centiseconds), Priority(priority)), Duration::from_nanos(nanoseconds));
}

#[rstest]
#[case::another_vrid(odd(LOWER, 200, |a| a.vrid = Vrid::try_from(8).expect("a VRID")), Discard::UnknownVrid)]
#[case::another_version(odd(LOWER, 200, |a| a.version = VrrpVersion::V2), Discard::Version)]
fn what_is_for_another_instance_is_dropped_in_every_state(#[case] input: Input<'static>, #[case] why: Discard) {
    for mut node in [Node::new(|_| ()), Node::backup(|_| ()), Node::active(|_| ())] {
        let (state, timeout) = (node.state(), node.timeout());
        assert_eq!(node.at(400.0, input), discarded(why));
        assert_eq!((node.state(), node.timeout()), (state, timeout));
    }
}

#[test]
fn the_other_family_is_another_instance() {
    let mut node = Node::backup(|_| ());
    let Input::Advertisement(heard) = heard(LOWER, 200) else { unreachable!("made above") };
    let v6 = Heard { from: "fe80::1".parse().expect("an address"), ..heard };
    assert_eq!(node.at(1.0, Input::Advertisement(v6)), discarded(Discard::UnknownVrid));
}

#[test]
fn our_own_address_is_not_listened_to_and_warned_of_once() {
    let mut node = Node::active(|_| ());
    let own = [10, 0, 0, 5];
    let warning = Effect::Warn(Warning::OwnAddress { from: own.into() });
    assert_eq!(node.at(362.0, heard(own, 200)), [warning, Effect::Discarded(Discard::OwnAddress)]);
    assert_eq!(node.at(363.0, heard(own, 200)), discarded(Discard::OwnAddress));
    assert_eq!(node.state(), State::Active);
}

#[test]
fn contradicting_configuration_is_warned_of_once_with_both_values_until_it_ends() {
    let mut node = Node::backup(|_| ());
    let from = HIGHER.into();
    let other = || odd(HIGHER, 200, |a| (a.addresses, a.interval) = (Addresses::V4(&[[10, 0, 0, 101]]), interval(20)));
    let theirs = AddressList::V4(vec![[10, 0, 0, 101]]);
    let warnings = [
        Effect::Warn(Warning::Addresses { from, ours: ADDRESSES.to_list(), theirs }),
        Effect::Warn(Warning::Interval { from, ours: interval(10), theirs: interval(20) }),
    ];
    assert_eq!(node.at(1.0, other()), warnings);
    assert_eq!(node.at(2.0, other()), []);
    assert_eq!(node.at(3.0, heard(HIGHER, 200)), []);
    assert_eq!(node.at(4.0, other()), warnings, "mended, and wrong again");
    let text = warnings.map(|effect| if let Effect::Warn(warning) = effect { warning.to_string() } else { String::new() });
    assert!(text[0].contains("10.0.0.101") && text[0].contains("10.0.0.100"), "{}", text[0]);
    assert!(text[1].contains("200ms") && text[1].contains("100ms"), "{}", text[1]);
}

#[test]
fn version_2_wants_the_same_interval() {
    let v2 = |centiseconds| odd(HIGHER, 200, |a| (a.version, a.interval) = (VrrpVersion::V2, interval(centiseconds)));
    let mut node = Node::backup(|c| (c.version, c.interval) = (VrrpVersion::V2, interval(200)));
    assert_eq!(node.timeout(), Some((6609.375, "active_down")));
    let warning = Warning::Interval { from: HIGHER.into(), ours: interval(200), theirs: interval(100) };
    assert_eq!(node.at(1000.0, v2(100)), [Effect::Warn(warning), Effect::Discarded(Discard::IntervalMismatch)]);
    assert_eq!(node.timeout(), Some((6609.375, "active_down")));
    assert_eq!(node.at(1000.0, v2(200)), []);
    assert_eq!(node.timeout(), Some((7609.375, "active_down")));
}

#[test]
fn two_owners_are_warned_of() {
    let mut node = Node::new(|c| c.priority = Priority::OWNER);
    node.at(0.0, Input::Start);
    let effects = node.at(1.0, heard(HIGHER, 255));
    let warning = Effect::Warn(Warning::TwoOwners { from: HIGHER.into() });
    assert_eq!(effects[0], warning);
}

#[test]
fn status_tells_who_was_heard() {
    let mut node = Node::backup(|_| ());
    node.at(5.0, heard(HIGHER, 200));
    let status = node.instance.status();
    let at = node.epoch + Duration::from_millis(5);
    assert_eq!(status.heard, Some(LastHeard { from: HIGHER.into(), priority: Priority(200), at }));
    assert_eq!((status.state, status.since, status.priority), (State::Backup, node.epoch, Priority(100)));
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let refused = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        config.check().err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(refused(|_| ()), "");
    assert!(refused(|c| c.address = "fe80::1".parse().expect("an address")).contains("one family"));
    assert!(refused(|c| c.version = VrrpVersion::V2).contains("whole seconds"));
    assert!(refused(|c| c.interval = AdvertInterval::MAX).contains("40.95s"));
    assert!(refused(|c| c.priority = Priority::RELEASE).contains("1 to 255"));
    assert!(refused(|c| c.interval = interval(100)).contains("nobody takes over"));
    assert!(refused(|c| c.preempt = Preempt::After(Duration::MAX)).contains("too long"));
    let v6 = |c: &mut Config| {
        c.version = VrrpVersion::V2;
        c.address = "fe80::1".parse().expect("an address");
        c.addresses = AddressList::V6(vec![[0xfe; 16]]);
    };
    assert!(refused(v6).contains("version 3"));
}

#[test]
fn labels_are_labels() {
    for label in State::ALL.map(State::label) {
        assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    }
}
