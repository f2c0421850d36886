//! The packet socket, and what to do when its interface goes away.

use super::Capture;
use crate::kernel::knock_socket::{BATCH, Captured, KnockSocket};
use crate::model::Slot;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// That the interface has gone is an error, and nothing to read.
const WANTED: Interest = Interest::READABLE.add(Interest::ERROR);
/// Between two attempts to open the socket.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks at what was lost.
const COUNTING: Duration = Duration::from_secs(1);
/// Initiations in a second beyond which the kernel's WireGuard may ask for cookies: it does from 512 that wait (`MAX_QUEUED_INCOMING_HANDSHAKES`
/// / 8, drivers/net/wireguard/receive.c), each of which takes it some 0.1 ms.
const FLOOD: u64 = 2_000;

/// Nothing is heard without a [`Capture`], or before there is a port.
pub struct Ears {
    capture: Option<Capture>,
    ports: BTreeMap<u16, Slot>,
    socket: Option<AsyncFd<KnockSocket>>,
    /// There may be more to read.
    more: bool,
    /// When to try again to open it.
    retry: Option<Instant>,
    /// It has been said that nothing is heard.
    failing: bool,
    /// Of sockets before this one, and of this one as it was last seen.
    lost: (u64, u64),
    counted: Instant,
    /// Since the second began, and in the one before.
    heard: (Instant, u64, u64),
}

impl Ears {
    pub fn new(capture: Option<Capture>) -> Self {
        let now = Instant::now();
        let (ports, socket, retry) = (BTreeMap::new(), None, None);
        Self { capture, ports, socket, more: false, retry, failing: false, lost: (0, 0), counted: now, heard: (now, 0, 0) }
    }

    pub fn listen(&mut self, slot: Slot, ports: impl Iterator<Item = u16>) {
        self.ports.retain(|_, known| *known != slot);
        self.ports.extend(ports.map(|port| (port, slot)));
        self.change();
    }

    pub fn leave(&mut self, slot: Slot) {
        self.ports.retain(|_, known| *known != slot);
        self.change();
    }

    /// Until there is something to receive, or to do about the socket. Forever, if there is none to be.
    pub async fn ready(&self) {
        match (&self.socket, self.retry) {
            (Some(_), _) if self.more => {}
            // What comes from now on wakes us again, and what has come is read. An error shows then.
            (Some(socket), _) => _ = socket.ready(WANTED).await.map(|mut guard| guard.clear_ready()),
            (None, Some(at)) => tokio::time::sleep_until(at.into()).await,
            (None, None) => std::future::pending().await,
        }
    }

    pub fn receive(&mut self, mut take: impl FnMut(Slot, Captured<'_>)) {
        let Some(socket) = &mut self.socket else { return self.change() };
        let (ports, mut count) = (&self.ports, 0);
        let got = socket.get_mut().receive(|captured| {
            if let Some(slot) = ports.get(&captured.to.port()) {
                count += 1;
                take(*slot, captured);
            }
        });
        self.more = matches!(got, Ok(BATCH));
        self.note(count);
        match got {
            Ok(_) => self.failing &= count == 0,
            Err(error) => {
                self.close();
                self.fails(&error.into());
            }
        }
    }

    /// Initiations for which the kernel had no room, as of a second ago.
    pub fn lost(&mut self) -> u64 {
        if self.counted.elapsed() >= COUNTING
            && let Some(socket) = &mut self.socket
        {
            self.counted = Instant::now();
            self.lost.1 = socket.get_mut().lost();
        }
        self.lost.0 + self.lost.1
    }

    /// Whether so many come that the interface itself keeps out who does not show where it is.
    pub fn is_flooded(&self) -> bool {
        let (since, now, before) = self.heard;
        let before = if since.elapsed() < Duration::from_secs(2) { before } else { 0 };
        now.max(before) >= FLOOD
    }

    fn note(&mut self, count: u64) {
        let (since, now, _) = &mut self.heard;
        if since.elapsed() >= Duration::from_secs(1) {
            self.heard = (Instant::now(), count, *now);
        } else {
            *now += count;
        }
    }

    /// Sees to it that what is heard is what is for our ports.
    fn change(&mut self) {
        self.retry = None;
        let Some(capture) = &self.capture else { return };
        if self.ports.is_empty() {
            return self.close();
        }
        let ports = self.ports.keys().copied();
        let result = match &self.socket {
            Some(socket) => socket.get_ref().set_ports(ports).map_err(anyhow::Error::from),
            None => KnockSocket::open(&capture.interface, capture.family, ports)
                .map_err(anyhow::Error::from)
                .and_then(|socket| Ok(watch(socket)?))
                .map(|socket| self.socket = Some(socket)),
        };
        if let Err(error) = result {
            self.close();
            self.fails(&error);
        }
    }

    fn fails(&mut self, error: &anyhow::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                "initiations are not seen, and nobody new is served: {error:#}: is the platform's interface there, and up? Trying again"
            );
        }
        self.retry = Some(Instant::now() + RETRY);
    }

    fn close(&mut self) {
        self.more = false;
        if let Some(socket) = self.socket.take() {
            self.lost.0 += socket.into_inner().lost();
            self.lost.1 = 0;
        }
    }
}

fn watch(socket: KnockSocket) -> io::Result<AsyncFd<KnockSocket>> {
    // SAFETY: the socket owns its descriptor, has this one alone, and closes it when it is dropped.
    unsafe { AsyncFd::register_with_interest(socket, WANTED) }.map_err(Into::into)
}
