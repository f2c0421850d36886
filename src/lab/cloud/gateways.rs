//! Gateways as instances: what each finds on the loopback of its own namespace, and its interfaces in the account.

use super::Cloud;
use super::metadata::Metadata;
use crate::lab::Lab;
use crate::lab::error::{During, Result};
use crate::lab::netns::Netns;
use crate::lab::topology::PLATFORM_IF;
use crate::model::EniId;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// Where an instance asks what it is.
pub const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8169);
/// Where it calls EC2.
pub const EC2: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8170);

/// A gateway's configuration that goes by both. `more`: what else stands below `aws`.
pub fn configured(yaml: &str, more: &str) -> String {
    yaml.replace(
        "gateway:\n",
        &format!("gateway:\n  cloud: {{ aws: {{ metadata: \"http://{METADATA}\", endpoint: \"http://{EC2}\"{more} }} }}\n"),
    )
}

/// Of the gateway of this number, from 1.
pub fn instance(number: usize) -> String {
    format!("i-{number:017x}")
}

/// The platform's interface of the gateway of this number, and its first tenant's.
pub fn enis(number: usize) -> [EniId; 2] {
    [0, 1].map(|side| format!("eni-0000{number:02x}{side:02x}").parse().expect("an interface's identity"))
}

impl Cloud {
    /// Metadata and EC2 on the loopback of an instance's namespace, which end with the runtime that this is called in.
    pub fn serve_instance(&self, instance: &str, at: &Netns) -> Result<Metadata> {
        let listen = |place| at.run(move || TcpListener::bind(place)).during(format!("listen on {place}"));
        self.also_at(instance, listen(EC2)?).during("serve EC2")?;
        self.metadata(instance, listen(METADATA)?).during("serve metadata")
    }

    /// Each gateway of a lab is an instance with two interfaces, in the subnets of these. Their metadata, in the same order.
    pub fn serve_gateways(&self, lab: &Lab, platform: IpNet, tenant: IpNet) -> Result<Vec<Metadata>> {
        let mut all = Vec::new();
        for (number, gateway) in (1..).zip(&lab.topology.gateways) {
            let instance = instance(number);
            let eni = &gateway.enis[0];
            let sides = [(PLATFORM_IF, gateway.outer, platform), (eni.interface.as_str(), eni.address, tenant)];
            for (id, (interface, address, subnet)) in enis(number).iter().zip(sides) {
                self.eni(id, &instance, &lab.hardware_address(&gateway.node, interface)?, subnet, address.into());
            }
            all.push(self.serve_instance(&instance, lab.node(&gateway.node)?)?);
        }
        Ok(all)
    }
}
