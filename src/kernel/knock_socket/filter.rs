//! The program by which the kernel chooses: initiations by their form, for our ports, and nothing else is ever copied to us.

use crate::kernel::vrrp_socket::Family;
use crate::wire::wireguard::Initiation;

/// Bytes of a packet that are kept: the longest header of IPv4, that of UDP, an initiation.
pub const SNAP: usize = 60 + 8 + Initiation::LEN;

/// Ranges of ports beyond which all ports between the first and the last pass: whoever reads knows which are ours.
const RANGES: usize = 64;

/// `struct sock_filter`, include/uapi/linux/filter.h. `jt` and `jf`: instructions to skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

// include/uapi/linux/bpf_common.h, filter.h
const LD_WORD: u16 = 0x20;
const LD_HALF: u16 = 0x28;
const LD_BYTE: u16 = 0x30;
const LD_WORD_AT_X: u16 = 0x40;
const LD_HALF_AT_X: u16 = 0x48;
/// X is four times the low half of a byte: the length of an IPv4 header.
const LDX_HEADER: u16 = 0xb1;
const LDX_NUMBER: u16 = 0x01;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;
/// Where what is known of a packet beside its bytes is loaded from, and its kind: 0 is for this machine.
const PACKET_TYPE: u32 = 0xffff_f000 + 4;

const UDP: u32 = 17;
/// More fragments, or an offset.
const FRAGMENT: u32 = 0x3fff;
const IPV6_HEADER: u32 = 40;
/// Type 1, and three zeros.
const INITIATION: u32 = 0x0100_0000;
const LENGTH: u32 = 8 + Initiation::LEN as u32;

/// Keeps the first [`SNAP`] bytes of UDP packets to these ports that hold 148 bytes, the first of which are an initiation's. Given the packet
/// from its IP header on. IPv6 with extension headers (fragments have one) does not pass: nobody sends WireGuard so.
pub fn program(family: Family, ports: impl IntoIterator<Item = u16>) -> Vec<Instruction> {
    let next = |code, k| Instruction { code, jt: 0, jf: 0, k };
    let refuse = next(RET, 0);
    let mut all = Vec::new();
    // Goes on behind the next instruction if so.
    let only = |all: &mut Vec<Instruction>, code, k| all.extend([Instruction { code, jt: 1, jf: 0, k }, refuse]);
    let not = |all: &mut Vec<Instruction>, code, k| all.extend([Instruction { code, jt: 0, jf: 1, k }, refuse]);

    all.push(next(LD_WORD, PACKET_TYPE));
    only(&mut all, JEQ, 0);
    match family {
        Family::V4 => {
            all.push(next(LD_BYTE, 9));
            only(&mut all, JEQ, UDP);
            all.push(next(LD_HALF, 6));
            not(&mut all, JSET, FRAGMENT);
            all.push(next(LDX_HEADER, 0));
        }
        Family::V6 => {
            all.push(next(LD_BYTE, 6));
            only(&mut all, JEQ, UDP);
            all.push(next(LDX_NUMBER, IPV6_HEADER));
        }
    }
    all.push(next(LD_HALF_AT_X, 4));
    only(&mut all, JEQ, LENGTH);
    all.push(next(LD_WORD_AT_X, 8));
    only(&mut all, JEQ, INITIATION);
    all.push(next(LD_HALF_AT_X, 2));
    for (first, last) in ranges(ports) {
        all.extend([
            Instruction { code: JGE, jt: 0, jf: 2, k: first.into() },
            Instruction { code: JGT, jt: 1, jf: 0, k: last.into() },
            next(RET, SNAP as u32),
        ]);
    }
    all.push(refuse);
    all
}

/// The ports as first and last of each run without a gap.
fn ranges(ports: impl IntoIterator<Item = u16>) -> Vec<(u16, u16)> {
    let mut sorted: Vec<u16> = ports.into_iter().collect();
    sorted.sort_unstable();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in sorted {
        match ranges.last_mut() {
            Some((_, last)) if port <= last.saturating_add(1) => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    match (ranges.first(), ranges.last()) {
        (Some((first, _)), Some((_, last))) if ranges.len() > RANGES => vec![(*first, *last)],
        _ => ranges,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use socket2::{SockFilter, SockRef};
    use std::os::unix::net::UnixDatagram;

    /// The kernel itself, which runs a socket's filter over whatever is sent to it.
    struct Judge {
        sender: UnixDatagram,
        receiver: UnixDatagram,
    }

    impl Judge {
        fn new(program: &[Instruction]) -> Self {
            let (sender, receiver) = UnixDatagram::pair().unwrap();
            let filter: Vec<SockFilter> = program.iter().map(|i| SockFilter::new(i.code, i.jt, i.jf, i.k)).collect();
            SockRef::from(&receiver).attach_filter(&filter).expect("the kernel takes the program");
            receiver.set_nonblocking(true).unwrap();
            Self { sender, receiver }
        }

        /// How much of it was kept.
        fn kept(&self, packet: &[u8]) -> Option<usize> {
            // What does not pass is refused to the sender (EPERM), or passed over in silence.
            let _ = self.sender.send(packet);
            let mut room = [0; 2048];
            self.receiver.recv(&mut room).ok()
        }
    }

    fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut all = vec![0x12, 0x34];
        all.extend(port.to_be_bytes());
        all.extend((8 + payload.len() as u16).to_be_bytes());
        all.extend([0, 0]);
        all.extend(payload);
        all
    }

    fn v4(options: usize, fragment: u16, protocol: u8, rest: &[u8]) -> Vec<u8> {
        let length = 20 + options;
        let mut all = vec![0; length];
        all[0] = 0x40 | (length / 4) as u8;
        all[2..4].copy_from_slice(&((length + rest.len()) as u16).to_be_bytes());
        all[6..8].copy_from_slice(&fragment.to_be_bytes());
        all[9] = protocol;
        all.extend(rest);
        all
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut all = vec![0; 40];
        all[0] = 0x60;
        all[4..6].copy_from_slice(&(rest.len() as u16).to_be_bytes());
        all[6] = next;
        all.extend(rest);
        all
    }

    fn payload(first: [u8; 4], length: usize) -> Vec<u8> {
        let mut all = vec![7; length];
        let given = length.min(4);
        all[..given].copy_from_slice(&first[..given]);
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn initiations_to_our_ports_pass_and_nothing_else(
            ports in proptest::collection::btree_set(51_815u16..51_830, 0..8),
            port in 51_813u16..51_832,
            kind in prop_oneof![3 => Just(1u8), 1 => 0u8..5],
            reserved in prop_oneof![5 => Just(0u8), 1 => any::<u8>()],
            length in prop_oneof![4 => Just(148usize), 1 => 0usize..300],
            options in 0usize..11,
            fragment in prop_oneof![4 => Just(0u16), 1 => Just(0x4000), 1 => Just(0x2000), 1 => Just(1)],
            protocol in prop_oneof![4 => Just(17u8), 1 => Just(6), 1 => Just(44)],
        ) {
            let rest = datagram(port, &payload([kind, 0, 0, reserved], length));
            let good = ports.contains(&port) && kind == 1 && reserved == 0 && length == 148 && protocol == 17;
            let packet = v4(options * 4, fragment, protocol, &rest);
            let kept = Judge::new(&program(Family::V4, ports.iter().copied())).kept(&packet);
            prop_assert_eq!(kept, (good && fragment & 0x3fff == 0).then_some(packet.len()));
            let packet = v6(protocol, &rest);
            let kept = Judge::new(&program(Family::V6, ports)).kept(&packet);
            prop_assert_eq!(kept, good.then_some(packet.len()));
        }

        #[test]
        fn whatever_the_bytes_the_kernel_and_we_go_on(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for family in [Family::V4, Family::V6] {
                let _ = Judge::new(&program(family, [51_820])).kept(&bytes);
                let _ = super::super::Captured::read(family, &bytes);
            }
        }
    }

    #[test]
    fn what_was_kept_is_read() {
        let mut packet = v4(8, 0, 17, &datagram(51_820, &payload([1, 0, 0, 0], 148)));
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let captured = super::super::Captured::read(Family::V4, &packet).expect("a datagram");
        assert_eq!((captured.from, captured.to), ("10.0.0.1:4660".parse().unwrap(), "10.0.0.2:51820".parse().unwrap()));
        assert_eq!(captured.payload, &packet[36..]);
        let mut packet = v6(17, &datagram(51_820, &payload([1, 0, 0, 0], 148)));
        packet[23] = 1;
        packet[39] = 2;
        let captured = super::super::Captured::read(Family::V6, &packet).expect("a datagram");
        assert_eq!((captured.from, captured.to), ("[::1]:4660".parse().unwrap(), "[::2]:51820".parse().unwrap()));
    }

    #[test]
    fn scattered_ports_are_no_longer_program_than_the_kernel_takes() {
        let scattered = (0..7000u16).map(|n| n * 9);
        let judge = Judge::new(&program(Family::V4, scattered));
        assert!(judge.kept(&v4(0, 0, 17, &datagram(900, &payload([1, 0, 0, 0], 148)))).is_some());
        assert!(judge.kept(&v4(0, 0, 17, &datagram(65_000, &payload([1, 0, 0, 0], 148)))).is_none());
        assert_eq!(ranges([3, 1, 2, 9, 65_535, 65_534, 2]), [(1, 3), (9, 9), (65_534, 65_535)]);
    }
}
