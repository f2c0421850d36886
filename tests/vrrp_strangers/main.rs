//! Virtual routers among strangers: a real `portway gateway` beside keepalived and FRR's vrrpd, packets that break the protocol's
//! rules, floods, and gateways configured at odds. tcpdump, tshark, `ip` and ARP from a third machine are the witnesses.

mod arp;
mod clocks;
mod contradictions;
mod discards;
mod dissector;
mod flood;
mod forge;
mod frr;
mod ipv6;
mod keepalived;
mod peers;
mod support;
mod takeover;
mod witness;
