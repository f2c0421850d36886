//! Where packets come from, as far as it can be believed, and how much of each place is looked at.

use super::generations::Generations;
use crate::proto::rate::{Bucket, Rate};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Who is limited together: one IPv4 address, or one /64 of IPv6, all of which a single machine may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl From<SocketAddr> for Source {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Source::V4(ip.octets()),
            IpAddr::V6(ip) => Source::V6(std::array::from_fn(|i| ip.octets()[i])),
        }
    }
}

/// What a source may lack and still count as clean: the knock that is being looked at, and one that was late.
const CLEAN: u32 = 2;

/// A bucket for each source. One that has been left alone until it was full is forgotten, and so are, beyond the limit, those not taken from
/// for longest: then a source may take its burst again, and only what all may take together stands against it.
#[derive(Debug)]
pub struct Buckets {
    rate: Rate,
    buckets: Generations<Source, Bucket>,
}

impl Buckets {
    pub fn new(now: Instant, rate: Rate, limit: usize) -> Self {
        Self { rate, buckets: Generations::lasting(limit, now, rate.rest()) }
    }

    pub fn take(&mut self, now: Instant, source: Source) -> bool {
        self.buckets.age(now);
        self.buckets.renew_or(source, || Bucket::new(now)).take(now, self.rate)
    }

    /// What was taken turned out not to be garbage.
    pub fn give_back(&mut self, source: Source) {
        if let Some(bucket) = self.buckets.renew(&source) {
            bucket.give_back(self.rate);
        }
    }

    /// Whether it has done nothing wrong of late: nothing is missing but for what it is doing now.
    pub fn is_clean(&self, now: Instant, source: Source) -> bool {
        self.buckets.get(&source).is_none_or(|bucket| bucket.owes_at_most(now, CLEAN, self.rate))
    }

    pub fn len(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests;
