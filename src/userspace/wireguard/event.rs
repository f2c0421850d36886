//! What the owner of the device is told as it happens.

use super::message::Initiation;
use crate::model::{IfName, PublicKey};
use crate::wire::wireguard::Tai64n;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::mpsc;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody whom we do not know wants in. That it is the owner of `key` has been proved, and that it made this initiation at `stamp`; not that
    /// it is the first time that it arrives. Once it may: [`super::Device::set_peer`], then [`super::Device::handle_initiation`].
    UnknownInitiation { interface: IfName, source: SocketAddr, key: PublicKey, stamp: Tai64n, bytes: Box<Initiation> },
    /// A session was agreed on. `heard` is the latest stamp that the peer has used, for whoever is to refuse copies of it later. `incarnation`:
    /// [`super::Device::incarnation`] of the interface that has it; of one opened anew it is higher.
    Handshake { interface: IfName, incarnation: u64, key: PublicKey, endpoint: SocketAddr, heard: Tai64n },
}

/// The way to the owner. When it is full, events are lost, and counted: packets do not wait for whoever listens.
#[derive(Debug)]
pub struct Events {
    sender: mpsc::Sender<Event>,
    lost: AtomicU64,
}

/// Events that wait.
const ROOM: usize = 8_192;

impl Events {
    pub fn new() -> (Events, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(ROOM);
        (Events { sender, lost: AtomicU64::new(0) }, receiver)
    }

    pub fn tell(&self, event: Event) {
        if self.sender.try_send(event).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PrivateKey;

    #[test]
    fn events_that_nobody_takes_are_lost_and_counted() {
        let (events, mut receiver) = Events::new();
        let event = Event::Handshake {
            interface: "pw-1".parse().unwrap(),
            incarnation: 1,
            key: PrivateKey::new([1; 32]).public(),
            endpoint: "192.0.2.1:9".parse().unwrap(),
            heard: Tai64n::NEVER,
        };
        (0..ROOM + 3).for_each(|_| events.tell(event.clone()));
        assert_eq!(events.lost(), 3);
        assert_eq!(receiver.try_recv(), Ok(event));
    }
}
