//! `prevResult`: what the plugins before this one in the chain have made.

use super::{Code, Error};
use crate::model::IfName;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub struct Before {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    name: String,
    /// The container's network namespace; nothing for an interface of the host's.
    #[serde(default)]
    sandbox: String,
}

#[derive(Debug, Deserialize)]
struct Ip {
    address: IpNet,
}

impl Before {
    pub fn read(result: Option<&Value>) -> Result<Self, Error> {
        let Some(result) = result else {
            let why = "there is no `prevResult`: this plugin makes no interface, but gives one to a tenant; in `plugins` put it behind the one that does, \
                       such as ptp or bridge";
            return Err(Error::new(Code::InvalidConfig, why));
        };
        Self::deserialize(result)
            .map_err(|error| Error::new(Code::InvalidConfig, format!("`prevResult` is no result of a plugin: {error}")))
    }

    /// The interfaces on the host, of which one is the other end of the container's: with `ptp` it is alone, with `bridge` the bridge is there too.
    pub fn on_host(self) -> Result<Vec<IfName>, Error> {
        let impossible = |why: &str| Err(Error::new(Code::InvalidConfig, why));
        if !self.ips.is_empty() && self.ips.iter().all(|ip| matches!(ip.address, IpNet::V6(_))) {
            return impossible("the container has IPv6 addresses only, which tunnels do not carry: give it an IPv4 address (`ipam`)");
        }
        let names: Vec<IfName> =
            self.interfaces.iter().filter(|one| one.sandbox.is_empty()).filter_map(|one| one.name.parse().ok()).collect();
        if names.is_empty() {
            return impossible(
                "`prevResult` names no interface on the host: this plugin stands behind one that joins container and host by a pair of interfaces, such as \
                 ptp or bridge; macvlan, ipvlan and host-device do not",
            );
        }
        Ok(names)
    }
}
