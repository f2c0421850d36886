#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::wire::{gre, ipv4, nested};

fuzz_target!(|bytes: &[u8]| {
    let Ok(packet) = gre::Packet::parse(bytes) else { return };
    let again = [&gre::header(packet.key, packet.protocol)[..], packet.inner].concat();
    assert_eq!(again, bytes, "there is one way only to write a packet");
    if let Ok(ip) = ipv4::Header::parse(packet.inner) {
        assert!(ip.header_len <= ip.total_len && ip.total_len <= packet.inner.len());
        nested::is_nested(packet.inner, &ip);
    }
});
