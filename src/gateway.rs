//! `portway gateway`: the node at a tenant VPC's edge.

use crate::config::{self, Config, Gateway};
use crate::daemon::carrier::{self, Path};
use crate::daemon::reconcile::Role;
use crate::daemon::{self, Place};
use crate::kernel::Kernel;
use crate::metrics::Page;
use crate::model::{IfName, Mark, SLOT_MASK, TenantShard};
use crate::plan::facts::Facts;
use crate::plan::gateway::{Carrier, Inputs, desired, recover_peers, shards};
use crate::plan::slots::{Numbers, Slots};
use crate::plan::{State, Sysctl, SysctlKey};
use axum::Router;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

mod tunnels;

/// A gateway's part of the daemon.
#[derive(Debug)]
pub struct Node {
    file: PathBuf,
    config: Gateway,
    carrier: Carrier,
    slots: Slots,
    peers: Numbers<IpAddr>,
    recovered: bool,
    path: Path,
    mtu: u32,
    /// Marks and masks of connections that belong to nobody any more.
    over: Vec<(Mark, u32)>,
}

/// Runs until a signal or a successor ends it.
pub async fn run(file: PathBuf, config: Gateway) -> anyhow::Result<ExitCode> {
    let place = Place { runtime_dir: config.runtime_dir.clone(), admin: config.admin };
    daemon::run(Node::new(file, config), place, |_| Router::new()).await
}

impl Node {
    pub fn new(file: PathBuf, config: Gateway) -> Self {
        Self {
            file,
            config,
            carrier: Carrier::Userspace,
            slots: Slots::default(),
            peers: Numbers::new(u16::MAX),
            recovered: false,
            path: Path::default(),
            mtu: 0,
            over: Vec::new(),
        }
    }

    /// Slots and numbers of an earlier process, from what it left standing.
    fn recover(&mut self, observed: &State) {
        if !self.recovered {
            self.slots = Slots::recover(observed.links.iter().map(|(name, link)| (name, link.alias.as_str())));
            self.peers = recover_peers(observed);
            self.recovered = true;
        }
    }
}

impl Role for Node {
    const NAME: &'static str = "gateway";

    async fn choose_carrier(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        self.carrier = carrier::choose(self.config.backend, kernel).await?;
        Ok(())
    }

    async fn start(&mut self, kernel: &Kernel, inherited: &mut BTreeMap<String, OwnedFd>) -> anyhow::Result<()> {
        self.choose_carrier(kernel).await?;
        let facts = kernel.facts().await?;
        let observed = kernel.observe(&self.interest()).await?;
        self.desired(&facts, &observed)?;
        self.path = Path::start(self.carrier, self.config.platform.address, inherited, &self.tunnels())?;
        Ok(())
    }

    fn interest(&self) -> BTreeSet<Sysctl> {
        let keys = [SysctlKey::Forwarding, SysctlKey::SrcValidMark];
        let interfaces = self.config.tenants.iter().map(|tenant| &tenant.interface);
        interfaces.flat_map(|interface| keys.map(|key| Sysctl { interface: interface.clone(), key })).collect()
    }

    fn desired(&mut self, facts: &Facts, observed: &State) -> anyhow::Result<State> {
        self.recover(observed);
        let freed = self.slots.assign(&shards(&self.config))?;
        self.over.extend(freed.into_iter().map(|slot| (Mark::new(None, Some(slot)), SLOT_MASK)));
        self.peers.assign(self.config.peers.iter().map(|peer| &peer.outer))?;
        let inputs = Inputs { config: &self.config, carrier: self.carrier, facts, slots: &self.slots, peers: &self.peers };
        self.mtu = inputs.tunnel_mtu();
        Ok(desired(&inputs))
    }

    async fn follow(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        for (mark, mask) in self.over.drain(..) {
            kernel.delete_conntrack_by_mark(mark, mask)?;
        }
        let tunnels = self.tunnels();
        self.path.carry(&tunnels)
    }

    fn reload(&mut self) -> Result<(), String> {
        match config::load(&self.file) {
            Ok(Config::Gateway(new)) => {
                let keep = |config: &config::Gateway| (config.platform.clone(), config.backend, config.runtime_dir.clone(), config.admin);
                if keep(&new) != keep(&self.config) {
                    return Err("`platform`, `backend`, `runtime_dir` and `admin` are taken up at a start: start the daemon again, which loses nothing".into());
                }
                self.config = new;
                Ok(())
            }
            Ok(Config::Host(_)) => Err(format!("{} has become a function host's configuration", self.file.display())),
            Err(faults) => Err(faults.to_string()),
        }
    }

    fn status(&self) -> serde_json::Value {
        let tenants: Vec<_> = self
            .config
            .tenants
            .iter()
            .map(|tenant| {
                let slot = self.slots.get(&TenantShard { tenant: tenant.name.clone(), shard: Default::default() });
                let peers = self.config.peers.iter().filter(|peer| peer.inner.contains_key(&tenant.name)).count();
                json!({
                    "name": tenant.name, "slot": slot, "tunnel": slot.map(IfName::tunnel), "key": tenant.key,
                    "interface": tenant.interface, "peers": peers, "allow": tenant.allow, "snat": snat(&tenant.snat),
                })
            })
            .collect();
        json!({
            "node": self.config.node, "backend": self.carrier.name(), "platform_address": self.config.platform.address,
            "tunnel_mtu": self.mtu, "tenants": tenants, "peers": self.config.peers.len(), "userspace": self.path.status(),
        })
    }

    fn metrics(&self, out: &mut Page) {
        #[expect(clippy::cast_precision_loss, reason = "at most 65,535")]
        out.gauge("portway_peers", "Function hosts that may send", &[], self.config.peers.len() as f64);
        out.gauge("portway_tunnel_mtu_bytes", "Bytes that a packet inside a tunnel may have", &[], f64::from(self.mtu));
        self.path.metrics(out);
    }

    fn descriptors(&self) -> anyhow::Result<BTreeMap<String, OwnedFd>> {
        self.path.descriptors()
    }

    async fn stop(&mut self) {
        self.path.stop();
    }
}

fn snat(snat: &config::Snat) -> String {
    match snat {
        config::Snat::To { address, ports } => format!("{address}:{ports}"),
        config::Snat::Masquerade { ports } => format!("the interface's address:{ports}"),
    }
}
