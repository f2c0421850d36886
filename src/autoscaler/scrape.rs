//! Asks each gateway for its numbers, again and again.

use super::brain::Brain;
use super::outcomes::Outcomes;
use super::reading::{Incomplete, Reader};
use crate::config;
use crate::daemon::answer;
use crate::model::NodeName;
use crate::wire::exposition::Broken;
use anyhow::Context;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
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
    asked: BTreeMap<NodeName, Asked>,
    pub outcomes: Outcomes<NodeName>,
}

#[derive(Debug)]
struct Asked {
    target: config::Scraped,
    every: Duration,
    task: JoinHandle<()>,
}

impl Scrapes {
    pub fn start(config: &config::Autoscaler, brain: &Arc<Brain>) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).no_proxy();
        let client = client.build().context("cannot make an HTTP client")?;
        let mut scrapes = Self { client, asked: BTreeMap::new(), outcomes: Outcomes::default() };
        scrapes.replace(config, brain);
        Ok(scrapes)
    }

    /// Exactly those of the configuration from now on. Who stays as it was goes on.
    pub fn replace(&mut self, config: &config::Autoscaler, brain: &Arc<Brain>) {
        let mut old = std::mem::take(&mut self.asked);
        for target in &config.gateways {
            let every = config.scrape;
            let stays = old.remove(&target.name).filter(|asked| asked.target == *target && asked.every == every);
            let asked = stays.unwrap_or_else(|| Asked {
                task: tokio::spawn(ask(self.client.clone(), target.clone(), every, brain.clone(), self.outcomes.clone())),
                target: target.clone(),
                every,
            });
            self.asked.insert(target.name.clone(), asked);
        }
        old.values().for_each(|asked| asked.task.abort());
        self.outcomes.retain(|name| self.asked.contains_key(name));
    }

    pub async fn stop(&mut self) {
        for (_, asked) in std::mem::take(&mut self.asked) {
            asked.task.abort();
            // Aborted, or ended by itself: it has ended.
            let _ = asked.task.await;
        }
    }
}

async fn ask(client: reqwest::Client, target: config::Scraped, every: Duration, brain: Arc<Brain>, outcomes: Outcomes<NodeName>) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reader = Reader::default();
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        let result = async {
            let page = page(&client, &target).await?;
            let read = reader.read(&page);
            brain.carries(&target.name, read.as_ref().ok().and_then(|read| read.load));
            let sample = read.map_err(Failure::Broken)?.sample.map_err(Failure::Incomplete)?;
            brain.read(&target.name, sample).map_err(|error| Failure::Refused(error.to_string()))?;
            Ok::<_, Failure>(asked.elapsed())
        };
        outcomes.tell(&target.name, result.await);
    }
}

async fn page(client: &reqwest::Client, target: &config::Scraped) -> Result<String, Failure> {
    let request = client.get(target.metrics.clone()).header("accept", "application/openmetrics-text; version=1.0.0");
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
