//! Connection tracking entries of what is no longer attached.

use super::attr;
use super::netlink::{Answer, Netlink, Request};

// include/uapi/linux/netfilter/nfnetlink_conntrack.h
const IPCTNL_MSG_CT_DELETE: u16 = (1 << 8) | 2;
const CTA_MARK: u16 = 8;
const CTA_MARK_MASK: u16 = 21;

/// Deletes every entry, of any zone and address family, whose mark has these bits under this mask: one message, and the
/// kernel walks its table.
pub fn delete_by_mark(netlink: &mut Netlink, mark: u32, mask: u32) -> Answer {
    // struct nfgenmsg: any family, version 0, resource 0
    let mut payload = vec![0; 4];
    attr::put(&mut payload, CTA_MARK, &mark.to_be_bytes());
    attr::put(&mut payload, CTA_MARK_MASK, &mask.to_be_bytes());
    netlink.execute(vec![Request::new(IPCTNL_MSG_CT_DELETE, 0, &payload)]).pop().unwrap_or(Ok(()))
}
