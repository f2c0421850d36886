#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::model::{KeyId, Secret};
use portway::wire::checksum::Sum;
use portway::wire::vrrp::{Envelope, HOP_LIMIT, Key, Keyring, Packet, Sequence};
use std::time::Duration;

// The first byte says over which IP, and whether to make the checksum right: a fuzzer finds none by itself.
fuzz_target!(|bytes: &[u8]| {
    let [how, rest @ ..] = bytes else { return };
    let ip = match how & 1 {
        0 => Envelope { source: [10, 0, 0, 1].into(), destination: [10, 0, 0, 2].into(), hop_limit: HOP_LIMIT },
        _ => Envelope { source: [0xfe; 16].into(), destination: [0xfd; 16].into(), hop_limit: HOP_LIMIT },
    };
    let mut bytes = rest.to_vec();
    if how & 2 != 0 && bytes.len() >= 8 {
        bytes[6..8].fill(0);
        let sum = Sum::default().with(&bytes).finish();
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    let Ok(packet) = Packet::parse(&ip, &bytes) else { return };
    let key = Key::new(KeyId::try_from(1).expect("an id"), &Secret::new(&[7; 32]).expect("long enough"));
    let ring = Keyring { signing: key.clone(), other: None };
    assert!(ring.verify(ip.source, &packet).is_err(), "forged");

    let (mut again, sequence) = (vec![], Sequence::at(Duration::from_secs(1)));
    packet.advertisement.encode(&ip, packet.checksum, Some((&key, sequence)), &mut again);
    let second = Packet::parse(&ip, &again).expect("what was written is read");
    assert_eq!(second.advertisement, packet.advertisement);
    assert_eq!(ring.verify(ip.source, &second), Ok(sequence));
});
