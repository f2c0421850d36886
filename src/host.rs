//! `portway host`: a machine that runs functions of many tenants.

pub mod api;
mod attaching;
pub mod attachments;
mod completed;
mod flow_log;
mod local;
mod members;
mod resolve;
mod tunnels;

use crate::config::{self, Config, Host, HostShard, HostTunnel};
use crate::daemon::carrier::{self, Path};
use crate::daemon::flow_log as log;
use crate::daemon::keyring::{self, Keyring};
use crate::daemon::meter::Watched;
use crate::daemon::names::Names;
use crate::daemon::over::Over;
use crate::daemon::reconcile::{Refused, Role};
use crate::daemon::store::Store;
use crate::daemon::{self, Place};
use crate::directory::enrolled;
use crate::kernel::Kernel;
use crate::metrics::Page;
use crate::model::{AttachmentName, IfName, PrivateKey, TenantShard};
use crate::plan::facts::Facts;
use crate::plan::gateway::Carrier;
use crate::plan::host::generations::{Generations, Next, Part};
use crate::plan::host::{Inputs, desired, shards};
use crate::plan::slots::Slots;
use crate::plan::{RouteKey, State, Sysctl};
use anyhow::Context;
use attachments::{Attachment, Attachments};
use completed::{LeftOut, completed};
use members::Members;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;

/// A function host's part of the daemon.
#[derive(Debug)]
pub struct Node {
    file: PathBuf,
    /// As the file says; what the directory says of it is not in there.
    written: Host,
    /// What is served.
    config: Host,
    /// With a directory.
    members: Option<Members>,
    /// What of it is in `config`, by its changes.
    completed: Option<u64>,
    left_out: Vec<LeftOut>,
    again: Arc<Notify>,
    /// With WireGuard.
    key: Option<PrivateKey>,
    carrier: Carrier,
    slots: Slots,
    /// With WireGuard, the interfaces of each tunnel.
    generations: Generations,
    /// Where a successor finds their keys.
    keyring: Keyring,
    /// What it was called by a predecessor.
    told: keyring::Keys,
    /// When what they are changes by itself.
    next: Next,
    attachments: Attachments,
    store: Store<Attachment>,
    path: Path,
    mtu: u32,
    over: Over,
    /// How often attachments or the configuration changed.
    revision: u64,
    /// Whether the kernel has flow tables.
    flow_tables: bool,
    /// The `throw` routes of the last pass.
    thrown: BTreeSet<RouteKey>,
    /// Attachments found without their interface, to be forgotten when the kernel has.
    lost: Vec<AttachmentName>,
    flow_log: log::FlowLog,
    /// Whose connections it tells of.
    origins: Arc<flow_log::Origins>,
}

/// Runs until a signal or a successor ends it.
pub async fn run(file: PathBuf, config: Host) -> anyhow::Result<ExitCode> {
    let place = Place { runtime_dir: config.runtime_dir.clone(), admin: config.admin, names: Names::new(config.admin_names.clone()) };
    daemon::run(Node::new(file, config)?, place, api::routes).await
}

impl Node {
    pub fn new(file: PathBuf, config: Host) -> anyhow::Result<Self> {
        let store = Store::open(&config.runtime_dir, Self::KEEPS)
            .with_context(|| format!("cannot use `runtime_dir` {}", config.runtime_dir.display()))?;
        let again = Arc::<Notify>::default();
        let members = config.directory.as_ref().map(|directory| Members::new(config.node.clone(), directory.at.clone(), again.clone()));
        let key = tunnels::read_key(&config)?;
        Ok(Self {
            file,
            written: config.clone(),
            config,
            members,
            completed: None,
            left_out: Vec::new(),
            again,
            key,
            carrier: Carrier::Userspace,
            slots: Slots::default(),
            generations: Generations::default(),
            keyring: Keyring::new()?,
            told: keyring::Keys::new(),
            next: Next::Never,
            attachments: Attachments::default(),
            store,
            path: Path::default(),
            mtu: 0,
            over: Over::default(),
            revision: 0,
            flow_tables: false,
            thrown: BTreeSet::new(),
            lost: Vec::new(),
            flow_log: log::FlowLog::default(),
            origins: Arc::default(),
        })
    }

    pub fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    /// A whole pass, outside the loop.
    async fn settle(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        let report = daemon::reconcile::pass(self, kernel).await;
        anyhow::ensure!(report.settled(), "{}", report.failures.join("; "));
        Ok(())
    }

    /// Takes up what the directory says, if that is new.
    fn complete(&mut self) {
        let Some(members) = &self.members else { return };
        let changes = members.changes();
        if self.completed == Some(changes) {
            return;
        }
        let Some(membership) = members.latest() else { return };
        let (config, left_out) = completed(&self.written, &membership);
        for one in left_out.iter().filter(|one| !self.left_out.contains(one)) {
            tracing::warn!("{one}");
        }
        (self.config, self.left_out, self.completed) = (config, left_out, Some(changes));
        match self.written.wireguard.as_ref().map(|own| enrolled::present_key(&own.private_key, &membership)) {
            Some(Ok(key)) => {
                if let Some(former) = self.key.replace(key.clone()).filter(|former| *former != key) {
                    tracing::info!("the key of this host is {} now, and no longer {}", key.public(), former.public());
                }
            }
            Some(Err(error)) => tracing::error!("gateways may refuse this host: {error:#}"),
            None => {}
        }
    }

    /// The directory hears how many attachments lead to each shard that is served.
    fn tell(&self) {
        let Some(members) = &self.members else { return };
        let attachments = self.attachments.by_shard();
        // There are 65,535 at most.
        let count = |of: &TenantShard| attachments.get(of).and_then(|count| u16::try_from(*count).ok()).unwrap_or_default();
        members.tell(self.config.served().map(|(tenant, shard)| tenant.of(shard.shard)).map(|of| (of.clone(), count(&of))).collect());
    }

    /// Tunnels that wait for something may have it by now.
    fn go_on(&mut self, kernel: &Kernel) {
        let seen = tunnels::Seen { carrier: self.carrier, kernel, path: &self.path };
        self.next = self.generations.advance(&self.slots, Instant::now(), &seen);
    }

    /// Attachments whose interface has gone are over: a new interface of the same name may be anybody's.
    fn find_lost(&self, facts: &Facts) -> Vec<AttachmentName> {
        let stands = |a: &Attachment| a.attached.is_of(facts.link(&a.attached.interface));
        self.attachments.iter().filter(|a| !stands(a)).map(|a| a.name.clone()).collect()
    }
}

impl Role for Node {
    const NAME: &'static str = "host";
    const KEEPS: &'static str = "attachments";

    fn take_up_stored(&mut self) -> anyhow::Result<()> {
        let (stored, unreadable) = self.store.load().context("cannot read the stored attachments")?;
        stored.into_iter().for_each(|attachment| self.attachments.insert(attachment));
        for (path, reason) in unreadable {
            tracing::error!("{} is not an attachment ({reason}): attach anew and remove the file", path.display());
        }
        Ok(())
    }

    async fn choose_carrier(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        self.carrier = carrier::choose(self.config.backend, self.config.platform.tunnel, kernel).await?;
        Ok(())
    }

    async fn start(&mut self, kernel: &Arc<Kernel>, inherited: &mut BTreeMap<String, OwnedFd>) -> anyhow::Result<()> {
        self.flow_log.open(self.config.flow_log.as_ref(), inherited);
        self.choose_carrier(kernel).await?;
        if let Some(members) = &mut self.members {
            members.start().await;
        }
        self.told = Keyring::inherit(inherited);
        let facts = kernel.facts().await?;
        let observed = kernel.observe(&self.interest()).await?;
        self.desired(&facts, &observed)?;
        self.path = Path::start(self.carrier, inherited, &self.tunnels(), &self.config.runtime_dir)?;
        Ok(())
    }

    fn carry(&mut self) -> anyhow::Result<()> {
        self.path.begin()
    }

    async fn succeed(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn again(&self) -> Arc<Notify> {
        self.again.clone()
    }

    fn due(&self) -> Option<Instant> {
        if let Next::At(due) = self.next { Some(due) } else { None }
    }

    fn advance(&mut self, kernel: &Kernel) -> bool {
        // A pass that is wanted already is to be made first.
        if self.next != Next::Now {
            self.go_on(kernel);
        }
        self.next == Next::Now
    }

    fn revision(&self) -> u64 {
        self.revision + self.members.as_ref().map_or(0, Members::changes)
    }

    fn interest(&self) -> BTreeSet<Sysctl> {
        let of_attachments = self.attachments.iter().filter_map(|attachment| Some(attachment.attached.sysctl()?.0));
        of_attachments.chain(log::settings(self.config.flow_log.as_ref())).collect()
    }

    fn desired(&mut self, facts: &Facts, observed: &State) -> anyhow::Result<State> {
        self.complete();
        if self.slots == Slots::default() {
            self.slots = Slots::recover(observed.links.iter().map(|(name, link)| (name, link.alias.as_str())));
            self.generations = Generations::recover(observed, &self.slots, &std::mem::take(&mut self.told), Instant::now());
        }
        self.over.slots(self.slots.assign(&shards(&self.config))?);
        self.name_zones();
        self.flow_tables = facts.flow_tables;
        self.lost = self.find_lost(facts);
        let lost: BTreeSet<&AttachmentName> = self.lost.iter().collect();
        let attached: Vec<_> = self.attachments.iter().filter(|a| !lost.contains(&a.name)).map(|a| a.attached.clone()).collect();
        if let Some(key) = &self.key {
            self.generations.want(key, self.config.served().map(|(tenant, shard)| (tenant.of(shard.shard), shard)));
        }
        let (config, slots, generations) = (&self.config, &self.slots, &self.generations);
        let inputs = Inputs { config, carrier: self.carrier, facts, slots, generations, attachments: &attached };
        self.mtu = facts.tunnel_mtu(&self.config.platform);
        let mut state = desired(&inputs);
        self.flow_log.want(self.config.flow_log.as_ref(), observed, &mut state);
        self.thrown = local::thrown(&state);
        Ok(state)
    }

    async fn follow(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        self.log_flows();
        for name in std::mem::take(&mut self.lost) {
            if let Some(gone) = self.forget(&name) {
                tracing::info!("attachment {name} is over: interface {} has gone", gone.attached.interface);
                self.over.who(gone.attached.who);
            }
        }
        // What fails does not keep the rest from following: one tunnel is not the others' business.
        let ended = self.over.end(kernel).await;
        let tunnels = self.tunnels();
        let carried = self.path.follow(&tunnels, kernel).await;
        self.go_on(kernel);
        let kept = self.keyring.keep(self.generations.iter().filter_map(|(of, standing)| {
            let one = standing.generation;
            Some((IfName::lane(self.slots.get(of)?, one.lane), &one.own, one.gateway, one.endpoint))
        }));
        if self.next == Next::Now {
            self.again.notify_one();
        }
        self.tell();
        ended.and(carried).and(kept)
    }

    fn reload(&mut self) -> Result<(), Refused> {
        self.flow_log.reopen();
        match config::load(&self.file) {
            Ok(Config::Host(new)) => {
                let keep = |config: &config::Host| {
                    (config.platform.clone(), config.backend, config.runtime_dir.clone(), config.admin, config.admin_names.clone())
                };
                if keep(&new) != keep(&self.config) {
                    return Err(Refused::until_start("`platform`, `tunnel`, `backend`, `runtime_dir`, `admin` and `admin_names` are"));
                }
                let at = |config: &config::Host| config.directory.as_ref().map(|directory| directory.at.clone());
                if (at(&new), &new.node) != (at(&self.written), &self.written.node) && (at(&new).is_some() || at(&self.written).is_some()) {
                    return Err(Refused::until_start("`directory` and who asks it are"));
                }
                self.key = tunnels::read_key(&new).map_err(|error| format!("{error:#}"))?;
                self.config = new.clone();
                self.written = new;
                self.completed = None;
                if let Some(members) = &self.members {
                    members.renew();
                }
                // What is asked for before the next pass finds what the directory says.
                self.complete();
                self.revision += 1;
                Ok(())
            }
            Ok(Config::Gateway(_) | Config::Directory(_) | Config::Autoscaler(_)) => {
                Err(format!("{} has become another role's configuration", self.file.display()).into())
            }
            Err(faults) => Err(faults.to_string().into()),
        }
    }

    fn status(&self) -> serde_json::Value {
        let attachments = self.attachments.by_shard();
        let tenants: Vec<_> = self
            .config
            .served()
            .map(|(tenant, shard)| {
                let of = tenant.of(shard.shard);
                let slot = self.slots.get(&of);
                let tunnel = |part| {
                    let standing = self.generations.of(&of).find(|standing| standing.part == part)?;
                    Some(IfName::lane(slot?, standing.generation.lane))
                };
                json!({
                    "name": tenant.name, "shard": shard.shard, "slot": slot,
                    "tunnel": slot.map(|slot| IfName::lane(slot, self.generations.present(&of))),
                    "coming": tunnel(Part::Coming), "former": tunnel(Part::Former),
                    "key": key(shard), "gateway": shard.gateway, "inner": shard.inner, "cidrs": tenant.cidrs,
                    "attachments": attachments.get(&of).copied().unwrap_or_default(),
                    "egress": tenant.pools_of(shard.shard),
                })
            })
            .collect();
        json!({
            "node": self.config.node, "backend": self.carrier.name(), "platform_address": self.config.platform.address,
            "tunnel_mtu": self.mtu, "tenants": tenants, "attachments": self.attachments.len(), "userspace": self.path.status(),
            "public_key": self.key.as_ref().map(PrivateKey::public), "directory": self.members.as_ref().map(Members::status),
            "flow_log": self.flow_log.status(self.config.flow_log.as_ref()),
            "left_out": self.left_out.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    fn watched(&self) -> Watched {
        let platform = &self.config.platform;
        let tunnels = self.config.served().flat_map(|(tenant, shard)| {
            let of = tenant.of(shard.shard);
            let slot = self.slots.get(&of);
            self.generations.lanes(&of).into_iter().filter_map(move |lane| Some((IfName::lane(slot?, lane), of.clone())))
        });
        let underlay = [platform.interface.clone()].into();
        Watched { underlay, tunnels: tunnels.collect(), kind: platform.tunnel, carrier: self.carrier }
    }

    fn metrics(&self, out: &mut Page) {
        #[expect(clippy::cast_precision_loss, reason = "at most 65,535")]
        let count = |attachments: usize| attachments as f64;
        out.gauge("portway_attachments", "Attachments that stand", &[], count(self.attachments.len()));
        let attachments = self.attachments.by_shard();
        for of in self.config.served().map(|(tenant, shard)| tenant.of(shard.shard)) {
            let (shard, standing) = (of.shard.to_string(), attachments.get(&of).copied().unwrap_or_default());
            let labels = [("tenant", of.tenant.as_str()), ("shard", shard.as_str())];
            out.gauge("portway_shard_attachments", "Attachments that lead to a shard", &labels, count(standing));
        }
        out.gauge("portway_tunnel_mtu_bytes", "Bytes that a packet inside a tunnel may have", &[], f64::from(self.mtu));
        self.path.metrics(out);
        self.flow_log.metrics(self.config.flow_log.as_ref(), out);
        if let Some(members) = &self.members {
            members.metrics(out);
            #[expect(clippy::cast_precision_loss, reason = "a count of shards is small")]
            out.gauge("portway_left_out", "Tenants and shards of the directory that are not served", &[], self.left_out.len() as f64);
        }
    }

    fn descriptors(&self) -> anyhow::Result<BTreeMap<String, OwnedFd>> {
        let mut all = self.path.descriptors()?;
        if self.carrier == Carrier::Userspace && self.key.is_some() {
            all.extend([self.keyring.descriptor()?]);
        }
        all.extend(self.flow_log.descriptor()?);
        Ok(all)
    }

    async fn retire(&mut self) {}

    async fn stop(&mut self) {
        if let Some(members) = &mut self.members {
            members.stop();
        }
        self.path.stop();
        self.flow_log.stop();
    }
}

/// What packets to a gateway carry: its GRE key, or are sealed for: its public key.
fn key(shard: &HostShard) -> serde_json::Value {
    match shard.tunnel {
        HostTunnel::Gre { key } => json!(key),
        HostTunnel::Wireguard { public_key, .. } => json!(public_key),
    }
}
