//! One check of one thing: a packet or a connection through the tenant's side.

use crate::config::{HttpCheck, Probe, Target};
use crate::model::{IfName, Mark};
use crate::wire::checksum::Sum;
use crate::wire::ipv4::Header;
use ipnet::IpNet;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

const ICMP: u8 = 1;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
/// Type, code, checksum, identifier, sequence number (RFC 792).
const ICMP_HEADER: usize = 8;
/// Bytes in which the status line of an answer must be.
const STATUS_LINE: usize = 256;

/// Where probes leave: the tenant's interface, by the tenant's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    pub interface: IfName,
    pub mark: Mark,
    /// The next hop toward what is not on the link.
    pub router: Option<IpAddr>,
}

impl Side {
    /// Of the node's own addresses there the one to ask from; never a HaVip, which a Backup does not have and which may stand before them. None
    /// if there is none: the kernel knows what to say.
    fn source(&self, own: &[IpNet], target: IpAddr) -> Option<IpAddr> {
        let beside = |other: IpAddr| own.iter().find(|net| net.contains(&other));
        beside(target).or_else(|| beside(self.router?)).or_else(|| own.first()).map(IpNet::addr)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("cannot open a socket on {0}: {1}")]
    Socket(IfName, #[source] io::Error),
    #[error("cannot ask: {0}")]
    Ask(#[source] io::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("the answer is not HTTP")]
    NotHttp,
    #[error("it has no interface to leave by")]
    NoSide,
    #[error("{0}")]
    Script(#[from] super::script::Failure),
}

/// Checks once. `own`: the node's addresses on that side.
pub async fn check(probe: &Probe, side: Option<&Side>, own: &[IpNet]) -> Result<(), Failure> {
    let within = |work| async { tokio::time::timeout(probe.timeout, work).await.unwrap_or(Err(Failure::Late(probe.timeout))) };
    match (&probe.target, side) {
        (Target::Script { file, args }, _) => Ok(super::script::run(file, args, probe.timeout).await?),
        (Target::Tcp(at), Some(side)) => within(Box::pin(async { connect(*at, side, own).await.map(drop) }) as Work<'_>).await,
        (Target::Http(check), Some(side)) => within(Box::pin(get(check, side, own))).await,
        (Target::Icmp(IpAddr::V4(to)), Some(side)) => within(Box::pin(ping((*to).into(), side, own))).await,
        (Target::Icmp(IpAddr::V6(_)) | Target::Tcp(_) | Target::Http(_), _) | (Target::Icmp(IpAddr::V4(_)), None) => Err(Failure::NoSide),
    }
}

type Work<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

fn socket(kind: Type, protocol: Protocol, side: &Side, source: Option<IpAddr>) -> Result<Socket, Failure> {
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(side.interface.as_str().as_bytes()))?;
        socket.set_mark(side.mark.0)?;
        if let Some(source) = source {
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        Ok(socket)
    };
    open().map_err(|error| Failure::Socket(side.interface.clone(), error))
}

async fn connect(to: SocketAddr, side: &Side, own: &[IpNet]) -> Result<TcpStream, Failure> {
    let socket = socket(Type::STREAM, Protocol::TCP, side, side.source(own, to.ip()))?;
    let socket = TcpSocket::from_std_stream(socket.into());
    socket.connect(to).await.map_err(Failure::Connect)
}

/// `GET` (RFC 9110 section 9.3.1); of the answer, the status line alone is read (RFC 9112 section 4).
async fn get(check: &HttpCheck, side: &Side, own: &[IpNet]) -> Result<(), Failure> {
    let mut stream = connect(check.at, side, own).await?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: portway\r\nConnection: close\r\n\r\n", check.path, check.at);
    stream.write_all(request.as_bytes()).await.map_err(Failure::Ask)?;
    let (mut head, mut length) = ([0; STATUS_LINE], 0);
    while length < head.len() && !head[..length].contains(&b'\n') {
        match stream.read(&mut head[length..]).await.map_err(Failure::Ask)? {
            0 => break,
            more => length += more,
        }
    }
    let status = status(&head[..length]).ok_or(Failure::NotHttp)?;
    if check.expect.contains(status) { Ok(()) } else { Err(Failure::Status(status)) }
}

fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|status| status.len() == 3)?.parse().ok()
}

/// An echo request and its reply (RFC 792). A raw socket, as a ping socket asks for a group of the machine's `ping_group_range`.
async fn ping(to: IpAddr, side: &Side, own: &[IpNet]) -> Result<(), Failure> {
    let socket = socket(Type::RAW, Protocol::ICMPV4, side, side.source(own, to))?;
    let asked = |result: io::Result<()>| result.map_err(Failure::Ask);
    // From then on, nothing of anybody else comes.
    asked(socket.connect(&SockAddr::from(SocketAddr::new(to, 0))))?;
    // Its calls are those of any socket with packets.
    let socket = UdpSocket::from_std(socket.into()).map_err(Failure::Ask)?;
    let mut tag = [0; 8];
    getrandom::fill(&mut tag).map_err(|error| Failure::Ask(io::Error::other(error)))?;
    asked(socket.send(&echo(ECHO_REQUEST, tag)).await.map(drop))?;
    let mut packet = [0; 128];
    loop {
        let length = socket.recv(&mut packet).await.map_err(Failure::Ask)?;
        if answers(&packet[..length], tag) {
            return Ok(());
        }
    }
}

/// The tag, which is random, takes the places of identifier, sequence number and the first data.
fn echo(kind: u8, tag: [u8; 8]) -> [u8; ICMP_HEADER + 4] {
    let mut message = [0; ICMP_HEADER + 4];
    message[0] = kind;
    message[4..].copy_from_slice(&tag);
    let sum = Sum::default().with(&message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn answers(packet: &[u8], tag: [u8; 8]) -> bool {
    let Ok(header) = Header::parse(packet) else { return false };
    header.protocol == ICMP && packet.get(header.header_len..).is_some_and(|message| message.starts_with(&echo(ECHO_REPLY, tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_beside_whom_the_packet_goes_to() {
        let own: Vec<IpNet> = ["172.16.101.4/24", "172.16.7.4/24", "172.16.8.4/24"].map(|net| net.parse().expect("a network")).to_vec();
        let from = |router: Option<&str>, target: &str, own: &[IpNet]| {
            let router = router.map(|router| router.parse().expect("an address"));
            let side = Side { interface: "eni0".parse().expect("a name"), mark: Mark(0x2001), router };
            side.source(own, target.parse().expect("an address")).map(|source| source.to_string())
        };
        assert_eq!(from(None, "172.16.7.9", &own).as_deref(), Some("172.16.7.4"));
        assert_eq!(from(Some("172.16.8.1"), "172.16.7.9", &own).as_deref(), Some("172.16.7.4"));
        assert_eq!(from(Some("172.16.8.1"), "172.16.200.9", &own).as_deref(), Some("172.16.8.4"));
        assert_eq!(from(None, "172.16.200.9", &own).as_deref(), Some("172.16.101.4"));
        assert_eq!(from(None, "172.16.200.9", &[]), None);
    }

    #[test]
    fn the_status_of_an_answer() {
        for (head, expected) in [
            (&b"HTTP/1.1 200 OK\r\nServer: x\r\n"[..], Some(200)),
            (b"HTTP/1.0 503\r\n", Some(503)),
            (b"HTTP/1.1 200", Some(200)),
            (b"HTTP/1.1 2000 OK\r\n", None),
            (b"HTTP/2 200\r\n", None),
            (b"SSH-2.0-OpenSSH\r\n", None),
            (b"\xff\xfe\n", None),
            (b"", None),
        ] {
            assert_eq!(status(head), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn an_echo_reply_answers_its_own_request_only() {
        let tag = *b"12345678";
        let packet = |kind, tag| {
            let message = echo(kind, tag);
            let mut packet = crate::wire::ipv4::outer([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 0, 32, 0).to_vec();
            packet[9] = ICMP;
            packet.extend(message);
            packet
        };
        assert!(Sum::default().with(&echo(ECHO_REQUEST, tag)).is_intact());
        assert!(answers(&packet(ECHO_REPLY, tag), tag));
        assert!(!answers(&packet(ECHO_REQUEST, tag), tag));
        assert!(!answers(&packet(ECHO_REPLY, *b"12345679"), tag));
        assert!(!answers(&packet(ECHO_REPLY, tag)[..30], tag));
    }
}
