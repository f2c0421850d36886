//! What goes into the machine and what comes out.

use crate::model::{PublicKey, Registered, Slot};
use crate::wire::wireguard::{Initiation, Tai64n};
use std::net::SocketAddr;
use std::sync::Arc;

/// A key at one of our interfaces. The same key at another interface (another shard) is another peer: it has other inner addresses there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// The interface's place among the shards of this node.
    pub slot: Slot,
    pub key: PublicKey,
}

/// Names a piece of work. Each is answered once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

/// What happens. `C` is what the first step leaves for the second; the machine never looks into it, and so knows no secret.
#[derive(Debug)]
pub enum Input<'a, C> {
    /// A UDP payload for an interface's port, whatever it is.
    Datagram { slot: Slot, from: SocketAddr, payload: &'a [u8] },
    /// Of [`Effect::Claim`]: whose key it claims to be from, if anybody's.
    Claimed { ticket: Ticket, claim: Option<(PublicKey, C)> },
    /// Of [`Effect::LookUp`].
    Answered { peer: Peer, answer: Answer },
    /// Of [`Effect::Prove`]: when it was made, if its sender is who it claims to be.
    Proved { ticket: Ticket, stamp: Option<Tai64n> },
    /// Of [`Effect::Install`].
    Installed { peer: Peer },
    /// Of [`Effect::Install`]. The peer may knock again.
    InstallFailed { peer: Peer },
    /// A peer was heard at this time: a handshake or data of it, as the kernel counts. What is in the future, or older than what is known, is nothing.
    Seen { peer: Peer, at: std::time::Instant },
    /// A peer is gone from its interface, and not by our doing.
    Gone { peer: Peer },
    /// The directory has said by itself that something about a key has changed, at whatever interface.
    Changed { peer: Peer },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Found(Arc<Registered>),
    /// The directory knows no such key, or does not let it in here.
    Unknown,
    /// No answer, or one that cannot be read.
    Failed,
}

/// What the shell is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<C> {
    /// The first step (`Responder::claim`), on a thread for such work. [`Input::Claimed`] answers.
    Claim { ticket: Ticket, slot: Slot, initiation: Arc<Initiation> },
    /// Ask the directory. [`Input::Answered`] answers, if late then late.
    LookUp { peer: Peer },
    /// The second step (`Responder::shared_with`, `Claim::open`), on a thread for such work. [`Input::Proved`] answers.
    Prove { ticket: Ticket, peer: Peer, claim: C },
    /// To the other candidates of the shard, so that a recording is worthless there too.
    Stamp { peer: Peer, stamp: Tai64n },
    /// Make the peer, with this endpoint and a keepalive. [`Input::Installed`] or [`Input::InstallFailed`] answers. `initiation` is what the peer has
    /// sent: a userspace tunnel can answer it.
    Install { peer: Peer, endpoint: SocketAddr, registered: Arc<Registered>, initiation: Arc<Initiation> },
    /// Begin a handshake with it, from the HaVip: its own initiation went by before it was a peer.
    Initiate { peer: Peer, endpoint: SocketAddr },
    /// The directory says something else than when it was installed.
    Update { peer: Peer, registered: Arc<Registered> },
    /// Take it from its interface.
    Reap { peer: Peer, why: Reaped },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reaped {
    /// Not heard for long.
    Idle,
    /// The directory does not know it any more.
    Revoked,
    /// It was installed after it had been given up.
    Stray,
    /// Its host has come with another key, which has its inner addresses now. Not the machine's doing: whoever owns the interfaces sees it.
    Replaced,
    /// It could not be installed: as [`Reaped::Replaced`].
    Failed,
    /// It is not at its interface any more, and not by our doing: as [`Reaped::Replaced`].
    Gone,
}
