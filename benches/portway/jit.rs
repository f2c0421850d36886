//! Hosts that the gateway has never seen: how many it lets in, how long their first packets take, what a flood does to both, and what those cost that do
//! not come.
//!
//! ```text
//!  hosts (gotatun, or initiations made beforehand) -- UDP --> device --> machine --> directory (in memory) --> peer --> answer
//!  flood: garbage whose mac1 is right  --------------^
//! ```

mod clients;
mod flood;
mod kernel;
mod known;

use super::Options;
use super::figures::{Bar, Report, median};
use super::nodes::Node;
use anyhow::ensure;
use clients::{Clients, Wire, inner, key, outer};
use portway::gateway::jit::{Door, Greeting, Jit, Knock, Order, Setup, WhoIs};
use portway::gateway::sessions::tunnels::Tunnels;
use portway::model::{IfName, Lane, PrivateKey, PublicKey, Slot, TenantShard};
use portway::plan::gateway::ends::End;
use portway::proto::jit::{Answer, Registered};
use portway::userspace::wireguard::{Clocks, Descriptors, Device, DeviceConfig, Event, InterfaceConfig, knock};
use portway::wire::wireguard::Tai64n;
use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 10);
const HOSTS: u32 = 10_000;
const CLOCKS: Clocks = Clocks { now: Instant::now, wall: SystemTime::now };
/// Initiations underway at once: fewer than those beyond which the device asks for cookies.
const WINDOW: u64 = 100;
/// Between two looks at how far it is: they cost the gateway's processors.
const POLL: Duration = Duration::from_micros(500);
const ROUNDS: usize = 3;
/// What the bar allows beyond look-up and round trips, milliseconds.
const SLACK: f64 = 5.0;

/// Two machines.
pub struct Site {
    gateway: Node,
    hosts: Node,
    listen: SocketAddrV4,
}

/// Knows whoever there may be, after a while.
struct Directory {
    slow: Duration,
    hosts: HashMap<PublicKey, u32>,
}

impl Directory {
    fn of(known: u32, slow: Duration) -> Self {
        Self { slow, hosts: (0..known).map(|n| (key(n).public(), n)).collect() }
    }
}

impl WhoIs for Directory {
    fn look_up<'a>(&'a self, _: &'a TenantShard, key: &'a PublicKey) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(async move {
            if !self.slow.is_zero() {
                tokio::time::sleep(self.slow).await;
            }
            let Some(n) = self.hosts.get(key) else { return Answer::Unknown };
            let (Ok(host), allowed) = (format!("host-{n}").parse(), vec![std::net::IpAddr::from(inner(*n)).into()]) else {
                return Answer::Failed;
            };
            Answer::Found(Arc::new(Registered { host, allowed }))
        })
    }
}

struct Gate {
    _jit: Jit,
    door: Door,
    _runtime: tokio::runtime::Runtime,
    /// What else must stand as long as it does.
    _rest: Box<dyn Any>,
}

fn gateway_key() -> PrivateKey {
    PrivateKey::new([99; 32])
}

impl Site {
    fn new() -> anyhow::Result<Self> {
        let (gateway, hosts) = (Node::new()?, Node::new()?);
        gateway.cable("eth0", &hosts, "eth0")?;
        gateway.sh("ip addr add 10.9.0.1/24 dev eth0; ip route add default via 10.9.0.2; ip addr add 172.16.0.10/32 dev lo")?;
        hosts.sh("ip addr add 10.9.0.2/24 dev eth0; ip route add local 10.128.0.0/9 dev lo")?;
        Ok(Self { gateway, hosts, listen: SocketAddrV4::new([10, 9, 0, 1].into(), 51_820) })
    }

    fn open(&self, known: u32, slow: Duration, change: impl FnOnce(&mut Setup)) -> anyhow::Result<Gate> {
        let name: IfName = "pw-1".parse()?;
        let (mut device, mut events) = Device::prepare(DeviceConfig::new(CLOCKS), Descriptors::new())?;
        let interface = InterfaceConfig { name, key: gateway_key(), listen: self.listen.into(), mark: None, roaming: true };
        self.gateway.run(|| device.add_interface(interface))?;
        device.carry()?;
        self.gateway.sh("ip link set pw-1 mtu 1420 up; ip route replace 10.64.0.0/10 dev pw-1 src 172.16.0.10")?;
        let device = Arc::new(RwLock::new(device));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let directory = Arc::new(Directory::of(known, slow));
        let mut setup = Setup::new(Tunnels::Userspace(device.clone()), None, directory, runtime.handle().clone());
        change(&mut setup);
        let (jit, mut news) = self.gateway.run(|| Jit::start(setup))?;
        let door = jit.door().clone();
        let slot = Slot::try_from(1)?;
        door.order(Order::Serve {
            of: "acme/1".parse()?,
            slot,
            ends: vec![End { lane: Lane::First, key: gateway_key(), port: self.listen.port() }],
        });
        let to = door.clone();
        std::thread::spawn(move || {
            while let Some(event) = events.blocking_recv() {
                match event {
                    Event::UnknownInitiation { interface, source, key, stamp, bytes } => {
                        to.knock(Knock { interface, source, key, stamp, bytes });
                    }
                    Event::Handshake { key, heard, .. } => to.order(Order::Learn { slot, stamps: vec![(key, heard)] }),
                }
            }
        });
        runtime.spawn(async move { while news.recv().await.is_some() {} });
        Ok(Gate { _jit: jit, door, _runtime: runtime, _rest: Box::new(device) })
    }
}

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let site = Site::new()?;
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let few = |many: u32| if options.short { many / 10 } else { many };
    admission(&site, few(HOSTS), rounds, report)?;
    first_connections(&site, few(HOSTS), report)?;
    greetings(&site, few(300), report)?;
    remembered(&site, few(100_000), report)
}

/// The same hosts, and garbage.
pub fn run_flood(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    flood::run(&Site::new()?, if options.short { 100 } else { 1_000 }, report)
}

/// Those that never come.
pub fn run_known(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    known::run(if options.short { 10_000 } else { 100_000 }, report)
}

/// By the kernel.
pub fn run_kernel(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    kernel::run(if options.short { 100 } else { 1_000 }, options.rounds.unwrap_or(ROUNDS), report)
}

/// As many as it can take, a window of them underway.
fn admission(site: &Site, hosts: u32, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let (mut rates, mut latencies) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let gate = site.open(hosts, Duration::ZERO, |_| {})?;
        let wire = Wire::open(site, 51_820)?;
        rates.push(f64::from(hosts) / admit(&gate, &wire, hosts)?.as_secs_f64());
        latencies.extend(gate.door.report().latency.map(|latency| latency.p99.as_secs_f64() * 1e3));
    }
    report.add("userspace", "new peers admitted from cold", "1/s", rates, Some(Bar::AtLeast(5_000.0)));
    report.add("userspace", "p99 of knock to session meanwhile", "ms", latencies, None);
    Ok(())
}

/// All of them, with initiations made beforehand: how long it took from the first to the last peer.
fn admit(gate: &Gate, wire: &Wire, hosts: u32) -> anyhow::Result<Duration> {
    let stamp = Tai64n::from_unix(1_700_000_000, 0);
    let knocks: Vec<_> = (0..hosts).map(|n| knock(&key(n), &gateway_key().public(), stamp)).collect::<Result<_, _>>()?;
    let installed = || gate.door.report().counters.installed;
    let (begun, before) = (Instant::now(), installed());
    for (n, initiation) in knocks.iter().enumerate() {
        while n as u64 >= installed() - before + WINDOW {
            ensure!(begun.elapsed() < Duration::from_secs(120), "not admitted: {:?}", gate.door.report());
            std::thread::sleep(POLL);
        }
        wire.send(outer(n as u32), initiation)?;
    }
    while installed() - before < u64::from(hosts) {
        ensure!(begun.elapsed() < Duration::from_secs(120), "not admitted: {:?}", gate.door.report());
        std::thread::sleep(POLL);
    }
    Ok(begun.elapsed())
}

/// Real hosts, none of which tries again.
fn first_connections(site: &Site, hosts: u32, report: &mut Report) -> anyhow::Result<()> {
    for (slow, many, per_second) in [(Duration::ZERO, hosts, 1_000), (Duration::from_millis(20), hosts / 10, 500)] {
        let _gate = site.open(many, slow, |_| {})?;
        let mut clients = Clients::new(Wire::open(site, 51_820)?, &gateway_key().public(), 0, many, Duration::ZERO);
        let (took, lost) = clients.connect(per_second)?;
        let trip = round_trip(&mut clients)?;
        let look_up = slow.as_secs_f64() * 1e3;
        let arm = format!("look-up of {look_up} ms");
        report.add(&arm, format!("lost of {many} first connections"), "1", vec![lost as f64], Some(Bar::EachAtMost(0.0)));
        report.add(&arm, "round trip", "ms", vec![trip], None);
        report.latency(&arm, "first packet to its answer", took, Some(Bar::P99AtMost(look_up + 2.0 * trip + SLACK)));
    }
    Ok(())
}

/// The median of some, milliseconds.
fn round_trip(clients: &mut Clients) -> anyhow::Result<f64> {
    let trips = (0..100).map(|n| Ok(clients.ping(n % 10)?.as_secs_f64() * 1e3)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(median(&trips))
}

/// Over a cable of 5 ms: the hosts' own initiations answered, or initiations of ours.
fn greetings(site: &Site, hosts: u32, report: &mut Report) -> anyhow::Result<()> {
    for greeting in [Greeting::Answer, Greeting::Initiate] {
        let _gate = site.open(hosts, Duration::ZERO, |setup| setup.greeting = greeting)?;
        let mut clients = Clients::new(Wire::open(site, 51_820)?, &gateway_key().public(), 0, hosts, Duration::from_millis(5));
        let (took, lost) = clients.connect(100)?;
        let trip = round_trip(&mut clients)?;
        let arm = format!("{greeting:?}, 5 ms away").to_lowercase();
        report.add(&arm, "lost", "1", vec![lost as f64], Some(Bar::EachAtMost(0.0)));
        let bar = (greeting == Greeting::Answer).then_some(Bar::P99AtMost(2.0 * trip + SLACK));
        report.latency(&arm, "first packet to its answer", took, bar);
    }
    Ok(())
}

/// What a gateway keeps of those who came and went, and what it does about them.
fn remembered(site: &Site, most: u32, report: &mut Report) -> anyhow::Result<()> {
    for known in [0, 1_000, most] {
        let gate = site.open(known, Duration::ZERO, |setup| setup.config.idle = Duration::from_secs(1))?;
        let before = resident()?;
        if known > 0 {
            admit(&gate, &Wire::open(site, 51_820)?, known)?;
        }
        let begun = Instant::now();
        while gate.door.report().sizes.peers > 0 {
            ensure!(begun.elapsed() < Duration::from_secs(60), "still there: {:?}", gate.door.report());
            std::thread::sleep(Duration::from_millis(20));
        }
        let arm = format!("{known} came and went");
        report.add(&arm, "memory more", "MiB", vec![resident()? - before], None);
        let (busy, begun) = (processor()?, Instant::now());
        std::thread::sleep(Duration::from_secs(3));
        let share = (processor()? - busy) / begun.elapsed().as_secs_f64();
        report.add(&arm, "processor while nothing happens", "1", vec![share], Some(Bar::AtMost(0.01)));
    }
    Ok(())
}

/// MiB of this process.
fn resident() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// Seconds that this process has had a processor.
fn processor() -> anyhow::Result<f64> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}
