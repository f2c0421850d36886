//! Packets that wait for a session with their peer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Packets of one peer; as read from the TUN device, up to 64 KiB each. Many connections share a peer, and a function that only sends small ones must not lose them while
/// its gateway moves (the kernel keeps 128 packets, drivers/net/wireguard/messages.h).
const PACKETS_MAX: usize = 1024;
/// Bytes of them.
const BYTES_MAX: usize = 256 << 10;
/// Bytes of all peers of a device: whoever sends to many that do not answer must not have all the memory there is.
const ALL_MAX: usize = 64 << 20;

/// The bytes that wait, of all peers.
#[derive(Debug, Default)]
pub struct Pool(AtomicUsize);

/// What waits for one peer, in its order.
#[derive(Debug, Default)]
pub struct Waiting {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Where they are counted; none: there are none.
    pool: Option<Arc<Pool>>,
}

impl Waiting {
    /// Whether there was room.
    pub fn push(&mut self, packet: &[u8], pool: &Arc<Pool>) -> bool {
        if self.packets.len() >= PACKETS_MAX || self.bytes + packet.len() > BYTES_MAX || !pool.take(packet.len()) {
            return false;
        }
        self.pool.get_or_insert_with(|| pool.clone());
        self.bytes += packet.len();
        self.packets.push_back(packet.to_vec());
        true
    }

    pub fn take(mut self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.packets)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.0.fetch_sub(self.bytes, Relaxed);
        }
    }
}

impl Pool {
    fn take(&self, bytes: usize) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |taken| Some(taken + bytes).filter(|all| *all <= ALL_MAX)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_stays_in_order() {
        let (pool, mut waiting) = (Arc::<Pool>::default(), Waiting::default());
        assert!((0..PACKETS_MAX).all(|n| waiting.push(&[n as u8], &pool)) && !waiting.push(&[0], &pool));
        assert_eq!(
            waiting.take().into_iter().map(|packet| packet[0]).collect::<Vec<_>>(),
            (0..PACKETS_MAX).map(|n| n as u8).collect::<Vec<_>>()
        );
        let (big, mut waiting) = (vec![0; 60_000], Waiting::default());
        assert_eq!((0..9).filter(|_| waiting.push(&big, &pool)).count(), 4);
        drop(waiting);
        assert_eq!(pool.0.load(Relaxed), 0);
    }

    #[test]
    fn all_peers_together_have_no_more_than_there_is() {
        let (pool, big) = (Arc::<Pool>::default(), vec![0; 60_000]);
        let mut peers: Vec<Waiting> = (0..1_000).map(|_| Waiting::default()).collect();
        let took = peers.iter_mut().map(|peer| (0..9).filter(|_| peer.push(&big, &pool)).count()).sum::<usize>();
        assert_eq!(took, ALL_MAX / 60_000);
        assert!(!Waiting::default().push(&big, &pool));
        peers.pop();
        peers.remove(0);
        assert!(Waiting::default().push(&big, &pool), "room comes back with what is gone");
    }
}
