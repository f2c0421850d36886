//! A client and a server with gateways between them that translate to one address, owned by one gateway at a time:
//!
//! ```text
//!             +- c0 [gateway] s0 -+
//!  client br0 +- c0 [gateway] s0 -+ br0 server
//!  10.1.0.10  |  10.1.0.1 to      |  10.2.0.10
//!             |  10.2.0.1         |
//! ```
#![allow(dead_code)]

use portway::lab::{Life, Netns, Process};
use std::collections::BTreeSet;
use std::process::Command;

pub const ZONE: u16 = 0x2001;
pub const MARK: u32 = 0x2001;
pub const SERVER: &str = "10.2.0.10";
pub const TRANSLATED: &str = "10.2.0.1";

pub struct Topology {
    pub client: Netns,
    pub server: Netns,
    pub gateways: Vec<Netns>,
}

pub fn sh(netns: &Netns, script: &str) -> String {
    let output = netns.command("sh").args(["-ec", script]).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

impl Topology {
    /// The first gateway owns the addresses.
    pub fn new(gateways: usize) -> Self {
        let create = || Netns::create().expect("these tests make network namespaces: run them as root");
        let quiet = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set lo up";
        let end = |address: &str, via: &str, beyond: &str| {
            let netns = create();
            sh(&netns, &format!("{quiet}; ip link add br0 type bridge; ip addr add {address}/24 dev br0; ip link set br0 up"));
            sh(&netns, &format!("ip route add {beyond} via {via}"));
            netns
        };
        let (client, server) = (end("10.1.0.10", "10.1.0.1", "10.2.0.0/24"), end(SERVER, "10.2.0.1", "10.1.0.0/24"));
        let topology = Self { client, server, gateways: (0..gateways).map(|_| create()).collect() };
        for (n, gateway) in topology.gateways.iter().enumerate() {
            sh(gateway, &format!("{quiet}; echo 1 > /proc/sys/net/ipv4/ip_forward"));
            for (netns, near, network) in [(&topology.client, "c0", "10.1.0"), (&topology.server, "s0", "10.2.0")] {
                topology.cable(gateway, near, netns, &format!("p{n}"));
                sh(netns, &format!("ip link set p{n} master br0 up"));
                sh(gateway, &format!("ip addr add {network}.{}/24 dev {near}; ip link set {near} up", n + 2));
            }
            // As a gateway's ruleset does it: zone and mark, a range of ports, no reset for what belongs to no connection.
            let ruleset = format!(
                "table ip t {{
                    chain c_raw {{ type filter hook prerouting priority raw; iifname {{ \"c0\", \"s0\" }} meta mark set {MARK} ct zone set {ZONE}; }}
                    chain c_remember {{ type filter hook prerouting priority mangle; meta mark != 0 ct state new ct mark set meta mark; }}
                    chain c_input {{ type filter hook input priority filter; ip daddr {TRANSLATED} meta l4proto {{ tcp, udp }} drop; }}
                    chain c_snat {{ type nat hook postrouting priority srcnat;
                        oifname \"s0\" meta l4proto {{ tcp, udp }} snat ip to {TRANSLATED}:20000-60000 fully-random
                        oifname \"s0\" snat ip to {TRANSLATED}; }}
                }}"
            );
            sh(gateway, &format!("nft -f - <<'END'\n{ruleset}\nEND"));
        }
        topology.own(0);
        topology
    }

    /// A virtual cable between two namespaces.
    pub fn cable(&self, a: &Netns, a_name: &str, b: &Netns, b_name: &str) {
        sh(a, &format!("ip link add {a_name} type veth peer name {b_name} netns {}", b.path().display()));
    }

    fn own(&self, gateway: usize) {
        sh(&self.gateways[gateway], &format!("ip addr add 10.1.0.1/32 dev c0; ip addr add {TRANSLATED}/32 dev s0"));
        for netns in [&self.client, &self.server] {
            sh(netns, "ip neigh flush dev br0");
        }
    }

    /// Moves both addresses.
    pub fn move_addresses(&self, from: usize, to: usize) {
        sh(&self.gateways[from], &format!("ip addr del 10.1.0.1/32 dev c0; ip addr del {TRANSLATED}/32 dev s0"));
        self.own(to);
    }

    /// The connections of the zone as another program sees them, without what differs between two kernels by nature.
    pub fn seen(&self, gateway: usize) -> BTreeSet<String> {
        let text = sh(&self.gateways[gateway], &format!("conntrack -L -w {ZONE} -o xml 2>/dev/null"));
        let flows = text.split("<flow>").skip(1).map(|flow| flow.split("</flow>").next().unwrap_or_default());
        flows.map(|flow| ["timeout", "id", "use"].iter().fold(flow.to_owned(), |flow, tag| without(&flow, tag))).collect()
    }

    /// conntrackd in a gateway, speaking to its twin over a cable `sync` of its own.
    pub fn conntrackd(&self, directory: &std::path::Path, gateway: usize, [own, other]: [&str; 2]) -> Process {
        let (control, file) = (directory.join(format!("{gateway}.ctl")), directory.join(format!("{gateway}.conf")));
        let config = format!(
            "Sync {{
                Mode FTFW {{ DisableExternalCache on }}
                UDP {{ IPv4_address {own}
                       IPv4_Destination_Address {other}
                       Port 3780
                       Interface sync
                       SndSocketBuffer 1249280
                       RcvSocketBuffer 1249280
                       Checksum on }}
             }}
             General {{
                HashSize 32768
                HashLimit 262144
                LogFile {}
                LockFile {}
                UNIX {{ Path {} }}
                NetlinkBufferSize 2097152
                NetlinkBufferSizeMaxGrowth 8388608
             }}\n",
            directory.join(format!("{gateway}.log")).display(),
            directory.join(format!("{gateway}.lock")).display(),
            control.display()
        );
        std::fs::write(&file, config).expect("a configuration");
        let mut command: Command = self.gateways[gateway].command("conntrackd");
        command.arg("-C").arg(&file);
        let process = Process::spawn("conntrackd", command, &directory.join(format!("{gateway}.out")), Life::WithLab).expect("conntrackd");
        // Its socket is there before it listens to the kernel; it answers when it does.
        let answers =
            || self.gateways[gateway].command("conntrackd").arg("-C").arg(&file).arg("-s").output().is_ok_and(|out| out.status.success());
        until("conntrackd listens", || control.exists() && answers());
        process
    }
}

/// An XML fragment without the elements and attributes of a name.
fn without(text: &str, tag: &str) -> String {
    let (mut rest, mut kept) = (text, String::new());
    while let Some((before, after)) = rest.split_once(&format!("<{tag}>")) {
        kept.push_str(before);
        rest = after.split_once(&format!("</{tag}>")).map_or("", |(_, after)| after);
    }
    kept + rest
}

/// Waits for something that nobody announces.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// What this thread has computed: what other programs do at the same time does not count.
pub fn computed() -> std::time::Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
}
