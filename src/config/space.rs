//! Address space: what may never be reached through a gateway, and what overlaps what.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix)
}

const fn v6(address: Ipv6Addr, prefix: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V6(address), prefix)
}

/// Where an address of one machine cannot lie (IANA's special-purpose registry, RFC 6890), and why.
pub const UNUSABLE: [(IpNet, &str); 5] = [
    (v4(0, 0, 0, 0, 8), "unspecified"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// Destinations that no tenant's functions may have, whatever is configured, and what they are. A machine's metadata
/// service gives away the machine's credentials.
pub const NEVER_ALLOWED: [(IpNet, &str); 11] = [
    (v4(169, 254, 0, 0, 16), "link-local and instance metadata"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(100, 100, 100, 200, 32), "Alibaba Cloud's instance metadata"),
    (v4(0, 0, 0, 0, 8), "this network (RFC 1122)"),
    (v4(240, 0, 0, 0, 4), "reserved and broadcast"),
    (v6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128), "instance metadata"),
    (v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), "link-local"),
    (v6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8), "multicast"),
    (v6(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (v6(Ipv6Addr::UNSPECIFIED, 128), "unspecified"),
];

/// What of [`NEVER_ALLOWED`] a network touches, for a message.
pub(super) fn never_allowed(net: &IpNet) -> Option<String> {
    let touched = NEVER_ALLOWED.iter().filter(|(forbidden, _)| overlap(net, forbidden));
    let texts: Vec<String> = touched.map(|(forbidden, kind)| format!("{forbidden} ({kind})")).collect();
    if texts.is_empty() { None } else { Some(texts.join(", ")) }
}

/// Prefixes overlap exactly if one contains the other.
pub(super) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Pairs of overlapping networks among many, in O(n log n): (one, another that contains it or is equal), as indices.
/// A network that overlaps several is in one pair.
pub(super) fn overlaps(nets: &[IpNet]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..nets.len()).collect();
    // By first address, the wider first: whatever contains a network stands before it.
    order.sort_by_key(|&i| (nets[i].network(), nets[i].prefix_len(), i));
    let mut pairs = Vec::new();
    let mut widest: Option<usize> = None;
    for i in order {
        match widest {
            Some(w) if nets[w].contains(&nets[i]) => pairs.push((i, w)),
            // Prefixes nest or are apart: past the end of the widest, nothing before can contain what follows.
            _ => widest = Some(i),
        }
    }
    pairs
}

/// Answers which of many networks contains an address, in O(log n).
pub(super) struct Cover<T> {
    /// Sorted, disjoint.
    nets: Vec<(IpNet, T)>,
}

impl<T> Cover<T> {
    pub fn new(mut nets: Vec<(IpNet, T)>) -> Self {
        nets.sort_by_key(|(net, _)| (net.network(), net.prefix_len()));
        nets.dedup_by(|later, kept| kept.0.contains(&later.0));
        Cover { nets }
    }

    pub fn find(&self, address: IpAddr) -> Option<&(IpNet, T)> {
        let after = self.nets.partition_point(|(net, _)| net.network() <= address);
        self.nets.get(after.checked_sub(1)?).filter(|(net, _)| net.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net() -> impl Strategy<Value = IpNet> {
        (any::<u32>(), 4u8..=32).prop_map(|(bits, prefix)| {
            // Few distinct addresses, so that overlaps happen.
            IpNet::new_assert(IpAddr::V4(Ipv4Addr::from_bits(bits & 0xf00f_000f)), prefix).trunc()
        })
    }

    proptest! {
        #[test]
        fn the_sweep_finds_every_network_that_another_one_contains(nets in prop::collection::vec(net(), 0..40)) {
            let pairs = overlaps(&nets);
            for (inner, outer) in &pairs {
                prop_assert!(nets[*outer].contains(&nets[*inner]));
            }
            let free: Vec<_> = (0..nets.len()).filter(|i| pairs.iter().all(|(inner, _)| inner != i)).collect();
            for a in &free {
                for b in &free {
                    prop_assert!(a == b || !overlap(&nets[*a], &nets[*b]), "{} and {}", nets[*a], nets[*b]);
                }
            }
        }

        #[test]
        fn the_cover_answers_as_a_search_through_all_would(nets in prop::collection::vec(net(), 0..40), bits in any::<u32>()) {
            let address = IpAddr::V4(Ipv4Addr::from_bits(bits & 0xf00f_000f));
            let naive = nets.iter().any(|net| net.contains(&address));
            let cover = Cover::new(nets.into_iter().map(|net| (net, ())).collect());
            prop_assert_eq!(cover.find(address).is_some(), naive);
        }
    }

    #[test]
    fn metadata_is_never_allowed_in_either_family() {
        for (net, what) in
            [("100.64.0.0/10", "Alibaba"), ("fd00::/8", "instance"), ("169.254.169.254/32", "link-local"), ("fe80::/64", "link-local")]
        {
            let net: IpNet = net.parse().unwrap();
            assert!(never_allowed(&net).is_some_and(|text| text.contains(what)), "{net}");
        }
        assert_eq!(never_allowed(&"172.16.0.0/12".parse().unwrap()), None);
    }
}
