//! What went wrong with connections that were to begin, by the kernel's own counters (`conntrack -S`).

use super::super::attr;
use super::super::netlink::{Netlink, Refused, Request};

// include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
const IPCTNL_MSG_CT_GET_STATS_CPU: u16 = (1 << 8) | 4;
const CTA_STATS_INSERT_FAILED: u16 = 9;
const CTA_STATS_DROP: u16 = 10;
const CTA_STATS_EARLY_DROP: u16 = 11;
/// struct nfgenmsg: family, version, identifier.
const HEADER: usize = 4;

/// Of all processors together, in this network namespace. The kernel counts each processor's in 32 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConntrackFailures {
    /// No source port was free for its translation, or another had just begun with the same addresses and ports. On a Backup, copies that stood already may count.
    pub insert_failed: u64,
    /// Packets dropped for whatever reason: those above, and those for which the table had no room.
    pub drop: u64,
    /// Connections that were ended to make room for others.
    pub early_drop: u64,
}

pub fn read(netlink: &mut Netlink) -> Result<ConntrackFailures, Refused> {
    let each = netlink.dump(Request::new(IPCTNL_MSG_CT_GET_STATS_CPU, 0, &[0; HEADER]))?;
    let mut all = ConntrackFailures::default();
    each.iter().for_each(|(_, payload)| all.add(payload.get(HEADER..).unwrap_or_default()));
    Ok(all)
}

impl ConntrackFailures {
    fn add(&mut self, fields: &[u8]) {
        let count = |kind| attr::find(fields, kind).and_then(attr::be32).map_or(0, u64::from);
        self.insert_failed += count(CTA_STATS_INSERT_FAILED);
        self.drop += count(CTA_STATS_DROP);
        self.early_drop += count(CTA_STATS_EARLY_DROP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_add_up_and_what_a_kernel_does_not_count_is_nothing() {
        let mut all = ConntrackFailures::default();
        for counts in [&[(CTA_STATS_INSERT_FAILED, u32::MAX), (CTA_STATS_DROP, 5), (13, 7)][..], &[(CTA_STATS_INSERT_FAILED, 2)], &[]] {
            let mut fields = Vec::new();
            counts.iter().for_each(|(kind, count)| attr::put(&mut fields, *kind, &count.to_be_bytes()));
            all.add(&fields);
        }
        assert_eq!(all, ConntrackFailures { insert_failed: u64::from(u32::MAX) + 2, drop: 5, early_drop: 0 });
    }
}
