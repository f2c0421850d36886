#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::kernel::knock_socket::Captured;
use portway::kernel::vrrp_socket::Family;
use portway::model::{PrivateKey, PublicKey, Slot};
use portway::proto::jit::{Answer, Config, Effect, Input, Machine, Peer, Registered};
use portway::wire::wireguard::{Claim, Initiation, Message, Responder, SharedSecret, Tai64n, classify};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

static RESPONDER: LazyLock<Responder> = LazyLock::new(|| Responder::new(&PrivateKey::new([2; 32])));
static STRANGER: LazyLock<SharedSecret> = LazyLock::new(|| RESPONDER.shared_with(&PrivateKey::new([1; 32]).public()).expect("a good key"));

// First the bytes as they are, and as an IP packet that was captured, then as an initiation that is signed (a fuzzer finds no MAC by itself), then as a talk of the machine with a network, a
// directory and workers that say anything.
fuzz_target!(|bytes: &[u8]| {
    if let Ok(Message::Initiation(initiation)) = classify(bytes) {
        assert_eq!(initiation.bytes(), bytes);
    }
    let mut whole = [0; Initiation::LEN];
    whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    whole[..4].copy_from_slice(&[1, 0, 0, 0]);
    let signed = RESPONDER.mac1().sign(Initiation::try_from(whole).expect("an initiation"));
    assert!(RESPONDER.mac1().is_right(&signed));
    if let Some(claim) = RESPONDER.claim(&signed) {
        assert!(claim.open(&STRANGER).is_none(), "nobody has proved anything");
    }
    for family in [Family::V4, Family::V6] {
        if let Some(captured) = Captured::read(family, bytes) {
            assert_eq!(captured.payload.len(), Initiation::LEN);
        }
    }
    talk(bytes);
});

fn key(n: u8) -> PublicKey {
    PublicKey::try_from([n | 1; 32]).expect("not nobody's")
}

fn talk(mut bytes: &[u8]) {
    let slot = Slot::try_from(1).expect("a slot");
    let mut now = Instant::now();
    let config = Config {
        known: 4,
        unknowns: 4,
        peers: 3,
        backlog: 4,
        at_work: 3,
        waiting: 4,
        look_ups: 3,
        stamps: 4,
        sources: 4,
        repeats: 8,
        ..Config::default()
    };
    let mut machine: Machine<Option<Claim>> = Machine::new(config, now);
    machine.serve(slot, &[*RESPONDER.public()]);
    let host = "host".parse().expect("a name");
    let registered = Arc::new(Registered { host, allowed: vec![] });
    let (mut effects, mut count) = (vec![], 0_u64);
    while let [what, which, how, rest @ ..] = bytes {
        bytes = rest;
        effects.extend(std::iter::from_fn(|| machine.next_effect()));
        let effect = (!effects.is_empty()).then(|| effects.swap_remove(usize::from(*which) % effects.len()));
        let peer = Peer { slot, key: key(*how) };
        match (what % 8, effect) {
            (0, Some(Effect::Claim { ticket, .. })) => {
                machine.handle(now, Input::Claimed { ticket, claim: (how % 8 > 0).then(|| (peer.key, None)) })
            }
            (0, Some(Effect::Prove { ticket, .. })) => {
                machine.handle(now, Input::Proved { ticket, stamp: (how % 8 > 0).then(|| Tai64n::from_unix(u64::from(*how), 0)) });
            }
            (0, Some(Effect::LookUp { peer })) => {
                let answer = [Answer::Found(registered.clone()), Answer::Unknown, Answer::Failed][usize::from(how % 3)].clone();
                machine.handle(now, Input::Answered { peer, answer });
            }
            (0, Some(Effect::Install { peer, .. })) if how % 2 == 0 => machine.handle(now, Input::Installed { peer }),
            (0, Some(Effect::Install { peer, .. })) => machine.handle(now, Input::InstallFailed { peer }),
            (1, _) => machine.handle(now, Input::Gone { peer }),
            (2, _) => machine.handle(now, Input::Changed { peer }),
            (3, _) => machine.handle(now, Input::Seen { peer, at: now }),
            (4, _) => {
                now += Duration::from_millis(u64::from(*how) << (which % 12));
                machine.handle_timeout(now);
            }
            (6, _) if how % 8 == 0 => machine.distrust(now),
            (5, _) => machine.handle(now, Input::Datagram { slot, from: ([10, 0, 0, *which], 1).into(), payload: rest }),
            _ => {
                count += 1;
                let mut payload = [0; Initiation::LEN];
                payload[0] = 1;
                payload[8..16].copy_from_slice(&count.to_le_bytes());
                let payload = RESPONDER.mac1().sign(Initiation::try_from(payload).expect("an initiation"));
                machine.handle(now, Input::Datagram { slot, from: ([10, 0, 0, *which], 1).into(), payload: payload.bytes() });
            }
        }
        let sizes = machine.sizes();
        assert!(sizes.known <= 4 && sizes.unknown <= 4 && sizes.peers <= 3 && sizes.backlog <= 4 && sizes.at_work <= 3, "{sizes:?}");
        assert!(sizes.waiting <= 4 && sizes.looking_up <= 3 && sizes.stamps <= 4 && sizes.sources <= 4 && sizes.repeats <= 8, "{sizes:?}");
    }
}
