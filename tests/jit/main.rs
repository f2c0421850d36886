//! Peers just in time, with real sockets: hosts of ours and strangers (wireguard-go as Debian has it) whom the gateway knows of by its directory
//! alone.

mod captured;
mod configured;
mod gate;
mod hostile;
mod slow;
mod strangers;
#[allow(dead_code, reason = "shared with the device's own tests")]
#[path = "../userspace_wireguard/support.rs"]
mod support;
#[path = "../userspace_support/mod.rs"]
mod userspace_support;
