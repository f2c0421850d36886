//! What a gateway does with a HaVip: the lease that ends by itself, the address, its announcement, and the socket over which nodes agree
//! on whose it is. Two nodes with a cable between them; `nft`, `ip` and packets as witnesses.

mod address;
#[path = "../kernel_support/mod.rs"]
mod kernel_support;
mod lease;
mod lease_and_rules;
mod pass_back;
mod support;
mod vrrp_socket;
