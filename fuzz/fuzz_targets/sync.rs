#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::proto::sync::{Receiver, ReceiverConfig, Sender, SenderConfig, SenderEffect, Tuning};
use portway::wire::seal::Seal;
use portway::wire::sync::{Header, Kind, gaps, records};
use std::time::{Duration, Instant};

// First as they are, then sealed, as a peer that has the key but not its wits might send them.
fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, body)) = Header::parse(bytes) {
        let mut again = vec![];
        header.write(&mut again);
        for record in records(body) {
            let Ok(record) = record else { break };
            assert!(record.write(&mut again), "what was read can be written");
        }
        assert!(bytes.starts_with(&again), "there is one way only to write a datagram");
        let _ = gaps(body, header.sequence).map(Iterator::count);
    }

    let (seal, now, tuning) = (Seal::new(b"fuzz"), Instant::now(), Tuning::default());
    let mut receiver =
        Receiver::new(ReceiverConfig { stream: 1, seal: seal.clone(), nonce: 2, zone: 3, mark: Default::default(), tuning }, now);
    let mut sender = Sender::new(SenderConfig { stream: 1, seal: seal.clone(), session: 4, tuning }, now);
    let sealed = |header: Header, body: &[u8]| {
        let mut datagram = vec![];
        header.write(&mut datagram);
        datagram.extend_from_slice(body);
        seal.close(&mut datagram);
        datagram
    };
    sender.handle_timeout(now);
    sender.handle(now, &sealed(Header { kind: Kind::Welcome, stream: 1, session: 4, nonce: 2, sequence: 1, time: 0 }, &[]));
    assert!(sender.is_up());
    // Each: kind, sequence, time, a length and so much of a body.
    let mut rest = bytes;
    while let [kind, sequence, time, length, more @ ..] = rest {
        let (body, after) = more.split_at(more.len().min(usize::from(*length)));
        rest = after;
        let kind = [Kind::Hello, Kind::Welcome, Kind::Data, Kind::Heartbeat, Kind::Ack][usize::from(kind % 5)];
        let header = Header { kind, stream: 1, session: 4, nonce: 2, sequence: u64::from(*sequence), time: u64::from(*time) << 56 };
        let now = now + Duration::from_micros(u64::from(*time));
        let datagram = sealed(header, body);
        receiver.handle(now, &datagram);
        sender.handle(now, &datagram);
        receiver.handle_timeout(now);
        sender.handle_timeout(now);
    }
    while let Some(effect) = sender.next_effect() {
        if let SenderEffect::Send(datagram) = effect {
            receiver.handle(now, &datagram);
        }
    }
    while receiver.next_effect().is_some() {}
    assert!(receiver.flows() <= bytes.len());
});
