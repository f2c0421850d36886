//! When something is to be done about a peer that nothing happens to (whitepaper section 6). No clock: times are milliseconds since the
//! device was made, 0 for never.
//!
//! The threads that carry packets only note times in [`Marks`], and make sure that somebody looks at the peer by the earliest moment at which that
//! could matter. Whoever looks asks [`due`] and looks again when it says so; a peer about which it says nothing costs nothing.

use super::session::REJECT_AFTER;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How long to wait for a packet after one was sent, before it is believed lost and the session with it.
pub const ANSWER_AFTER: u64 = KEEPALIVE_AFTER + REKEY_TIMEOUT;
/// How long to wait, after data came, for something to send, before an empty packet is sent.
pub const KEEPALIVE_AFTER: u64 = 10_000;
/// Between two initiations, at the longest.
pub const REKEY_TIMEOUT: u64 = 5_000;
/// After the first one, and twice as long after each further one. The whitepaper has [`REKEY_TIMEOUT`] from the start (section 6.1); but a host whose one initiation is
/// lost, or that comes up a moment before its gateway, must not keep a function waiting for so long. Three more messages of 148 bytes in those 5 s are what it costs.
const FIRST_TIMEOUT: u64 = 500;
/// How long initiations are sent in vain.
pub const GIVE_UP_AFTER: u64 = 90_000;
/// Initiations are sent up to this part of the wait later (333 ms of the longest), so that two peers that begin at the same time do not go on so.
const JITTER_DIVISOR: u64 = 15;

/// What the threads that carry packets note of a peer.
#[derive(Debug, Default)]
pub struct Marks {
    /// Data was sent, and nothing has come since.
    unanswered: AtomicU64,
    /// Data came, and nothing was sent since.
    unreplied: AtomicU64,
    /// Something was sent or came.
    passed: AtomicU64,
    /// When somebody will look.
    watched: AtomicU64,
}

impl Marks {
    /// Something authentic came; answers by when to look at the peer, if nobody will before.
    pub fn received(&self, data: bool, keepalive: u64, now: u64) -> Option<u64> {
        self.passed.store(now, Relaxed);
        if self.unanswered.load(Relaxed) != 0 {
            self.unanswered.store(0, Relaxed);
        }
        if data && self.unreplied.load(Relaxed) == 0 {
            self.unreplied.store(now, Relaxed);
        }
        self.watch(data.then_some(now + KEEPALIVE_AFTER), keepalive, now)
    }

    /// Something was sent; the same.
    pub fn sent(&self, data: bool, keepalive: u64, now: u64) -> Option<u64> {
        self.passed.store(now, Relaxed);
        if self.unreplied.load(Relaxed) != 0 {
            self.unreplied.store(0, Relaxed);
        }
        if data && self.unanswered.load(Relaxed) == 0 {
            self.unanswered.store(now, Relaxed);
        }
        self.watch(data.then_some(now + ANSWER_AFTER), keepalive, now)
    }

    fn watch(&self, by: Option<u64>, keepalive: u64, now: u64) -> Option<u64> {
        let keepalive = (keepalive > 0).then_some(now + keepalive);
        by.into_iter().chain(keepalive).min().filter(|by| self.claim(*by))
    }

    /// Whether the caller is to see to it that somebody looks by then: nobody will before.
    pub fn claim(&self, by: u64) -> bool {
        let earlier = |watched: u64| (watched == 0 || watched > by).then_some(by);
        self.watched.fetch_update(Relaxed, Relaxed, earlier).is_ok()
    }

    /// Somebody looks now, or nobody will after all.
    pub fn looked(&self) {
        self.watched.store(0, Relaxed);
    }

    /// Whether it is this look that was agreed on last, and not one that an earlier one has replaced.
    pub fn is_watched_at(&self, by: u64) -> bool {
        self.watched.load(Relaxed) == by
    }

    /// A new session, or none any more: nothing is expected.
    pub fn clear(&self) {
        self.unanswered.store(0, Relaxed);
        self.unreplied.store(0, Relaxed);
    }

    /// What a predecessor had noted, as times of this device's.
    pub fn resume(&self, unanswered: u64, unreplied: u64, passed: u64) {
        self.unanswered.store(unanswered, Relaxed);
        self.unreplied.store(unreplied, Relaxed);
        self.passed.store(passed, Relaxed);
    }

    pub fn view(&self) -> (u64, u64, u64) {
        (self.unanswered.load(Relaxed), self.unreplied.load(Relaxed), self.passed.load(Relaxed))
    }
}

/// An initiation that has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trying {
    /// The first of them.
    pub since: u64,
    /// Before this nobody sends another, whatever there is to be said.
    pub until: u64,
    /// When the next is due.
    pub next: u64,
    wait: u64,
}

impl Trying {
    /// The first initiation leaves now.
    pub fn begin(now: u64, random: u32) -> Self {
        Self::wait(now, now, FIRST_TIMEOUT, random)
    }

    /// Another leaves now.
    #[must_use]
    pub fn again(self, now: u64, random: u32) -> Self {
        Self::wait(self.since, now, (self.wait * 2).min(REKEY_TIMEOUT), random)
    }

    /// When the last one left.
    pub fn sent(&self) -> u64 {
        self.until - self.wait
    }

    fn wait(since: u64, now: u64, wait: u64, random: u32) -> Self {
        Self { since, until: now + wait, next: now + wait + u64::from(random) % (wait / JITTER_DIVISOR), wait }
    }
}

/// All that decides what is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    pub unanswered: u64,
    pub unreplied: u64,
    pub passed: u64,
    pub trying: Option<Trying>,
    /// When the oldest session there is was made.
    pub oldest: Option<u64>,
    /// The persistent keepalive's interval; 0: none.
    pub keepalive: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// When nobody has answered for [`GIVE_UP_AFTER`]: forget what waits to be sent, until there is something new.
    GiveUp,
    /// When an initiation got no answer in time.
    Resend,
    /// When a session is too old for anything.
    Expire,
    /// When what we sent seems to get lost.
    Renew,
    /// When the other side should hear from us, and there is nothing to say.
    Keepalive,
}

/// What is to be done now, and when to look again.
pub fn due(view: &View, now: u64) -> (Vec<Action>, Option<u64>) {
    let (mut actions, mut next) = (Vec::new(), None::<u64>);
    let mut later = |at: u64| next = Some(next.map_or(at, |next| next.min(at)));
    let mut trying = view.trying.is_some();
    match view.trying {
        Some(t) if now >= t.since + GIVE_UP_AFTER => {
            actions.push(Action::GiveUp);
            trying = false;
        }
        Some(t) if now >= t.next => actions.push(Action::Resend),
        Some(t) => later(t.next.min(t.since + GIVE_UP_AFTER)),
        None => {}
    }
    match view.oldest {
        Some(created) if now >= created + REJECT_AFTER => actions.push(Action::Expire),
        Some(created) => later(created + REJECT_AFTER),
        None => {}
    }
    match view.unanswered {
        0 => {}
        _ if trying || actions.contains(&Action::GiveUp) => {}
        since if now >= since + ANSWER_AFTER => actions.push(Action::Renew),
        since => later(since + ANSWER_AFTER),
    }
    let reply = (view.unreplied > 0).then_some(view.unreplied + KEEPALIVE_AFTER);
    let keepalive = (view.keepalive > 0).then_some(if view.passed == 0 { 0 } else { view.passed + view.keepalive });
    match reply.into_iter().chain(keepalive).min() {
        Some(at) if now >= at => actions.push(Action::Keepalive),
        Some(at) => later(at),
        None => {}
    }
    (actions, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn a_lost_initiation_is_repeated_soon_and_then_ever_later() {
        let mut trying = Trying::begin(1_000, 0);
        let mut at = vec![];
        while trying.next < 1_000 + 30_000 {
            at.push(trying.next - 1_000);
            trying = trying.again(trying.next, 0);
            assert_eq!(trying.since, 1_000);
        }
        assert_eq!(at, [500, 1_500, 3_500, 7_500, 12_500, 17_500, 22_500, 27_500]);
        let late = Trying::begin(0, u32::MAX);
        assert!(late.until == 500 && late.next >= 500 && late.next < 534);
    }

    #[rstest]
    #[case::idle(View::default(), 500, vec![], None)]
    #[case::waiting_for_an_answer(View { unanswered: 100, ..View::default() }, 500, vec![], Some(15_100))]
    #[case::no_answer(View { unanswered: 100, ..View::default() }, 15_100, vec![Action::Renew], None)]
    #[case::no_answer_and_trying_already(
        View { unanswered: 100, trying: Some(Trying { since: 15_100, until: 20_200, next: 20_200, wait: 5_000 }), ..View::default() }, 16_000, vec![], Some(20_200))]
    #[case::once_more(View { trying: Some(Trying { since: 100, until: 5_200, next: 5_200, wait: 5_000 }), ..View::default() }, 5_200, vec![Action::Resend], None)]
    #[case::in_vain(
        View { unanswered: 50, trying: Some(Trying { since: 100, until: 90_500, next: 90_500, wait: 5_000 }), ..View::default() }, 90_100, vec![Action::GiveUp], None)]
    #[case::data_came(View { unreplied: 100, ..View::default() }, 500, vec![], Some(10_100))]
    #[case::nothing_to_say(View { unreplied: 100, ..View::default() }, 10_100, vec![Action::Keepalive], None)]
    #[case::persistent(View { passed: 100, keepalive: 25_000, ..View::default() }, 500, vec![], Some(25_100))]
    #[case::persistent_and_due(View { passed: 100, keepalive: 25_000, ..View::default() }, 25_100, vec![Action::Keepalive], None)]
    #[case::never_anything(View { keepalive: 25_000, ..View::default() }, 500, vec![Action::Keepalive], None)]
    #[case::session(View { oldest: Some(100), ..View::default() }, 500, vec![], Some(180_100))]
    #[case::old_session(View { oldest: Some(100), ..View::default() }, 180_100, vec![Action::Expire], None)]
    #[case::the_first_of_several(
        View { oldest: Some(100), unreplied: 200, unanswered: 300, ..View::default() }, 400, vec![], Some(10_200))]
    fn what_is_due(#[case] view: View, #[case] now: u64, #[case] actions: Vec<Action>, #[case] next: Option<u64>) {
        assert_eq!(due(&view, now), (actions, next));
    }

    #[test]
    fn a_busy_peer_is_looked_at_no_more_than_an_idle_one() {
        let marks = Marks::default();
        assert_eq!(marks.sent(true, 0, 1_000), Some(16_000));
        assert_eq!(marks.received(true, 0, 1_010), Some(11_010), "earlier than what was agreed on");
        for now in 1_020..5_000 {
            assert_eq!((marks.sent(true, 0, now), marks.received(true, 0, now)), (None, None));
        }
        assert!(!marks.is_watched_at(16_000) && marks.is_watched_at(11_010));
        assert_eq!(marks.view(), (0, 4_999, 4_999));
        marks.looked();
        assert_eq!(marks.sent(true, 25_000, 12_000), Some(27_000));
    }
}
