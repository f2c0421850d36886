use super::*;

#[test]
fn when_nothing_is_heard_it_takes_over_and_not_before() {
    let mut node = Node::backup(|_| ());
    assert_eq!(node.at(360.9, Input::Timeout), []);
    assert_eq!(node.at(361.0, Input::Timeout), promotion(100, State::Backup, Why::ActiveSilent));
    assert_eq!(node.timeout(), Some((461.0, "advertise")));
}

#[rstest]
#[case::higher(101)]
#[case::equal_whatever_the_address(100)]
fn an_active_that_is_as_good_restarts_the_timer(#[case] priority: u8) {
    for from in [LOWER, HIGHER] {
        let mut node = Node::backup(|_| ());
        assert_eq!(node.at(200.0, heard(from, priority)), []);
        assert_eq!(node.timeout(), Some((200.0 + DOWN, "active_down")));
    }
}

#[test]
fn the_interval_of_the_active_is_learned() {
    let mut node = Node::backup(|_| ());
    node.at(200.0, odd(HIGHER, 200, |a| a.interval = interval(100)));
    assert_eq!(node.timeout(), Some((200.0 + DOWN * 10.0, "active_down")));
    node.at(4000.0, Input::Timeout);
    assert_eq!(node.timeout(), Some((4100.0, "advertise")), "but an Active sends at its own");
}

#[test]
fn an_inferior_active_is_preempted_when_the_timer_fires() {
    let mut node = Node::backup(|_| ());
    assert_eq!(node.at(200.0, heard(HIGHER, 99)), discarded(Discard::LowerPriority));
    assert_eq!(node.timeout(), Some((DOWN, "active_down")), "the timer runs on");
    let why = Why::Preempted { active: HIGHER.into(), priority: Priority(99) };
    assert_eq!(node.at(361.0, Input::Timeout), promotion(100, State::Backup, why));
}

#[test]
fn without_preemption_an_inferior_active_stays() {
    let mut node = Node::backup(|c| c.preempt = Preempt::Never);
    assert_eq!(node.at(200.0, heard(HIGHER, 1)), []);
    assert_eq!(node.timeout(), Some((200.0 + DOWN, "active_down")));
}

#[test]
fn flows_must_be_in_sync_to_preempt_but_not_to_take_over_from_the_dead() {
    let mut node = Node::backup(|_| ());
    node.at(0.0, Input::InSync(false));
    assert_eq!(node.at(200.0, heard(HIGHER, 99)), []);
    assert_eq!(node.at(200.0 + DOWN + 0.1, Input::Timeout), promotion(100, State::Backup, Why::ActiveSilent));
}

#[test]
fn preemption_waits_for_its_delay() {
    let mut node = Node::backup(|c| c.preempt = Preempt::After(Duration::from_millis(250)));
    assert_eq!(node.at(100.0, heard(HIGHER, 99)), []);
    assert_eq!(node.at(200.0, heard(HIGHER, 99)), []);
    assert_eq!(node.at(300.0, heard(HIGHER, 99)), []);
    assert_eq!(node.at(400.0, heard(HIGHER, 99)), discarded(Discard::LowerPriority));
    assert_eq!(node.timeout(), Some((300.0 + DOWN, "active_down")));
}

const OWN: [u8; 4] = [10, 0, 0, 5];
const THIRD: [u8; 4] = [10, 0, 0, 9];

/// The others' first advertisement after which they preempt an Active that they first heard at 100 ms.
fn others_preempt_at() -> f64 {
    100.0 + f64::from(Preferred::OTHERS_WAIT) * 100.0
}

/// Whether an Active of this priority, heard from 100 ms on, is preempted at once, or so much later.
#[rstest]
#[case::the_second_lets_the_first(HIGHER, 100, THIRD, 99, true)]
#[case::the_first_does_not_wait(OWN, 101, THIRD, 99, false)]
#[case::from_the_first_the_second_takes_at_once(HIGHER, 100, HIGHER, 99, false)]
#[case::the_first_is_lowered(OWN, 100, THIRD, 99, true)]
fn the_preferred_node_goes_first(
    #[case] first: [u8; 4],
    #[case] ours: u8,
    #[case] active: [u8; 4],
    #[case] theirs: u8,
    #[case] waits: bool,
) {
    let preferred = Preferred { address: first.into(), above: Priority(100) };
    let mut node = Node::backup(|c| (c.preferred, c.priority) = (Some(preferred), Priority(ours)));
    let later = if waits { others_preempt_at() } else { 100.0 };
    for at in [100.0, 200.0, 300.0, 400.0, 500.0].into_iter().filter(|at| *at < later) {
        assert_eq!(node.at(at, heard(active, theirs)), [], "at {at} ms");
    }
    assert_eq!(node.at(later, heard(active, theirs)), discarded(Discard::LowerPriority));
}

#[test]
fn a_better_active_ends_the_preemption_and_its_delay() {
    let mut node = Node::backup(|c| c.preempt = Preempt::After(Duration::from_millis(250)));
    node.at(100.0, heard(HIGHER, 99));
    node.at(300.0, heard(LOWER, 200));
    assert_eq!(node.at(400.0, heard(HIGHER, 99)), [], "the delay begins anew");
    assert_eq!(node.timeout(), Some((400.0 + DOWN, "active_down")));
}

#[rstest]
#[case::flows_lost(Input::InSync(false))]
#[case::priority_fell(Input::Priority(Priority(99)))]
#[case::drained(Input::Drain)]
fn a_preemption_under_way_ends_when_it_is_no_longer_allowed(#[case] input: Input<'static>) {
    let mut node = Node::backup(|_| ());
    node.at(200.0, heard(HIGHER, 99));
    node.at(300.0, heard(HIGHER, 99));
    assert_eq!(node.at(350.0, input), []);
    assert!(node.timeout().is_some_and(|(at, _)| at > 300.0 + DOWN - 0.1), "{:?}", node.timeout());
    assert_eq!(node.state(), State::Backup);
}

#[test]
fn priority_0_sets_the_timer_to_skew_time() {
    let mut node = Node::backup(|_| ());
    assert_eq!(node.at(200.0, heard(HIGHER, 0)), []);
    assert_eq!(node.timeout(), Some((200.0 + SKEW, "skew")));
    assert_eq!(node.at(261.0, Input::Timeout), promotion(100, State::Backup, Why::ActiveReleased));
}

#[test]
fn repeated_priority_0_does_not_put_it_off() {
    let mut node = Node::backup(|_| ());
    node.at(200.0, heard(HIGHER, 0));
    assert_eq!(node.at(250.0, heard(HIGHER, 0)), []);
    assert_eq!(node.timeout(), Some((200.0 + SKEW, "skew")));
}

#[test]
fn after_priority_0_the_successor_is_followed() {
    let mut node = Node::backup(|_| ());
    node.at(200.0, heard(HIGHER, 0));
    assert_eq!(node.at(230.0, heard(LOWER, 150)), []);
    assert_eq!(node.timeout(), Some((230.0 + DOWN, "active_down")));
}

#[test]
fn a_changed_priority_moves_the_timer() {
    let mut node = Node::backup(|_| ());
    assert_eq!(node.at(100.0, Input::Priority(Priority(200))), []);
    assert_eq!(node.timeout(), Some((321.875, "active_down")));
    assert_eq!(node.at(100.0, Input::Priority(Priority(1))), []);
    assert_eq!(node.timeout(), Some((399.6094, "active_down")));
}

#[test]
fn shutdown_and_fault_lead_to_initialize() {
    let mut node = Node::backup(|_| ());
    assert_eq!(node.at(1.0, Input::Shutdown), [changed(State::Backup, State::Initialize, Why::Shutdown)]);
    let mut node = Node::backup(|_| ());
    assert_eq!(node.at(1.0, Input::Fault), [changed(State::Backup, State::Initialize, Why::Fault)]);
    assert_eq!(node.timeout(), None);
}

#[test]
fn a_drained_backup_takes_over_as_the_last_resort() {
    let mut node = Node::backup(|_| ());
    assert_eq!(node.at(0.0, Input::Drain), []);
    assert_eq!(node.at(100.0, heard(HIGHER, 1)), []);
    assert_eq!(node.timeout(), Some((499.6094, "active_down")));
    assert_eq!(node.at(500.0, Input::Timeout), promotion(1, State::Backup, Why::ActiveSilent));
    assert_eq!(node.at(510.0, Input::Undrain), [send(100)]);
}

#[test]
fn what_means_nothing_to_a_backup_changes_nothing() {
    for input in [Input::Start, Input::Resume, Input::Undrain, Input::Mended, Input::InSync(true), Input::Priority(Priority(100))] {
        let mut node = Node::backup(|_| ());
        assert_eq!(node.at(100.0, input), [], "{input:?}");
        assert_eq!((node.state(), node.timeout()), (State::Backup, Some((DOWN, "active_down"))), "{input:?}");
    }
}
