//! Alertmanager's webhook, version 4 (Prometheus documentation, "Alerting: Configuration", `webhook_config`).
//!
//! What an alert asks for is written in its rule:
//!
//! ```yaml
//! - alert: GatewaysNearTheirLimit
//!   expr: avg(portway_utilisation) > 0.7
//!   for: 2m
//!   labels:
//!     portway: scale-out        # one node more than there were when it began to fire
//! - alert: SaleBegins
//!   expr: ...
//!   annotations:
//!     portway_nodes: "6"        # six nodes at least, as long as it fires
//! ```
//!
//! Either is a label or an annotation; if `portway_nodes` is there, it counts. An alert with neither asks for nothing. Alertmanager sends all firing
//! alerts of a group again and again, and what it sends may be late or overtaken: [`Order`] tells what is old, and makes levels of the rest.

mod history;
mod order;

pub use history::History;
pub use order::{ENDED, Heard, LASTS, Order};

use super::{Body, NODES, Refusal, Source, Stamp, Subject, shown};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

/// The label or annotation with a number of nodes.
const ASKS_NODES: &str = "portway_nodes";
/// The label or annotation for one more.
const ASKS_MORE: &str = "portway";
const ONE_MORE: &str = "scale-out";

const VERSION: &str = "4";
/// Bytes of an alert's name that are kept.
const NAME: usize = 80;

/// What an alert is known by: a hash of its labels, as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Fingerprint(pub u64);

impl TryFrom<String> for Fingerprint {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let read = u64::from_str_radix(&text, 16).ok().filter(|_| digits);
        read.map(Self).ok_or_else(|| format!("{text:?} is no fingerprint, which has 16 hexadecimal digits"))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a firing alert asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// This many nodes at least.
    Nodes(u32),
    /// One more than there were when it began to fire.
    OneMore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Whatever `endsAt` says: Alertmanager leaves it at year 1 as long as the alert fires.
    Firing(Option<Ask>),
    Resolved,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub fingerprint: Fingerprint,
    pub state: State,
    pub starts_at: SystemTime,
    /// When it ended; none while it fires.
    pub ends_at: Option<SystemTime>,
    pub labels: BTreeMap<String, String>,
}

impl Alert {
    /// What to call it before people: the label `alertname`, not too much of it.
    pub fn name(&self) -> String {
        let mut name = shown(self.labels.get("alertname").map_or("", String::as_str));
        name.truncate(name.floor_char_boundary(NAME));
        name
    }

    pub fn source(&self) -> Source {
        Source::new(format!("alert/{}/{}", self.name(), self.fingerprint))
    }
}

/// One post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Which group of alerts it is about, as Alertmanager's configuration makes them.
    group: String,
    pub alerts: Vec<Alert>,
    /// Alerts that were left out by `max_alerts` of Alertmanager's configuration. What is left out each time lapses here, so a number other than 0
    /// is worth a warning.
    pub truncated: u64,
    /// Firing alerts that ask for something that cannot be had. The others count nevertheless: Alertmanager does not send again
    /// what was refused.
    pub unread: Vec<Refusal>,
}

/// As it is sent. Unknown keys are ignored: there are more with every release. URLs in it are not even read.
#[derive(Deserialize)]
struct Sent {
    #[serde(default, rename = "groupKey")]
    group: String,
    alerts: Vec<SentAlert>,
    #[serde(default, rename = "truncatedAlerts")]
    truncated: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentAlert {
    status: Status,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: Stamp,
    ends_at: Option<Stamp>,
    fingerprint: Fingerprint,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Firing,
    Resolved,
}

/// Read first, so that another version is told from a body that is wrong.
#[derive(Deserialize)]
struct Versioned {
    version: String,
}

impl Notification {
    pub fn parse(body: Body<'_>) -> Result<Self, Refusal> {
        let what = "a notification of Alertmanager";
        let Versioned { version } = body.json(what)?;
        if version != VERSION {
            return Err(Refusal::WrongVersion { what, found: shown(&version), known: "version \"4\", as Alertmanager does since 0.6" });
        }
        let sent: Sent = body.json(what)?;
        let alerts = Vec::with_capacity(sent.alerts.len());
        let mut notification = Self { group: sent.group, alerts, truncated: sent.truncated, unread: vec![] };
        for alert in sent.alerts {
            match alert.read() {
                Ok(alert) => notification.alerts.push(alert),
                Err(refusal) => notification.unread.push(refusal),
            }
        }
        Ok(notification)
    }

    /// The group, of which Alertmanager sends one notification after the other.
    pub fn subject(&self) -> Subject {
        let hash = Sha256::digest(&self.group);
        Subject::new(hash.iter().take(8).fold("alerts/".to_owned(), |text, byte| format!("{text}{byte:02x}")))
    }
}

impl SentAlert {
    fn read(self) -> Result<Alert, Refusal> {
        let state = match self.status {
            Status::Firing => State::Firing(self.ask()?),
            Status::Resolved => State::Resolved,
        };
        let ends_at = self.ends_at.filter(|_| state == State::Resolved).map(|stamp| stamp.0);
        Ok(Alert { fingerprint: self.fingerprint, state, starts_at: self.starts_at.0, ends_at, labels: self.labels })
    }

    fn ask(&self) -> Result<Option<Ask>, Refusal> {
        let written = |key: &str| self.annotations.get(key).or_else(|| self.labels.get(key));
        if let Some(text) = written(ASKS_NODES) {
            let nodes = text.parse().ok().filter(|nodes| NODES.contains(nodes));
            return nodes.map(|nodes| Some(Ask::Nodes(nodes))).ok_or_else(|| {
                self.invalid(format!("{ASKS_NODES}: {text:?} is no number of nodes: write {} to {}", NODES.start(), NODES.end()))
            });
        }
        match written(ASKS_MORE) {
            None => Ok(None),
            Some(text) if text == ONE_MORE => Ok(Some(Ask::OneMore)),
            Some(text) => Err(self.invalid(format!("{ASKS_MORE}: {text:?} is nothing to ask for: write {ONE_MORE}"))),
        }
    }

    fn invalid(&self, what: String) -> Refusal {
        let name = self.labels.get("alertname").map_or("", String::as_str);
        Refusal::Invalid(shown(&format!("the alert {name:?}: {what}")))
    }
}

#[cfg(test)]
mod tests;
