//! Portway over the kernel's GRE and WireGuard beside the same by hand. On a kernel without ip_gre: in a virtual machine that has both.

use super::Options;
use super::chain::{Chain, Joint, Offloads};
use super::figures::{Bar, Report, median};
use super::nodes::TICKS;
use anyhow::Context;
use std::time::Instant;

/// Pairs, ours and by hand one after the other. Software emulation scatters by some 12 %, so there are many.
const PAIRS: usize = 15;
const STREAM: u32 = 3;
/// Times that the pairs are drawn anew, with replacement, for the interval of their median.
const DRAWS: usize = 10_000;

pub fn gre(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    pairs(Joint::Gre, Joint::Kernel, options, report)
}

pub fn wireguard(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    pairs(Joint::Wireguard, Joint::KernelWireguard, options, report)
}

fn pairs(by_hand: Joint, by_us: Joint, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    for offloads in [Offloads::On, Offloads::Off] {
        let (hand, ours) = (Chain::new(by_hand, offloads)?, Chain::new(by_us, offloads)?);
        let (mut by_hand, mut by_us, mut spent) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
        let mut resent = [Vec::new(), Vec::new()];
        for pair in 0..options.rounds.unwrap_or(PAIRS) {
            // Who goes first alternates: the machine may be faster at one half of a pair.
            for ours_now in [pair % 2 == 1, pair % 2 == 0] {
                let (chain, rates) = if ours_now { (&ours, &mut by_us) } else { (&hand, &mut by_hand) };
                let before = (idle()?, chain.daemons()?, Instant::now());
                let (rate, again) = chain.stream_and_resent(STREAM)?;
                rates.push(rate);
                resent[usize::from(ours_now)].push(again);
                let seconds = before.2.elapsed().as_secs_f64();
                spent[usize::from(ours_now)].push((idle()? - before.0) / seconds);
                if ours_now {
                    spent[2].push((chain.daemons()? - before.1) / seconds);
                }
            }
        }
        let ratios: Vec<f64> = by_us.iter().zip(&by_hand).map(|(ours, hand)| ours / hand).collect();
        let (low, high) = interval(&ratios);
        report.add(&hand.name, "one TCP stream", "Gbit/s", by_hand, None);
        report.add(&ours.name, "one TCP stream", "Gbit/s", by_us, None);
        let [idle_by_hand, idle_by_us, daemons] = spent;
        let [resent_by_hand, resent_by_us] = resent;
        report.add(&hand.name, "segments sent again", "1", resent_by_hand, None);
        report.add(&ours.name, "segments sent again", "1", resent_by_us, None);
        report.add(&hand.name, "processors left idle", "1", idle_by_hand, None);
        report.add(&ours.name, "processors left idle", "1", idle_by_us, None);
        report.add(&ours.name, "processors that the daemons had", "1", daemons, None);
        let arm = if offloads == Offloads::On { "ours to by hand; offloads on" } else { "ours to by hand; offloads off" };
        report.add(arm, "one TCP stream, ratio", "1", ratios, Some(Bar::AtLeast(0.93)));
        report.add(arm, "ratio, 95 % interval from", "1", vec![low], None);
        report.add(arm, "ratio, 95 % interval to", "1", vec![high], Some(Bar::AtLeast(0.97)));
    }
    Ok(())
}

/// Seconds that this machine's processors had nothing to do, all together, since its start (proc(5), `/proc/stat`).
fn idle() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let ticks: f64 = text.split_whitespace().nth(4).context("/proc/stat has no time of idleness")?.parse()?;
    Ok(ticks / TICKS)
}

/// The bootstrap interval of the median in which 95 % of redrawn samples have theirs.
fn interval(values: &[f64]) -> (f64, f64) {
    // Any fixed sequence will do (xorshift64), and gives the same answer to the same values.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[usize::try_from(state % values.len() as u64).unwrap_or(0)]
    };
    let mut medians: Vec<f64> = (0..DRAWS).map(|_| median(&(0..values.len()).map(|_| draw()).collect::<Vec<_>>())).collect();
    medians.sort_by(f64::total_cmp);
    (medians[DRAWS / 40], medians[DRAWS - DRAWS / 40 - 1])
}
