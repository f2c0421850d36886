//! The dead man's switch: addresses in nftables sets with a timeout, which end unless they are extended. The rules that look there let a
//! node take, send and answer for a HaVip only as long as somebody extends; a daemon that is dead or hangs does not.
//!
//! The kernel ends an element within a tick (1/HZ) before its time, never after.

use super::KernelError;
use super::attr;
use super::element::{TABLE, commit, each_raw, elements_of, found, nf, number, of_set, sets};
use super::netlink::{Answer, Netlink, Refused, Request};
use crate::model::IfName;
use crate::plan::{NftTable, SetName};
use netlink_packet_core::NLM_F_CREATE;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

/// The kernel counts in ticks, at most 10 ms long, and older ones take a time that rounds to no tick for "without end" (`nft_add_set_elem`).
const SHORTEST: Duration = Duration::from_millis(10);
/// Far beyond any lease, and within what the kernel counts.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A set of `table netdev portway` ([`crate::plan::LIVE`], [`crate::plan::ANSWERS`]), and addresses for it with the interfaces that they
/// are on: tenants may have the same address.
pub type Part<'a> = (&'static str, &'a [(IfName, IpAddr)]);

/// The bytes of an interface's name in a key: filled up with zeros (IFNAMSIZ).
const NAME: usize = 16;
type Key = [u8; NAME + 4];

/// Holds leases in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Lease {
    netlink: Netlink,
}

impl Lease {
    pub fn open() -> Result<Self, KernelError> {
        let netlink = Netlink::open(libc::NETLINK_NETFILTER).map_err(|source| KernelError::Open { what: "for leases", source })?;
        Ok(Self { netlink })
    }

    /// For [`super::Kernel::own`].
    pub fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// From now on these addresses are in these sets for so long, whatever time they had left: all of them, or after an error none
    /// anew. No packet meets a moment without one that was there. Less than 10 ms ends them; a day is the longest.
    ///
    /// # Errors
    /// `ENOENT` if such a set does not stand, `EAFNOSUPPORT` for an IPv6 address.
    pub fn extend(&mut self, parts: &[Part], lasts: Duration) -> Result<(), KernelError> {
        if lasts < SHORTEST {
            return self.end(parts);
        }
        let parts = readable(parts)?;
        // Kernels before 6.12 ignore a new timeout for an element that stands, and refuse to delete one that does not: so add, delete, add.
        // The batch takes effect as a whole when the kernel moves on to the next generation.
        Ok(self.commit(&parts, &[nf::NEWSETELEM, nf::DELSETELEM, nf::NEWSETELEM], lasts)?)
    }

    /// Takes these addresses out of these sets; where they, or the sets, are gone already, that is as good.
    pub fn end(&mut self, parts: &[Part]) -> Result<(), KernelError> {
        let parts = readable(parts)?;
        let end = [nf::NEWSETELEM, nf::DELSETELEM];
        match self.commit(&parts, &end, SHORTEST) {
            // A set is missing. The others shall be emptied all the same.
            Err(Refused { errno: libc::ENOENT, .. }) => {
                parts.into_iter().try_for_each(|part| Ok(found(self.commit(&[part], &end, SHORTEST))?))
            }
            other => Ok(other?),
        }
    }

    /// How long an address is still in a set; none if it is not, or the set does not stand.
    pub fn remaining(&mut self, set: &'static str, at: &(IfName, IpAddr)) -> Result<Option<Duration>, KernelError> {
        let wanted = readable(&[(set, std::slice::from_ref(at))])?;
        let payload = payload(set, &wanted[0].1, None);
        let answer = found(self.netlink.get(Request::new(number(nf::GETSETELEM), 0, &payload)));
        let answer = answer.map_err(|refused| KernelError::read("a lease", refused))?;
        Ok(elements_of(&answer).next().and_then(|(_, fields)| read(fields)).map(|(_, _, lasts)| lasts))
    }

    fn commit(&mut self, parts: &[(&'static str, Vec<Key>)], kinds: &[u16], lasts: Duration) -> Answer {
        let parts = || parts.iter().filter(|(_, addresses)| !addresses.is_empty());
        if parts().next().is_none() {
            return Ok(());
        }
        let steps = || {
            let step = |kind, (set, addresses): &(&'static str, Vec<Key>)| {
                let (flags, lasts) = if kind == nf::NEWSETELEM { (NLM_F_CREATE, Some(lasts)) } else { (0, None) };
                Request::new(number(kind), flags, &payload(set, addresses, lasts))
            };
            kinds.iter().flat_map(|kind| parts().map(|part| step(*kind, part))).collect()
        };
        match counted(&mut self.netlink, steps()) {
            // Before 6.8 an element could end between the steps of one batch; then there is nothing left that could.
            Err(Refused { errno: libc::ENOENT, .. }) => counted(&mut self.netlink, steps()),
            other => other,
        }
    }
}

/// Batches for leases that this process has begun, has done, and that changed something.
static BEGUN: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
static CHANGED: AtomicU32 = AtomicU32::new(0);

fn counted(netlink: &mut Netlink, steps: Vec<Request>) -> Answer {
    BEGUN.fetch_add(1, SeqCst);
    let answer = commit(netlink, steps);
    CHANGED.fetch_add(answer.is_ok().into(), SeqCst);
    DONE.fetch_add(1, SeqCst);
    answer
}

/// A number that changes with nftables in this network namespace, but not with the leases of this process: what was listed between two equal
/// ones is of one piece. None if a lease was just being changed.
pub fn undisturbed(netlink: &mut Netlink) -> Result<Option<u32>, Refused> {
    let (done, changed) = (DONE.load(SeqCst), CHANGED.load(SeqCst));
    // struct nfgenmsg: no family
    let answer = netlink.get(Request::new(number(nf::GETGEN), 0, &[0; 4]))?;
    let generation = answer.get(4..).and_then(|list| attr::find(list, nf::GEN_ID)).and_then(attr::be32);
    let quiet = BEGUN.load(SeqCst) == done && CHANGED.load(SeqCst) == changed;
    Ok(generation.filter(|_| quiet).map(|generation| generation.wrapping_sub(changed)))
}

fn readable(parts: &[Part]) -> Result<Vec<(&'static str, Vec<Key>)>, Refused> {
    let key = |(interface, address): &(IfName, IpAddr)| match address {
        IpAddr::V4(address) => {
            let mut key = [0; NAME + 4];
            // At most 15 bytes, or it were no name.
            key[..interface.as_str().len()].copy_from_slice(interface.as_str().as_bytes());
            key[NAME..].copy_from_slice(&address.octets());
            Ok(key)
        }
        IpAddr::V6(address) => {
            Err(Refused { errno: libc::EAFNOSUPPORT, text: Some(format!("a lease is for IPv4 addresses, and {address} is none")) })
        }
    };
    parts.iter().map(|(set, addresses)| Ok((*set, addresses.iter().map(key).collect::<Result<_, _>>()?))).collect()
}

fn payload(set: &str, keys: &[Key], lasts: Option<Duration>) -> Vec<u8> {
    let mut payload = of_set(NftTable::Netdev, set);
    let lasts = lasts.map(|lasts| u64::try_from(lasts.min(LONGEST).as_millis()).unwrap_or(u64::MAX).to_be_bytes());
    attr::nest(&mut payload, nf::LIST_ELEMENTS, |list| {
        for key in keys {
            attr::nest(list, nf::LIST_ELEM, |fields| {
                attr::nest(fields, nf::ELEM_KEY, |nested| attr::put(nested, nf::DATA_VALUE, key));
                if let Some(milliseconds) = lasts {
                    attr::put(fields, nf::ELEM_TIMEOUT, &milliseconds);
                }
            });
        }
    });
    payload
}

/// An interface's name, an address and the time that it has left.
type Standing = (String, Ipv4Addr, Duration);

/// What is in a set that lapses: addresses only, and only those that do lapse.
fn read(fields: &[u8]) -> Option<Standing> {
    let key: Key = attr::find(fields, nf::ELEM_KEY).and_then(|key| attr::find(key, nf::DATA_VALUE))?.try_into().ok()?;
    let milliseconds = attr::find(fields, nf::ELEM_EXPIRATION)?.try_into().ok().map(u64::from_be_bytes)?;
    let (name, address) = key.split_first_chunk::<NAME>()?;
    Some((attr::name(name), <[u8; 4]>::try_from(address).ok()?.into(), Duration::from_millis(milliseconds)))
}

/// The addresses in the sets of a table that lapse. Of other such sets nothing is kept when their table is made anew: the next packet
/// puts back what packets put there.
pub fn list(netlink: &mut Netlink, table: NftTable) -> Result<Vec<(SetName, Vec<Standing>)>, Refused> {
    let mut all = Vec::new();
    for set in sets(netlink, table)?.into_iter().filter(|set| set.lapses && set.has_places()) {
        let name = SetName { table, name: set.name };
        let mut standing = Vec::new();
        each_raw(netlink, &name, |element| standing.extend(read(element)))?;
        all.push((name, standing));
    }
    Ok(all)
}

/// The same in nft's language, for a set that is made anew: nobody's time gets longer.
pub fn add_elements(set: &SetName, standing: &[Standing]) -> String {
    let mut script = String::new();
    for (interface, address, lasts) in standing.iter().filter(|(_, _, lasts)| *lasts >= SHORTEST) {
        let SetName { table, name } = set;
        let _ = writeln!(
            script,
            "add element {} {TABLE} {name} {{ \"{interface}\" . {address} timeout {}ms }}",
            table.family(),
            lasts.as_millis()
        );
    }
    script
}
