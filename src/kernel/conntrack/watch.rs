//! Notices of the conntrack table.

use super::super::KernelError;
use super::super::netlink::{Message, messages, receive};
use super::{Filter, life, message, open_failed};
use crate::model::{FlowChange, FlowLife};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

// include/uapi/linux/netfilter/nfnetlink.h
const NFNLGRP_CONNTRACK_NEW: u32 = 1;
const NFNLGRP_CONNTRACK_UPDATE: u32 = 2;
const NFNLGRP_CONNTRACK_DESTROY: u32 = 3;
/// Notices read before the caller gets its turn again.
const READ_AT_ONCE: usize = 1024;
/// Bytes of the buffer that a notice takes at least (an skb and its data).
const NOTICE_MIN: usize = 512;

/// How a reading of notices ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notices {
    /// There are none left: wait for the descriptor.
    Drained,
    /// There may be more.
    More,
    /// The kernel threw some away, and whatever it told before that has been read: start a [`super::FlowDump`].
    Overflow,
}

/// A subscription to what happens to connections. The kernel tells of connections that began while somebody was subscribed
/// (nf_conntrack_events = 2, its default): of older ones, not even the end.
#[derive(Debug)]
pub struct FlowWatch {
    socket: Socket,
    buffer: Vec<u8>,
    filter: Filter,
    /// Who is not listened to. 0, the kernel itself, always is.
    unheard: u32,
    /// Notices were lost, and so many may be waiting that are older.
    older: Option<usize>,
    /// How often notices were lost.
    pub overflows: u64,
    /// Notices that were about something else than what the filter takes, or that cannot be copied.
    pub passed_over: u64,
}

impl FlowWatch {
    /// Subscribes in the calling thread's network namespace, with a receive buffer of so many bytes (a notice takes about 1 KiB).
    pub fn open(filter: Filter, buffer: usize) -> Result<Self, KernelError> {
        let groups = [NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_UPDATE, NFNLGRP_CONNTRACK_DESTROY];
        Ok(Self { filter, ..Self::of(Self::subscribe(&groups, buffer)?) })
    }

    /// The same of beginnings and ends alone, for [`FlowWatch::read_lives`].
    pub fn lives(buffer: usize) -> Result<Self, KernelError> {
        Ok(Self::of(Self::subscribe(&[NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY], buffer)?))
    }

    /// Goes on with a subscription of an earlier process, and with what waits in it.
    pub fn inherit(descriptor: OwnedFd) -> Self {
        // SAFETY: the descriptor is ours alone, and is a socket's: whatever else it were, reading it would fail.
        Self::of(unsafe { Socket::from_raw_fd(descriptor.into_raw_fd()) })
    }

    fn of(socket: Socket) -> Self {
        Self { socket, buffer: Vec::new(), filter: Filter::default(), unheard: 0, older: None, overflows: 0, passed_over: 0 }
    }

    fn subscribe(groups: &[u32], buffer: usize) -> Result<Socket, KernelError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(libc::NETLINK_NETFILTER as isize)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            socket.set_non_blocking(true)?;
            // A privilege of the initial user namespace; without it bursts overflow sooner, which costs a reading of the table.
            let _ = setsockopt(&socket, sockopt::RcvBufForce, &buffer);
            groups.iter().try_for_each(|group| socket.add_membership(*group))?;
            Ok(socket)
        };
        open().map_err(open_failed)
    }

    /// What this netlink port does is not told of.
    pub fn pass_over(&mut self, port: u32) {
        self.unheard = port;
    }

    /// Bytes that the receive buffer really has, by the kernel's own account (twice what was asked for).
    pub fn buffer_size(&self) -> usize {
        getsockopt(&self.socket, sockopt::RcvBuf).unwrap_or(0)
    }

    /// Reads notices without waiting, oldest first.
    pub fn read(&mut self, mut take: impl FnMut(FlowChange)) -> Result<Notices, KernelError> {
        let filter = self.filter;
        self.read_each(|notice| change(notice.kind, notice.payload, filter).map(&mut take))
    }

    /// As [`FlowWatch::read`]; those of all zones and marks.
    pub fn read_lives(&mut self, mut take: impl FnMut(FlowLife)) -> Result<Notices, KernelError> {
        self.read_each(|notice| life::read(notice.kind, notice.payload, notice.port).map(&mut take))
    }

    /// `take`: none, if it is passed over.
    fn read_each(&mut self, mut take: impl FnMut(&Message) -> Option<()>) -> Result<Notices, KernelError> {
        for _ in 0..READ_AT_ONCE {
            if self.older == Some(0) {
                self.older = None;
                return Ok(Notices::Overflow);
            }
            match receive(&self.socket, &mut self.buffer, 0) {
                Ok(datagram) => {
                    for notice in messages(datagram).filter(|notice| notice.port == 0 || notice.port != self.unheard) {
                        self.passed_over += u64::from(take(&notice).is_none());
                    }
                    self.older = self.older.map(|left| left.saturating_sub(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(self.older.take().map_or(Notices::Drained, |_| Notices::Overflow));
                }
                // The kernel says so before it gives out what is in the buffer.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.overflows += 1;
                    self.older = Some(self.buffer_size() / NOTICE_MIN);
                }
                Err(error) => return Err(open_failed(error)),
            }
        }
        Ok(Notices::More)
    }
}

fn change(kind: u16, payload: &[u8], filter: Filter) -> Option<FlowChange> {
    let new = kind == message::number(message::NEW);
    if new {
        message::read(payload).filter(|flow| filter.takes(&flow.key, flow.mark)).map(FlowChange::Upsert)
    } else {
        let (key, mark) = message::read_key(payload).filter(|_| kind == message::number(message::DELETE))?;
        filter.takes(&key, mark).then_some(FlowChange::Destroy(key))
    }
}

impl AsFd for FlowWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for FlowWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
