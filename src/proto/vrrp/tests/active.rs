use super::*;

#[test]
fn advertises_every_interval_and_lateness_does_not_add_up() {
    let mut node = Node::active(|_| ());
    assert_eq!(node.at(460.0, Input::Timeout), []);
    assert_eq!(node.at(463.0, Input::Timeout), [send(100)]);
    assert_eq!(node.timeout(), Some((561.0, "advertise")));
    assert_eq!(node.at(800.0, Input::Timeout), [send(100)], "what was missed is not made up for");
    assert_eq!(node.timeout(), Some((900.0, "advertise")));
}

#[test]
fn announces_again_after_a_while_and_now_and_then() {
    let mut node = Node::new(|c| (c.interval, c.priority) = (interval(4000), Priority::OWNER));
    node.at(0.0, Input::Start);
    assert_eq!(node.timeout(), Some((1000.0, "announce")));
    assert_eq!(node.at(1000.0, Input::Timeout), [announce(Announced::Repeated)]);
    assert_eq!(node.timeout(), Some((11_000.0, "announce")));
    assert_eq!(node.at(11_000.0, Input::Timeout), [announce(Announced::Refreshed)]);
    assert_eq!(node.timeout(), Some((21_000.0, "announce")));
}

#[test]
fn without_refresh_it_announces_twice() {
    let mut node = Node::active(|c| c.announcements.refresh = None);
    assert_eq!(node.at(1361.0, Input::Timeout), [send(100), announce(Announced::Repeated)]);
    assert_eq!(node.at(99_999.0, Input::Timeout), [send(100)]);
}

#[rstest]
#[case::higher_priority(LOWER, 101)]
#[case::equal_priority_higher_address(HIGHER, 100)]
fn whoever_goes_before_us_gets_the_addresses_at_once(#[case] from: [u8; 4], #[case] priority: u8) {
    let mut node = Node::active(|_| ());
    node.at(390.0, Input::InSync(false));
    let why = Why::Outranked { by: from.into(), priority: Priority(priority) };
    let advertisement = odd(from, priority, |a| a.interval = interval(100));
    let effects = node.at(400.0, advertisement);
    assert_eq!(effects[1..], [send(0), Effect::ReleaseAddresses, changed(State::Active, State::Backup, why)]);
    assert_eq!(node.timeout(), Some((400.0 + DOWN * 10.0, "active_down")), "with its interval");
}

#[test]
fn whoever_goes_before_us_and_has_our_flows_takes_over_without_a_gap() {
    let mut node = Node::active(|_| ());
    node.at(390.0, Input::InSync(true));
    let why = Why::Outranked { by: HIGHER.into(), priority: Priority(200) };
    assert_eq!(node.at(400.0, heard(HIGHER, 200)), [Effect::StopAnswering, changed(State::Active, State::Releasing, why)]);
    for t in [500, 600, 700, 800, 900, 1000, 1100, 1200, 1300] {
        assert_eq!(node.at(f64::from(t), heard(HIGHER, 200)), []);
    }
    let change = changed(State::Releasing, State::Backup, Why::HandedOver);
    assert_eq!(node.at(1400.0, Input::Timeout), [Effect::ReleaseAddresses, change]);
}

#[rstest]
#[case::lower_priority(HIGHER, 99)]
#[case::equal_priority_lower_address(LOWER, 100)]
fn whoever_does_not_is_told_at_once(#[case] from: [u8; 4], #[case] priority: u8) {
    let mut node = Node::active(|_| ());
    let discard = Effect::Discarded(Discard::LowerPriority);
    assert_eq!(node.at(400.0, heard(from, priority)), [send(100), announce(Announced::Contested), discard.clone()]);
    assert_eq!(node.timeout(), Some((461.0, "advertise")), "Adver_Timer runs on");
    assert_eq!(node.at(405.0, heard(from, priority)), std::slice::from_ref(&discard), "a flood is not answered by a flood");
    assert_eq!(node.at(411.0, heard(from, priority)), [send(100), discard]);
}

#[test]
fn a_healed_split_brain_is_announced_when_the_rival_has_been_silent() {
    let mut node = Node::active(|c| c.announcements.repeat_after = Duration::from_secs(9));
    for due in [461.0, 561.0, 661.0] {
        assert_eq!(node.at(due, Input::Timeout), [send(100)]);
    }
    node.at(700.0, heard(HIGHER, 99));
    node.at(750.0, heard(HIGHER, 99));
    for due in [761.0, 861.0, 961.0] {
        assert_eq!(node.at(due, Input::Timeout), [send(100)]);
    }
    assert_eq!(node.timeout(), Some((1050.0, "rival_quiet")));
    assert_eq!(node.at(1050.0, Input::Timeout), [announce(Announced::Healed)]);
    assert_eq!(node.timeout(), Some((1061.0, "advertise")));
}

#[test]
fn priority_0_of_another_is_answered_and_neighbours_that_believed_it_are_told() {
    let mut node = Node::active(|c| c.announcements.repeat_after = Duration::from_secs(9));
    for due in [461.0, 561.0, 661.0] {
        assert_eq!(node.at(due, Input::Timeout), [send(100)]);
    }
    assert_eq!(node.at(700.0, heard(HIGHER, 0)), [send(100), announce(Announced::Healed)]);
    assert_eq!(node.timeout(), Some((800.0, "advertise")), "and Adver_Timer starts anew");
    assert_eq!(node.at(701.0, heard(HIGHER, 0)), []);
    assert_eq!(node.timeout(), Some((711.0, "rival_quiet")), "neighbours are told once more");
    assert_eq!(node.at(702.0, heard(HIGHER, 0)), []);
    assert_eq!(node.at(711.0, Input::Timeout), [announce(Announced::Yielded)], "it is the same one");
    assert_eq!(node.timeout(), Some((800.0, "advertise")));
}

/// Its peers have just been called; nobody can have been led astray by two.
#[test]
fn the_node_before_that_lets_go_was_no_rival() {
    let mut node = Node::active(|_| ());
    assert_eq!(node.at(362.0, heard(HIGHER, 0)), []);
    assert_eq!(node.at(372.0, Input::Timeout), [announce(Announced::Yielded)]);
    assert_eq!(node.at(659.0, heard(HIGHER, 0)), [send(100), announce(Announced::Yielded)]);
    assert_eq!(node.at(662.0, Input::Timeout), []);
}

/// A preferred node took over while the one before was saying that it was Active; which then forwards for a while in silence.
#[test]
fn the_node_before_that_falls_silent_was_no_rival() {
    let mut node = Node::active(|c| c.announcements.repeat_after = Duration::from_secs(9));
    assert_eq!(node.at(362.0, heard(LOWER, 99)), [announce(Announced::Contested), Effect::Discarded(Discard::LowerPriority)]);
    for due in [461.0, 561.0, 661.0] {
        assert_eq!(node.at(due, Input::Timeout), [send(100)]);
    }
    assert_eq!(node.at(662.0, Input::Timeout), [announce(Announced::Yielded)]);
    assert_eq!(node.timeout(), Some((761.0, "advertise")));
}

/// It cannot be heard by the one before, which goes on beside it.
#[test]
fn the_node_before_that_goes_on_for_long_is_a_rival() {
    let mut node = Node::active(|c| c.announcements.repeat_after = Duration::from_secs(9));
    for at in [400.0, 500.0, 600.0, 700.0] {
        node.at(at, heard(LOWER, 99));
    }
    assert_eq!(node.at(750.0, heard(LOWER, 0)), [send(100), announce(Announced::Healed)]);
}

#[test]
fn a_rival_that_lets_go_is_told_of_once() {
    let mut node = Node::active(|c| c.announcements.repeat_after = Duration::from_secs(9));
    for due in [461.0, 561.0, 661.0] {
        node.at(due, Input::Timeout);
    }
    node.at(700.0, heard(LOWER, 99));
    assert_eq!(node.at(715.0, heard(LOWER, 0)), [send(100), announce(Announced::Healed)]);
    assert_eq!(node.timeout(), Some((815.0, "advertise")));
    for due in [815.0, 915.0, 1015.0, 1115.0] {
        assert_eq!(node.at(due, Input::Timeout), [send(100)]);
    }
}

#[test]
fn an_owner_gives_way_to_nobody_but_a_second_owner() {
    let mut node = Node::new(|c| c.priority = Priority::OWNER);
    node.at(0.0, Input::Start);
    let discard = Effect::Discarded(Discard::LowerPriority);
    assert_eq!(node.at(50.0, heard(HIGHER, 254)), [send(255), announce(Announced::Contested), discard.clone()]);
    assert_eq!(node.at(60.0, heard(LOWER, 255))[1..], [send(255), discard]);
    let why = Why::Outranked { by: HIGHER.into(), priority: Priority::OWNER };
    let effects = node.at(70.0, heard(HIGHER, 255));
    assert_eq!(effects[1..], [send(0), Effect::ReleaseAddresses, changed(State::Active, State::Backup, why)]);
}

#[rstest]
#[case::inferior(99)]
#[case::superior(101)]
fn after_standing_still_it_gives_way_to_whoever_took_over(#[case] priority: u8) {
    let mut node = Node::active(|_| ());
    let why = Why::Overtaken { by: LOWER.into(), priority: Priority(priority) };
    let effects = [send(0), Effect::ReleaseAddresses, changed(State::Active, State::Backup, why)];
    let late = node.at(361.0 + 299.0, heard(LOWER, 99));
    assert!(late.contains(&send(100)), "not yet: {late:?}");
    let mut node = Node::active(|_| ());
    assert_eq!(node.at(361.0 + 300.0, heard(LOWER, priority)), effects);
}

#[test]
fn after_standing_still_alone_it_goes_on() {
    let mut node = Node::active(|_| ());
    assert_eq!(node.at(5000.0, Input::Timeout), [send(100), announce(Announced::Repeated)]);
    assert_eq!(node.state(), State::Active);
}

#[test]
fn a_changed_priority_is_advertised_at_once() {
    let mut node = Node::active(|_| ());
    assert_eq!(node.at(400.0, Input::Priority(Priority(50))), [send(50)]);
    assert_eq!(node.timeout(), Some((500.0, "advertise")));
    assert_eq!(node.at(401.0, Input::Priority(Priority(50))), []);
}

#[test]
fn a_fault_lets_go_at_once() {
    let mut node = Node::active(|_| ());
    let change = changed(State::Active, State::Initialize, Why::Fault);
    assert_eq!(node.at(400.0, Input::Fault), [send(0), Effect::ReleaseAddresses, change]);
    assert_eq!(node.timeout(), None);
    assert_eq!(node.at(900.0, Input::Mended), [changed(State::Initialize, State::Backup, Why::Started)]);
}

#[test]
fn what_means_nothing_to_an_active_changes_nothing() {
    for input in [Input::Start, Input::Resume, Input::Mended, Input::InSync(true), Input::InSync(false), Input::Priority(Priority(100))] {
        let mut node = Node::active(|_| ());
        assert_eq!(node.at(400.0, input), [], "{input:?}");
        assert_eq!((node.state(), node.timeout()), (State::Active, Some((461.0, "advertise"))), "{input:?}");
    }
}
