//! `portway gateway`: the node at a tenant VPC's edge.

use crate::config::{self, Config, Gateway, Platform, StaticPeer, TunnelKind};
use crate::daemon::carrier::{self, Path};
use crate::daemon::flow_log as log;
use crate::daemon::keyring::{self, Keyring};
use crate::daemon::meter::Watched;
use crate::daemon::names::Names;
use crate::daemon::over::Over;
use crate::daemon::reconcile::{Refused, Role};
use crate::daemon::store::Store;
use crate::daemon::{self, Place};
use crate::kernel::Kernel;
use crate::metrics::Page;
use crate::model::{Lane, Slot, TenantShard};
use crate::plan::facts::Facts;
use crate::plan::flows::Terms;
use crate::plan::gateway::ends::{Ends, Keys};
use crate::plan::gateway::{Carrier, Inputs, desired, recover_peers, shards};
use crate::plan::slots::{Numbers, Slots};
use crate::plan::{NftTable, Route, Ruleset, State, Sysctl, SysctlKey};
use anyhow::Context;
use ha::Group;
use ipnet::IpNet;
use joining::Joining;
use peers::Peers;
use sessions::Sessions;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use strangers::Strangers;
use tokio::sync::Notify;

pub mod api;
#[cfg(feature = "aws")]
mod attach;
mod ending;
mod flow_log;
mod flows;
pub mod ha;
pub mod jit;
mod joining;
pub mod members;
mod peering;
pub mod peers;
pub mod registry;
pub mod sessions;
mod show;
pub mod stamps;
mod strangers;
mod tunnels;

/// A gateway's part of the daemon.
#[derive(Debug)]
pub struct Node {
    file: PathBuf,
    config: Gateway,
    carrier: Carrier,
    /// The kernel can send copies of packets to neighbours, and there are sessions to need it.
    copies: bool,
    slots: Slots,
    peers: Peers,
    /// The number of each peer, by its outer address.
    numbers: Numbers<IpAddr>,
    /// With WireGuard, each shard's.
    keys: BTreeMap<TenantShard, Keys>,
    /// The interfaces that have them.
    ends: Ends,
    /// By which of its shard's an earlier process sent to each prefix.
    led: Led,
    /// Where a successor finds them.
    keyring: Keyring,
    /// What a predecessor has told of them.
    told: keyring::Keys,
    store: Store<StaticPeer>,
    recovered: bool,
    path: Path,
    mtu: u32,
    over: Over,
    /// What the group, which has yet to learn that it is over, may begin anew.
    over_again: Over,
    /// What the connections of these zones have to comply with, not yet looked at.
    terms: Vec<(u16, Terms)>,
    /// The rules that should stand, without their text.
    ruleset: Option<Ruleset>,
    /// How often peers or the configuration changed.
    revision: u64,
    group: Group,
    /// Where the directory says who is in it.
    joining: Option<Joining>,
    /// With WireGuard peers.
    sessions: Sessions,
    /// Peers that nobody has configured.
    strangers: Strangers,
    /// Interfaces that this node takes itself.
    #[cfg(feature = "aws")]
    attachments: attach::Attachments,
    /// The fence that should stand, without its text.
    fence: Option<Ruleset>,
    /// It did not stand as it should: leases may be gone with it.
    fence_was_lost: bool,
    /// The group has yet to learn of a change of the configuration.
    regroup: bool,
    flow_log: log::FlowLog,
    /// Whose connections it tells of.
    origins: Arc<flow_log::Origins>,
    /// Once the daemon runs.
    kernel: Option<Arc<Kernel>>,
}

/// Runs until a signal or a successor ends it.
pub async fn run(file: PathBuf, config: Gateway) -> anyhow::Result<ExitCode> {
    let place = Place { runtime_dir: config.runtime_dir.clone(), admin: config.admin, names: Names::new(config.admin_names.clone()) };
    daemon::run(Node::new(file, config)?, place, api::routes).await
}

impl Node {
    pub fn new(file: PathBuf, mut config: Gateway) -> anyhow::Result<Self> {
        let store = Store::open(&config.runtime_dir, Self::KEEPS)
            .with_context(|| format!("cannot use `runtime_dir` {}", config.runtime_dir.display()))?;
        let peers = Peers::configured(std::mem::take(&mut config.peers));
        let joining = Joining::of(&mut config);
        let keys = tunnels::read_keys(&config)?;
        Ok(Self {
            file,
            config,
            carrier: Carrier::Userspace,
            copies: false,
            slots: Slots::default(),
            peers,
            numbers: Numbers::new(u16::MAX),
            keys,
            ends: Ends::default(),
            led: Led::new(),
            keyring: Keyring::new()?,
            told: keyring::Keys::new(),
            store,
            recovered: false,
            path: Path::default(),
            mtu: 0,
            over: Over::default(),
            over_again: Over::default(),
            terms: Vec::new(),
            ruleset: None,
            revision: 0,
            group: Group::default(),
            joining,
            sessions: Sessions::default(),
            strangers: Strangers::default(),
            #[cfg(feature = "aws")]
            attachments: attach::Attachments::default(),
            fence: None,
            fence_was_lost: false,
            regroup: false,
            flow_log: log::FlowLog::default(),
            origins: Arc::default(),
            kernel: None,
        })
    }

    /// Takes part in the group, once; or tells it what has changed.
    fn regroup(&mut self) -> anyhow::Result<()> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        if self.config.ha.is_none() {
            // Alone.
        } else if !self.group.is_running() {
            let used = self.strangers.all_used(&shards(&self.config));
            self.group
                .start(&self.config, self.carrier, &self.slots, kernel, self.sessions.orders(), used)
                .context("cannot take part in the group of gateways")?;
        } else if self.regroup {
            self.group
                .change(&self.config, self.carrier, &self.slots, self.strangers.used())
                .context("the group of gateways cannot be changed")?;
        }
        #[cfg(feature = "aws")]
        {
            self.group.follow_cloud(&self.config, kernel);
            self.watch_lifecycle();
        }
        self.regroup = false;
        Ok(())
    }

    /// Shards that others have meanwhile, with all connections.
    fn let_go_of_the_retained(&mut self) {
        let Some(ha) = &mut self.config.ha else { return };
        let (before, board) = (ha.retained.len(), self.group.board());
        let (holds, relieved) = (board.holds(), board.relieved());
        ha.retained.retain(|of| holds.contains(of) || !relieved.contains(of));
        self.regroup |= ha.retained.len() != before;
    }

    /// An earlier process may have kept shards that this node is no candidate of.
    fn retain_what_stands(&mut self) {
        let Some(ha) = &mut self.config.ha else { return };
        let configured: BTreeSet<TenantShard> =
            self.config.tenants.iter().flat_map(|tenant| tenant.shards.iter().map(|shard| tenant.of(shard.shard))).collect();
        let standing = self.slots.iter().map(|(of, _)| of).filter(|of| configured.contains(*of));
        ha.retain(&self.config.node, standing.cloned());
    }

    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Slots and numbers of an earlier process, from what it left standing.
    fn recover(&mut self, observed: &State) {
        if !self.recovered {
            self.slots = Slots::recover(observed.links.iter().map(|(name, link)| (name, link.alias.as_str())));
            self.retain_what_stands();
            self.numbers = recover_peers(observed);
            let told = std::mem::take(&mut self.told).into_iter().map(|(name, (key, _, at))| (name, (key, at.port()))).collect();
            self.ends = Ends::recover(observed, &self.slots, &told);
            self.led = led(observed, &self.slots);
            self.recovered = true;
            self.terms.extend(self.terms_found());
        }
    }
}

impl Role for Node {
    const NAME: &'static str = "gateway";
    const KEEPS: &'static str = "peers";

    fn take_up_stored(&mut self) -> anyhow::Result<()> {
        let (stored, unreadable) = self.store.load().context("cannot read the stored peers")?;
        for (path, reason) in unreadable {
            tracing::error!("{} is not a peer ({reason}): add it anew and remove the file", path.display());
        }
        adopt(&mut self.peers, &self.config, stored);
        Ok(())
    }

    async fn choose_carrier(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        self.carrier = carrier::choose(self.config.backend, self.config.platform.tunnel, kernel).await?;
        self.copies = self.config.platform.tunnel == TunnelKind::Wireguard && kernel.can_copy().await?;
        Ok(())
    }

    async fn start(&mut self, kernel: &Arc<Kernel>, inherited: &mut BTreeMap<String, OwnedFd>) -> anyhow::Result<()> {
        ha::check(&self.config).context("cannot take part in the group of gateways")?;
        self.kernel = Some(kernel.clone());
        self.flow_log.open(self.config.flow_log.as_ref(), inherited);
        self.choose_carrier(kernel).await?;
        self.told = Keyring::inherit(inherited);
        let facts = kernel.facts().await?;
        let observed = kernel.observe(&self.interest()).await?;
        self.desired(&facts, &observed)?;
        self.path = Path::start(self.carrier, inherited, &self.tunnels(), &self.config.runtime_dir)?;
        self.start_sessions(kernel)
    }

    fn carry(&mut self) -> anyhow::Result<()> {
        self.find_strangers();
        self.path.begin()?;
        // Whom a predecessor had let in is not to wait for a pass.
        self.sessions.orders().send(self.served());
        Ok(())
    }

    async fn succeed(&mut self) -> anyhow::Result<()> {
        // The predecessor's rules stand. It is gone: what fails now is tried again by the passes.
        if let Err(error) = self.regroup() {
            tracing::error!("{error:#}");
        }
        Ok(())
    }

    fn again(&self) -> Arc<Notify> {
        self.group.board().again.clone()
    }

    fn due(&self) -> Option<Instant> {
        self.ends.due().into_iter().chain(self.joining.as_ref().and_then(Joining::due)).min()
    }

    fn revision(&self) -> u64 {
        self.revision + *self.group.board().changes().borrow()
    }

    fn interest(&self) -> BTreeSet<Sysctl> {
        let interfaces = self.config.tenants.iter().map(|tenant| &tenant.interface);
        let of_tenants = interfaces.flat_map(|interface| SysctlKey::OF_INTERFACE.map(|key| Sysctl { interface: interface.clone(), key }));
        let shared = self.config.ha.iter().map(|_| Sysctl::tcp_be_liberal());
        of_tenants.chain([Sysctl::fwmark_reflect()]).chain(shared).chain(log::settings(self.config.flow_log.as_ref())).collect()
    }

    fn desired(&mut self, facts: &Facts, observed: &State) -> anyhow::Result<State> {
        self.recover(observed);
        self.take_up_group();
        self.let_go_of_the_retained();
        self.group.look(facts);
        self.over.slots(self.slots.assign(&shards(&self.config))?);
        self.name_zones();
        let hosts: Vec<&StaticPeer> = self.peers.iter().map(|(peer, _)| peer).collect();
        let outers: Vec<IpAddr> = hosts.iter().filter_map(|peer| peer.outer()).collect();
        self.numbers.assign(&outers)?;
        let served = shards(&self.config).into_iter().collect::<BTreeSet<_>>();
        let keys = self.keys.iter().filter(|(of, _)| served.contains(*of)).map(|(of, keys)| (of.clone(), keys.clone()));
        self.ends.want(keys, Instant::now());
        let (config, slots, holds) = (&self.config, &self.slots, self.group.board().holds());
        let known = &self.peers;
        let admitted = self.strangers.admitted(|of, key| known.is_at(of, key));
        let heard = self.heard(&hosts, &admitted);
        let (carrier, copies, peers, ends) = (self.carrier, self.copies, &self.numbers, &self.ends);
        let inputs =
            Inputs { config, carrier, facts, copies, hosts: &hosts, slots, peers, ends, heard: &heard, holds: &holds, admitted: &admitted };
        self.mtu = facts.tunnel_mtu(&self.config.platform);
        let mut desired = desired(&inputs);
        self.flow_log.want(self.config.flow_log.as_ref(), observed, &mut desired);
        let without_text = |table| desired.tables.get(&table).map(|ruleset: &Ruleset| Ruleset::observed(ruleset.revision()));
        self.fence_was_lost |= desired.tables.get(&NftTable::Netdev) != observed.tables.get(&NftTable::Netdev);
        (self.ruleset, self.fence) = (without_text(NftTable::Inet), without_text(NftTable::Netdev));
        Ok(desired)
    }

    async fn follow(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        self.log_flows();
        let tunnels = self.tunnels();
        self.keep_keys()?;
        // What fails does not keep the rest from following: one tenant's tunnel is not the group's business.
        let followed = self.path.follow(&tunnels, kernel).await;
        self.recall();
        self.sessions.orders().send(self.served());
        if self.strangers.registry().is_some() {
            self.strangers.passed(self.peers.keys_by_shard());
        }
        // An address without its fence could not be taken away from a daemon that hangs.
        let regrouped = match &self.fence {
            Some(fence) if kernel.has_ruleset(NftTable::Netdev, fence).await => {
                if std::mem::take(&mut self.fence_was_lost) {
                    self.group.renew();
                }
                self.regroup()
            }
            // No address is here that would need one.
            None if self.group.is_running() && self.config.shared().next().is_none() => self.regroup(),
            _ => Ok(()),
        };
        // Packets that the data path still lets through, and copies for a group that does not know, would only begin anew what ends here.
        let ended = self.end_the_freed(kernel).await;
        let complied = if followed.is_ok() { self.end_the_changed(kernel).await } else { Ok(()) };
        self.tell_what_is_in_force();
        #[cfg(feature = "aws")]
        self.take_or_let_go();
        followed.and(regrouped).and(ended).and(complied)
    }

    fn reload(&mut self) -> Result<(), Refused> {
        self.flow_log.reopen();
        match config::load(&self.file) {
            Ok(Config::Gateway(mut new)) => {
                let kept = differs(&self.config, &new);
                if !kept.is_empty() {
                    return Err(Refused::until_start(&format!("{} is", kept.join(", "))));
                }
                if let Some(joining) = &self.joining {
                    joining.apply(&mut new);
                }
                if let (Some(old), Some(ha)) = (&self.config.ha, &mut new.ha) {
                    let served = self.config.shared().map(|(tenant, shard)| tenant.of(shard.shard));
                    ha.retain(&new.node, served.filter(|_| self.group.is_running()));
                    self.regroup |= old != ha;
                }
                self.keys = tunnels::read_keys(&new).map_err(|error| format!("{error:#}"))?;
                self.regroup |= new.tenants != self.config.tenants;
                let added = self.peers.iter().filter(|(_, configured)| !configured).map(|(peer, _)| peer.clone()).collect();
                let peers = known(&mut new, added);
                self.terms.extend(self.terms_changed(&new, &peers));
                self.peers = peers;
                self.config = new;
                self.strangers.reload(&self.config, &self.keys);
                self.revision += 1;
                Ok(())
            }
            Ok(Config::Host(_) | Config::Directory(_) | Config::Autoscaler(_)) => {
                Err(format!("{} has become another role's configuration", self.file.display()).into())
            }
            Err(faults) => Err(faults.to_string().into()),
        }
    }

    fn status(&self) -> serde_json::Value {
        self.show()
    }

    fn watched(&self) -> Watched {
        self.interfaces()
    }

    fn metrics(&self, out: &mut Page) {
        self.measure(out);
    }

    async fn write_down(&mut self) {
        self.strangers.write_down().await;
    }

    fn descriptors(&self) -> anyhow::Result<BTreeMap<String, OwnedFd>> {
        let mut all = self.path.descriptors()?;
        if self.carrier == Carrier::Userspace && !self.keys.is_empty() {
            all.extend([self.keyring.descriptor()?]);
        }
        all.extend(self.flow_log.descriptor()?);
        Ok(all)
    }

    async fn retire(&mut self) {
        #[cfg(feature = "aws")]
        let goes = self.leaves() || self.group.end().0;
        if tokio::time::timeout(ha::patience(&self.config), self.group.retire()).await.is_err() {
            tracing::warn!("some HaVips could not be handed over in time");
        }
        #[cfg(feature = "aws")]
        if goes {
            self.attachments.let_go().await;
        }
        if let Some(registry) = self.leaves_for_good() {
            registry.leave_the_group().await;
        }
    }

    async fn stop(&mut self) {
        #[cfg(feature = "aws")]
        self.attachments.stop();
        self.group.stop();
        self.strangers.stop().await;
        self.sessions.stop();
        self.path.stop();
        self.flow_log.stop();
    }
}

/// The ways to inner addresses that stand.
type Led = BTreeMap<TenantShard, BTreeMap<IpNet, Lane>>;

fn led(observed: &State, slots: &Slots) -> Led {
    let owners: BTreeMap<Slot, &TenantShard> = slots.iter().map(|(of, slot)| (slot, of)).collect();
    let mut led = Led::new();
    for (key, route) in &observed.routes {
        let Route::Unicast { interface, .. } = route else { continue };
        let Some((slot, lane)) = interface.slot() else { continue };
        if let Some(of) = owners.get(&slot).filter(|_| slot.table() == key.table) {
            led.entry((*of).clone()).or_default().insert(key.destination, lane);
        }
    }
    led
}

/// What is taken up at a start only, and is not as it was.
fn differs(old: &Gateway, new: &Gateway) -> Vec<&'static str> {
    // Of the group's sockets, one listens where advertisements go, the other at its port; the rules let just these in.
    let of_ha = |config: &Gateway| config.ha.as_ref().map(|ha| (ha.cast, ha.sync_port));
    let by_directory = |config: &Gateway| config.ha.as_ref().is_some_and(|ha| ha.by_directory());
    let (cast, port) = of_ha(old).zip(of_ha(new)).map_or((false, false), |(old, new)| (old.0 != new.0, old.1 != new.1));
    let all = [
        ("`node`", old.node != new.node),
        ("`tunnel`", old.platform.tunnel != new.platform.tunnel),
        ("`platform`", Platform { tunnel: new.platform.tunnel, ..old.platform.clone() } != new.platform),
        ("`backend`", old.backend != new.backend),
        ("`runtime_dir`", old.runtime_dir != new.runtime_dir),
        ("`admin`", old.admin != new.admin),
        ("`admin_names`", old.admin_names != new.admin_names),
        ("whether there is `ha`", old.ha.is_some() != new.ha.is_some()),
        ("whether `ha.nodes` is `directory`", by_directory(old) != by_directory(new)),
        ("`ha.cast`", cast),
        ("`ha.sync_port`", port),
        ("`directory`", old.directory != new.directory),
    ];
    all.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// The peers of a configuration, which are taken out of it, and those that were added besides.
fn known(config: &mut Gateway, added: Vec<StaticPeer>) -> Peers {
    let mut peers = Peers::configured(std::mem::take(&mut config.peers));
    adopt(&mut peers, config, added);
    peers
}

fn adopt(peers: &mut Peers, config: &Gateway, added: Vec<StaticPeer>) {
    for (name, refusal) in peers.adopt(config, added) {
        tracing::error!("peer {name}, which was added while the gateway ran, is left out: {refusal}");
    }
}
