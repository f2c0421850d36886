//! Two gateways whose addresses EC2 has to send to them, in the lab.

use super::{HANDSHAKE, LATENCY};
use crate::group::portway;
use anyhow::{Context, ensure};
use portway::config::Backend;
use portway::lab::cloud::{Cloud, gateways};
use portway::lab::topology::Wiring;
use portway::lab::{Kill, Lab, Topology, poll_until, unix};
use serde_json::Value;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Connections to EC2 that were made before there was anything to call for.
const READY: &str = "portway_cloud_calls_total{call=\"ready\",result=\"taken\"}";
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
        cloud.serve_gateways(&lab, "10.9.0.0/24".parse()?, "172.16.0.0/16".parse()?)?;
        drop(entered);
        lab.start_daemons_edited(portway(), Backend::Auto, |_, yaml| gateways::configured(&yaml, ""))?;
        let pair = Self { lab, _runtime: runtime };
        pair.lab.await_active("gw-1", "acme", 0)?;
        pair.claimed("gw-1")?;
        Ok(pair)
    }

    /// The Active's daemon dies, and comes back. Seconds that it took the other to claim, and then itself.
    pub fn round(&mut self) -> anyhow::Result<(f64, f64)> {
        self.lab.await_in_sync()?;
        poll_until("connections of gw-2 that stand ready", PATIENCE, || Ok(self.lab.metric("gw-2", READY)? >= 2.0))?;
        self.lab.fail("gw-1", Kill::Daemon)?;
        self.lab.await_active("gw-2", "acme", 0)?;
        let died = self.claimed("gw-2")?;
        self.lab.heal("gw-1")?;
        self.lab.await_active("gw-1", "acme", 0)?;
        Ok((died, self.claimed("gw-1")?))
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
