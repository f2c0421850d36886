//! `portway demo`: the whole of it in half a minute, and every claim checked.

use super::build::Lab;
use super::checks::{self, Check};
use super::error::{During, Result};
use super::flows::Counts;
use super::measure::{Figures, figures};
use super::process::poll_until;
use super::scenario::{Cause, HANDOVER_COLUMNS, HandedOver, Options, Restarted, backend_seen, hand_over, restart_under_traffic};
use super::table::{Paint, checks as list, table};
use super::topology::{Container, Topology};
use super::{picture, report};
use crate::config::{Backend, TunnelKind};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Seconds of iperf3 for each container.
const SECONDS: u32 = 1;
/// The one that dies, comes back and is drained; Active for all tenants while it is well.
const GATEWAY: &str = "gw-1";
/// It has this long to get its shards again, once it is back.
const HOME: Duration = Duration::from_secs(30);
/// Connections of each tenant through a handover. The idle ones stay silent until it is over.
const FLOWS: Counts = Counts { tcp: 100, udp: 20, idle: Duration::ZERO, pace: Duration::from_millis(200) };

/// What a demo measured and found.
#[derive(Debug, Clone)]
pub struct Demo {
    pub topology: Topology,
    pub backend: String,
    pub measured: Vec<(Container, Figures)>,
    pub checks: Vec<Check>,
    pub restarts: Vec<Restarted>,
    pub handovers: Vec<HandedOver>,
    pub seconds: f64,
}

impl Demo {
    pub fn held(&self) -> bool {
        self.checks.iter().all(|c| c.held)
    }

    /// The table's rows, used on the terminal and in the report.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |(c, f): &(Container, Figures)| {
            vec![
                c.node.clone(),
                c.tenant.clone(),
                format!("{} {}", if f.tenant_seen == c.tenant { '✓' } else { '✗' }, f.tenant_seen),
                f.source_seen.to_string(),
                format!("{:.2} ms", f.connect_ms),
                format!("{:.0} µs", f.rtt_us),
                format!("{:.0} µs", f.rtt_p99_us),
                format!("{:.2} Gbit/s", f.gbit_per_s),
            ]
        };
        self.measured.iter().map(row).collect()
    }
}

/// The columns of [`Demo::rows`].
pub const COLUMNS: [&str; 8] = ["container", "tenant", "answered by", "source it saw", "connect", "RTT", "RTT p99", "throughput"];

/// Builds the lab, tells about it on `out` as it goes, writes the report; the lab is gone when this returns.
pub fn run_demo(
    portway: &Path,
    (tunnel, backend): (TunnelKind, Backend),
    report: Option<&Path>,
    out: &mut dyn Write,
    paint: Paint,
) -> Result<Demo> {
    let start = Instant::now();
    let topology = Topology::demo().with_tunnel(tunnel);
    let say = |out: &mut dyn Write, text: &str| writeln!(out, "{text}").and_then(|()| out.flush()).during("write to the terminal");
    say(out, &paint.bold("Two tenants whose networks have the same addresses, two function hosts, two gateways for both\n"))?;
    say(out, &picture::draw(&topology))?;

    let mut steps = Steps { out, paint, since: Instant::now() };
    let mut lab = Lab::build(topology.clone())?;
    lab.serve()?;
    steps.done(&format!("{} network namespaces with servers; this machine's own network is not touched", topology.nodes().len()))?;
    lab.start_daemons(portway, backend)?;
    let backend = backend_seen(&lab, backend)?;
    lab.await_in_sync()?;
    let (hosts, gateways) = (topology.hosts.len(), topology.gateways.len());
    steps.done(&format!("{hosts} hosts and {gateways} gateways are ready, {backend} {tunnel}; {GATEWAY} is Active, gw-2 follows"))?;

    let mut found = topology.containers.iter().map(|c| checks::unattached(&lab, c)).collect::<Result<Vec<Check>>>()?;
    steps.restart();
    lab.attach_all()?;
    steps.done(&format!("{} containers attached to their tenants", topology.containers.len()))?;

    let mut measured = Vec::new();
    for container in &topology.containers {
        found.push(checks::right_tenant(&lab, container)?);
        let tenant = topology.tenant(&container.tenant).expect("a container's tenant is in the topology");
        measured.push((container.clone(), figures(lab.node(&container.node)?, tenant, SECONDS)?));
    }
    found.extend(sources(&topology, &measured));
    let mut demo = Demo { topology, backend, measured, checks: found, restarts: vec![], handovers: vec![], seconds: 0.0 };
    say(steps.out, &format!("\n{}\n{}", paint.bold("What a function feels"), table(&COLUMNS, &demo.rows())))?;

    steps.restart();
    demo.checks.extend(isolation(&lab)?);
    for node in [GATEWAY, "host-1"] {
        let restarted = restart_under_traffic(&mut lab, &demo.topology.containers[0], node, Options::default().ping)?;
        demo.checks.push(restarted.check());
        demo.restarts.push(restarted);
    }
    steps.done(&format!("{} attempts at what is forbidden; {GATEWAY} and host-1 restarted under traffic", demo.checks.len()))?;
    demo.handovers = handovers(&mut lab, &mut steps)?;
    demo.checks.extend(demo.handovers.iter().flat_map(HandedOver::checks));
    let rows: Vec<Vec<String>> = demo.handovers.iter().map(HandedOver::row).collect();
    let title = paint.bold("What a function feels of a gateway's end");
    say(steps.out, &format!("\n{title}\n{}", table(&HANDOVER_COLUMNS, &rows)))?;

    let leaver = &demo.topology.containers[0];
    lab.detach(leaver)?;
    demo.checks.push(Check { claim: "a container reaches nothing once it is detached".into(), ..checks::unattached(&lab, leaver)? });
    say(steps.out, &format!("{}\n{}", paint.bold("What must hold"), list(&demo.checks, paint)))?;

    drop(lab);
    demo.seconds = start.elapsed().as_secs_f64();
    if let Some(path) = report {
        report::write(&demo, path)?;
        say(steps.out, &format!("The same as a page: {}", path.display()))?;
    }
    let failed = demo.checks.iter().filter(|c| !c.held).count();
    let verdict = match failed {
        0 => paint.green(&format!("All {} checks held", demo.checks.len())),
        n => paint.red(&format!("{n} of {} checks did not hold", demo.checks.len())),
    };
    say(steps.out, &format!("{verdict}, in {:.0} s; nothing is left behind.", demo.seconds))?;
    let (up, enter) = (paint.bold("portway lab up"), paint.bold("portway lab exec fn-1a sh"));
    say(steps.out, &format!("Next: {up} keeps such a lab to play with, {enter} enters it;"))?;
    say(steps.out, "README.md and ARCHITECTURE.md tell the rest.")?;
    Ok(demo)
}

/// A gateway dies, comes back, and is drained.
fn handovers(lab: &mut Lab, steps: &mut Steps<'_>) -> Result<Vec<HandedOver>> {
    let each = format!("{} TCP and {} UDP connections of each tenant", FLOWS.tcp, FLOWS.udp);
    let before = lab.await_owners()?;
    let mut all = hand_over(lab, GATEWAY, Cause::Death, &FLOWS)?;
    steps.done(&format!("{GATEWAY} loses its power under {each}"))?;
    lab.heal(GATEWAY)?;
    poll_until(&format!("{GATEWAY} with its shards"), HOME, || Ok(lab.owners()?.as_ref() == Some(&before)))?;
    lab.await_in_sync()?;
    steps.done(&format!("{GATEWAY} is back with nothing, learns the connections, and is Active again"))?;
    all.extend(hand_over(lab, GATEWAY, Cause::Drain, &FLOWS)?);
    steps.done(&format!("{GATEWAY} is drained under {each}"))?;
    Ok(all)
}

/// Every server saw its gateway's configured source.
fn sources(topology: &Topology, measured: &[(Container, Figures)]) -> Vec<Check> {
    let one = |(c, f): &(Container, Figures)| {
        let expected: Vec<String> = topology.shards_of(&c.tenant).iter().map(|s| s.source.to_string()).collect();
        let held = expected.contains(&f.source_seen.to_string());
        Check::new("the tenant's server sees its gateway's source address", &c.node, held, f.source_seen.to_string())
    };
    measured.iter().map(one).collect()
}

fn isolation(lab: &Lab) -> Result<Vec<Check>> {
    let containers = &lab.topology.containers;
    let mut found = Vec::new();
    for container in containers {
        found.extend(checks::unreachable(lab, container)?);
    }
    for spoofer in containers {
        if let Some(victim) = containers.iter().find(|v| v.host == spoofer.host && v.tenant != spoofer.tenant) {
            found.push(checks::spoofed(lab, spoofer, victim)?);
        }
    }
    found.extend(checks::forged(lab)?);
    Ok(found)
}

/// Progress lines with the time each step took.
struct Steps<'a> {
    out: &'a mut dyn Write,
    paint: Paint,
    since: Instant,
}

impl Steps<'_> {
    fn restart(&mut self) {
        self.since = Instant::now();
    }

    fn done(&mut self, what: &str) -> Result<()> {
        let took = self.paint.dim(&format!("{:.2} s", self.since.elapsed().as_secs_f64()));
        self.restart();
        writeln!(self.out, "  {} {what}  {took}", self.paint.mark(true)).and_then(|()| self.out.flush()).during("write to the terminal")
    }
}
