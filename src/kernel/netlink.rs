//! One netlink socket: requests out, answers in.
//!
//! The kernel carries a request out within `sendmsg` and has queued the answer when that returns, so nothing here ever
//! waits for long, and blocking calls cost less than waking a task would. Requests travel many to a datagram:
//! 10,000 routes are some 100 system calls out, which is what makes a first apply fast.

use bytes::BufMut as _;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::{
    socket::{setsockopt, sockopt},
    time::TimeVal,
};
use std::io;

mod message;

pub use message::{Message, messages};

const HEADER: usize = 16;
/// Requests in flight: each answer takes about 1 KiB of the receive buffer, whose default size is 208 KiB.
const WINDOW: usize = 128;
/// Bytes of a datagram that carries requests; the send buffer's default size is 208 KiB.
const DATAGRAM: usize = 64 * 1024;
/// Requests in a datagram of a [`Batch`]. The kernel carries a datagram out in one go, and unless it is preemptible nothing else runs on that processor
/// meanwhile, packets included: 800 deletions of connections were 4 ms.
const TOGETHER: u32 = 64;
/// A dump that the kernel says changed underneath is read again this many times before that is an error.
const DUMP_TRIES: usize = 10;

/// The kernel's "no" to a request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{}", io::Error::from_raw_os_error(*.errno), .text.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
pub struct Refused {
    /// As in errno(3), positive.
    pub errno: i32,
    pub text: Option<String>,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(libc::EIO), text: error.raw_os_error().is_none().then(|| error.to_string()) }
    }
}

pub type Answer = Result<(), Refused>;
/// What a list has: (message type, payload).
pub type Entries = Vec<(u16, Vec<u8>)>;

/// A message without its sequence number.
pub struct Request(Vec<u8>);

impl Request {
    /// `payload` is all that follows the netlink header.
    pub fn new(kind: u16, flags: u16, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity((HEADER + payload.len()).next_multiple_of(4));
        bytes.extend_from_slice(&((HEADER + payload.len()) as u32).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Self(bytes)
    }

    pub fn route(message: RouteNetlinkMessage, flags: u16) -> Self {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags | NLM_F_REQUEST;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
        message.serialize(&mut bytes);
        Self(bytes)
    }

    fn flag(&mut self, flags: u16) {
        let old = u16::from_ne_bytes([self.0[6], self.0[7]]);
        self.0[6..8].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    fn number(&mut self, sequence: u32) {
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// Many requests in one datagram, written in place: for hundreds of thousands of them, of which only the refused are answered.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u32,
}

impl Batch {
    /// Whether it is time to send it.
    pub fn is_full(&self) -> bool {
        self.count >= TOGETHER || self.bytes.len() >= DATAGRAM - 1024
    }

    /// Adds a request whose payload is at most 1 KiB.
    pub fn push(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        fill(&mut self.bytes);
        let length = (self.bytes.len() - start) as u32;
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let header = &mut self.bytes[start..start + HEADER];
        header[..4].copy_from_slice(&length.to_ne_bytes());
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        header[8..12].copy_from_slice(&self.count.to_ne_bytes());
        self.count += 1;
    }
}

#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// A socket of a netlink family (`libc::NETLINK_ROUTE`, ...) in the calling thread's network namespace.
    pub fn open(family: i32) -> io::Result<Self> {
        let mut socket = Socket::new(family as isize)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        // Kernels before 4.20 do not know it; they answer dumps unfiltered, and we look at each entry anyhow.
        let _ = socket.set_netlink_get_strict_chk(true);
        // Larger buffers are a privilege (CAP_NET_ADMIN) and not needed: the window is made for the default.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &(1 << 20));
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &(1 << 20));
        // An answer that never comes must not hang the daemon.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(5, 0))?;
        Ok(Self { socket, port, sequence: 0, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// The address of this socket, by which notices of our own changes can be told.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Carries requests out in order; one answer each.
    pub fn execute(&mut self, requests: Vec<Request>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let (first, mut datagram) = (self.sequence.wrapping_add(1), Vec::new());
            let mut count = 0;
            while let Some(mut request) = requests.next_if(|next| count < WINDOW && datagram.len() + next.0.len() <= DATAGRAM || count == 0)
            {
                self.sequence = self.sequence.wrapping_add(1);
                request.number(self.sequence);
                request.flag(NLM_F_ACK);
                datagram.extend_from_slice(&request.0);
                count += 1;
            }
            answers.extend(self.window(&datagram, first, count));
        }
        answers
    }

    fn window(&mut self, datagram: &[u8], first: u32, count: usize) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = vec![None; count];
        let mut open = count;
        let result = self.send(datagram).and_then(|()| {
            while open > 0 {
                for message in messages(receive(&self.socket, &mut self.buffer, 0)?) {
                    let place = answers.get_mut(message.sequence.wrapping_sub(first) as usize);
                    if let (NLMSG_ERROR, Some(place @ None)) = (message.kind, place) {
                        *place = Some(message.answer());
                        open -= 1;
                    }
                }
            }
            Ok(())
        });
        let lost = result.err().map_or(Refused { errno: libc::EIO, text: None }, Refused::from);
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(lost.clone()))).collect()
    }

    /// Carries a batch out and empties it: what was refused, by its place in the batch. On return all of it is done.
    pub fn pour(&mut self, batch: &mut Batch) -> io::Result<Vec<(usize, Refused)>> {
        let mut refused = Vec::new();
        let sent = if batch.count == 0 { Ok(()) } else { self.send(&batch.bytes) };
        let count = batch.count;
        batch.bytes.clear();
        batch.count = 0;
        sent?;
        loop {
            match receive(&self.socket, &mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(datagram) => {
                    for message in messages(datagram).filter(|m| m.kind == NLMSG_ERROR && m.sequence < count) {
                        refused.extend(message.answer().err().map(|why| (message.sequence as usize, why)));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(refused),
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins to list, for [`Netlink::next_entries`]; until that is over, the socket is good for nothing else.
    pub fn start_dump(&mut self, mut request: Request) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        request.flag(NLM_F_DUMP);
        request.number(self.sequence);
        self.send(&request.0)
    }

    /// The next entries of the list, as many as the kernel gives at once (up to 32 KiB). False: that was the end. An error: the list
    /// is not whole.
    pub fn next_entries(&mut self, mut take: impl FnMut(&[u8])) -> Result<bool, Refused> {
        for message in messages(receive(&self.socket, &mut self.buffer, 0)?).filter(|m| m.sequence == self.sequence) {
            message.of_one_piece()?;
            match message.kind {
                NLMSG_DONE => return message.done().map(|()| false),
                NLMSG_ERROR => message.answer()?,
                _ => take(message.payload),
            }
        }
        Ok(true)
    }

    /// Asks for one thing: the payload of the answer.
    pub fn get(&mut self, mut request: Request) -> Result<Vec<u8>, Refused> {
        self.sequence = self.sequence.wrapping_add(1);
        request.number(self.sequence);
        self.send(&request.0)?;
        loop {
            for message in messages(receive(&self.socket, &mut self.buffer, 0)?).filter(|m| m.sequence == self.sequence) {
                if message.kind == NLMSG_ERROR {
                    message.answer()?;
                } else {
                    return Ok(message.payload.to_vec());
                }
            }
        }
    }

    /// Lists: every entry as (message type, payload). Read again when the kernel says that the list changed meanwhile.
    pub fn dump(&mut self, mut request: Request) -> Result<Entries, Refused> {
        self.settled(|netlink| {
            let (entries, interrupted) = netlink.dump_once(&mut request)?;
            Ok((entries, !interrupted))
        })
    }

    /// Reads until what was read is of one piece, as `read` says.
    pub fn settled<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<(T, bool), Refused>) -> Result<T, Refused> {
        for _ in 0..DUMP_TRIES {
            if let (all, true) = read(self)? {
                return Ok(all);
            }
        }
        // Half a list would say that things are gone which stand.
        Err(Refused { errno: libc::EAGAIN, text: Some("it kept changing while it was read".into()) })
    }

    /// Lists once: the entries, and whether the kernel says that something changed meanwhile.
    pub fn dump_once(&mut self, request: &mut Request) -> Result<(Entries, bool), Refused> {
        self.sequence = self.sequence.wrapping_add(1);
        request.flag(NLM_F_DUMP);
        request.number(self.sequence);
        self.send(&request.0)?;
        let (mut entries, mut interrupted) = (Vec::new(), false);
        loop {
            for message in messages(receive(&self.socket, &mut self.buffer, 0)?).filter(|m| m.sequence == self.sequence) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE => {
                        return message.done().map(|()| (entries, interrupted));
                    }
                    NLMSG_ERROR => message.answer()?,
                    kind => entries.push((kind, message.payload.to_vec())),
                }
            }
        }
    }

    /// Carries an nfnetlink batch out: all of it or nothing. On return the kernel has committed or refused.
    pub fn transact(&mut self, begin: Request, mut steps: Vec<Request>, end: Request) -> Answer {
        if let Some(last) = steps.last_mut() {
            last.flag(NLM_F_ACK);
        }
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        let count = steps.len() as u32;
        for mut request in std::iter::once(begin).chain(steps).chain(std::iter::once(end)) {
            self.sequence = self.sequence.wrapping_add(1);
            request.number(self.sequence);
            datagram.extend_from_slice(&request.0);
        }
        self.send(&datagram)?;
        // All answers are in the queue by now: the last request's, and one for each that was refused.
        let mut result = Err(Refused { errno: libc::EIO, text: Some("the kernel did not answer the batch".into()) });
        let mut refused = None;
        loop {
            let datagram = match receive(&self.socket, &mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(datagram) => datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return refused.map_or(result, Err),
                Err(error) => return Err(error.into()),
            };
            for message in messages(datagram).filter(|m| m.kind == NLMSG_ERROR && m.sequence.wrapping_sub(first) <= count + 1) {
                match message.answer() {
                    Err(why) => refused = refused.or(Some(why)),
                    Ok(()) => result = Ok(()),
                }
            }
        }
    }

    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(datagram, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(drop),
            }
        }
    }
}

/// One datagram. Dumps come in pieces of at most 32 KiB (netlink_dump), answers are small.
pub fn receive<'b>(socket: &Socket, buffer: &'b mut Vec<u8>, flags: i32) -> io::Result<&'b [u8]> {
    loop {
        buffer.clear();
        buffer.reserve(DATAGRAM);
        match socket.recv(&mut (&mut *buffer).limit(DATAGRAM), flags | libc::MSG_TRUNC) {
            Ok(length) if length > DATAGRAM => return Err(io::Error::other(format!("a netlink datagram of {length} bytes"))),
            Ok(_) => return Ok(buffer),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
