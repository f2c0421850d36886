//! HaVips on their interfaces: there while this node is Active. They are marked ours, as all addresses that Portway adds.

use super::address;
use super::apply::{Indices, execute};
use super::netlink::{Answer, Netlink, Request};
use super::{KernelError, Refused};
use crate::model::IfName;
use ipnet::IpNet;
use std::net::IpAddr;

/// Adds and removes HaVips in the network namespace in which it was opened.
#[derive(Debug)]
pub struct HaVips {
    netlink: Netlink,
}

impl HaVips {
    pub fn open() -> Result<Self, KernelError> {
        let netlink = Netlink::open(libc::NETLINK_ROUTE).map_err(|source| KernelError::Open { what: "for addresses", source })?;
        Ok(Self { netlink })
    }

    /// For [`super::Kernel::own`].
    pub fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// Adds each address by itself (/32, /128), for use at once: no duplicate address detection. One that stands is left standing. One
    /// answer for each.
    pub fn take(&mut self, addresses: &[(IfName, IpAddr)]) -> Vec<Result<(), KernelError>> {
        self.each(addresses, address::add, |answer| answer)
    }

    /// Removes the addresses, or finds them gone, with or without their interface. One answer for each.
    pub fn release(&mut self, addresses: &[(IfName, IpAddr)]) -> Vec<Result<(), KernelError>> {
        let answers = self.each(addresses, address::remove, address::removed);
        answers.into_iter().map(|answer| if matches!(answer, Err(KernelError::NoInterface(_))) { Ok(()) } else { answer }).collect()
    }

    /// An interface is asked for anew each time: it may have gone and come back under another index.
    fn each(
        &mut self,
        addresses: &[(IfName, IpAddr)],
        request: fn(u32, IpNet) -> Request,
        judge: fn(Answer) -> Answer,
    ) -> Vec<Result<(), KernelError>> {
        let mut indices = Indices::default();
        let mut prepare = |(interface, address): &(IfName, IpAddr)| {
            let index = indices.get(&mut self.netlink, interface)?;
            Ok(Some(request(index, IpNet::from(*address))))
        };
        let requests = addresses.iter().map(&mut prepare).collect();
        execute(&mut self.netlink, requests, |place, answer| judge(answer).map_err(|refused| gone(refused, &addresses[place].0)))
    }
}

fn gone(refused: Refused, interface: &IfName) -> KernelError {
    if refused.errno == libc::ENODEV { KernelError::NoInterface(interface.clone()) } else { refused.into() }
}
