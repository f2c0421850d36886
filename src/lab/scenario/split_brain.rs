//! The gateways of a pair lose sight of each other, and both of everybody else do not: two Actives, until the network heals.

use super::group::{ACTIVE, BACKUP, Pair, TENANT, came_about, goes_on, merged, of_flows, pings, probe, proof, stand_pair};
use super::{Options, Outcome, Scenario, Way};
use crate::lab::checks::Check;
use crate::lab::cut::hardware_address;
use crate::lab::topology::PLATFORM_IF;
use crate::lab::{Lab, Netns, Result, poll_until};
use serde_json::json;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(1);
/// For the pair to part and to unite.
const PATIENCE: Duration = Duration::from_secs(30);
/// After the loser has let go, somebody might still be led astray; it is watched for this many intervals.
const AFTER: u32 = 10;
/// What may pass beside the protocol's time, in milliseconds.
const GRACE_MS: f64 = 20.0;

pub(super) fn run(portway: &Path, way: Way, options: &Options) -> Result<Outcome> {
    let Pair { lab, backend, flows, container, .. } = stand_pair(portway, way, options)?;
    let probe = probe(&lab, &container, options.ping)?;

    probe.mark();
    lab.part(ACTIVE, BACKUP)?;
    let both = || Ok(lab.actives(TENANT, 0)?.len());
    let split = poll_until("two Actives", PATIENCE, || Ok(both()? == 2));
    let parted = Instant::now();

    let done = AtomicBool::new(false);
    let (healed, both_active, seen, united) = std::thread::scope(|scope| {
        let watchers = watchers(&lab)?.map(|(netns, havip)| {
            let done = &done;
            scope.spawn(move || netns.run(|| watch(havip, done)))
        });
        lab.unite()?;
        let healed = Instant::now();
        let united = poll_until("one Active", PATIENCE, || Ok(both()? == 1));
        let both_active = healed.elapsed();
        std::thread::sleep(options.interval * AFTER);
        done.store(true, Ordering::Relaxed);
        Ok::<_, crate::lab::Error>((healed, both_active, watchers.map(|w| w.join().expect("watching does not panic")), united))
    })?;
    let owner = lab.active(TENANT, 0)?;
    let wrong = match &owner {
        Some(owner) => wrong_owner(&lab, owner, healed, &seen)?,
        None => f64::INFINITY,
    };
    let went_on = goes_on(&probe);
    let probed = probe.stop();
    let report = flows.verify(proof(options));

    let both_ms = both_active.as_secs_f64() * 1e3;
    // The loser hears of the winner by the winner's next advertisement, and the winner says so at once.
    let bound = options.interval.as_secs_f64() * 2e3 + GRACE_MS;
    let (of_flows, more) = of_flows(&report);
    let figures = json!({
        "both_active_ms": both_ms,
        "wrong_owner_ms": wrong,
        "bound_ms": bound,
        "parted_ms": (healed - parted).as_secs_f64() * 1e3,
        "owner": owner,
        "gap_ms": probed.gap_ms,
        "lost": probed.lost,
        "quiet_ms": probed.quiet_ms,
        "asked_ms": probed.asked_ms,
    });
    let mut checks = vec![
        came_about("while parted, both are Active: neither tenant nor hosts are left alone", "", &split),
        came_about("once united, one is", "", &united),
        Check::new(format!("two are Active for at most {bound:.0} ms after that"), "", both_ms <= bound, format!("{both_ms:.1} ms")),
        Check::new(
            format!("hosts and servers are led to the loser for at most {bound:.0} ms"),
            "",
            wrong <= bound,
            format!("{wrong:.1} ms; the owner is {}", owner.as_deref().unwrap_or("nobody")),
        ),
        Check::new("traffic goes on", &container.node, went_on, pings(&probed)),
    ];
    checks.extend(more);
    Ok(Outcome::new(Scenario::SplitBrain, backend, merged([figures, of_flows]), checks))
}

/// When, and to which hardware address a HaVip led.
type Seen = Vec<(Instant, String)>;

/// Who is watched: the host for the platform's HaVip, the server for the tenant's.
fn watchers(lab: &Lab) -> Result<[(Netns, Ipv4Addr); 2]> {
    let (tenant, host) = (&lab.topology.tenants[0], &lab.topology.hosts[0]);
    let shard = &lab.topology.shards_of(&tenant.name)[0];
    Ok([(lab.node(&host.node)?.clone(), shard.gateway), (lab.node(&tenant.node())?.clone(), shard.source)])
}

/// Changes of the calling thread's namespace's ARP entry for an address, from /proc/net/arp.
fn watch(address: Ipv4Addr, done: &AtomicBool) -> Seen {
    let address = address.to_string();
    let mut seen = Seen::new();
    while !done.load(Ordering::Relaxed) {
        let now = Instant::now();
        let table = std::fs::read_to_string("/proc/thread-self/net/arp").unwrap_or_default();
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let found = rows.find(|row| row.first() == Some(&address.as_str())).and_then(|row| row.get(3).map(|&mac| mac.to_owned()));
        if let Some(mac) = found.filter(|mac| seen.last().is_none_or(|(_, last)| last != mac)) {
            seen.push((now, mac));
        }
        std::thread::sleep(LOOK);
    }
    seen
}

/// Milliseconds from `healed` until neither host nor server was led to anybody but `owner`. Infinite when they still are.
fn wrong_owner(lab: &Lab, owner: &str, healed: Instant, seen: &[Seen; 2]) -> Result<f64> {
    let node = lab.node(owner)?;
    let mut worst = 0f64;
    for (seen, interface) in seen.iter().zip([PLATFORM_IF, "eni0"]) {
        let right = hardware_address(owner, node, interface)?;
        let last_wrong = seen.iter().rposition(|(_, mac)| *mac != right);
        let ended = match last_wrong {
            None => continue,
            Some(last) => seen.get(last + 1).map(|(at, _)| at.saturating_duration_since(healed)),
        };
        worst = worst.max(ended.map_or(f64::INFINITY, |e| e.as_secs_f64() * 1e3));
    }
    Ok(worst)
}
