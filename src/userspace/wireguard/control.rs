//! The thread that does handshakes and keeps times.

use super::counters::DropReason;
use super::handshake::{answer, begin_if_wanted, conclude, look, take_cookie};
use super::inbox::{Received, Work};
use super::message::{Message, parse};
use super::sealer::Sealer;
use super::shared::Shared;

/// Runs until it is told to stop.
pub fn run(shared: &Shared) {
    let mut sealer = Sealer::new(0);
    loop {
        match shared.inbox.next(|| shared.now()) {
            Work::Stop => return,
            Work::Begin(interface, peer) => begin_if_wanted(shared, &interface, &peer),
            Work::Look(interface, peer, by) => {
                if peer.marks.is_watched_at(by) {
                    peer.marks.looked();
                    look(shared, &interface, &peer);
                }
            }
            Work::Message(received) => {
                if let Err(reason) = message(shared, &received, &mut sealer) {
                    received.interface.dropped(reason);
                }
            }
        }
    }
}

fn message(shared: &Shared, Received { interface, source, bytes }: &Received, sealer: &mut Sealer) -> Result<(), DropReason> {
    match parse(bytes)? {
        Message::Initiation(message) => answer(shared, interface, *source, message),
        Message::Response(message) => conclude(shared, interface, *source, message, sealer),
        Message::Cookie(message) => take_cookie(shared, interface, message),
        Message::Data { .. } => Err(DropReason::Malformed),
    }
}
