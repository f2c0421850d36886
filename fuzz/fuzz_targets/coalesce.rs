#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::userspace::coalesce::{Candidate, Coalescer, lead};
use portway::wire::checksum::Sum;
use portway::wire::{ipv4, nested, tcp};

/// Each packet is a length, a byte that says what to make right, and its bytes: a fuzzer finds no checksum by itself.
fn packets(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while let [len, right, rest @ ..] = bytes {
        let (packet, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        bytes = rest;
        let mut packet = packet.to_vec();
        if right & 1 == 1 && packet.len() >= 40 {
            packet[0] = 0x45;
            packet[6] = 0x40;
            packet[7] = 0;
            packet[9] = nested::TCP;
            let total = packet.len() as u16;
            ipv4::set_total_len(&mut packet[..20], total);
            packet[36..38].fill(0);
            let sum = Sum::default().with(&packet[12..20]).word(6).word(total - 20).with(&packet[20..]);
            let sum = if right & 2 == 2 { sum.finish() } else { Sum::default().with(&packet[12..20]).word(6).word(total - 20).folded() };
            packet[36..38].copy_from_slice(&sum.to_be_bytes());
        }
        packets.push(packet);
    }
    packets
}

fuzz_target!(|bytes: &[u8]| {
    let all = packets(bytes);
    let packets = all.iter().filter_map(|p| ipv4::Header::parse(p).ok().map(|ip| (&p[..ip.total_len], ip))).collect::<Vec<_>>();
    let mut coalescer = Coalescer::default();
    for (index, (packet, ip)) in packets.iter().enumerate() {
        coalescer.push(&Candidate { tunnel: 0, index, packet, offset: 0, ip, mtu: 100 }, |i, at| &packets[i].0[at..]);
    }
    let mut seen = 0;
    for group in coalescer.groups() {
        let (first, range) = &group.parts[0];
        let mut front = packets[*first].0[range.clone()].to_vec();
        lead(group, &mut front);
        let whole = front.len() + group.parts[1..].iter().map(|(_, range)| range.len()).sum::<usize>();
        assert_eq!(whole, group.len);
        assert_eq!(usize::from(u16::from_be_bytes([front[2], front[3]])), whole);
        if group.parts.len() > 1 {
            assert!(ipv4::checksum_is_right(&front[..20]));
            assert!(tcp::Header::parse(&front[20..]).is_some() && group.offload.gso_size > 0);
        }
        seen += group.parts.len();
    }
    assert_eq!(seen, packets.len(), "every packet is somewhere, once");
});
