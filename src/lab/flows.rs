//! Many connections at once through one path, opened before something befalls it and used afterwards: which of them
//! are still what they were?
//!
//! ```text
//!  open()     every connection is made, greeted and answered         (hold: transfers run, all else is silent)
//!  verify()   client-first  request -> answer, three times
//!             server-push   the server speaks first, three times
//!             idle          as client-first, not before `idle` has passed
//!             mid-transfer  went on all the time, both ways; two more blocks must arrive on either side
//!             udp           request -> answer, three times, and the server sees the same source as before
//! ```
//! Both ends run in this process, a thread or two for all of them; only their sockets are in the namespaces.

mod client;
mod server;
mod state;

use super::error::{During, Error, Result};
use super::netns::Netns;
use super::topology::port;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use state::Board;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

pub use state::Kind;

/// How many flows, and how they pass their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// TCP connections, a quarter of each kind.
    pub tcp: usize,
    pub udp: usize,
    /// How long the idle ones stay silent, from their opening.
    pub idle: Duration,
    /// Between two blocks of 512 bytes of a transfer, in either direction.
    pub pace: Duration,
}

impl Default for Counts {
    fn default() -> Self {
        Self { tcp: 1000, udp: 200, idle: Duration::ZERO, pace: Duration::from_millis(200) }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Survival {
    pub opened: usize,
    /// Data went both ways on that very connection afterwards, and was right.
    pub survived: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowReport {
    pub tcp: BTreeMap<&'static str, Survival>,
    pub udp: Survival,
    /// Connections that were reset or ended.
    pub resets: usize,
    /// Flows on which something else arrived than was sent.
    pub corrupt: usize,
    /// What befell the first few that did not survive.
    pub why: Vec<String>,
}

impl FlowReport {
    /// All TCP connections.
    pub fn all_tcp(&self) -> Survival {
        let sum = |of: fn(&Survival) -> usize| self.tcp.values().map(of).sum();
        Survival { opened: sum(|s| s.opened), survived: sum(|s| s.survived) }
    }

    pub fn all_survived(&self) -> bool {
        let tcp = self.all_tcp();
        tcp.opened == tcp.survived && self.udp.opened == self.udp.survived
    }

    /// These and others.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (kind, more) in other.tcp {
            let all = self.tcp.entry(kind).or_default();
            (all.opened, all.survived) = (all.opened + more.opened, all.survived + more.survived);
        }
        self.udp.opened += other.udp.opened;
        self.udp.survived += other.udp.survived;
        self.resets += other.resets;
        self.corrupt += other.corrupt;
        self.why.extend(other.why);
        self.why.truncate(REASONS);
        self
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let kinds: Vec<String> = self.tcp.iter().map(|(kind, s)| format!("{kind} {}/{}", s.survived, s.opened)).collect();
        let mut text = format!("{}, udp {}/{}", kinds.join(", "), self.udp.survived, self.udp.opened);
        if self.resets + self.corrupt > 0 {
            text += &format!("; {} resets, {} corrupt", self.resets, self.corrupt);
        }
        if let Some(first) = self.why.first() {
            text += &format!("; {first}");
        }
        text
    }
}

/// Established flows; they end when dropped.
#[derive(Debug)]
pub struct Flows {
    board: Arc<Board>,
    runtime: Option<Runtime>,
}

/// Reasons a report keeps.
const REASONS: usize = 5;

impl Flows {
    /// Opens flows from these namespaces in turn to a server made for them in `at`, at `server`'s port [`port::FLOWS`];
    /// when this returns all are established and have been answered.
    pub fn open(from: &[&Netns], at: &Netns, server: Ipv4Addr, counts: &Counts) -> Result<Self> {
        if from.is_empty() {
            return Err(Error::State("flows need a namespace to come from".into()));
        }
        allow_files(2 * counts.tcp + counts.udp)?;
        let to = SocketAddrV4::new(server, port::FLOWS);
        let (listener, datagrams) = at.run(|| Ok::<_, io::Error>((listen(to)?, receive(to)?))).during(format!("listen at {to}"))?;
        let sockets = client_sockets(from, counts).during("make the flows' sockets")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("lab-flows").enable_all().build();
        let runtime = runtime.during("start the flows' runtime")?;
        let kind = |n: usize| if n < counts.tcp { Kind::TCP[n / from.len() % Kind::TCP.len()] } else { Kind::Udp };
        let board = Arc::new(Board::new((0..counts.tcp + counts.udp).map(kind), counts.pace));
        let opened = runtime.block_on(async {
            server::start(listener, datagrams, &board)?;
            client::open(sockets, to.into(), counts.idle, &board).await
        });
        opened.during(format!("open {} flows to {to}", counts.tcp + counts.udp))?;
        Ok(Self { board, runtime: Some(runtime) })
    }

    /// The addresses that the server saw the flows come from.
    pub fn sources(&self) -> BTreeSet<Ipv4Addr> {
        let seen = self.board.flows.iter().filter_map(|f| f.seen());
        seen.filter_map(|a| if let SocketAddr::V4(a) = a { Some(*a.ip()) } else { None }).collect()
    }

    /// Uses every flow, and says how many still were what they had been. Whatever has not proved itself within
    /// `deadline` (from now; idle ones may have to wait first) has not survived.
    pub fn verify(mut self, deadline: Duration) -> FlowReport {
        let runtime = self.runtime.take().expect("kept until drop");
        self.board.begin();
        runtime.block_on(async {
            let _ = tokio::time::timeout(deadline, self.board.all_settled()).await;
        });
        let report = report(&self.board, deadline);
        runtime.shutdown_timeout(Duration::from_secs(1));
        report
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

fn report(board: &Board, deadline: Duration) -> FlowReport {
    let mut report = FlowReport {
        tcp: Kind::TCP.map(|k| (k.name(), Survival::default())).into(),
        udp: Survival::default(),
        resets: 0,
        corrupt: 0,
        why: vec![],
    };
    for flow in &board.flows {
        let survival = match flow.kind {
            Kind::Udp => &mut report.udp,
            kind => report.tcp.entry(kind.name()).or_default(),
        };
        survival.opened += 1;
        if flow.survived() {
            survival.survived += 1;
            continue;
        }
        let fault = flow.fault();
        report.resets += usize::from(fault.as_ref().is_some_and(|f| f.reset));
        report.corrupt += usize::from(fault.as_ref().is_some_and(|f| f.corrupt));
        if report.why.len() < REASONS {
            let what = fault.map_or_else(|| format!("silent for {deadline:?}"), |f| f.what);
            report.why.push(format!("{} flow {}: {what}", flow.kind.name(), flow.id));
        }
    }
    report
}

fn listen(at: SocketAddrV4) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(at).into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn receive(at: SocketAddrV4) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(at)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// In the order of the flows: TCP, then UDP.
fn client_sockets(from: &[&Netns], counts: &Counts) -> io::Result<Vec<Socket>> {
    let total = counts.tcp + counts.udp;
    let make = |n: usize| {
        let (kind, protocol) = if n < counts.tcp { (Type::STREAM, Protocol::TCP) } else { (Type::DGRAM, Protocol::UDP) };
        let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        Ok((n, socket))
    };
    let mut all = Vec::new();
    for (place, netns) in from.iter().enumerate() {
        all.extend(netns.run(|| (place..total).step_by(from.len()).map(make).collect::<io::Result<Vec<_>>>())?);
    }
    all.sort_by_key(|(n, _)| *n);
    Ok(all.into_iter().map(|(_, socket)| socket).collect())
}

/// Raises this process's limit of open files so that `more` fit.
fn allow_files(more: usize) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).during("read the limit of open files")?;
    let wanted = more as u64 + 1024;
    if wanted > hard {
        return Err(Error::Missing(format!("{more} sockets need a limit of {wanted} open files; run: ulimit -Hn {wanted}")));
    }
    if wanted > soft { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).during("raise the limit of open files") } else { Ok(()) }
}
