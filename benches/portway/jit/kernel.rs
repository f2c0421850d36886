//! The same hosts at the kernel's WireGuard: initiations are seen on a packet socket, and brought before the interface once more.

use super::{Directory, Gate, Site, admit, gateway_key};
use crate::figures::Report;
use crate::jit::clients::{Wire, key, outer};
use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portway::gateway::jit::{Capture, Jit, Order, Setup};
use portway::gateway::sessions::tunnels::Tunnels;
use portway::kernel::Kernel;
use portway::kernel::vrrp_socket::Family;
use portway::model::{Lane, Slot};
use portway::plan::gateway::ends::End;
use portway::proto::jit::Refusal;
use portway::userspace::wireguard::knock;
use portway::wire::wireguard::Tai64n;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// No bar: the machine is an emulated one.
pub fn run(hosts: u32, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let (mut rates, mut latencies) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let site = Site::new()?;
        let gate = site.open_kernel(hosts)?;
        let wire = Wire::open(&site, 51_820)?;
        until_it_hears(&gate, &wire, hosts)?;
        rates.push(f64::from(hosts) / admit(&gate, &wire, hosts)?.as_secs_f64());
        latencies.extend(gate.door.report().latency.map(|latency| latency.p99.as_secs_f64() * 1e3));
    }
    report.add("kernel", "new peers admitted from cold", "1/s", rates, None);
    report.add("kernel", "p99 of knock to session meanwhile", "ms", latencies, None);
    Ok(())
}

/// The packet socket may not be open yet.
fn until_it_hears(gate: &Gate, wire: &Wire, stranger: u32) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut stamp = 1_700_000_000;
    while gate.door.report().counters.refused(Refusal::Unknown) == 0 {
        ensure!(begun.elapsed() < Duration::from_secs(60), "nobody is heard: {:?}", gate.door.report());
        stamp += 1;
        wire.send(outer(stranger), &knock(&key(stranger), &gateway_key().public(), Tai64n::from_unix(stamp, 0))?)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

impl Site {
    fn open_kernel(&self, known: u32) -> anyhow::Result<Gate> {
        let state = tempfile::tempdir()?;
        let file = state.path().join("key");
        std::fs::write(&file, STANDARD.encode(gateway_key().expose()))?;
        let port = self.listen.port();
        self.gateway.sh(&format!(
            "ip link add pw-1 type wireguard; wg set pw-1 listen-port {port} private-key {}
             ip link set pw-1 mtu 1420 up; ip route replace 10.64.0.0/10 dev pw-1 src 172.16.0.10",
            file.display()
        ))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let kernel = self.gateway.run(|| runtime.block_on(Kernel::open(state.path())))?;
        let capture = Capture { interface: "eth0".parse()?, family: Family::V4 };
        let directory = Arc::new(Directory::of(known, Duration::ZERO));
        let setup = Setup::new(Tunnels::Kernel(Arc::new(kernel)), Some(capture), directory, runtime.handle().clone());
        let (jit, mut news) = self.gateway.run(|| Jit::start(setup))?;
        let door = jit.door().clone();
        door.order(Order::Serve {
            of: "acme/1".parse()?,
            slot: Slot::try_from(1)?,
            ends: vec![End { lane: Lane::First, key: gateway_key(), port }],
        });
        runtime.spawn(async move { while news.recv().await.is_some() {} });
        Ok(Gate { _jit: jit, door, _runtime: runtime, _rest: Box::new(state) })
    }
}
