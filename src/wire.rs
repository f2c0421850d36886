//! Bytes to values and back. No I/O, no clock; nothing here panics, whatever the bytes.

pub mod arp;
#[cfg(feature = "aws")]
pub mod autoscaling;
#[cfg(feature = "aws")]
pub mod aws;
pub mod checksum;
#[cfg(feature = "aws")]
pub mod ec2;
pub mod ecn;
pub mod exposition;
pub mod gre;
pub mod icmp;
pub mod ipv4;
pub mod ndp;
pub mod nested;
pub mod prometheus;
pub mod seal;
pub mod sync;
pub mod tcp;
pub mod vrrp;
pub mod webhook;
pub mod wireguard;
