use super::*;
use proptest::prelude::*;

fn packet(protocol: u8, transport: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut p = ipv4::outer([10, 64, 0, 9].into(), [172, 16, 1, 10].into(), 2, 0, 0xfffe).to_vec();
    p[9] = protocol;
    p.extend(transport);
    p.extend(payload);
    let len = p.len() as u16;
    ipv4::set_total_len(&mut p[..20], len);
    p
}

fn tcp_header(flags: u8) -> [u8; 20] {
    [1, 2, 3, 4, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]
}

fn cut(mut bytes: Vec<u8>, offload: VnetHeader) -> Result<Vec<Vec<u8>>, BadOffload> {
    let ip = ipv4::Header::parse(&bytes).unwrap();
    let original = bytes.clone();
    let mut segments = Segments::new(&mut bytes, &ip, &offload)?;
    let (mut buffer, mut out) = ([0; HEADER_MAX], Vec::new());
    while let Some((len, range)) = segments.next(&mut buffer) {
        out.push([&buffer[..len], &original[range]].concat());
    }
    Ok(out)
}

fn tcp_offload(size: u16) -> VnetHeader {
    VnetHeader { needs_checksum: true, gso: Gso::TcpV4, gso_size: size, checksum_start: 20, checksum_offset: 16, ..Default::default() }
}

#[test]
fn a_big_tcp_packet_is_cut_and_its_flags_go_where_they_belong() {
    let payload = (0..2500u32).map(|i| i as u8).collect::<Vec<_>>();
    let out = cut(packet(TCP, &tcp_header(tcp::ACK | tcp::PSH | tcp::FIN | tcp::CWR), &payload), tcp_offload(1000)).unwrap();
    assert_eq!(out.iter().map(Vec::len).collect::<Vec<_>>(), [1040, 1040, 540]);
    assert_eq!(out.iter().map(|p| p[33]).collect::<Vec<_>>(), [tcp::ACK | tcp::CWR, tcp::ACK, tcp::ACK | tcp::PSH | tcp::FIN]);
    assert_eq!(out.iter().map(|p| [p[4], p[5]]).collect::<Vec<_>>(), [[0xff, 0xfe], [0xff, 0xff], [0, 0]], "IP IDs go on");
    assert_eq!(out[1][24..28], [0, 0, 2, 0xe8], "sequence numbers wrap round");
    assert_eq!(out.iter().flat_map(|p| p[40..].to_vec()).collect::<Vec<_>>(), payload);
    for p in out {
        assert!(ipv4::checksum_is_right(&p[..20]));
        assert!(Sum::pseudo([10, 64, 0, 9].into(), [172, 16, 1, 10].into(), TCP, p.len() as u16 - 20).with(&p[20..]).is_intact());
    }
}

#[test]
fn a_big_udp_packet_becomes_datagrams() {
    let out = cut(packet(UDP, &[0, 9, 0, 53, 0, 0, 0, 0], &[7; 250]), VnetHeader { gso: Gso::UdpL4, ..tcp_offload(100) }).unwrap();
    assert_eq!(out.iter().map(|p| u16::from_be_bytes([p[24], p[25]])).collect::<Vec<_>>(), [108, 108, 58]);
    for p in out {
        assert!(Sum::pseudo([10, 64, 0, 9].into(), [172, 16, 1, 10].into(), UDP, p.len() as u16 - 20).with(&p[20..]).is_intact());
    }
}

proptest! {
    #[test]
    fn any_offload_header_is_served_or_refused(
        protocol in prop::sample::select(vec![TCP, UDP, 1]),
        body in prop::collection::vec(any::<u8>(), 0..200),
        needs_checksum: bool, kind in 0u8..7, size in 0u16..100, start in 0u16..300, offset in 0u16..300,
    ) {
        let gso = [Gso::None, Gso::TcpV4, Gso::UdpL4, Gso::Other(4), Gso::None, Gso::TcpV4, Gso::UdpL4][usize::from(kind)];
        let offload = VnetHeader { needs_checksum, gso, header_len: 0, gso_size: size, checksum_start: start, checksum_offset: offset };
        let bytes = packet(protocol, &body, &[]);
        if let Ok(out) = cut(bytes.clone(), offload) {
            let headers = if gso == Gso::None { bytes.len() } else if protocol == UDP { 28 } else { 20 + usize::from(bytes[32] >> 4) * 4 };
            prop_assert_eq!(out.iter().map(|p| p.len() - headers.min(p.len())).sum::<usize>(), bytes.len() - headers);
        }
    }
}
