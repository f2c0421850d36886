//! What interfaces have counted: `struct rtnl_link_stats64` (include/uapi/linux/if_link.h).

use super::attr;
use super::netlink::{Netlink, Refused, Request};
use crate::model::IfName;

// include/uapi/linux/rtnetlink.h, if_link.h
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_STATS64: u16 = 23;
const IFLA_LINK_NETNSID: u16 = 37;
/// struct ifinfomsg: family, padding, type, index, flags, change mask.
const HEADER: usize = 16;

/// An interface's traffic since it was made, by its own account: a packet that is to be cut by the card, or has been joined by the kernel, may count as one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub received_packets: u64,
    pub sent_packets: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub index: u32,
    /// The index of the interface by which its packets come and go as well: of a VLAN, the one that it lies on.
    pub lower: Option<u32>,
    pub traffic: Traffic,
}

/// None: there is no such interface.
pub fn read(netlink: &mut Netlink, name: &IfName) -> Result<Option<Counted>, Refused> {
    let mut payload = vec![0; HEADER];
    attr::put_name(&mut payload, IFLA_IFNAME, name.as_str());
    match netlink.get(Request::new(RTM_GETLINK, 0, &payload)) {
        Ok(link) => Ok(counted(&link)),
        Err(Refused { errno: libc::ENODEV, .. }) => Ok(None),
        Err(refused) => Err(refused),
    }
}

fn counted(link: &[u8]) -> Option<Counted> {
    let (header, list) = link.split_first_chunk::<HEADER>()?;
    let word = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
    let of_here = attr::find(list, IFLA_LINK_NETNSID).is_none();
    // The other end of a veth is no lower one: what goes in there comes out here, and is counted here once.
    let veth =
        attr::find(list, IFLA_LINKINFO).and_then(|info| attr::find(info, IFLA_INFO_KIND)).is_some_and(|kind| attr::name(kind) == "veth");
    let lower = attr::find(list, IFLA_LINK).and_then(word).filter(|lower| *lower != 0 && of_here && !veth);
    Some(Counted { index: word(&header[4..8])?, lower, traffic: traffic(attr::find(list, IFLA_STATS64)?)? })
}

/// Kernels add fields behind these.
fn traffic(stats: &[u8]) -> Option<Traffic> {
    let (fields, _) = stats.as_chunks::<8>();
    let &[received_packets, sent_packets, received_bytes, sent_bytes, ..] = fields else { return None };
    let [received_packets, sent_packets, received_bytes, sent_bytes] =
        [received_packets, sent_packets, received_bytes, sent_bytes].map(u64::from_ne_bytes);
    Some(Traffic { received_packets, sent_packets, received_bytes, sent_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut link = vec![0; HEADER];
        link[4..8].copy_from_slice(&7u32.to_ne_bytes());
        fill(&mut link);
        link
    }

    fn stats(link: &mut Vec<u8>, fields: u64) {
        let fields: Vec<u8> = (1..=fields).flat_map(u64::to_ne_bytes).collect();
        attr::put(link, IFLA_STATS64, &fields);
    }

    const TRAFFIC: Traffic = Traffic { received_packets: 1, sent_packets: 2, received_bytes: 3, sent_bytes: 4 };

    #[test]
    fn the_first_four_fields_are_read_however_many_there_are() {
        for fields in [4, 24, 25, 40] {
            let seen = counted(&link(|link| stats(link, fields)));
            assert_eq!(seen, Some(Counted { index: 7, lower: None, traffic: TRAFFIC }), "{fields}");
        }
        assert_eq!(counted(&link(|link| stats(link, 3))), None);
        assert_eq!(counted(&link(|_| ())), None);
        assert_eq!(counted(&[0; HEADER - 1]), None);
    }

    #[test]
    fn a_vlan_lies_on_another_interface_and_the_end_of_a_veth_does_not() {
        let of_kind = |kind: &str, elsewhere: bool| {
            let link = link(|link| {
                attr::put(link, IFLA_LINK, &3u32.to_ne_bytes());
                attr::nest(link, IFLA_LINKINFO, |info| attr::put_name(info, IFLA_INFO_KIND, kind));
                stats(link, 24);
                if elsewhere {
                    attr::put(link, IFLA_LINK_NETNSID, &0i32.to_ne_bytes());
                }
            });
            counted(&link).unwrap().lower
        };
        assert_eq!([of_kind("vlan", false), of_kind("vlan", true), of_kind("veth", false)], [Some(3), None, None]);
    }
}
