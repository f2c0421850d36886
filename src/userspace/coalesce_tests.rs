use super::*;
use crate::userspace::segment::{HEADER_MAX, Segments};
use proptest::prelude::*;

const MTU: usize = 1472;

struct Segment {
    ports: (u16, u16),
    sequence: u32,
    flags: u8,
    window: u16,
    payload: Vec<u8>,
}

impl Segment {
    fn new(sequence: u32, payload: usize) -> Segment {
        let payload = (0..payload).map(|i| (i as u8).wrapping_mul(31) ^ sequence as u8).collect();
        Segment { ports: (40000, 5432), sequence, flags: tcp::ACK, window: 512, payload }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut p = ipv4::outer([10, 64, 0, 9].into(), [172, 16, 1, 10].into(), 0, 0, 7).to_vec();
        p[9] = TCP;
        p.extend(self.ports.0.to_be_bytes());
        p.extend(self.ports.1.to_be_bytes());
        p.extend(self.sequence.to_be_bytes());
        p.extend([0, 0, 0, 99, 0x50, self.flags]);
        p.extend(self.window.to_be_bytes());
        p.extend([0, 0, 0, 0]);
        p.extend(&self.payload);
        let len = p.len() as u16;
        ipv4::set_total_len(&mut p[..20], len);
        let sum = Sum::pseudo([10, 64, 0, 9].into(), [172, 16, 1, 10].into(), TCP, len - 20).with(&p[20..]).finish();
        p[36..38].copy_from_slice(&sum.to_be_bytes());
        p
    }
}

/// What would be written to the device for these packets.
fn written(packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    let mut batch = packets.to_vec();
    let mut coalescer = Coalescer::default();
    for (index, packet) in packets.iter().enumerate() {
        let ip = ipv4::Header::parse(packet).unwrap();
        let new = Candidate { tunnel: 0, index, packet, offset: 0, ip: &ip, mtu: MTU };
        coalescer.push(&new, |i, at| &packets[i][at..]);
    }
    coalescer
        .groups()
        .iter()
        .map(|group| {
            lead(group, &mut batch[group.parts[0].0]);
            let bytes = group.parts.iter().flat_map(|(i, range)| batch[*i][range.clone()].to_vec()).collect::<Vec<_>>();
            assert_eq!(bytes.len(), group.len);
            (group.offload, bytes)
        })
        .collect()
}

/// What a kernel makes of it when it has to cut it again.
fn cut((offload, mut bytes): (VnetHeader, Vec<u8>)) -> Vec<Vec<u8>> {
    let ip = ipv4::Header::parse(&bytes).unwrap();
    assert!(ipv4::checksum_is_right(&bytes[..20]));
    let copy = bytes.clone();
    let mut segments = Segments::new(&mut bytes, &ip, &offload).unwrap();
    let (mut buffer, mut out) = ([0; HEADER_MAX], Vec::new());
    while let Some((len, range)) = segments.next(&mut buffer) {
        out.push([&buffer[..len], if len == 0 { &copy[..0] } else { &copy[range.clone()] }].concat());
        if len == 0 {
            *out.last_mut().unwrap() = copy.clone();
        }
    }
    out
}

fn without_id(mut packet: Vec<u8>) -> Vec<u8> {
    packet[4..6].fill(0);
    let len = packet.len() as u16;
    ipv4::set_total_len(&mut packet[..20], len);
    packet
}

#[test]
fn a_run_of_segments_becomes_one_packet_that_is_cut_into_the_same_segments() {
    let mut packets = (0..10).map(|i| Segment::new(1000 + i * 1400, 1400).bytes()).collect::<Vec<_>>();
    packets.push(Segment { flags: tcp::ACK | tcp::PSH, ..Segment::new(1000 + 14000, 333) }.bytes());
    let out = written(&packets);
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].0.gso, out[0].0.gso_size, out[0].0.needs_checksum), (Gso::TcpV4, 1400, true));
    let again = out.into_iter().flat_map(cut).map(without_id).collect::<Vec<_>>();
    assert_eq!(again, packets.into_iter().map(without_id).collect::<Vec<_>>());
}

#[test]
fn two_flows_that_alternate_become_two_packets() {
    let flow = |ports, i: u32| Segment { ports, ..Segment::new(i * 1000, 1000) }.bytes();
    let packets = (0..8).flat_map(|i| [flow((1, 2), i), flow((3, 2), i)]).collect::<Vec<_>>();
    assert_eq!(written(&packets).len(), 2);
}

#[test]
fn what_must_not_be_joined_is_not() {
    let first = || Segment::new(0, 1000);
    let second = || Segment::new(1000, 1000);
    let damaged = {
        let mut bytes = second().bytes();
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    let other_class = {
        let mut bytes = second().bytes();
        bytes[1] = 3; // congestion experienced
        ipv4::set_total_len(&mut bytes[..20], 1040);
        bytes
    };
    for (why, bytes) in [
        ("a gap", Segment::new(2000, 1000).bytes()),
        ("a longer segment", Segment::new(1000, 1001).bytes()),
        ("another window", Segment { window: 1, ..second() }.bytes()),
        ("the end of the stream", Segment { flags: tcp::ACK | tcp::FIN, ..second() }.bytes()),
        ("another flow", Segment { ports: (1, 5432), ..second() }.bytes()),
        ("a wrong checksum", damaged),
        ("another traffic class", other_class),
    ] {
        let packets = [first().bytes(), bytes.clone()];
        assert_eq!(written(&packets).into_iter().map(|(_, b)| b).collect::<Vec<_>>(), packets, "{why}");
    }
    let pushed = Segment { flags: tcp::ACK | tcp::PSH, ..first() }.bytes();
    assert_eq!(written(&[pushed, second().bytes()]).len(), 2, "data that was to be handed over at once");
    let short = Segment::new(1000, 10).bytes();
    assert_eq!(written(&[first().bytes(), short, Segment::new(1010, 10).bytes()]).len(), 2, "a short segment in the middle");
}

#[test]
fn a_segment_that_cannot_be_joined_is_not_overtaken() {
    let packets = [0, 1000, 5000, 2000].map(|sequence| Segment::new(sequence, 1000).bytes());
    let out = written(&packets).into_iter().flat_map(cut).map(|p| u32::from_be_bytes([p[24], p[25], p[26], p[27]])).collect::<Vec<_>>();
    assert_eq!(out, [0, 1000, 5000, 2000]);
}

#[test]
fn a_checksum_left_to_hardware_is_left_to_the_kernel_again() {
    let mut bytes = Segment::new(5, 4000).bytes();
    let len = bytes.len() as u16;
    let partial = Sum::pseudo([10, 64, 0, 9].into(), [172, 16, 1, 10].into(), TCP, len - 20).folded();
    bytes[36..38].copy_from_slice(&partial.to_be_bytes());
    let out = written(&[bytes]);
    assert_eq!((out[0].0.gso, usize::from(out[0].0.gso_size)), (Gso::TcpV4, MTU - 40), "longer than the device takes: cut");
    let segments = cut(out[0].clone());
    assert_eq!(segments.len(), 3);
    for segment in segments {
        let sum = Sum::pseudo([10, 64, 0, 9].into(), [172, 16, 1, 10].into(), TCP, segment.len() as u16 - 20);
        assert!(sum.with(&segment[20..]).is_intact());
    }
}

proptest! {
    #[test]
    fn joining_changes_nothing_that_is_seen_at_the_end(
        segments in prop::collection::vec((0u16..3, 0u32..6, prop::sample::select(vec![0usize, 10, 500, 500, 500]), prop::bool::weighted(0.1)), 0..60)
    ) {
        let mut next = [0u32; 3];
        let packets = segments.iter().map(|(flow, jump, len, push)| {
            let at = &mut next[usize::from(*flow)];
            if *jump == 0 { *at += 1000 }
            let flags = tcp::ACK | if *push { tcp::PSH } else { 0 };
            let bytes = Segment { ports: (*flow, 80), flags, ..Segment::new(*at, *len) }.bytes();
            *at += *len as u32;
            bytes
        }).collect::<Vec<_>>();
        let by_flow = |packets: Vec<Vec<u8>>| {
            let mut flows = [const { Vec::new() }; 3];
            for p in packets {
                flows[usize::from(p[21])].push(without_id(p));
            }
            flows
        };
        let out = written(&packets).into_iter().flat_map(cut).collect::<Vec<_>>();
        prop_assert_eq!(by_flow(out), by_flow(packets));
    }

    #[test]
    fn any_bytes_pass_unharmed(tails in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..8)) {
        let packets = tails.into_iter().map(|tail| {
            let mut p = ipv4::outer([1, 2, 3, 4].into(), [5, 6, 7, 8].into(), 0, 0, 0).to_vec();
            p[9] = if tail.len() % 2 == 0 { TCP } else { UDP };
            p.extend(tail);
            let len = p.len() as u16;
            ipv4::set_total_len(&mut p[..20], len);
            p
        }).collect::<Vec<_>>();
        let out = written(&packets).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
        prop_assert_eq!(out.concat(), packets.concat());
    }
}
