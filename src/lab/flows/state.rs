//! What both ends of every flow write down.

use crate::lab::pattern;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The client speaks first.
    ClientFirst,
    /// The server does, and the client has been silent since the greeting.
    ServerPush,
    /// Silent for a long time, then the client speaks.
    Idle,
    /// Data both ways all the time.
    MidTransfer,
    Udp,
}

impl Kind {
    pub const TCP: [Self; 4] = [Self::ClientFirst, Self::ServerPush, Self::Idle, Self::MidTransfer];

    pub fn name(self) -> &'static str {
        match self {
            Self::ClientFirst => "client_first",
            Self::ServerPush => "server_push",
            Self::Idle => "idle",
            Self::MidTransfer => "mid_transfer",
            Self::Udp => "udp",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub what: String,
    pub reset: bool,
    pub corrupt: bool,
}

impl Fault {
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self { what: what.into(), reset: false, corrupt: true }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self { what: error.to_string(), reset: true, corrupt: false }
    }
}

#[derive(Debug)]
pub struct Flow {
    pub id: u32,
    pub kind: Kind,
    seen: Mutex<Option<SocketAddr>>,
    fault: Mutex<Option<Fault>>,
    survived: AtomicBool,
    settled: AtomicBool,
    /// Of a transfer: bytes that each side has sent, and that the other has received and found right.
    pub sent: [AtomicU64; 2],
    pub received: [AtomicU64; 2],
}

/// Which end; the index into [`Flow::sent`] and [`Flow::received`], there of the sender.
pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;

impl Flow {
    /// Source address and port, as the server saw them.
    pub fn seen(&self) -> Option<SocketAddr> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_seen(&self, from: SocketAddr) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
    }

    /// A part of a period that is this flow's own: neighbours' are far apart.
    pub fn share(&self, period: Duration) -> Duration {
        period * (self.id.wrapping_mul(0x9e37_79b9) >> 22) / 1024
    }

    pub fn survived(&self) -> bool {
        self.survived.load(Ordering::Acquire) && self.fault().is_none()
    }

    /// What ended it.
    pub fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug)]
pub struct Board {
    pub flows: Vec<Flow>,
    pub pace: Duration,
    open: AtomicUsize,
    changed: Notify,
    verifying: watch::Sender<bool>,
}

impl Board {
    pub fn new(kinds: impl Iterator<Item = Kind>, pace: Duration) -> Self {
        let flow = |(id, kind): (usize, Kind)| Flow {
            id: u32::try_from(id).expect("as many flows as ports"),
            kind,
            seen: Mutex::default(),
            fault: Mutex::default(),
            survived: AtomicBool::default(),
            settled: AtomicBool::default(),
            sent: Default::default(),
            received: Default::default(),
        };
        let flows: Vec<Flow> = kinds.enumerate().map(flow).collect();
        Self { open: flows.len().into(), flows, pace, changed: Notify::new(), verifying: watch::Sender::new(false) }
    }

    pub fn flow(&self, id: u32) -> Option<&Flow> {
        self.flows.get(id as usize)
    }

    /// Flows are to prove themselves from now on.
    pub fn begin(&self) {
        self.verifying.send_replace(true);
    }

    /// Waits for [`Board::begin`].
    pub async fn begun(&self) {
        // The sender is here, so it cannot be gone.
        let _ = self.verifying.subscribe().wait_for(|begun| *begun).await;
    }

    /// Waits until every flow has survived or ended.
    pub async fn all_settled(&self) {
        loop {
            let changed = self.changed.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.await;
        }
    }

    pub fn survive(&self, flow: &Flow) {
        flow.survived.store(true, Ordering::Release);
        self.settle(flow);
    }

    /// The first fault of a flow is the one that tells.
    pub fn fail(&self, flow: &Flow, fault: Fault) {
        // Either end may close once the proof is complete.
        if !flow.survived.load(Ordering::Acquire) || fault.corrupt {
            flow.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        }
        self.settle(flow);
    }

    fn settle(&self, flow: &Flow) {
        if !flow.settled.swap(true, Ordering::AcqRel) && self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_waiters();
        }
    }
}

/// Bytes of a message of a conversation.
pub const MESSAGE: usize = 32;
/// Exchanges that prove a flow.
pub const ROUNDS: u32 = 3;

/// What `side` says in a round: no two messages of any two flows are equal.
pub fn message(id: u32, round: u32, side: usize) -> [u8; MESSAGE] {
    let mut bytes = [0; MESSAGE];
    let number = (u64::from(id) << 20) | (u64::from(round) << 1) | side as u64;
    pattern::fill(number * MESSAGE as u64, &mut bytes);
    bytes
}

/// Where in the pattern a flow's transfer by `side` begins: far from every other's.
pub fn base(id: u32, side: usize) -> u64 {
    (1 << 62) | (u64::from(id) << 33) | ((side as u64) << 32)
}
