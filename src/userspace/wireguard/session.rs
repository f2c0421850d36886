//! Keys that two peers have agreed on, used by any number of threads at once: sealing counts up an atomic number, opening takes a lock for
//! as long as a bit is looked at; neither holds one over the cipher.

use super::counters::DropReason;
use super::left::LeftSession;
use super::message::{DATA_HEADER_LEN, DATA_OVERHEAD, TAG_LEN, data_header};
use super::noise::Keys;
use super::replay::Replay;
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Milliseconds; the whitepaper's section 6.1 has these in seconds. At this age whoever began the session wants another one.
pub const REKEY_AFTER: u64 = 120_000;
/// At this age a session is worth nothing.
pub const REJECT_AFTER: u64 = 180_000;
/// At this age a session's beginner wants another one also when it only receives: what is then left is enough for a keepalive and an attempt.
pub const REKEY_LATE: u64 = REJECT_AFTER - 10_000 - 5_000;
/// Messages after which another session is wanted.
const REKEY_MESSAGES: u64 = 1 << 60;
/// Messages that one session may carry: before the counter wraps, and with it the nonces.
const REJECT_MESSAGES: u64 = u64::MAX - (1 << 13);

pub struct Session {
    /// What we call it.
    pub local: u32,
    /// What they call it.
    remote: u32,
    /// We began it.
    pub initiator: bool,
    /// Milliseconds.
    pub created: u64,
    /// For whoever goes on with it when this process has ended.
    keys: Keys,
    seal: LessSafeKey,
    open: LessSafeKey,
    counter: AtomicU64,
    replay: Mutex<Replay>,
    /// Something was received by it, so that the other side is known to have it.
    pub confirmed: AtomicBool,
}

impl Session {
    pub fn new(keys: Keys, local: u32, remote: u32, initiator: bool, now: u64) -> Result<Session, Unspecified> {
        let (age, counter, replay, confirmed) = (0, 0, Replay::default(), initiator);
        Self::resume(LeftSession { keys, local, remote, initiator, confirmed, age, counter, replay }, now)
    }

    /// Goes on with what a predecessor has left, as old as it says.
    pub fn resume(left: LeftSession, now: u64) -> Result<Session, Unspecified> {
        let LeftSession { keys, local, remote, initiator, confirmed, age, counter, replay } = left;
        let key = |bytes: &[u8; 32]| UnboundKey::new(&CHACHA20_POLY1305, bytes).map(LessSafeKey::new);
        Ok(Session {
            local,
            remote,
            initiator,
            created: now.saturating_sub(age),
            seal: key(&keys.seal)?,
            open: key(&keys.open)?,
            keys,
            counter: AtomicU64::new(counter),
            replay: Mutex::new(replay),
            confirmed: AtomicBool::new(confirmed),
        })
    }

    /// For a successor. It has to be the last that is done with this session: from then on its counters are another's.
    pub fn leave(&self, now: u64) -> LeftSession {
        LeftSession {
            keys: self.keys.clone(),
            local: self.local,
            remote: self.remote,
            initiator: self.initiator,
            confirmed: self.confirmed.load(Relaxed),
            age: self.age(now),
            counter: self.counter.load(Relaxed),
            replay: self.replay.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    pub fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.created)
    }

    /// Whether it may still be used.
    pub fn is_alive(&self, now: u64) -> bool {
        self.age(now) < REJECT_AFTER && self.counter.load(Relaxed) < REJECT_MESSAGES
    }

    /// Whether its beginner should begin another when it sends.
    pub fn is_stale(&self, now: u64) -> bool {
        (self.initiator && self.age(now) >= REKEY_AFTER) || self.counter.load(Relaxed) >= REKEY_MESSAGES
    }

    /// Makes a data message of the bytes in the middle of `message`: before them there is room for a header, behind them for a tag.
    ///
    /// # Errors
    /// [`DropReason::Expired`] if it has carried all that it may.
    pub fn seal(&self, message: &mut [u8]) -> Result<(), DropReason> {
        let counter = self.counter.fetch_add(1, Relaxed);
        if counter >= REJECT_MESSAGES {
            self.counter.store(REJECT_MESSAGES, Relaxed);
            return Err(DropReason::Expired);
        }
        let (header, rest) = message.split_at_mut(DATA_HEADER_LEN);
        header.copy_from_slice(&data_header(self.remote, counter));
        let (inner, room) = rest.split_at_mut(rest.len() - TAG_LEN);
        let tag = self.seal.seal_in_place_separate_tag(nonce(counter), Aad::empty(), inner).map_err(|_| DropReason::TooBig)?;
        room.copy_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens a data message in place: where its inner bytes are.
    pub fn open(&self, message: &mut [u8], counter: u64) -> Result<Range<usize>, DropReason> {
        if counter >= REJECT_MESSAGES {
            return Err(DropReason::Expired);
        }
        let sealed = message.get_mut(DATA_HEADER_LEN..).ok_or(DropReason::Truncated)?;
        self.open.open_in_place(nonce(counter), Aad::empty(), sealed).map_err(|_| DropReason::BadSeal)?;
        // Not before: what is not authentic must not move the window.
        if !self.replay.lock().unwrap_or_else(PoisonError::into_inner).accept(counter) {
            return Err(DropReason::Replayed);
        }
        Ok(DATA_HEADER_LEN..message.len() - TAG_LEN)
    }

    /// A data message without anything inside.
    pub fn keepalive(&self) -> Result<[u8; DATA_OVERHEAD], DropReason> {
        let mut message = [0; DATA_OVERHEAD];
        self.seal(&mut message)?;
        Ok(message)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({:08x} <-> {:08x})", self.local, self.remote)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::userspace::wireguard::message::{Message, parse};
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    fn pair() -> [Session; 2] {
        let keys = |a: u8, b: u8| Keys { seal: Zeroizing::new([a; 32]), open: Zeroizing::new([b; 32]) };
        [Session::new(keys(1, 2), 5, 6, true, 1_000).unwrap(), Session::new(keys(2, 1), 6, 5, false, 1_000).unwrap()]
    }

    fn sealed(session: &Session, inner: &[u8]) -> Vec<u8> {
        let mut message = [&[0; DATA_HEADER_LEN][..], inner, &[0; TAG_LEN]].concat();
        session.seal(&mut message).unwrap();
        message
    }

    fn open(session: &Session, message: &mut [u8]) -> Result<Vec<u8>, DropReason> {
        let Ok(Message::Data { receiver, counter }) = parse(message) else { panic!("no data message") };
        assert_eq!(receiver, session.local);
        session.open(message, counter).map(|range| message[range].to_vec())
    }

    proptest! {
        #[test]
        fn what_one_seals_the_other_opens_once_and_only_whole(inner in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0u8..8) {
            let [a, b] = pair();
            let message = sealed(&a, &inner);
            let mut damaged = message.clone();
            // The counter (in the nonce), what is sealed, and the tag.
            let at = 8 + at.index(message.len() - 8);
            damaged[at] ^= 1 << bit;
            let opened = open(&b, &mut damaged);
            prop_assert!(matches!(opened, Err(DropReason::BadSeal | DropReason::Expired)), "{:?}", opened);
            prop_assert_eq!(open(&b, &mut message.clone()), Ok(inner));
            prop_assert_eq!(open(&b, &mut message.clone()), Err(DropReason::Replayed));
        }
    }

    #[test]
    fn counters_go_up_and_come_to_an_end() {
        let [a, b] = pair();
        for n in 0..3 {
            assert_eq!(parse(&sealed(&a, b"x")), Ok(Message::Data { receiver: b.local, counter: n }));
        }
        a.counter.store(REJECT_MESSAGES - 1, Relaxed);
        assert!(a.is_stale(1_000) && a.is_alive(1_000));
        let mut last = sealed(&a, b"x");
        assert!(open(&b, &mut last).is_ok());
        assert_eq!(a.keepalive(), Err(DropReason::Expired));
        assert_eq!(a.keepalive(), Err(DropReason::Expired));
        assert!(!a.is_alive(1_000));
    }

    #[test]
    fn a_successor_goes_on_where_the_session_was_left() {
        let [a, b] = pair();
        let (first, mut late) = (sealed(&a, b"first"), sealed(&a, b"late"));
        assert!(open(&b, &mut first.clone()).is_ok());
        // Left at 2,000 by one clock, resumed at 50,000 by another.
        let [a, b] = [a, b].map(|session| Session::resume(session.leave(2_000), 50_000).unwrap());
        assert_eq!((a.age(50_000), a.initiator, b.initiator), (1_000, true, false));
        assert_eq!((a.confirmed.load(Relaxed), b.confirmed.load(Relaxed)), (true, false));
        assert_eq!(open(&b, &mut first.clone()), Err(DropReason::Replayed));
        assert_eq!(open(&b, &mut late), Ok(b"late".to_vec()));
        assert_eq!(parse(&sealed(&a, b"x")), Ok(Message::Data { receiver: b.local, counter: 2 }));
    }

    #[test]
    fn only_its_beginner_renews_a_session() {
        let [a, b] = pair();
        assert!(!a.is_stale(120_999) && a.is_stale(121_000) && !b.is_stale(121_000));
        assert!(b.is_alive(180_999) && !b.is_alive(181_000));
    }
}
