//! Portway: highly available function-proxy gateways at the edge of tenant VPCs. ARCHITECTURE.md is the map.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

#[allow(clippy::disallowed_methods, reason = "a shell has a clock")]
pub mod autoscaler;
#[allow(clippy::disallowed_methods, reason = "a shell has a clock")]
pub mod cli;
pub mod cloud;
pub mod cni;
pub mod config;
#[allow(clippy::disallowed_methods, reason = "a shell has a clock")]
pub mod daemon;
#[allow(clippy::disallowed_methods, reason = "a shell has a clock")]
pub mod directory;
#[allow(clippy::disallowed_methods, reason = "a shell has a clock")]
pub mod doctor;
#[allow(clippy::disallowed_methods, reason = "a shell has a clock")]
pub mod gateway;
#[allow(clippy::disallowed_methods, reason = "a shell has a clock")]
pub mod host;
pub mod kernel;
#[allow(clippy::disallowed_methods, reason = "a shell has a clock")]
pub mod lab;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod proto;
pub mod userspace;
pub mod wire;
