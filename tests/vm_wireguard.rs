//! WireGuard of a stock kernel as others see it: tshark beside the path, `wg` on the nodes.

mod vm_support;

use portway::config::{Backend, TunnelKind};
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Topology};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use vm_support::{inside, sh, wait};

const GATEWAY: &str = "gw-acme";
const HOST: &str = "host-1";
const FUNCTION: &str = "fn-1a";
/// What a function asks for, and nobody on the way may read.
const SECRET: &str = "for-the-tenants-eyes-only";

/// All IPv4 packets at an interface of the gateway, whole.
struct Capture {
    tcpdump: Child,
    file: PathBuf,
}

impl Capture {
    fn start(lab: &Lab, interface: &str) -> Self {
        let [file, log] = ["pcap", "log"].map(|what| lab.dir().path().join(format!("{interface}.{what}")));
        let mut command = lab.node(GATEWAY).unwrap().command("tcpdump");
        command.args(["-Z", "root", "-n", "-U", "--immediate-mode", "-i", interface, "-w"]).arg(&file).arg("ip");
        let tcpdump = command.stdin(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        wait("tcpdump", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on")));
        Self { tcpdump, file }
    }

    fn has(&self, text: &str) -> bool {
        std::fs::read(&self.file).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// A field of the packets that match a display filter; WireGuard is looked for at this port.
    fn read(&self, port: u16, display: &str, field: &str) -> Vec<String> {
        let mut tshark = Command::new("tshark");
        tshark.args(["-n", "-d", &format!("udp.port=={port},wg"), "-T", "fields", "-Y", display, "-e", field, "-r"]).arg(&self.file);
        let output = tshark.output().expect("no tshark; run: scripts/install-deps test");
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

#[test]
fn the_platform_sees_wireguard_and_nothing_inside_and_wg_reads_our_devices() {
    inside("the_platform_sees_wireguard_and_nothing_inside_and_wg_reads_our_devices", || {
        let topology = Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(TunnelKind::Wireguard);
        let port = topology.port("acme", 0);
        let mut lab = Lab::build(topology).unwrap();
        lab.serve().unwrap();
        // Before the first handshake.
        let (platform, tenant) = (Capture::start(&lab, "plat0"), Capture::start(&lab, "eni0"));
        lab.start_daemons(Path::new(env!("CARGO_BIN_EXE_portway")), Backend::Kernel).unwrap();
        lab.attach_all().unwrap();
        sh(&lab, FUNCTION, &format!("curl -s -o /dev/null --max-time 60 http://172.16.101.20/{SECRET}"));
        wait("the question at the tenant's side", || tenant.has(SECRET));
        // Initiation, response and data; a cookie (3) only under load.
        wait("WireGuard at the platform's side", || {
            let types = platform.read(port, "wg", "wg.type");
            ["1", "2", "4"].iter().all(|kind| types.iter().any(|seen| seen == kind))
        });
        assert!(platform.read(port, "wg.type > 4 or wg.type < 1", "frame.number").is_empty());
        let others = platform.read(port, "not wg", "frame.protocols");
        assert!(others.is_empty(), "beside WireGuard: {others:?}");
        assert!(!platform.has(SECRET), "the platform can read what a function asks for");

        for (node, own_port) in [(GATEWAY, Some(port)), (HOST, None)] {
            let dump = sh(&lab, node, "wg show all dump");
            let lines: Vec<Vec<&str>> = dump.lines().map(|line| line.split('\t').collect()).collect();
            // wg(8): interface, private key, public key, port, mark; interface, key, preshared key, endpoint, allowed, handshake, received, sent, keepalive.
            let [device, peer] = lines.as_slice() else { panic!("at {node}: {dump}") };
            assert!(device[0].starts_with("pw-") && device.len() == 5, "{dump}");
            assert!(own_port.is_none_or(|port| device[3] == port.to_string()), "{dump}");
            let number = |at: usize| peer[at].parse::<u64>().unwrap();
            assert!(number(5) > 0 && number(6) > 0 && number(7) > 0, "no handshake or no traffic: {dump}");
            let (endpoint, allowed) = if node == GATEWAY { ("10.9.0.101:", "10.64.0.101/32") } else { ("10.9.0.1:", "172.16.0.0/16") };
            assert!(peer[3].starts_with(endpoint) && peer[4] == allowed, "{dump}");
        }
        let [gateway, host] = [GATEWAY, HOST].map(|node| sh(&lab, node, "wg show all dump"));
        let key = |dump: &str, line: usize, at: usize| dump.lines().nth(line).unwrap().split('\t').nth(at).unwrap().to_owned();
        assert_eq!((key(&gateway, 0, 2), key(&gateway, 1, 1)), (key(&host, 1, 1), key(&host, 0, 2)), "each has the other's public key");
    });
}
