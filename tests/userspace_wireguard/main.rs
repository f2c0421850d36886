//! The WireGuard device: against itself, and against wireguard-go as Debian has it, a peer that knows nothing of us.

mod changes;
mod handshakes;
mod refusals;
mod scale;
mod succession;
mod support;
mod traffic;
#[path = "../userspace_support/mod.rs"]
mod userspace_support;
