//! Asks each gateway for its numbers, again and again.

use super::brain::Brain;
use super::outcomes::Outcomes;
use super::reading::{Incomplete, Reader};
use crate::config;
use crate::daemon::answer;
use crate::model::NodeName;
use crate::proto::roster::Place;
use crate::wire::exposition::Broken;
use anyhow::Context;
use reqwest::Url;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Bytes of a page: a gateway with 10,000 shards and peers stays far below.
const LONGEST: usize = 8 << 20;
/// A gateway that takes longer is as good as silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// A task for each gateway.
#[derive(Debug)]
pub struct Scrapes {
    client: reqwest::Client,
    asked: Mutex<BTreeMap<NodeName, Asked>>,
    pub outcomes: Outcomes<NodeName>,
}

#[derive(Debug)]
struct Asked {
    target: Target,
    every: Duration,
    /// None: nobody knows where it could be asked.
    task: Option<JoinHandle<()>>,
}

/// A gateway that should be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    name: NodeName,
    at: Result<Url, Nowhere>,
}

/// Why a gateway cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Nowhere {
    #[error(
        "it cannot be asked: it tells the directory no address for that; write `admin: ADDRESS:9470` in its file, with an address of it that \
         is reached from here, and start it again"
    )]
    Unsaid,
    #[error("it cannot be asked: where it was is {0} by now; is it gone? `portway directory gateway rm` says so")]
    Taken(NodeName),
    #[error("it cannot be asked at {0}")]
    Unusable(String),
}

impl From<&config::Scraped> for Target {
    fn from(scraped: &config::Scraped) -> Self {
        Self { name: scraped.name.clone(), at: Ok(scraped.metrics.clone()) }
    }
}

impl From<(NodeName, Place)> for Target {
    /// Of what a gateway says an address and a port are believed, and no more.
    fn from((name, place): (NodeName, Place)) -> Self {
        let at = match place {
            Place::At(at) => Url::parse(&format!("http://{at}/metrics")).map_err(|_| Nowhere::Unusable(at.to_string())),
            Place::Unsaid => Err(Nowhere::Unsaid),
            Place::Taken(by) => Err(Nowhere::Taken(by)),
        };
        Self { name, at }
    }
}

impl Scrapes {
    pub fn new() -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).no_proxy();
        let client = client.build().context("cannot make an HTTP client")?;
        Ok(Self { client, asked: Mutex::default(), outcomes: Outcomes::default() })
    }

    /// Exactly these from now on. Who stays as it was goes on.
    pub fn replace(&self, targets: impl Iterator<Item = Target>, every: Duration, brain: &Arc<Brain>) {
        let mut asked = self.asked();
        let mut old = std::mem::take(&mut *asked);
        for target in targets {
            let former = old.remove(&target.name);
            let same = former.as_ref().is_some_and(|former| former.target == target && former.every == every);
            former.iter().filter(|_| !same).for_each(Asked::end);
            let now = former.filter(|_| same).unwrap_or_else(|| self.begin(target, every, brain));
            asked.insert(now.target.name.clone(), now);
        }
        old.values().for_each(Asked::end);
        self.outcomes.retain(|name| asked.contains_key(name));
    }

    fn begin(&self, target: Target, every: Duration, brain: &Arc<Brain>) -> Asked {
        let task = match &target.at {
            Ok(at) => {
                let (client, name, at) = (self.client.clone(), target.name.clone(), at.clone());
                Some(tokio::spawn(ask(client, name, at, every, brain.clone(), self.outcomes.clone())))
            }
            Err(nowhere) => {
                self.outcomes.tell(&target.name, Err(nowhere));
                None
            }
        };
        Asked { target, every, task }
    }

    pub async fn stop(&self) {
        let all = std::mem::take(&mut *self.asked());
        for task in all.into_values().filter_map(|asked| asked.task) {
            task.abort();
            // Aborted, or ended by itself: it has ended.
            let _ = task.await;
        }
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<NodeName, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    fn end(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn ask(client: reqwest::Client, name: NodeName, at: Url, every: Duration, brain: Arc<Brain>, outcomes: Outcomes<NodeName>) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reader = Reader::default();
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        let result = async {
            let page = page(&client, &at).await?;
            let read = reader.read(&page);
            brain.carries(&name, read.as_ref().ok().and_then(|read| read.load));
            let sample = read.map_err(Failure::Broken)?.sample.map_err(Failure::Incomplete)?;
            brain.read(&name, sample).map_err(|error| Failure::Refused(error.to_string()))?;
            Ok::<_, Failure>(asked.elapsed())
        };
        outcomes.tell(&name, result.await);
    }
}

async fn page(client: &reqwest::Client, at: &Url) -> Result<String, Failure> {
    let request = client.get(at.clone()).header("accept", "application/openmetrics-text; version=1.0.0");
    let unreachable = |error: reqwest::Error| Failure::Unreachable(error.without_url().into());
    let response = request.send().await.map_err(unreachable)?;
    if !response.status().is_success() {
        return Err(Failure::Status(response.status().as_u16()));
    }
    let bytes = answer::whole(response, LONGEST).await.map_err(unreachable)?.ok_or(Failure::TooLong)?;
    String::from_utf8(bytes).map_err(|_| Failure::NoText)
}

/// Why a gateway is not known better.
#[derive(Debug)]
enum Failure {
    Unreachable(anyhow::Error),
    Status(u16),
    TooLong,
    NoText,
    Broken(Broken),
    Incomplete(Incomplete),
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable(error) => write!(f, "it does not answer ({error:#}): is its `admin` address reachable from here?"),
            Failure::Status(status) => write!(f, "it answers with {status}: does the URL end in /metrics of a gateway?"),
            Failure::TooLong => write!(f, "its page has more than {LONGEST} bytes: is it a gateway's?"),
            Failure::NoText => write!(f, "its page is not UTF-8: is it a gateway's?"),
            Failure::Broken(broken) => write!(f, "its page is none of metrics, {broken}: is it a gateway's?"),
            Failure::Incomplete(incomplete) => incomplete.fmt(f),
            Failure::Refused(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_asked_at_its_address_and_nowhere_else() {
        let target = |place| Target::from(("gw-1".parse().unwrap(), place)).at;
        for (at, url) in [("10.9.0.1:9470", "http://10.9.0.1:9470/metrics"), ("[2001:db8::1]:80", "http://[2001:db8::1]/metrics")] {
            assert_eq!(target(Place::At(at.parse().unwrap())).unwrap().as_str(), url);
        }
        assert!(target(Place::Unsaid).unwrap_err().to_string().contains("write `admin: ADDRESS:9470` in its file"));
        assert!(target(Place::Taken("gw-2".parse().unwrap())).unwrap_err().to_string().contains("is gw-2 by now"));
    }
}
