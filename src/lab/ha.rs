//! What a group's gateways say about their shards, read at their own sockets.

use super::build::Lab;
use super::error::{Error, Result};
use super::http;
use super::process::poll_until;
use crate::config::Backend;
use nix::sys::signal::Signal;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// For what must come about: an emulated machine takes its time.
const PATIENCE: Duration = Duration::from_secs(30);
/// A daemon that does not answer its socket for this long does not answer it: it hangs.
const HANGS: Duration = Duration::from_secs(3);
/// Between two looks at all gateways.
const LOOK: Duration = Duration::from_millis(50);

/// VRRP's states, and those of a planned move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardState {
    Initialize,
    Backup,
    Active,
    /// Active, and about to be relieved.
    Offering,
    /// No longer Active, and still forwarding.
    Releasing,
}

/// One line of `ha.shards` in `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ShardStatus {
    pub tenant: String,
    pub shard: u16,
    pub state: ShardState,
    /// Seconds that it has been so.
    pub for_s: f64,
    /// A Backup has all of the Active's flows.
    #[serde(default)]
    pub in_sync: Option<bool>,
    /// Connections that are kept for the Active; none: the shard is here, or what was here is being cleared.
    #[serde(default)]
    pub copies: Option<u64>,
    /// The node is no candidate, and keeps what it has for those who are.
    #[serde(default)]
    pub spare: bool,
    /// What an Active knows of its connections.
    #[serde(default)]
    pub nat: serde_json::Value,
    /// Why not: each stream, with how late it is.
    #[serde(default)]
    pub sync: serde_json::Value,
}

/// `ha` in `GET /v1/status` at a socket; `None` when nobody answers.
fn ha_in(socket: &Path) -> Result<Option<serde_json::Value>> {
    let Ok(answer) = http::unix_within(socket, "GET", "/v1/status", None, HANGS) else { return Ok(None) };
    let read = serde_json::from_str::<serde_json::Value>(&answer.body);
    let mut status = read.map_err(|_| unreadable(socket, answer.body))?;
    Ok(Some(status["ha"].take()))
}

fn shards_in(socket: &Path) -> Result<Option<Vec<ShardStatus>>> {
    let Some(mut ha) = ha_in(socket)? else { return Ok(None) };
    serde_json::from_value(ha["shards"].take()).map(Some).map_err(|error| unreadable(socket, error.to_string()))
}

/// Those that say they are Active for a shard.
fn actives<'s>(status: &'s BTreeMap<String, Vec<ShardStatus>>, tenant: &str, shard: u8) -> impl Iterator<Item = &'s String> {
    let mine = move |s: &ShardStatus| s.tenant == tenant && s.shard == u16::from(shard) && s.state == ShardState::Active;
    status.iter().filter(move |(_, shards)| shards.iter().any(mine)).map(|(node, _)| node)
}

/// None: there is no Active, or more than one.
fn the_active<'s>(status: &'s BTreeMap<String, Vec<ShardStatus>>, tenant: &str, shard: u8) -> Option<&'s String> {
    let mut actives = actives(status, tenant, shard);
    actives.next().filter(|_| actives.next().is_none())
}

fn unreadable(socket: &Path, body: String) -> Error {
    Error::Unreadable { what: format!("the status at {}", socket.display()), body }
}

/// Looks at all gateways of a group again and again, those that come later among them.
#[derive(Debug)]
pub struct Watch {
    done: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What was seen in look after look, each of which asks the nodes one after the other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub looks: u64,
    /// The longest that a shard had two Actives.
    pub both: Duration,
    /// The longest that nobody but its Active had a shard's connections.
    pub unguarded: Duration,
}

impl Watch {
    pub fn start(lab: &Lab) -> Self {
        let sockets: Vec<PathBuf> =
            lab.topology.gateways.iter().map(|gateway| lab.dir().runtime(&gateway.node).join("gateway.sock")).collect();
        let done = Arc::new(AtomicBool::new(false));
        let until = done.clone();
        Self { done, thread: std::thread::spawn(move || look(&sockets, &until)) }
    }

    pub fn stop(self) -> Seen {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().expect("looking does not panic")
    }
}

fn look(sockets: &[PathBuf], done: &AtomicBool) -> Seen {
    let (mut seen, mut both, mut unguarded) = (Seen::default(), BTreeMap::new(), BTreeMap::new());
    while !done.load(Ordering::Relaxed) {
        let now = Instant::now();
        let all: Vec<ShardStatus> = sockets.iter().filter_map(|socket| shards_in(socket).ok().flatten()).flatten().collect();
        let mut shards: BTreeMap<(&str, u16), Vec<&ShardStatus>> = BTreeMap::new();
        all.iter().for_each(|shard| shards.entry((&shard.tenant, shard.shard)).or_default().push(shard));
        for ((tenant, shard), at) in shards {
            let of = (tenant.to_owned(), shard);
            let actives = at.iter().filter(|one| one.state == ShardState::Active).count();
            let of_active = at.iter().filter_map(|one| one.nat["connections"].as_u64()).max().unwrap_or_default();
            let guarded = at.iter().any(|one| match one.state {
                // A list that has just begun is no copy.
                ShardState::Backup => one.in_sync == Some(true) || one.copies.is_some_and(|copies| copies > of_active / 2),
                ShardState::Offering | ShardState::Releasing => true,
                ShardState::Initialize | ShardState::Active => false,
            });
            seen.both = seen.both.max(lasting(&mut both, &of, now, actives > 1));
            seen.unguarded = seen.unguarded.max(lasting(&mut unguarded, &of, now, !guarded));
        }
        seen.looks += 1;
        std::thread::sleep(LOOK);
    }
    seen
}

/// For how long it has been so.
fn lasting(since: &mut BTreeMap<(String, u16), Instant>, of: &(String, u16), now: Instant, is: bool) -> Duration {
    if is {
        now - *since.entry(of.clone()).or_insert(now)
    } else {
        since.remove(of);
        Duration::ZERO
    }
}

impl Lab {
    /// What a gateway says of its shards; `None` when it does not answer: it is dead, dark or hangs.
    pub fn shards_at(&self, node: &str) -> Result<Option<Vec<ShardStatus>>> {
        shards_in(&self.socket(node)?)
    }

    /// Has a running gateway take up who is in the group, and who leaves it, as the topology says now.
    pub fn regroup(&mut self, node: &str, backend: Backend) -> Result<()> {
        self.configure_gateway(node, backend)?;
        self.daemon(node)?.process().signal(Signal::SIGHUP)?;
        self.await_group(node)
    }

    /// Waits until a gateway goes by who is in the group, and who leaves it, as the topology says now.
    pub fn await_group(&self, node: &str) -> Result<()> {
        let socket = self.socket(node)?;
        let group = self.topology.group.clone().ok_or_else(|| Error::State("these gateways share nothing".into()))?;
        let members: BTreeSet<String> = self.topology.members().map(|gateway| gateway.node.clone()).collect();
        let names = |value: &serde_json::Value| -> BTreeSet<String> {
            let keys = value.as_object().into_iter().flat_map(|map| map.keys().cloned());
            keys.chain(value.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned))).collect()
        };
        self.with_status(poll_until(&format!("another group at {node}"), PATIENCE, || {
            let ha = ha_in(&socket)?.unwrap_or_default();
            Ok(names(&ha["nodes"]) == members && names(&ha["leaving"]) == group.leaving)
        }))
    }

    /// Every gateway that answers, with its shards.
    pub fn group_status(&self) -> Result<BTreeMap<String, Vec<ShardStatus>>> {
        let mut all = BTreeMap::new();
        for gateway in self.topology.members() {
            if let Some(shards) = self.shards_at(&gateway.node)? {
                all.insert(gateway.node.clone(), shards);
            }
        }
        Ok(all)
    }

    /// The gateways that say they are Active for a shard: one, if all is well.
    pub fn actives(&self, tenant: &str, shard: u8) -> Result<Vec<String>> {
        Ok(actives(&self.group_status()?, tenant, shard).cloned().collect())
    }

    /// The gateway that is Active for a shard; `None` while there is none, or more than one.
    pub fn active(&self, tenant: &str, shard: u8) -> Result<Option<String>> {
        Ok(the_active(&self.group_status()?, tenant, shard).cloned())
    }

    /// Every shard with the one gateway that is Active for it; `None` while that is not so.
    pub fn owners(&self) -> Result<Option<BTreeMap<(String, u8), String>>> {
        let status = self.group_status()?;
        let owner = |tenant: &str, shard: u8| the_active(&status, tenant, shard).cloned();
        let shards = self.topology.group.iter().flat_map(|group| &group.shards);
        Ok(shards.map(|wanted| Some(((wanted.tenant.clone(), wanted.shard), owner(&wanted.tenant, wanted.shard)?))).collect())
    }

    /// Waits until `node`, and nobody else, is Active for a shard.
    pub fn await_active(&self, node: &str, tenant: &str, shard: u8) -> Result<()> {
        let what = format!("{node} as the Active of {tenant}/{shard}");
        self.with_status(poll_until(&what, PATIENCE, || Ok(self.active(tenant, shard)?.as_deref() == Some(node))))
    }

    /// Waits until every shard has one Active and a Backup that has its flows.
    pub fn await_in_sync(&self) -> Result<()> {
        self.with_status(poll_until("every shard in sync", PATIENCE, || self.in_sync()))
    }

    /// Whether every shard has one Active and a Backup that has its flows.
    pub fn in_sync(&self) -> Result<bool> {
        let status = self.group_status()?;
        let mut shards = self.topology.group.iter().flat_map(|g| &g.shards);
        Ok(shards.all(|wanted| {
            let of = |s: &&ShardStatus| s.tenant == wanted.tenant && s.shard == u16::from(wanted.shard);
            let mine: Vec<&ShardStatus> = status.values().flatten().filter(of).collect();
            let actives = mine.iter().filter(|s| s.state == ShardState::Active).count();
            actives == 1 && mine.iter().any(|s| s.state == ShardState::Backup && s.in_sync == Some(true))
        }))
    }

    /// Waits until every shard has exactly one Active.
    pub fn await_owners(&self) -> Result<BTreeMap<(String, u8), String>> {
        let mut found = None;
        let waited = poll_until("one Active for every shard", PATIENCE, || {
            found = self.owners()?;
            Ok(found.is_some())
        });
        self.with_status(waited).map(|()| found.unwrap_or_default())
    }

    /// As [`Lab::await_owners`], and that they have been the same for `still`: after a start, shards move home one by one.
    pub fn await_settled(&self, still: Duration) -> Result<BTreeMap<(String, u8), String>> {
        let (mut found, mut since) = (None, Instant::now());
        let waited = poll_until("shards that stay where they are", PATIENCE + still, || {
            let now = self.owners()?;
            if now.is_none() || now != found {
                (found, since) = (now, Instant::now());
            }
            Ok(found.is_some() && since.elapsed() >= still)
        });
        self.with_status(waited).map(|()| found.unwrap_or_default())
    }

    /// A time-out, with what the gateways say.
    fn with_status(&self, waited: Result<()>) -> Result<()> {
        let status = || self.group_status().map_or_else(|e| e.to_string(), |s| format!("{s:?}"));
        waited.map_err(|error| error.detailed(|| format!("; the gateways say: {}", status())))
    }
}
