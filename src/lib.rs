//! Portway: highly available function-proxy gateways at the edge of tenant VPCs. ARCHITECTURE.md is the map.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod gateway;
pub mod host;
pub mod kernel;
pub mod lab;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod userspace;
pub mod wire;
