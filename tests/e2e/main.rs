//! End to end: real daemons in network namespaces, real packets, and other people's tools to see what came of it.
//! One program for all of them, as linking costs more than running; every test builds a lab of its own.

mod api;
mod attachments;
mod beside;
mod borders;
mod callers;
mod cni;
mod drift;
mod faces;
mod flow_log;
mod icmp;
mod mtu;
mod nat;
mod overlap;
mod ownership;
mod postgres;
mod prerequisites;
mod quiet;
mod reload;
mod strangers;
mod support;
