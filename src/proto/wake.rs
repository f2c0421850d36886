//! Handshakes with all peers of a node that has become Active: their keys are known, their sessions died with the node before.
//!
//! Whoever was heard last is most likely to be in the middle of something, and comes first. An initiation takes three X25519, some 0.1 ms of a
//! processor that carries packets as well: all at once would be the worst moment for it.

use super::rate::{Bucket, Rate};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Who has to be woken yet.
#[derive(Debug)]
pub struct Wake<P> {
    rate: Rate,
    bucket: Bucket,
    /// Whoever has not been heard, and since which round. Those who stand in a queue only, or for another round, are awake, or are called by that one.
    asleep: HashMap<P, u64>,
    /// Counts calls of [`Wake::add`].
    round: u64,
    /// The one heard last first.
    queue: VecDeque<(P, u64)>,
    /// Those who have been called so many times, and when they are called again.
    called: [VecDeque<(Instant, P, u64)>; AGAIN.len()],
}

/// From a call to the next, for whoever does not answer: a datagram is lost more often than a host is gone. Longer than a round trip, as a new
/// initiation makes the answer to the one before worthless. WireGuard itself waits 5 s: too long for a kernel whose clock is somewhat behind that of the
/// node before, where one of the later calls is the first that counts.
const AGAIN: [Duration; 9] = {
    let mut waits = [Duration::from_secs(1); 9];
    waits[0] = Duration::from_millis(250);
    waits
};

/// Somebody to initiate to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<P> {
    pub peer: P,
    /// It has not answered a call.
    pub again: bool,
}

impl<P: Clone + Eq + Hash> Wake<P> {
    /// 1,000 peers are through after 0.47 s, and the first 64 at once.
    pub const RATE: Rate = Rate { per_second: 2000, burst: 64 };

    pub fn new(now: Instant, rate: Rate) -> Self {
        Self { rate, bucket: Bucket::new(now), asleep: HashMap::new(), round: 0, queue: VecDeque::new(), called: Default::default() }
    }

    /// These too, each with the time for which it has not been heard. Behind those of an earlier promotion that still wait, each sorted by itself. Whoever
    /// is being called already is so anew, from the beginning.
    pub fn add(&mut self, peers: impl IntoIterator<Item = (P, Duration)>) {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_by_key(|(_, idle)| *idle);
        self.round += 1;
        for (peer, _) in peers {
            if self.asleep.insert(peer.clone(), self.round) != Some(self.round) {
                self.queue.push_back((peer, self.round));
            }
        }
    }

    /// It was heard.
    pub fn awake(&mut self, peer: &P) -> bool {
        self.asleep.remove(peer).is_some()
    }

    /// Only those for whom this holds: when a shard has been let go again.
    pub fn retain(&mut self, mut stays: impl FnMut(&P) -> bool) {
        self.asleep.retain(|peer, _| stays(peer));
    }

    /// The next to initiate to. Call until there is none, then wait for [`Wake::poll_timeout`].
    pub fn next(&mut self, now: Instant) -> Option<Call<P>> {
        let call = self.due(now)?;
        if !self.bucket.take(now, self.rate) {
            return None;
        }
        let (peer, round, calls) = match call {
            None => self.queue.pop_front().map(|(peer, round)| (peer, round, 0))?,
            Some(calls) => self.called[calls].pop_front().map(|(_, peer, round)| (peer, round, calls + 1))?,
        };
        match (AGAIN.get(calls), self.called.get_mut(calls)) {
            (Some(wait), Some(called)) => called.push_back((now + *wait, peer.clone(), round)),
            _ => _ = self.asleep.remove(&peer),
        }
        Some(Call { peer, again: calls > 0 })
    }

    /// Whether somebody's turn has come, and how often it has been called before; those who are awake are left out from here on.
    fn due(&mut self, now: Instant) -> Option<Option<usize>> {
        let Self { asleep, queue, called, .. } = self;
        let is_over = |peer: &P, round: u64| asleep.get(peer) != Some(&round);
        while queue.pop_front_if(|(peer, round)| is_over(peer, *round)).is_some() {}
        for called in called.iter_mut() {
            while called.pop_front_if(|(_, peer, round)| is_over(peer, *round)).is_some() {}
        }
        if !queue.is_empty() {
            return Some(None);
        }
        called.iter().position(|called| called.front().is_some_and(|(at, ..)| *at <= now)).map(Some)
    }

    /// When there will be another. None: all are awake, or have been called often enough.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let first = (!self.queue.is_empty()).then_some(now);
        let again = self.called.iter().filter_map(|called| called.front().map(|(at, ..)| *at)).min();
        first.or(again).map(|at| at.max(self.bucket.ready(now, self.rate)))
    }

    /// How many have not been heard.
    pub fn len(&self) -> usize {
        self.asleep.len()
    }

    pub fn is_empty(&self) -> bool {
        self.asleep.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const RATE: Rate = Wake::<u32>::RATE;

    /// Each with the time when its turn came. `answers`: who is heard as soon as it is called.
    fn wake(start: Instant, wake: &mut Wake<u32>, answers: impl Fn(u32) -> bool) -> Vec<(u32, Duration)> {
        let (mut now, mut called) = (start, vec![]);
        loop {
            while let Some(Call { peer, again }) = wake.next(now) {
                assert_eq!(again, called.iter().any(|(before, _)| *before == peer));
                called.push((peer, now - start));
                if answers(peer) {
                    assert!(wake.awake(&peer));
                }
            }
            match wake.poll_timeout(now) {
                Some(next) => {
                    assert!(next > now || wake.is_empty(), "it would spin");
                    now = next;
                }
                None => return called,
            }
        }
    }

    #[test]
    fn a_thousand_are_awake_within_half_a_second_the_last_heard_first() {
        let start = Instant::now();
        let mut all = Wake::new(start, RATE);
        all.add((0..1000).map(|peer| (peer, Duration::from_millis(u64::from(peer * 7919 % 1000)))));
        assert_eq!(all.len(), 1000);
        let woken = wake(start, &mut all, |_| true);
        assert_eq!((woken.len(), all.len()), (1000, 0));
        assert!(woken.iter().take_while(|(_, at)| at.is_zero()).count() == 64);
        assert!(woken.windows(2).all(|pair| pair[0].0 * 7919 % 1000 < pair[1].0 * 7919 % 1000), "by when they were heard");
        assert!(woken.last().is_some_and(|(_, at)| *at < Duration::from_millis(500)), "{:?}", woken.last());
        for (i, (_, from)) in woken.iter().enumerate() {
            let within = woken[i..].iter().take_while(|(_, at)| *at < *from + Duration::from_millis(100)).count();
            assert!(within <= 64 + 200, "{within} in 100 ms");
        }
    }

    #[test]
    fn who_answers_is_called_once_and_who_does_not_ten_times() {
        let start = Instant::now();
        let mut all = Wake::new(start, RATE);
        assert_eq!(all.poll_timeout(start), None);
        all.add([(7, Duration::ZERO), (8, Duration::from_secs(1)), (7, Duration::ZERO)]);
        assert_eq!(all.poll_timeout(start), Some(start));
        let ms = Duration::from_millis;
        let called = wake(start, &mut all, |peer| peer == 7);
        assert_eq!(called[..4], [(7, ms(0)), (8, ms(0)), (8, ms(250)), (8, ms(1250))]);
        assert_eq!((called.len(), called.last()), (11, Some(&(8, ms(8250)))));
        assert_eq!(all.next(start + Duration::from_secs(9)), None);
        assert!(all.is_empty());
    }

    #[test]
    fn whoever_is_added_again_is_called_from_the_beginning_and_the_former_round_is_over() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut all = Wake::new(start, RATE);
        all.add([(7, Duration::ZERO), (7, Duration::ZERO), (8, Duration::ZERO)]);
        assert_eq!(wake(start, &mut all, |_| false).len(), 20);
        let mut all = Wake::new(start, RATE);
        let called = |all: &mut Wake<u32>, at| std::iter::from_fn(|| all.next(start + ms(at))).map(|call| call.again).collect::<Vec<_>>();
        all.add([(7, Duration::ZERO)]);
        assert_eq!((called(&mut all, 0), called(&mut all, 250)), (vec![false], vec![true]));
        // While it is being called; when it has answered; when its shard has gone and come back.
        all.add([(7, Duration::ZERO)]);
        assert_eq!((called(&mut all, 1200), called(&mut all, 1250), called(&mut all, 1450)), (vec![false], vec![], vec![true]));
        assert!(all.awake(&7));
        all.add([(7, Duration::ZERO)]);
        assert_eq!((called(&mut all, 2400), called(&mut all, 2450), called(&mut all, 2650)), (vec![false], vec![], vec![true]));
        all.retain(|_| false);
        all.add([(7, Duration::ZERO)]);
        assert_eq!((called(&mut all, 3600), called(&mut all, 3650), called(&mut all, 3850)), (vec![false], vec![], vec![true]));
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn first_calls_go_before_others_and_none_beyond_the_rate() {
        let start = Instant::now();
        let mut all = Wake::new(start, RATE);
        all.add((0..600).map(|peer| (peer, Duration::ZERO)));
        let called = wake(start, &mut all, |_| false);
        assert_eq!(called.len(), 6000);
        assert_eq!(called[..600].iter().map(|(peer, _)| peer).collect::<HashSet<_>>().len(), 600);
        assert!(called.last().is_some_and(|(_, at)| *at < Duration::from_secs(10)), "{:?}", called.last());
    }

    #[test]
    fn who_has_come_by_itself_is_not_woken() {
        let start = Instant::now();
        let mut all = Wake::new(start, RATE);
        all.add((0..100).map(|peer| (peer, Duration::ZERO)));
        all.retain(|peer| peer % 2 == 1);
        let woken: Vec<u32> = wake(start, &mut all, |_| true).into_iter().map(|(peer, _)| peer).collect();
        assert_eq!(woken, (0..100).filter(|peer| peer % 2 == 1).collect::<Vec<_>>());
        assert_eq!(all.len(), 0);
    }
}
