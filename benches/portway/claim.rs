//! What a cloud is told when a shard moves: how long until it sends both addresses to the new Active, over connections that stood ready and over new ones; and how long
//! for 200 tenants at once, where the cloud takes so many calls a second and no more.

mod drivers;
mod pair;

use super::Options;
use super::figures::{Bar, Report};
use anyhow::ensure;
use drivers::{Drivers, Site};
use pair::Pair;
use std::time::Duration;

/// From a call to its answer.
pub const LATENCY: Duration = Duration::from_millis(50);
/// What TCP and TLS 1.3 take before the first call of a connection: a round trip each.
const HANDSHAKE: Duration = Duration::from_millis(100);
/// One round trip, as both addresses are claimed at once, and 20 ms.
const BAR_MS: f64 = 70.0;
const ROUNDS: usize = 30;
const DEATHS: usize = 20;

const TENANTS: usize = 200;
/// Addresses in one call.
const TOGETHER: usize = 50;
/// Of the shortest time that the calls can take.
const NEAR: f64 = 1.2;

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    deaths(options.rounds_of(DEATHS, 2), report)?;
    connections(options.rounds_of(ROUNDS, 3), report)?;
    let tenants = if options.short { TENANTS / 10 } else { TENANTS };
    throttled((1, tenants), (20, 20), report)?;
    throttled((tenants, 1), (20, 20), report)?;
    // What a region allows unless its owner asked for more.
    throttled((1, tenants), (5, 50), report)
}

/// Real gateways: from the addresses in the new Active's kernel to both claimed.
fn deaths(rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut pair = Pair::stand()?;
    let (mut died, mut returned) = (vec![], vec![]);
    for _ in 0..rounds {
        let (by_death, by_return) = pair.round()?;
        died.push(by_death * 1e3);
        returned.push(by_return * 1e3);
    }
    report.latency("gateways, the Active killed", "Active to both claimed", died, Some(Bar::EachAtMost(BAR_MS)));
    report.latency("gateways, it comes back", "Active to both claimed", returned, Some(Bar::EachAtMost(BAR_MS)));
    Ok(())
}

/// The part of a gateway that claims, alone, with a new process's connections and with those that stood ready.
fn connections(rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let (mut fresh, mut ready) = (vec![], vec![]);
    for _ in 0..rounds {
        for (is_ready, all) in [(false, &mut fresh), (true, &mut ready)] {
            let (took, _) = Site::new((1, 1))?.run(async |site| {
                site.cloud.latency(LATENCY);
                site.cloud.handshake(HANDSHAKE);
                let drivers = Drivers::start(site, is_ready).await?;
                drivers.claim(site).await
            })?;
            all.push(took * 1e3);
        }
    }
    report.latency("new connections (TCP, TLS 1.3)", "Active to both claimed", fresh, None);
    report.latency("connections that stood ready", "Active to both claimed", ready, Some(Bar::EachAtMost(BAR_MS)));
    Ok(())
}

/// `size`: nodes, and tenants of each; `limit`: calls a second, and at once.
fn throttled(size: (usize, usize), (per_second, burst): (u32, u32), report: &mut Report) -> anyhow::Result<()> {
    let (nodes, each) = size;
    let needed = nodes * each.div_ceil(TOGETHER) + nodes * each;
    let bound = (needed as f64 - f64::from(burst)) / f64::from(per_second);
    let (took, called) = Site::new(size)?.run(async |site| {
        site.cloud.latency(LATENCY);
        site.cloud.handshake(HANDSHAKE);
        let drivers = Drivers::start(site, true).await?;
        site.cloud.throttle(per_second, burst);
        let before = site.cloud.called("AssignPrivateIpAddresses");
        let (took, lost) = drivers.claim(site).await?;
        ensure!(lost == 0, "{lost} addresses are where they were");
        Ok((took, site.cloud.called("AssignPrivateIpAddresses") - before))
    })?;
    let arm = format!("{nodes} node{}, {} tenants, {per_second}/s", if nodes > 1 { "s" } else { "" }, nodes * each);
    let bar = (per_second == 20).then_some(Bar::AtMost(bound * NEAR));
    report.add(&arm, "all claimed after", "s", vec![took], bar);
    report.add(&arm, "as fast as the throttle lets", "s", vec![bound], None);
    report.add(&arm, format!("calls, {needed} needed"), "1", vec![called as f64], None);
    Ok(())
}
