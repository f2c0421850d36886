//! Who answers for an address, asked by ARP from a machine that is not in the game.

use super::support::{HAVIPS, PLATFORM_IF, SOON, TENANT_IF, THIRD, THIRD_ADDRESS, VPC, World};
use super::witness::packet_socket;
use portway::lab::Netns;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How long is waited for a second answer.
const LINGER: Duration = Duration::from_millis(40);

/// Hardware addresses that answer for `address`, asked from `source` in a namespace.
pub fn answers(netns: &Netns, interface: &str, source: Ipv4Addr, address: Ipv4Addr) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    netns.run(|| {
        let mac = hardware_address(interface).expect("the interface has a hardware address");
        let socket = packet_socket(interface, 0x0806);
        let question = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac, &source.octets(), &[0; 6], &address.octets()].concat();
        socket.send(&question).expect("send a question");
        let begun = Instant::now();
        let mut frame = [0; 64];
        while let Some(left) = LINGER.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left)).unwrap();
            let Ok(length) = std::io::Read::read(&mut &socket, &mut frame) else { break };
            if length >= 42 && frame[20..22] == [0, 2] && frame[28..32] == address.octets() && frame[38..42] == source.octets() {
                found.insert(text(&frame[22..28]));
            }
        }
    });
    found
}

fn text(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// Of an interface of the calling thread's namespace.
fn hardware_address(interface: &str) -> std::io::Result<[u8; 6]> {
    let found = nix::ifaddrs::getifaddrs()?.find_map(|one| {
        let address = one.address.filter(|_| one.interface_name == interface)?;
        address.as_link_addr()?.addr()
    });
    found.ok_or_else(|| std::io::Error::other("no such interface"))
}

impl World {
    /// Of a node's interface, in text.
    pub fn mac(&self, node: &str, interface: &str) -> String {
        self.node(node).run(|| text(&hardware_address(interface).unwrap()))
    }

    /// The hardware addresses that answer for the platform HaVip.
    pub fn arp_on_platform(&self) -> BTreeSet<String> {
        answers(self.node(THIRD), PLATFORM_IF, THIRD_ADDRESS, HAVIPS[0])
    }

    /// Waits until this node, and nobody else, has both addresses and answers for both.
    pub fn await_owner(&self, node: &str) {
        let macs = [PLATFORM_IF, TENANT_IF].map(|interface| BTreeSet::from([self.mac(node, interface)]));
        let begun = Instant::now();
        loop {
            let seen = [self.arp_on_platform(), answers(self.node(VPC), "vpc0", self.lab.topology.tenants[0].server, HAVIPS[1])];
            if seen == macs && self.has_addresses(node) {
                return;
            }
            assert!(
                begun.elapsed() < SOON,
                "{node} should answer with {macs:?}; who does: {seen:?}; {}",
                self.sh(node, "ip -4 -o address")
            );
        }
    }
}
