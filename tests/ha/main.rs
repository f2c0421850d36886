//! Several gateways that share their addresses: real daemons, real packets, one machine.

mod changes;
mod fence;
mod scenarios;
mod support;
