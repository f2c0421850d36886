//! What is on the platform's wire: tcpdump on its switch, and packet sockets.

use super::support::{World, wait};
use nix::sys::signal::Signal;
use portway::lab::{Life, Process};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// Nanoseconds of a packet's time are kept (magic 0xa1b23c4d, pcap-savefile(5)).
pub struct Witness {
    process: Process,
    file: PathBuf,
}

/// An advertisement as it was seen. Read by hand, not by the code that is tested.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Since 1970.
    pub at: Duration,
    /// Hardware address of the sender.
    pub mac: String,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub ttl: u8,
    pub version: u8,
    pub vrid: u8,
    pub priority: u8,
    pub addresses: Vec<Ipv4Addr>,
    /// All that IP carries.
    pub payload: Vec<u8>,
}

impl Witness {
    /// Sees VRRP on the platform from the return of this on: everything that crosses the switch (`br0`), or an interface of a node.
    pub fn start(world: &World, node: &str, interface: &str, filter: &str) -> Self {
        let name = format!("tcpdump-{node}-{interface}");
        let (file, log) = (world.dir().join(format!("{name}.pcap")), world.lab.dir().log(&name));
        let mut command = world.node(node).command(super::support::tool("tcpdump", "tcpdump"));
        command.args(["-Z", "root", "-n", "-U", "--immediate-mode", "--nano", "-s", "256", "-B", "16384", "-i", interface, "-w"]);
        command.arg(&file).arg(filter);
        let mut process = Process::spawn(&name, command, &log, Life::WithLab).unwrap();
        wait("tcpdump", || {
            process.check_alive().unwrap();
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on"))
        });
        Self { process, file }
    }

    pub fn on_platform(world: &World) -> Self {
        Self::start(world, "platform", "br0", "ip proto 112")
    }

    /// Everything so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        let bytes = std::fs::read(&self.file).unwrap_or_default();
        let mut rest = bytes.get(24..).unwrap_or_default();
        let mut all = Vec::new();
        while let Some(head) = rest.get(..16) {
            let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
            let Some(frame) = rest[16..].get(..word(8) as usize) else { break };
            all.extend(read(Duration::new(word(0).into(), word(4)), frame));
            rest = &rest[16 + frame.len()..];
        }
        all
    }

    /// Waits for the first that is like this after the `after`th.
    pub fn await_like(&self, what: &str, after: usize, like: impl Fn(&Seen) -> bool) -> Seen {
        let mut found = None;
        wait(what, || {
            found = self.seen().into_iter().skip(after).find(|seen| like(seen));
            found.is_some()
        });
        found.expect("waited for")
    }

    /// Of all advertisements of a sender, what IP carried.
    pub fn payloads(&self, source: Ipv4Addr) -> Vec<Vec<u8>> {
        self.seen().into_iter().filter(|seen| seen.source == source).map(|seen| seen.payload).collect()
    }

    pub fn stop(&mut self) {
        self.process.signal(Signal::SIGINT).unwrap();
        self.process.wait(super::support::SOON).unwrap().expect("tcpdump ends when it is told to");
    }

    /// Ends it: these fields of every packet, in tshark's names.
    pub fn dissect(mut self, options: &[&str], fields: &[&str]) -> Vec<Vec<String>> {
        self.stop();
        let mut command = std::process::Command::new(super::support::tool("tshark", "tshark"));
        command.args(["-n", "-T", "fields", "-E", "occurrence=a"]).args(options).arg("-r").arg(&self.file);
        command.args(fields.iter().flat_map(|field| ["-e", field]));
        let output = command.output().unwrap();
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }
}

fn read(at: Duration, frame: &[u8]) -> Option<Seen> {
    let (ip, four) = (frame.get(14..)?, |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from).ok());
    let vrrp = ip.get(usize::from(ip.first()? & 15) * 4..usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?])))?;
    let mac = frame[6..12].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    let count = usize::from(*vrrp.get(3)?);
    Some(Seen {
        at,
        mac,
        source: four(&ip[12..16])?,
        destination: four(&ip[16..20])?,
        ttl: ip[8],
        version: vrrp[0] >> 4,
        vrid: vrrp[1],
        priority: vrrp[2],
        addresses: vrrp.get(8..8 + count * 4)?.chunks(4).filter_map(four).collect(),
        payload: vrrp.to_vec(),
    })
}

/// A packet socket on an interface of the calling thread's namespace.
pub fn packet_socket(interface: &str, protocol: u16) -> Socket {
    let index = nix::net::if_::if_nametoindex(interface).expect("the interface is there");
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).expect("a packet socket");
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the address types that a sockaddr_storage has room for and is aligned for; all its bytes may be zero.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as libc::sa_family_t;
    link.sll_protocol = protocol.to_be();
    link.sll_ifindex = index.cast_signed();
    // SAFETY: a whole sockaddr_ll has been written, and its length is given.
    let address = unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
    socket.bind(&address).expect("bind to the interface");
    socket
}
