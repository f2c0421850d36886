//! Sessions with WireGuard peers.

pub mod tunnels;
