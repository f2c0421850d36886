//! Handshakes with all peers of a node that has become Active: their keys are known, their sessions died with the node before.
//!
//! Whoever was heard last is most likely to be in the middle of something, and comes first. An initiation takes three X25519, some 0.1 ms of a
//! processor that carries packets as well: all at once would be the worst moment for it.

use super::rate::{Bucket, Rate};
use std::collections::VecDeque;
use std::time::Instant;

/// Who has to be woken yet.
#[derive(Debug)]
pub struct Wake<P> {
    rate: Rate,
    bucket: Bucket,
    /// The one heard last first.
    sleeping: VecDeque<P>,
}

impl<P: PartialEq> Wake<P> {
    /// 1,000 peers are through after 0.47 s, and the first 64 at once.
    pub const RATE: Rate = Rate { per_second: 2000, burst: 64 };

    pub fn new(now: Instant, rate: Rate) -> Self {
        Self { rate, bucket: Bucket::new(now), sleeping: VecDeque::new() }
    }

    /// These too, each with the time when it was heard last. Behind those of an earlier promotion that still wait, each sorted by itself.
    pub fn add(&mut self, peers: impl IntoIterator<Item = (P, Instant)>) {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_by_key(|(_, heard)| std::cmp::Reverse(*heard));
        self.sleeping.extend(peers.into_iter().map(|(peer, _)| peer));
    }

    /// Only those for whom this holds: when a shard has been let go again, or a peer has come by itself.
    pub fn retain(&mut self, stays: impl FnMut(&P) -> bool) {
        self.sleeping.retain(stays);
    }

    /// The next to initiate to. Call until there is none, then wait for [`Wake::poll_timeout`].
    pub fn next(&mut self, now: Instant) -> Option<P> {
        if self.sleeping.is_empty() || !self.bucket.take(now, self.rate) {
            return None;
        }
        self.sleeping.pop_front()
    }

    /// When there will be another. None: all are awake.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        (!self.sleeping.is_empty()).then(|| self.bucket.ready(now, self.rate))
    }

    pub fn len(&self) -> usize {
        self.sleeping.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sleeping.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const RATE: Rate = Wake::<u32>::RATE;

    /// Each with the time when its turn came.
    fn wake(start: Instant, wake: &mut Wake<u32>) -> Vec<(u32, Duration)> {
        let (mut now, mut woken) = (start, vec![]);
        loop {
            woken.extend(std::iter::from_fn(|| wake.next(now)).map(|peer| (peer, now - start)));
            match wake.poll_timeout(now) {
                Some(next) => {
                    assert!(next > now, "it would spin");
                    now = next;
                }
                None => return woken,
            }
        }
    }

    #[test]
    fn a_thousand_are_awake_within_half_a_second_the_last_heard_first() {
        let start = Instant::now();
        let mut all = Wake::new(start, RATE);
        all.add((0..1000).map(|peer| (peer, start - Duration::from_millis(u64::from(peer * 7919 % 1000)))));
        let woken = wake(start, &mut all);
        assert_eq!(woken.len(), 1000);
        assert!(woken.iter().take_while(|(_, at)| at.is_zero()).count() == 64);
        assert!(woken.windows(2).all(|pair| pair[0].0 * 7919 % 1000 < pair[1].0 * 7919 % 1000), "by when they were heard");
        assert!(woken.last().is_some_and(|(_, at)| *at < Duration::from_millis(500)), "{:?}", woken.last());
        for (i, (_, from)) in woken.iter().enumerate() {
            let within = woken[i..].iter().take_while(|(_, at)| *at < *from + Duration::from_millis(100)).count();
            assert!(within <= 64 + 200, "{within} in 100 ms");
        }
    }

    #[test]
    fn one_is_woken_at_once_and_nobody_twice() {
        let start = Instant::now();
        let mut all = Wake::new(start, RATE);
        assert_eq!(all.poll_timeout(start), None);
        all.add([(7, start)]);
        assert_eq!(all.poll_timeout(start), Some(start));
        assert_eq!(wake(start, &mut all), [(7, Duration::ZERO)]);
        assert_eq!(all.next(start + Duration::from_secs(9)), None);
        assert!(all.is_empty());
    }

    #[test]
    fn who_has_come_by_itself_is_not_woken() {
        let start = Instant::now();
        let mut all = Wake::new(start, RATE);
        all.add((0..100).map(|peer| (peer, start)));
        all.retain(|peer| peer % 2 == 1);
        let woken: Vec<u32> = wake(start, &mut all).into_iter().map(|(peer, _)| peer).collect();
        assert_eq!(woken, (0..100).filter(|peer| peer % 2 == 1).collect::<Vec<_>>());
        assert_eq!(all.len(), 0);
    }
}
