//! Datagrams that nobody should have sent: played again, forged, foreign, absurd.

use super::*;
use proptest::prelude::*;

#[test]
fn datagrams_played_again_change_nothing() {
    let mut pair = Pair::new();
    let mut seen = vec![];
    for life in 0..3u64 {
        for _ in 0..400 {
            pair.timeouts();
            seen.extend(pair.to_receiver.iter().cloned().map(|bytes| (true, bytes)));
            seen.extend(pair.to_sender.iter().cloned().map(|bytes| (false, bytes)));
            pair.deliver();
            if let Some(list) = pair.list.take() {
                pair.sender.listed(pair.now, list, &tcp(life as u32));
                pair.sender.list_ended(pair.now, list);
            }
            pair.now += Duration::from_millis(1);
        }
        assert!(pair.receiver.in_sync(pair.now), "life {life}");
        if life == 0 {
            pair.sender = sender(2000, Tuning::default(), pair.now);
        } else if life == 1 {
            // The same nonces as before would let old data in: a start takes others.
            pair.receiver = receiver(9000, Tuning::default(), pair.now);
            pair.now += Tuning::default().silence;
        }
    }
    pair.take_applied();
    let (table, sessions) = (pair.receiver.flows(), (pair.sender.counters.sessions, pair.receiver.counters.sessions));
    assert!(seen.len() > 30, "{}", seen.len());
    for (to_receiver, bytes) in seen {
        if to_receiver {
            pair.receiver.handle(pair.now, &bytes);
        } else {
            pair.sender.handle(pair.now, &bytes);
        }
        // Not even back to where it came from.
        if to_receiver { pair.sender.handle(pair.now, &bytes) } else { pair.receiver.handle(pair.now, &bytes) }
    }
    pair.run_for(Duration::from_millis(300));
    assert_eq!(pair.take_applied(), []);
    assert_eq!((pair.receiver.flows(), (pair.sender.counters.sessions, pair.receiver.counters.sessions)), (table, sessions));
    assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now));
    assert!(pair.receiver.counters.refused.stale > 0 && pair.sender.counters.refused.misfit > 0);
}

#[test]
fn forged_and_foreign_datagrams_are_counted_and_answered_by_nothing() {
    let mut pair = Pair::synced(&[]);
    let stranger = SenderConfig { stream: 77, seal: Seal::new(b"another key"), session: 1, tuning: Tuning::default() };
    let mut stranger = Sender::new(stranger, pair.now);
    let other = SenderConfig { stream: 78, seal: seal(), session: 1, tuning: Tuning::default() };
    let mut other = Sender::new(other, pair.now);
    for machine in [&mut stranger, &mut other] {
        machine.handle_timeout(pair.now);
        let Some(SenderEffect::Send(bytes)) = machine.next_effect() else { panic!("a hello") };
        pair.receiver.handle(pair.now, &bytes);
        pair.sender.handle(pair.now, &bytes);
    }
    for machine in [&pair.receiver.counters.refused, &pair.sender.counters.refused] {
        assert_eq!((machine.forged, machine.misfit), (1, 1));
    }
    assert_eq!((pair.receiver.next_effect(), pair.sender.next_effect()), (None, None));
}

proptest! {
    /// A peer that has the key and not its wits.
    #[test]
    fn nothing_that_is_said_makes_a_machine_panic(talk: Vec<(u8, u8, u8, Vec<u8>)>) {
        let mut pair = Pair::synced(&[tcp(1)]);
        for (kind, sequence, time, body) in talk {
            let kind = [Kind::Hello, Kind::Welcome, Kind::Data, Kind::Heartbeat, Kind::Ack][usize::from(kind % 5)];
            let sequence = u64::from(sequence) << (sequence % 60);
            let header = Header { kind, stream: 77, session: 1000, nonce: 5000, sequence, time: u64::from(time) << 56 };
            let mut bytes = datagram(header);
            bytes.extend_from_slice(&body);
            seal().close(&mut bytes);
            pair.receiver.handle(pair.now, &bytes);
            pair.sender.handle(pair.now, &bytes);
            pair.run();
        }
    }
}
