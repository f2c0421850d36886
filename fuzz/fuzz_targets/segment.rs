#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::userspace::segment::{HEADER_MAX, Segments};
use portway::userspace::vnet::VnetHeader;
use portway::wire::ipv4;

fuzz_target!(|bytes: &[u8]| {
    let Some((offload, packet)) = bytes.split_first_chunk() else { return };
    let Ok(ip) = ipv4::Header::parse(packet) else { return };
    let mut packet = packet[..ip.total_len].to_vec();
    let Ok(mut segments) = Segments::new(&mut packet, &ip, &VnetHeader::decode(offload)) else { return };
    let (mut buffer, mut end) = ([0; HEADER_MAX], None);
    while let Some((header, payload)) = segments.next(&mut buffer) {
        assert!(end.is_none_or(|end| end == payload.start), "no gap and no overlap");
        if header > 0 {
            assert_eq!(
                ipv4::Header::parse(&[&buffer[..header], &bytes[10 + payload.start..10 + payload.end]].concat()).unwrap().source,
                ip.source
            );
        }
        end = Some(payload.end);
    }
    assert_eq!(end, Some(ip.total_len));
});
