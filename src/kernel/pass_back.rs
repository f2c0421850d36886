//! What belongs to sessions of the node that had a HaVip before goes to that node, too, for a while: elements of a map of `table ip portway`
//! ([`crate::plan::FORMER`]), which end by themselves.

use super::KernelError;
use super::attr;
use super::element::{commit, found, nf, number, of_set};
use super::netlink::{Netlink, Refused, Request};
use crate::plan::{FORMER, NftTable};
use netlink_packet_core::NLM_F_CREATE;
use std::net::IpAddr;
use std::time::Duration;

/// Writes the map in the network namespace in which it was opened.
#[derive(Debug)]
pub struct PassBack {
    netlink: Netlink,
}

impl PassBack {
    pub fn open() -> Result<Self, KernelError> {
        let netlink = Netlink::open(libc::NETLINK_NETFILTER)
            .map_err(|source| KernelError::Open { what: "for sessions of the node before", source })?;
        Ok(Self { netlink })
    }

    /// For [`super::Kernel::own`].
    pub fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// From now on copies go to this node, for so long.
    ///
    /// # Errors
    /// `ENOENT` if the table does not stand, `EAFNOSUPPORT` for an IPv6 address.
    pub fn begin(&mut self, havip: IpAddr, node: IpAddr, lasts: Duration) -> Result<(), KernelError> {
        let havip = octets(havip)?;
        let payload = payload(havip, Some((octets(node)?, lasts)));
        let add = || Request::new(number(nf::NEWSETELEM), NLM_F_CREATE, &payload);
        match commit(&mut self.netlink, vec![add()]) {
            // The kernel does not overwrite what an element leads to.
            Err(Refused { errno: libc::EEXIST | libc::EBUSY, .. }) => Ok(commit(&mut self.netlink, vec![delete(havip), add()])?),
            other => Ok(other?),
        }
    }

    /// To none any more. Only where they went to one until now: the kernel takes 8 ms to refuse what is not there (a batch that is
    /// aborted waits for all processors, `nf_tables_abort`).
    pub fn end(&mut self, havip: IpAddr) -> Result<(), KernelError> {
        Ok(found(commit(&mut self.netlink, vec![delete(octets(havip)?)]))?)
    }
}

fn octets(address: IpAddr) -> Result<[u8; 4], Refused> {
    match address {
        IpAddr::V4(address) => Ok(address.octets()),
        IpAddr::V6(_) => {
            Err(Refused { errno: libc::EAFNOSUPPORT, text: Some(format!("HaVips are IPv4 addresses, and {address} is none")) })
        }
    }
}

fn delete(havip: [u8; 4]) -> Request {
    Request::new(number(nf::DELSETELEM), 0, &payload(havip, None))
}

fn payload(havip: [u8; 4], to: Option<([u8; 4], Duration)>) -> Vec<u8> {
    let mut payload = of_set(NftTable::Ip, FORMER);
    attr::nest(&mut payload, nf::LIST_ELEMENTS, |list| {
        attr::nest(list, nf::LIST_ELEM, |fields| {
            attr::nest(fields, nf::ELEM_KEY, |nested| attr::put(nested, nf::DATA_VALUE, &havip));
            if let Some((node, lasts)) = to {
                attr::nest(fields, nf::ELEM_DATA, |nested| attr::put(nested, nf::DATA_VALUE, &node));
                let milliseconds = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
                attr::put(fields, nf::ELEM_TIMEOUT, &milliseconds.to_be_bytes());
            }
        });
    });
    payload
}
