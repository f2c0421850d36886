use super::*;

#[test]
fn start_leads_to_backup() {
    let node = Node::backup(|_| ());
    assert_eq!(node.timeout(), Some((DOWN, "active_down")));
}

#[test]
fn an_owner_starts_as_active_and_accepts() {
    let mut node = Node::new(|c| c.priority = Priority::OWNER);
    let accept = Effect::TakeAddresses { accept: true, former: None };
    let change = changed(State::Initialize, State::Active, Why::Owner);
    assert_eq!(node.at(0.0, Input::Start), [send(255), accept, announce(Announced::Promoted), change]);
    assert_eq!(node.timeout(), Some((100.0, "advertise")));
}

#[test]
fn with_accept_mode_an_active_accepts() {
    let mut node = Node::backup(|c| c.accept = true);
    assert!(node.at(361.0, Input::Timeout).contains(&Effect::TakeAddresses { accept: true, former: None }));
}

#[test]
fn nothing_else_leads_out_of_initialize() {
    let inputs = [
        Input::Shutdown,
        Input::Drain,
        Input::Undrain,
        Input::Timeout,
        Input::Priority(Priority(255)),
        Input::Fault,
        Input::Mended,
        Input::InSync(true),
    ];
    for input in inputs {
        let mut node = Node::new(|_| ());
        assert_eq!(node.at(0.0, input), [], "{input:?}");
        assert_eq!((node.state(), node.timeout()), (State::Initialize, None), "{input:?}");
    }
    let mut node = Node::new(|_| ());
    assert_eq!(node.at(0.0, heard(LOWER, 0)), discarded(Discard::NotRunning));
}

#[test]
fn a_node_at_fault_starts_when_it_is_mended() {
    let mut node = Node::new(|_| ());
    node.at(0.0, Input::Fault);
    assert_eq!(node.at(0.0, Input::Start), []);
    assert_eq!(node.at(50.0, Input::Mended), [changed(State::Initialize, State::Backup, Why::Started)]);
    assert_eq!(node.timeout(), Some((50.0 + DOWN, "active_down")));
}

#[test]
fn a_node_that_was_shut_down_is_not_started_by_mending() {
    let mut node = Node::backup(|_| ());
    node.at(0.0, Input::Fault);
    node.at(0.0, Input::Shutdown);
    assert_eq!(node.at(0.0, Input::Mended), []);
    assert_eq!(node.state(), State::Initialize);
}

#[test]
fn priority_0_is_taken_as_the_lowest() {
    let mut node = Node::new(|c| c.priority = Priority::RELEASE);
    assert_eq!(node.instance.status().priority, Priority::LOWEST);
    node.at(0.0, Input::Priority(Priority(9)));
    node.at(0.0, Input::Priority(Priority::RELEASE));
    assert_eq!(node.instance.status().priority, Priority::LOWEST);
}

#[test]
fn a_process_that_follows_an_active_one_goes_on_in_silence() {
    let mut node = Node::new(|_| ());
    let change = changed(State::Initialize, State::Active, Why::Resumed);
    assert_eq!(node.at(0.0, Input::Resume), [send(100), Effect::TakeAddresses { accept: false, former: None }, change]);
    assert_eq!(node.timeout(), Some((100.0, "advertise")));
    assert_eq!(node.at(1000.0, Input::Timeout), [send(100), announce(Announced::Repeated)]);
}

#[test]
fn a_process_at_fault_that_follows_an_active_one_lets_go() {
    let mut node = Node::new(|_| ());
    node.at(0.0, Input::Fault);
    let change = changed(State::Initialize, State::Initialize, Why::Fault);
    assert_eq!(node.at(0.0, Input::Resume), [send(0), Effect::ReleaseAddresses, change]);
    assert_eq!(node.at(1.0, Input::Mended), [changed(State::Initialize, State::Backup, Why::Started)]);
}
