//! Portway: highly available function-proxy gateways at the edge of tenant VPCs. ARCHITECTURE.md is the map.

pub mod config;
pub mod model;
pub mod plan;
pub mod userspace;
pub mod wire;
