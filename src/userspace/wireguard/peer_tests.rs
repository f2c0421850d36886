use super::*;
use crate::model::PrivateKey;
use crate::userspace::wireguard::noise::Keys;
use zeroize::Zeroizing;

const NONE: [u32; 0] = [];

fn peer() -> Peer {
    Peer::new(PrivateKey::new([1; 32]).public())
}

fn session(local: u32, initiator: bool, created: u64) -> Arc<Session> {
    let keys = Keys { seal: Zeroizing::new([1; 32]), open: Zeroizing::new([2; 32]) };
    Arc::new(Session::new(keys, local, 0, initiator, created).unwrap())
}

fn locals(sessions: Vec<Arc<Session>>) -> Vec<u32> {
    sessions.into_iter().map(|session| session.local).collect()
}

fn current(peer: &Peer, now: u64) -> Option<u32> {
    peer.session(now).map(|session| session.local)
}

#[test]
fn a_session_that_we_began_is_in_use_at_once() {
    let peer = peer();
    assert_eq!(locals(peer.begun(session(1, true, 10))), NONE);
    assert_eq!(locals(peer.begun(session(2, true, 20))), NONE);
    assert_eq!(current(&peer, 30), Some(2));
    assert_eq!(locals(peer.begun(session(3, true, 30))), [1]);
    assert_eq!(current(&peer, 30 + 180_000), None, "too old");
}

#[test]
fn a_session_that_they_began_is_in_use_once_they_used_it() {
    let peer = peer();
    let (first, second) = (session(1, false, 10), session(2, false, 20));
    assert_eq!(locals(peer.answered(first.clone())), NONE);
    assert_eq!(current(&peer, 30), None);
    assert_eq!(peer.confirm(&first).map(locals), Some(vec![]));
    assert_eq!(current(&peer, 30), Some(1));
    assert!(peer.confirm(&first).is_none(), "once");
    assert_eq!(locals(peer.answered(second.clone())), NONE);
    assert_eq!(current(&peer, 30), Some(1));
    assert_eq!(locals(peer.answered(session(3, false, 25))), [2], "one that they never used");
    assert!(peer.confirm(&second).is_none());
}

/// Both begin at once, and each has the other's session in a place where it is still taken.
#[test]
fn of_two_sessions_begun_at_once_none_is_lost() {
    let peer = peer();
    peer.answered(session(1, false, 10));
    assert_eq!(locals(peer.begun(session(2, true, 11))), NONE);
    assert_eq!(current(&peer, 20), Some(2));
    assert_eq!(locals(peer.expire(180_000, 180_010)), [1]);
    assert_eq!(locals(peer.expire(0, 0)), [2]);
}
