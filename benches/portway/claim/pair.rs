//! Two gateways whose addresses EC2 has to send to them, in the lab.

use super::{HANDSHAKE, LATENCY};
use crate::group::portway;
use anyhow::{Context, ensure};
use portway::config::Backend;
use portway::lab::cloud::Cloud;
use portway::lab::topology::{PLATFORM_IF, Wiring};
use portway::lab::{Kill, Lab, Topology, poll_until, unix};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;
use tokio::runtime::Runtime;

const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8169);
const EC2: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8170);
const PATIENCE: Duration = Duration::from_secs(20);

/// Fields are dropped in this order: gateways before what they call.
pub struct Pair {
    lab: Lab,
    _runtime: Runtime,
}

impl Pair {
    /// Stands when this returns: the first gateway is Active, and has claimed.
    pub fn stand() -> anyhow::Result<Self> {
        let runtime = Runtime::new()?;
        let cloud = runtime.block_on(Cloud::start())?;
        cloud.latency(LATENCY);
        cloud.handshake(HANDSHAKE);
        let mut lab = Lab::build(Topology::group(&["acme"], 2, 1, &[Wiring::Veth]))?;
        lab.serve()?;
        let entered = runtime.enter();
        for (number, gateway) in (1..).zip(&lab.topology.gateways) {
            let instance = format!("i-{number:08x}");
            let tenant = &gateway.enis[0];
            let sides = [(PLATFORM_IF, gateway.outer, "10.9.0.0/24"), (tenant.interface.as_str(), tenant.address, "172.16.0.0/16")];
            for (side, (interface, address, subnet)) in sides.into_iter().enumerate() {
                let mac = lab.hardware_address(&gateway.node, interface)?;
                cloud.eni(&format!("eni-0000{number:02x}{side:02x}").parse()?, &instance, &mac, subnet.parse()?, address.into());
            }
            let at = |place| lab.node(&gateway.node)?.run(move || TcpListener::bind(place)).context("cannot listen in a namespace");
            cloud.metadata(&instance, at(METADATA)?)?;
            cloud.also_at(at(EC2)?)?;
        }
        drop(entered);
        let aws = format!("gateway:\n  cloud: {{ aws: {{ metadata: \"http://{METADATA}\", endpoint: \"http://{EC2}\" }} }}\n");
        lab.start_daemons_edited(portway(), Backend::Auto, |_, yaml| yaml.replace("gateway:\n", &aws))?;
        let pair = Self { lab, _runtime: runtime };
        pair.lab.await_active("gw-1", "acme", 0)?;
        pair.claimed("gw-1")?;
        Ok(pair)
    }

    /// The Active's daemon dies, and comes back. Seconds that it took the other to claim, and then itself.
    pub fn round(&mut self) -> anyhow::Result<(f64, f64)> {
        self.lab.await_in_sync()?;
        poll_until("connections of gw-2 that stand ready", PATIENCE, || Ok(self.is_ready("gw-2")))?;
        self.lab.fail("gw-1", Kill::Daemon)?;
        self.lab.await_active("gw-2", "acme", 0)?;
        let died = self.claimed("gw-2")?;
        self.lab.heal("gw-1")?;
        self.lab.await_active("gw-1", "acme", 0)?;
        Ok((died, self.claimed("gw-1")?))
    }

    fn is_ready(&self, node: &str) -> bool {
        let page = self.lab.socket(node).ok().and_then(|socket| unix(&socket, "GET", "/metrics", None).ok());
        let page = page.map(|answer| answer.body).unwrap_or_default();
        let start = "portway_cloud_calls_total{call=\"ready\",result=\"taken\"} ";
        page.lines().filter_map(|line| line.strip_prefix(start)?.parse::<u64>().ok()).any(|count| count >= 2)
    }

    /// How long that took.
    fn claimed(&self, node: &str) -> anyhow::Result<f64> {
        let socket = self.lab.socket(node)?;
        let mut shard = Value::Null;
        poll_until(&format!("{node} has claimed"), PATIENCE, || {
            let answer = unix(&socket, "GET", "/v1/status", None).map(|answer| answer.body).unwrap_or_default();
            let status: Value = serde_json::from_str(&answer).unwrap_or_default();
            shard = status["ha"]["cloud"]["shards"]["acme/0"].clone();
            Ok(shard["claimed"] == true)
        })?;
        let took = shard["took"].as_f64().context("it does not say how long that took")?;
        ensure!(took > 0.0, "{node} resumed what it had");
        Ok(took)
    }
}
