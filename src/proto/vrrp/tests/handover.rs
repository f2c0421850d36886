use super::*;

/// Offering since 400 ms.
fn offering(input: Input<'static>) -> Node {
    let mut node = Node::active(|_| ());
    let why = if input == Input::Drain { Why::Drain } else { Why::Shutdown };
    assert_eq!(node.at(400.0, input), [send(0), changed(State::Active, State::Offering, why)]);
    assert_eq!(node.timeout(), Some((600.0, "advertise")));
    node
}

/// Releasing since 470 ms.
fn releasing(input: Input<'static>) -> Node {
    let mut node = offering(input);
    let why = Why::SuccessorAdvertises { successor: LOWER.into() };
    assert_eq!(node.at(470.0, heard(LOWER, 90)), [Effect::StopAnswering, changed(State::Offering, State::Releasing, why)]);
    node
}

#[test]
fn as_the_rfc_has_it_everything_goes_at_once() {
    let mut node = Node::active(|c| c.handover = Handover::AtOnce);
    let change = changed(State::Active, State::Initialize, Why::Shutdown);
    assert_eq!(node.at(400.0, Input::Shutdown), [send(0), Effect::ReleaseAddresses, change]);
    let mut node = Node::active(|c| c.handover = Handover::AtOnce);
    let change = changed(State::Active, State::Backup, Why::Drain);
    assert_eq!(node.at(400.0, Input::Drain), [send(0), Effect::ReleaseAddresses, change]);
    assert_eq!(node.timeout(), Some((799.6094, "active_down")), "with the lowest priority");
}

#[test]
fn priority_0_is_repeated_until_somebody_advertises() {
    let mut node = offering(Input::Drain);
    assert_eq!(node.at(600.0, Input::Timeout), [send(0)]);
    assert_eq!(node.at(650.0, heard(LOWER, 0)), [], "another that lets go is no successor");
    assert_eq!(node.at(800.0, Input::Timeout), [send(0)]);
    assert_eq!(node.state(), State::Offering);
}

#[test]
fn a_drained_node_forwards_for_a_while_and_becomes_backup() {
    let mut node = releasing(Input::Drain);
    for t in [500, 600, 700, 800, 900, 1000, 1100, 1200, 1300, 1400] {
        assert_eq!(node.at(f64::from(t), heard(LOWER, 90)), []);
    }
    assert_eq!(node.timeout(), Some((1470.0, "let_go")));
    let change = changed(State::Releasing, State::Backup, Why::HandedOver);
    assert_eq!(node.at(1470.0, Input::Timeout), [Effect::ReleaseAddresses, change]);
    assert_eq!(node.timeout(), Some((1400.0 + 399.6094, "active_down")));
    assert!(node.instance.status().drained);
    assert_eq!(node.at(1500.0, heard(LOWER, 90)), [], "it does not preempt");
    assert_eq!(node.at(1510.0, Input::Undrain), []);
    assert_eq!(node.at(1600.0, heard(LOWER, 90)), discarded(Discard::LowerPriority), "but may when drained no longer");
}

#[test]
fn a_node_that_shuts_down_forwards_for_a_while_and_is_gone() {
    let mut node = releasing(Input::Shutdown);
    assert_eq!(node.timeout(), Some((1470.0, "let_go")));
    assert_eq!(node.at(1000.0, Input::Timeout), []);
    let change = changed(State::Releasing, State::Initialize, Why::HandedOver);
    assert_eq!(node.at(1470.0, Input::Timeout), [Effect::ReleaseAddresses, change]);
    assert_eq!(node.timeout(), None);
}

#[test]
fn without_a_successor_a_drained_node_stays() {
    let mut node = offering(Input::Drain);
    assert_eq!(node.at(900.0, Input::Timeout), [send(100), changed(State::Offering, State::Active, Why::NoSuccessor)]);
    assert!(!node.instance.status().drained, "the drain has failed");
}

#[test]
fn without_a_successor_a_node_that_shuts_down_lets_go() {
    let mut node = offering(Input::Shutdown);
    let change = changed(State::Offering, State::Initialize, Why::NoSuccessor);
    assert_eq!(node.at(900.0, Input::Timeout), [Effect::ReleaseAddresses, change]);
}

#[test]
fn a_successor_that_falls_silent_is_succeeded() {
    let mut node = releasing(Input::Drain);
    assert_eq!(node.timeout(), Some((470.0 + 399.6094, "successor_silent")));
    assert_eq!(node.at(870.0, Input::Timeout), promotion(1, State::Releasing, Why::SuccessorSilent));
}

#[test]
fn a_successor_that_lets_go_is_succeeded() {
    let mut node = releasing(Input::Drain);
    node.at(500.0, heard(LOWER, 0));
    assert_eq!(node.timeout(), Some((500.0 + 99.6094, "successor_silent")));
}

#[test]
fn a_drain_can_be_taken_back() {
    let mut node = offering(Input::Drain);
    assert_eq!(node.at(450.0, Input::Undrain), [send(100), changed(State::Offering, State::Active, Why::Undrain)]);
    assert_eq!(node.timeout(), Some((550.0, "advertise")));
    let mut node = releasing(Input::Drain);
    assert_eq!(node.at(500.0, Input::Undrain), []);
    assert_eq!((node.state(), node.instance.status().priority), (State::Releasing, Priority(100)));
}

#[test]
fn a_shutdown_cannot() {
    let mut node = offering(Input::Shutdown);
    assert_eq!(node.at(450.0, Input::Undrain), []);
    assert_eq!(node.state(), State::Offering);
}

#[test]
fn a_drain_becomes_a_shutdown() {
    let mut node = offering(Input::Drain);
    let change = changed(State::Offering, State::Offering, Why::Shutdown);
    assert_eq!(node.at(600.0, Input::Shutdown), [send(0), change]);
    assert_eq!(node.at(1100.0, Input::Timeout).len(), 2);
    assert_eq!(node.state(), State::Initialize);
    let mut node = releasing(Input::Drain);
    assert_eq!(node.at(600.0, Input::Shutdown), []);
    assert_eq!(node.timeout(), Some((1470.0, "let_go")));
}

#[test]
fn a_second_shutdown_does_not_wait() {
    let mut node = offering(Input::Shutdown);
    let change = |from| changed(from, State::Initialize, Why::Shutdown);
    assert_eq!(node.at(450.0, Input::Shutdown), [Effect::ReleaseAddresses, change(State::Offering)]);
    let mut node = releasing(Input::Shutdown);
    assert_eq!(node.at(500.0, Input::Shutdown), [Effect::ReleaseAddresses, change(State::Releasing)]);
}

#[test]
fn a_fault_ends_a_handover() {
    for mut node in [offering(Input::Drain), offering(Input::Shutdown), releasing(Input::Drain), releasing(Input::Shutdown)] {
        let change = changed(node.state(), State::Initialize, Why::Fault);
        assert_eq!(node.at(480.0, Input::Fault), [Effect::ReleaseAddresses, change]);
    }
}

#[test]
fn what_means_nothing_to_a_handover_changes_nothing() {
    for input in [Input::Start, Input::Resume, Input::Mended, Input::Drain, Input::Priority(Priority(9)), Input::InSync(false)] {
        for mut node in [offering(Input::Shutdown), releasing(Input::Shutdown)] {
            let before = (node.state(), node.timeout());
            assert_eq!(node.at(480.0, input), [], "{input:?}");
            assert_eq!((node.state(), node.timeout()), before, "{input:?}");
        }
    }
}

#[test]
fn the_planned_handover_is_patient_and_forwards_for_a_second() {
    let patience = |centiseconds| match Handover::planned(interval(centiseconds)) {
        Handover::MakeBeforeBreak { successor_within, forward_for } => (successor_within.as_millis(), forward_for),
        Handover::AtOnce => (0, Duration::ZERO),
    };
    assert_eq!(patience(1), (1000, FORWARD_AFTER_HANDOVER));
    assert_eq!(patience(100), (5000, FORWARD_AFTER_HANDOVER));
}

#[test]
fn the_lease_lapses_before_anybody_takes_over_and_lasts_through_a_handover() {
    let lease = |node: &Node| node.instance.lease_ends().map(|at| ms(at - node.epoch));
    assert_eq!(lease(&Node::backup(|_| ())), None);
    let mut node = Node::active(|_| ());
    assert_eq!(lease(&node), Some(361.0 + 250.0));
    node.at(461.0, Input::Timeout);
    assert_eq!(lease(&node), Some(461.0 + 250.0));
    let mut node = offering(Input::Drain);
    assert_eq!(lease(&node), Some(400.0 + 250.0));
    node.at(600.0, Input::Timeout);
    assert_eq!(lease(&node), Some(600.0 + 250.0));
    let mut node = releasing(Input::Drain);
    assert_eq!(lease(&node), Some(1470.0));
    node.at(1400.0, heard(LOWER, 90));
    node.at(1470.0, Input::Timeout);
    assert_eq!(lease(&node), None);
}
