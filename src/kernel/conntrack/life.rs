//! What ctnetlink says of a connection's beginning and end: ctnetlink_conntrack_event, net/netfilter/nf_conntrack_netlink.c.

use super::super::attr;
use super::message::{self, CTA_MARK, CTA_PROTOINFO, CTA_STATUS, CTA_TIMEOUT, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ZONE};
use crate::model::{FlowCount, FlowEnd, FlowKey, FlowLife, FlowStatus, Mark};

const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_ID: u16 = 12;
const CTA_TIMESTAMP: u16 = 20;

const CTA_COUNTERS_PACKETS: u16 = 1;
const CTA_COUNTERS_BYTES: u16 = 2;
const CTA_TIMESTAMP_START: u16 = 1;
const CTA_TIMESTAMP_STOP: u16 = 2;

/// None: it is malformed, or of a protocol without a name here. `by`: the port of the message's header.
pub fn read(kind: u16, payload: &[u8], by: u32) -> Option<FlowLife> {
    let ends = if kind == message::number(message::DELETE) { Some(FlowEnd::default()) } else { None };
    if ends.is_none() && kind != message::number(message::NEW) {
        return None;
    }
    let list = payload.get(4..)?;
    let (mut key, mut reply, mut zone, mut end) = (None, None, 0, ends.unwrap_or_default());
    let (mut id, mut tcp, mut status, mut mark, mut counted) = (0, None, FlowStatus::default(), Mark(0), [None; 2]);
    for (kind, value) in attr::each(list) {
        match kind {
            CTA_TUPLE_ORIG => key = Some(message::read_tuple(value)?),
            CTA_TUPLE_REPLY => reply = Some(message::read_tuple(value)?),
            CTA_ZONE => zone = message::be16(value)?,
            CTA_ID => id = attr::be32(value)?,
            CTA_STATUS => status = message::read_status(attr::be32(value)?),
            CTA_MARK => mark = Mark(attr::be32(value)?),
            CTA_PROTOINFO => tcp = message::read_tcp(value),
            CTA_TIMEOUT => end.left = attr::be32(value)?,
            CTA_COUNTERS_ORIG => counted[0] = count(value),
            CTA_COUNTERS_REPLY => counted[1] = count(value),
            CTA_TIMESTAMP => (end.began, end.ended) = (be64(value, CTA_TIMESTAMP_START), be64(value, CTA_TIMESTAMP_STOP)),
            _ => {}
        }
    }
    end.counted = if let [Some(sent), Some(received)] = counted { Some([sent, received]) } else { None };
    let (key, reply) = (FlowKey { zone, ..key? }, FlowKey { zone, ..reply? });
    Some(FlowLife { id, key, reply, tcp, status, mark, end: ends.map(|_| end), by })
}

fn count(value: &[u8]) -> Option<FlowCount> {
    Some(FlowCount { packets: be64(value, CTA_COUNTERS_PACKETS)?, bytes: be64(value, CTA_COUNTERS_BYTES)? })
}

fn be64(list: &[u8], kind: u16) -> Option<u64> {
    attr::find(list, kind).and_then(|value| value.try_into().ok()).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_the_bytes_reading_does_not_panic(kind in prop_oneof![Just(256u16), Just(258), any::<u16>()], bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(kind, &bytes, 0);
        }
    }
}
