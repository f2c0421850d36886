//! How many initiations one source may send: a bucket of tokens for each address, for no more addresses than there is room for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Addresses that are remembered; 48 bytes each.
const ROOM: usize = 16_384;
/// Milliseconds between two looks for buckets that are full again; each takes a tenth of one.
const SWEEP: u64 = 100;
/// Tokens are counted in thousandths: what a rate of one a second brings in a millisecond.
const TOKEN: u64 = 1_000;

/// Tokens that may be missing of one that is looked upon as clean: for the initiation that is being opened, and one before it.
const CLEAN: u64 = 2;

/// Initiations that one address may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Each second; at least 1.
    pub rate: u32,
    /// At once, after a while of none.
    pub burst: u32,
}

impl Limit {
    /// Cookies that are sent to all addresses together. One is a seal and a datagram, some 10 us: a tenth of a processor. Else a flood would get as many as it sends.
    pub const COOKIES: Limit = Limit { rate: 10_000, burst: 1_000 };
}

impl Default for Limit {
    /// As other implementations have it under load is 20 and 5; behind one address there may be many hosts that start together.
    fn default() -> Self {
        Self { rate: 20, burst: 50 }
    }
}

#[derive(Debug)]
pub struct Buckets {
    limit: Limit,
    /// Thousandths of a token, and when they were counted.
    buckets: HashMap<IpAddr, (u64, u64)>,
    swept: u64,
}

impl Buckets {
    pub fn new(limit: Limit) -> Self {
        Self { limit, buckets: HashMap::new(), swept: 0 }
    }

    /// Whether one more may pass; `now` in milliseconds. While there is no room to remember a new address, it may not.
    pub fn take(&mut self, source: IpAddr, now: u64) -> bool {
        if !self.has_room_for(source, now) {
            return false;
        }
        let full = self.full();
        let bucket = self.buckets.entry(network(source)).or_insert((full, now));
        let have = self.limit.tokens(*bucket, now);
        let passes = have >= TOKEN;
        *bucket = (have - if passes { TOKEN } else { 0 }, now);
        passes
    }

    /// What was taken has proved to be a peer's: those behind one address do not keep each other out.
    pub fn give_back(&mut self, source: IpAddr) {
        if let Some((tokens, _)) = self.buckets.get_mut(&network(source)) {
            *tokens += TOKEN;
        }
    }

    /// Whether it has sent next to nothing that did not prove to be a peer's, of late.
    pub fn is_clean(&self, source: IpAddr, now: u64) -> bool {
        let clean = self.full().saturating_sub(CLEAN * TOKEN);
        self.buckets.get(&network(source)).is_none_or(|bucket| self.limit.tokens(*bucket, now) >= clean)
    }

    /// Whether this address is remembered or can be; those whose buckets are full again need not be.
    fn has_room_for(&mut self, source: IpAddr, now: u64) -> bool {
        if self.buckets.len() < ROOM || self.buckets.contains_key(&network(source)) {
            return true;
        }
        if now >= self.swept + SWEEP {
            self.swept = now;
            let (limit, full) = (self.limit, self.full());
            self.buckets.retain(|_, bucket| limit.tokens(*bucket, now) < full);
        }
        self.buckets.len() < ROOM
    }

    fn full(&self) -> u64 {
        u64::from(self.limit.burst.max(1)) * TOKEN
    }
}

impl Limit {
    fn tokens(self, (tokens, counted): (u64, u64), now: u64) -> u64 {
        let more = now.saturating_sub(counted).saturating_mul(self.rate.max(1).into());
        tokens.saturating_add(more).min(u64::from(self.burst.max(1)) * TOKEN)
    }
}

/// Whose addresses are one's: of IPv6, everybody has at least so many (RFC 6177).
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_rate_for_each_source_by_itself() {
        let mut buckets = Buckets::new(Limit { rate: 20, burst: 5 });
        let [a, b] = [1, 2].map(|n| IpAddr::from([192, 0, 2, n]));
        assert_eq!((0..100).filter(|_| buckets.take(a, 1_000)).count(), 5);
        assert!(buckets.take(b, 1_000));
        // From now on one every 50 ms.
        let passed = (0..1_000).filter(|ms| buckets.take(a, 1_001 + ms)).count();
        assert_eq!(passed, 20);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more() {
        let mut buckets = Buckets::new(Limit { rate: 20, burst: 5 });
        let source = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..100 {
            assert!(buckets.take(source, 1_000));
            buckets.give_back(source);
        }
        assert_eq!((0..100).filter(|_| buckets.take(source, 1_000)).count(), 5);
        buckets.give_back(IpAddr::from([192, 0, 2, 2]));
        assert_eq!(buckets.buckets.len(), 1);
    }

    #[test]
    fn room_comes_back_when_sources_are_quiet() {
        let mut buckets = Buckets::new(Limit { rate: 1, burst: 1 });
        let source = |n: usize| IpAddr::from((n as u32).to_be_bytes());
        assert_eq!((0..ROOM + 100).filter(|n| buckets.take(source(*n), 5_000)).count(), ROOM);
        assert!(!buckets.take(source(ROOM + 1), 5_500) && !buckets.has_room_for(source(ROOM + 1), 5_500), "nobody is forgotten yet");
        assert!(buckets.take(source(ROOM + 1), 6_600));
        assert_eq!(buckets.buckets.len(), 1);
    }

    #[test]
    fn to_be_asked_costs_nobody_room() {
        let mut buckets = Buckets::new(Limit { rate: 1, burst: 1 });
        let source = IpAddr::from([192, 0, 2, 1]);
        assert!(buckets.has_room_for(source, 5_000) && buckets.buckets.is_empty());
        assert!(buckets.take(source, 5_000) && !buckets.take(source, 5_500) && buckets.take(source, 6_000));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let mut buckets = Buckets::new(Limit { rate: 20, burst: 5 });
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let passed = (0..100).filter(|n| buckets.take(address(&format!("2001:db8::{n:x}")), 1_000)).count();
        assert_eq!((passed, buckets.take(address("2001:db8:0:1::"), 1_000)), (5, true));
    }

    #[test]
    fn who_sends_much_and_proves_nothing_is_not_clean_until_it_rests() {
        let mut buckets = Buckets::new(Limit { rate: 20, burst: 5 });
        let source = IpAddr::from([192, 0, 2, 1]);
        let clean: Vec<bool> = (0..5).map(|_| (buckets.is_clean(source, 1_000), buckets.take(source, 1_000)).0).collect();
        assert_eq!(clean, [true, true, true, false, false]);
        (0..3).for_each(|_| buckets.give_back(source));
        assert!(buckets.is_clean(source, 1_000), "it has proved");
        (0..3).for_each(|_| assert!(buckets.take(source, 1_000)));
        assert!(!buckets.is_clean(source, 1_100) && buckets.is_clean(source, 1_150));
    }
}
