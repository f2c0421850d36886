//! The named counters of our tables, straight over nfnetlink: whoever looks at `status` every second should not cost a process each time.

use super::attr;
use super::element::{TABLE, found, header, number};
use super::netlink::{Netlink, Refused, Request};
use crate::plan::NftTable;

/// include/uapi/linux/netfilter/nf_tables.h
mod nf {
    pub const GETOBJ: u16 = 19;
    pub const TABLE: u16 = 1;
    pub const NAME: u16 = 2;
    pub const KIND: u16 = 3;
    pub const DATA: u16 = 4;
    pub const COUNTER: u32 = 1;
    pub const COUNTER_PACKETS: u16 = 2;
}

/// Name and packets of each; none if there is no such table.
pub fn list(netlink: &mut Netlink, table: NftTable) -> Result<Vec<(String, u64)>, Refused> {
    let mut payload = header(table);
    attr::put_name(&mut payload, nf::TABLE, TABLE);
    attr::put(&mut payload, nf::KIND, &nf::COUNTER.to_be_bytes());
    let entries = found(netlink.dump(Request::new(number(nf::GETOBJ), 0, &payload)))?;
    Ok(entries.iter().filter_map(|(_, payload)| read(payload.get(4..)?)).collect())
}

/// Older kernels do not filter.
fn read(fields: &[u8]) -> Option<(String, u64)> {
    let ours = attr::find(fields, nf::TABLE).map(attr::name)? == TABLE;
    let counter = attr::find(fields, nf::KIND).and_then(attr::be32)? == nf::COUNTER;
    let packets = attr::find(attr::find(fields, nf::DATA)?, nf::COUNTER_PACKETS)?;
    (ours && counter).then_some((attr::name(attr::find(fields, nf::NAME)?), u64::from_be_bytes(packets.try_into().ok()?)))
}
