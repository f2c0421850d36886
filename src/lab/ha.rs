//! What a group's gateways say about their shards, read at their own sockets.

use super::build::Lab;
use super::error::{Error, Result};
use super::http;
use super::process::poll_until;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// For what must come about: an emulated machine takes its time.
const PATIENCE: Duration = Duration::from_secs(30);
/// A daemon that does not answer its socket for this long does not answer it: it hangs.
const HANGS: Duration = Duration::from_secs(3);

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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ShardStatus {
    pub tenant: String,
    pub shard: u16,
    pub state: ShardState,
    /// A Backup has all of the Active's flows.
    #[serde(default)]
    pub in_sync: Option<bool>,
    /// Why not: each stream, with how late it is.
    #[serde(default)]
    pub sync: serde_json::Value,
}

impl Lab {
    /// What a gateway says of its shards; `None` when it does not answer: it is dead, dark or hangs.
    pub fn shards_at(&self, node: &str) -> Result<Option<Vec<ShardStatus>>> {
        let Ok(answer) = http::unix_within(&self.socket(node)?, "GET", "/v1/status", None, HANGS) else { return Ok(None) };
        let unreadable = || Error::Unreadable { what: format!("the status of {node}"), body: answer.body.clone() };
        let mut status: serde_json::Value = serde_json::from_str(&answer.body).map_err(|_| unreadable())?;
        serde_json::from_value(status["ha"]["shards"].take()).map(Some).map_err(|_| unreadable())
    }

    /// Every gateway that answers, with its shards.
    pub fn group_status(&self) -> Result<BTreeMap<String, Vec<ShardStatus>>> {
        let mut all = BTreeMap::new();
        for gateway in &self.topology.gateways {
            if let Some(shards) = self.shards_at(&gateway.node)? {
                all.insert(gateway.node.clone(), shards);
            }
        }
        Ok(all)
    }

    /// The gateways that say they are Active for a shard: one, if all is well.
    pub fn actives(&self, tenant: &str, shard: u8) -> Result<Vec<String>> {
        let mine = |shards: &[ShardStatus]| {
            shards.iter().any(|s| s.tenant == tenant && s.shard == u16::from(shard) && s.state == ShardState::Active)
        };
        Ok(self.group_status()?.into_iter().filter(|(_, shards)| mine(shards)).map(|(node, _)| node).collect())
    }

    /// The gateway that is Active for a shard; `None` while there is none, or more than one.
    pub fn active(&self, tenant: &str, shard: u8) -> Result<Option<String>> {
        let actives = self.actives(tenant, shard)?;
        Ok(<[String; 1]>::try_from(actives).ok().map(|[one]| one))
    }

    /// Every shard with the one gateway that is Active for it; `None` while that is not so.
    pub fn owners(&self) -> Result<Option<BTreeMap<(String, u8), String>>> {
        let shards: Vec<(String, u8)> = self.topology.group.iter().flat_map(|g| &g.shards).map(|s| (s.tenant.clone(), s.shard)).collect();
        shards.into_iter().map(|s| Ok(self.active(&s.0, s.1)?.map(|node| (s, node)))).collect()
    }

    /// Waits until `node`, and nobody else, is Active for a shard.
    pub fn await_active(&self, node: &str, tenant: &str, shard: u8) -> Result<()> {
        let what = format!("{node} as the Active of {tenant}/{shard}");
        self.with_status(poll_until(&what, PATIENCE, || Ok(self.active(tenant, shard)?.as_deref() == Some(node))))
    }

    /// Waits until every shard has one Active and a Backup that has its flows.
    pub fn await_in_sync(&self) -> Result<()> {
        self.with_status(poll_until("every shard in sync", PATIENCE, || {
            let status = self.group_status()?;
            let shards = self.topology.group.iter().flat_map(|g| &g.shards);
            Ok(shards.into_iter().all(|wanted| {
                let of = |s: &&ShardStatus| s.tenant == wanted.tenant && s.shard == u16::from(wanted.shard);
                let mine: Vec<&ShardStatus> = status.values().flatten().filter(of).collect();
                let actives = mine.iter().filter(|s| s.state == ShardState::Active).count();
                actives == 1 && mine.iter().any(|s| s.state == ShardState::Backup && s.in_sync == Some(true))
            }))
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
