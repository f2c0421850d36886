//! What the userspace data path brings through, beside what this kernel can do without Portway.

use super::Options;
use super::chain::{Chain, Joint, Offloads};
use super::figures::{Bar, Report};
use std::time::Duration;

const ROUNDS: usize = 5;
/// Seconds of one TCP stream.
const STREAM: u32 = 3;
const PACKETS: Duration = Duration::from_secs(1);

const ARMS: [(Joint, Offloads); 7] = [
    (Joint::Plain, Offloads::On),
    (Joint::Vxlan, Offloads::On),
    (Joint::Userspace, Offloads::On),
    (Joint::Plain, Offloads::Off),
    (Joint::Vxlan, Offloads::Off),
    (Joint::Userspace, Offloads::Off),
    (Joint::Userspace, Offloads::TunOff),
];

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut chains = ARMS.iter().map(|(joint, offloads)| Chain::new(*joint, *offloads)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut streams = vec![Vec::new(); ARMS.len()];
    let mut packets = streams.clone();
    for _ in 0..options.rounds.unwrap_or(ROUNDS) {
        for (n, chain) in chains.iter_mut().enumerate() {
            streams[n].push(chain.stream(STREAM)?);
            packets[n].push(chain.packets(PACKETS)?);
        }
    }
    for (n, chain) in chains.iter().enumerate() {
        report.add(&chain.name, "one TCP stream", "Gbit/s", streams[n].clone(), None);
    }
    for (n, chain) in chains.iter().enumerate() {
        report.add(&chain.name, "small packets received", "kpps", packets[n].clone(), None);
    }
    for (figures, what) in [(&streams, "one TCP stream, ratio"), (&packets, "small packets, ratio")] {
        let ratio = |ours: usize, peer: usize| figures[ours].iter().zip(&figures[peer]).map(|(ours, peer)| ours / peer).collect();
        let stream = what.starts_with("one");
        report.add("userspace to vxlan; offloads on", what, "1", ratio(2, 1), None);
        report.add("userspace to vxlan; offloads off", what, "1", ratio(5, 4), stream.then_some(Bar::AtLeast(0.4)));
        report.add("userspace to vxlan; off, TUN too", what, "1", ratio(6, 4), None);
    }
    Ok(())
}
