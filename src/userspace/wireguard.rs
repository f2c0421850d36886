//! WireGuard carried by this process, for kernels without it: one device with any number of interfaces, each a TUN device, a key and a UDP socket,
//! and each with any number of peers. [`Device`] is the way in.
//!
//! ```text
//!            TUN queue 0..n of each interface                      UDP socket 0..n of each interface
//! transmit:  read -> whose? -> segments -> seal -> one sendmmsg    (a thread for each n)
//! receive:   one writev <- coalesce <- may it? <- open <- recvmmsg (a thread for each n)
//! control:   handshakes, timers; asked by the others through the inbox, never waited for
//! ```
//!
//! Pure: `message`, `replay`, `mac`, `limit`, `timers`, `table`, `inbox`, `left` (sessions as bytes). With a cipher: `noise` (handshakes), `session`
//! (data). With system calls: `socket`, `sealer`, `receive`, `transmit`, `handshake`, `control`, `device`; `will` and `succession`, by which another
//! process goes on with the sessions.
//!
//! # Whose protocol core
//!
//! The handshake is `snow`'s: WireGuard's is the Noise pattern IKpsk2 with a time as its payload, which that crate does as it is. The cipher of data
//! is `aws-lc-rs`'s, by the keys that the handshake leaves, and so is the handshake's curve (20 µs an agreement, x25519-dalek 41). Compared with it:
//!
//! | | `snow` 0.10 + `aws-lc-rs` | `gotatun` 0.10 | `boringtun` 0.7 |
//! |---|---|---|---|
//! | several threads for one peer | yes: a session is shared, nothing is locked over the cipher | `Tunn` is `&mut` for every packet | the same |
//! | the stamp of our initiations | an argument, as machines that share a key need | the clock's at the peer's making, out of reach | the same |
//! | stamps of theirs (replays after a peer was removed) | known | out of reach | out of reach |
//! | clock | an argument: tests turn it | read inside | read inside |
//! | timers | only those that run | every peer polled | every peer polled |
//! | a packet | in place | an allocation and a copy | a copy |
//! | memory of an idle peer | that of its table entries (`tests/userspace_wireguard/scale.rs`) | room for eight sessions | the same |
//! | cipher | `aws-lc-rs` | the same | `ring`, which deny.toml bans |
//!
//! What these two have and we had to write are the timers of the whitepaper's section 6, cookies and the window against replays; they are small, and tested
//! against other implementations.
//!
//! # What threads may do at once
//!
//! Any number may seal by one session (an atomic counter) and open by it (a lock for a bit in a bitmap). The kernel gives a flow to one queue, and a
//! peer's datagrams to one socket, so packets stay in order. A look-up by the number of a session is one hash, by an inner address that of `lpm`.
//! A peer that nothing happens to has no timer, and is looked at by nobody.

mod control;
mod counters;
mod device;
mod event;
mod handshake;
mod inbox;
mod left;
mod limit;
mod mac;
pub mod message;
mod noise;
mod peer;
mod receive;
mod replay;
mod role;
mod sealer;
mod session;
mod shared;
mod socket;
mod succession;
mod table;
mod timers;
mod transmit;
mod waiting;
mod will;
mod wiped;

pub use counters::{DropReason, InterfaceCount};
pub use device::{Device, DeviceConfig, Error};
pub use event::Event;
pub use handshake::knock;
pub use limit::Limit;
pub use peer::{PeerConfig, PeerStatus};
pub use role::{Descriptors, Role};
pub use shared::{Clocks, InterfaceConfig};
pub use succession::LeftBehind;
pub use will::{Error as WillError, Will};
