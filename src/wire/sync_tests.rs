use super::*;
use crate::wire::seal::Seal;
use proptest::prelude::*;

fn address(v6: bool) -> BoxedStrategy<IpAddr> {
    if v6 { any::<[u8; 16]>().prop_map(IpAddr::from).boxed() } else { any::<[u8; 4]>().prop_map(IpAddr::from).boxed() }
}

fn protocol() -> impl Strategy<Value = FlowProtocol> {
    prop_oneof![
        any::<(u16, u16)>().prop_map(|(source, destination)| FlowProtocol::Tcp { source, destination }),
        any::<(u16, u16)>().prop_map(|(source, destination)| FlowProtocol::Udp { source, destination }),
        any::<(u16, u8, u8)>().prop_map(|(id, kind, code)| FlowProtocol::Icmp { id, kind, code }),
    ]
}

pub fn flow() -> impl Strategy<Value = Flow> {
    any::<bool>().prop_flat_map(|v6| {
        let parts =
            (address(v6), address(v6), protocol(), proptest::option::of((address(v6), any::<u16>())), 0u8..10, any::<(bool, bool, u32)>());
        parts.prop_map(|(source, destination, protocol, nat, tcp, (seen_reply, assured, timeout))| Flow {
            key: FlowKey { zone: 0, source, destination, protocol },
            nat: nat.map(|(address, port)| NatSource { address, port }),
            tcp: TcpState::from_number(tcp),
            status: FlowStatus { seen_reply, assured },
            mark: Mark(0),
            timeout,
        })
    })
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        flow().prop_map(Record::Upsert),
        flow().prop_map(|flow| Record::Destroy(flow.key)),
        flow().prop_map(Record::Listed),
        any::<bool>().prop_map(|lossy| Record::Begin { lossy }),
        Just(Record::End),
        peer::tests::record().prop_map(|record| Record::Peer(Box::new(record))),
    ]
}

proptest! {
    #[test]
    fn records_come_back_as_they_were_written(list in proptest::collection::vec(record(), 0..20)) {
        let mut body = vec![];
        for record in &list {
            let before = body.len();
            prop_assert!(record.write(&mut body));
            let most = if let Record::Peer(_) = record { peer::RECORD_MAX } else { FLOW_MAX };
            prop_assert!(body.len() - before <= most);
        }
        prop_assert_eq!(records(&body).collect::<Result<Vec<_>, _>>(), Ok(list));
    }

    #[test]
    fn there_is_one_way_only_to_write_records(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (mut again, mut faults) = (vec![], 0);
        for record in records(&bytes) {
            match record {
                Ok(record) => drop(record.write(&mut again)),
                Err(_) => faults += 1,
            }
        }
        prop_assert!(faults <= 1 && bytes.starts_with(&again));
        prop_assert!(faults == 1 || bytes == again);
    }

    #[test]
    fn headers_come_back(kind in 1u8..6, longs: [u64; 5], body: Vec<u8>) {
        let kind = [Kind::Hello, Kind::Welcome, Kind::Data, Kind::Heartbeat, Kind::Ack][usize::from(kind - 1)];
        let [stream, session, nonce, sequence, time] = longs;
        let header = Header { kind, stream, session, nonce, sequence, time };
        let mut datagram = vec![];
        header.write(&mut datagram);
        prop_assert_eq!(datagram.len(), HEADER_LEN);
        prop_assert_eq!(stream_of(&datagram), Some(stream));
        datagram.extend_from_slice(&body);
        prop_assert_eq!(Header::parse(&datagram), Ok((header, &body[..])));
    }

    #[test]
    fn no_bytes_make_the_header_or_the_gaps_panic(bytes: Vec<u8>, sequence: u64) {
        let _ = (Header::parse(&bytes), stream_of(&bytes), gaps(&bytes, sequence).map(Iterator::count));
    }

    #[test]
    fn any_flipped_bit_is_refused(flow in flow(), bit: prop::sample::Index) {
        let seal = Seal::new(b"0123456789abcdef");
        let mut datagram = vec![];
        Header { kind: Kind::Data, stream: 1, session: 2, nonce: 3, sequence: 4, time: 5 }.write(&mut datagram);
        Record::Upsert(flow).write(&mut datagram);
        seal.close(&mut datagram);
        prop_assert!(seal.open(&datagram).is_some());
        let bit = bit.index(datagram.len() * 8);
        datagram[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(seal.open(&datagram).is_none());
    }
}

#[test]
fn a_flow_of_two_families_is_not_written() {
    let key = FlowKey {
        zone: 0,
        source: "10.0.0.1".parse().unwrap(),
        destination: "fd00::1".parse().unwrap(),
        protocol: FlowProtocol::Udp { source: 1, destination: 2 },
    };
    let mut body = vec![];
    assert!(!Record::Destroy(key).write(&mut body));
    assert!(body.is_empty());
}

#[test]
fn fifty_translated_connections_fit_a_datagram() {
    let key = FlowKey {
        zone: 7,
        source: "10.0.0.1".parse().unwrap(),
        destination: "10.0.0.2".parse().unwrap(),
        protocol: FlowProtocol::Tcp { source: 1, destination: 2 },
    };
    let nat = Some(NatSource { address: "10.0.0.3".parse().unwrap(), port: 9 });
    let flow = Flow { key, nat, tcp: Some(TcpState::Established), status: FlowStatus::default(), mark: Mark(5), timeout: 60 };
    let (mut datagram, mut count) = (vec![0; HEADER_LEN], 0);
    while has_room(&datagram, &Record::Upsert(flow)) {
        Record::Upsert(flow).write(&mut datagram);
        count += 1;
    }
    assert!(count >= 50 && datagram.len() + seal::TAG <= MAX, "{count} in {}", datagram.len());
    let Some(Ok(Record::Upsert(read))) = records(&datagram[HEADER_LEN..]).next() else { panic!("a record") };
    assert_eq!((read.key.zone, read.mark), (0, Mark(0)), "these do not travel");
}

#[test]
fn gaps_are_ordered_and_few() {
    let written = |list: &[Gap]| {
        let mut body = vec![];
        write_gaps(&mut body, list.iter().copied());
        body
    };
    assert_eq!(gaps(&written(&[(3, 3), (5, 9)]), 1).unwrap().collect::<Vec<_>>(), [(3, 3), (5, 9)]);
    for bad in [&[(3, 2)][..], &[(1, 4)], &[(3, 5), (5, 6)], &[(7, 8), (3, 4)]] {
        assert_eq!(gaps(&written(bad), 1).err(), Some(Fault::Gaps), "{bad:?}");
    }
    assert_eq!(gaps(&[0; 15], 0).err(), Some(Fault::Gaps));
    let many: Vec<Gap> = (0..100).map(|n| (10 + 2 * n, 10 + 2 * n)).collect();
    assert_eq!(gaps(&written(&many), 1).unwrap().count(), GAPS);
}
