//! Several gateways that share their addresses: real daemons, real packets, one machine.

mod changes;
mod egress;
mod fence;
mod flow_log;
mod members;
mod rotation;
mod scenarios;
#[path = "../stranger_support/mod.rs"]
mod stranger_support;
mod strangers;
mod support;
