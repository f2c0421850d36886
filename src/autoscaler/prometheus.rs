//! Asks a Prometheus, again and again; each answer is a level of its query, for a time.

use super::brain::Brain;
use super::outcomes::Outcomes;
use crate::config::{self, Figure};
use crate::daemon::answer;
use crate::metrics::Page;
use crate::model::SourceName;
use crate::proto::scale::{Level, Load, Wanted};
use crate::wire::prometheus::{self, Unusable};
use crate::wire::webhook::NODES;
use anyhow::Context;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Bytes of an answer: one sample has some hundred.
const LONGEST: usize = 256 * 1024;
/// A load beyond this is none.
const MOST: f64 = 1e15;
const PATIENCE: Duration = Duration::from_secs(10);

/// A task for each query.
pub struct Queries {
    client: Client,
    asked: JoinSet<()>,
    config: Option<config::Prometheus>,
    pub told: Told,
}

/// What came of them.
#[derive(Debug, Clone, Default)]
pub struct Told(Outcomes<SourceName>);

impl Queries {
    pub fn start(config: Option<&config::Prometheus>, brain: &Arc<Brain>) -> anyhow::Result<Self> {
        let client = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).no_proxy();
        let client = client.build().context("cannot make an HTTP client")?;
        let mut queries = Self { client, asked: JoinSet::new(), config: None, told: Told::default() };
        queries.replace(config, brain);
        Ok(queries)
    }

    /// Exactly those of the configuration from now on. What those that are gone have said is over.
    pub fn replace(&mut self, config: Option<&config::Prometheus>, brain: &Arc<Brain>) {
        if self.config.as_ref() == config {
            return;
        }
        // Those that were asked end with their set.
        self.asked = JoinSet::new();
        let queries = config.map_or(&[][..], |config| &config.queries);
        let is_asked = |name: &SourceName| queries.iter().any(|query| query.name == *name);
        for gone in self.config.iter().flat_map(|former| &former.queries).filter(|query| !is_asked(&query.name)) {
            brain.end(&source(&gone.name));
        }
        self.told.0.retain(is_asked);
        brain.asked(queries.iter().map(|query| source(&query.name)).collect());
        for (config, query) in config.into_iter().flat_map(|config| config.queries.iter().map(move |query| (config, query))) {
            self.asked.spawn(ask(self.client.clone(), api(&config.url), query.clone(), brain.clone(), self.told.clone()));
        }
        self.config = config.cloned();
    }

    pub async fn stop(&mut self) {
        self.asked.shutdown().await;
    }
}

impl Told {
    pub fn status(&self) -> Value {
        json!(self.0.all())
    }

    pub fn metrics(&self, page: &mut Page) {
        for (name, outcome) in self.0.all() {
            for (result, count) in [("good", outcome.good), ("failed", outcome.failed)] {
                let labels = [("query", name.as_str()), ("result", result)];
                page.counter("portway_autoscaler_queries", "Times that Prometheus was asked", &labels, count);
            }
        }
    }
}

async fn ask(client: Client, api: Url, query: config::Query, brain: Arc<Brain>, told: Told) {
    let mut ticks = tokio::time::interval(query.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        let result = async {
            let value = prometheus::read(&answered(&client, &api, &query.query).await?, SystemTime::now())?;
            let level =
                Level { source: source(&query.name), wanted: vec![wanted(query.figure, value)?], until: Instant::now() + query.lasts };
            brain.say(level).map_err(|refused| Failure::Refused(refused.to_string()))?;
            Ok::<_, Failure>(asked.elapsed())
        };
        told.0.tell(&query.name, result.await);
    }
}

/// The body, whatever the status: Prometheus says in it what is wrong with a query.
async fn answered(client: &Client, api: &Url, query: &str) -> Result<Vec<u8>, Failure> {
    let unreachable = |error: reqwest::Error| Failure::Unreachable(error.without_url().into());
    let response = client.get(api.clone()).query(&[("query", query)]).send().await.map_err(unreachable)?;
    let status = response.status();
    let bytes = answer::whole(response, LONGEST).await.map_err(unreachable)?.ok_or(Failure::TooLong)?;
    let is_json = bytes.first() == Some(&b'{');
    if status.is_success() || is_json { Ok(bytes) } else { Err(Failure::Status(status.as_u16())) }
}

/// Rounded up, as what is expected is needed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in the range of what it becomes")]
fn wanted(figure: Figure, value: f64) -> Result<Wanted, Failure> {
    let most = if figure == Figure::Nodes { f64::from(*NODES.end()) } else { MOST };
    let value = value.ceil();
    if value > most {
        return Err(Failure::TooMuch { value, most });
    }
    let load = value as u64;
    Ok(match figure {
        Figure::Nodes => Wanted::Nodes(value as u32),
        Figure::Bits => Wanted::Load(Load { bits: Some(load), ..Load::default() }),
        Figure::Packets => Wanted::Load(Load { packets: Some(load), ..Load::default() }),
        Figure::Connections => Wanted::Load(Load { connections: Some(load), ..Load::default() }),
    })
}

fn source(name: &SourceName) -> crate::proto::scale::Source {
    format!("prometheus/{name}").parse().expect("a name of at most 63 characters that can be seen")
}

fn api(url: &Url) -> Url {
    let mut api = url.clone();
    api.set_path(&format!("{}/api/v1/query", url.path().trim_end_matches('/')));
    api
}

/// Why a query says nothing now.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("Prometheus does not answer ({0:#}): is its `url` reachable from here?")]
    Unreachable(anyhow::Error),
    #[error("it answers with {0}: does `url` lead to a Prometheus?")]
    Status(u16),
    #[error("its answer has more than {LONGEST} bytes: make one sample of it, by sum() or max()")]
    TooLong,
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("the value is {value}, and {most} is the most that can be asked for: see whether `figure` is what the query gives")]
    TooMuch { value: f64, most: f64 },
    #[error("{0}")]
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_rounded_up_to_what_it_is_of() {
        let all = [Figure::Nodes, Figure::Bits, Figure::Packets, Figure::Connections].map(|figure| wanted(figure, 2.1).unwrap());
        let load = Load::default();
        let expected =
            [Load { bits: Some(3), ..load }, Load { packets: Some(3), ..load }, Load { connections: Some(3), ..load }].map(Wanted::Load);
        assert_eq!((all[0], &all[1..]), (Wanted::Nodes(3), &expected[..]));
        for (figure, value) in [(Figure::Nodes, 1001.0), (Figure::Bits, 1e16), (Figure::Connections, f64::MAX)] {
            assert!(wanted(figure, value).unwrap_err().to_string().contains("see whether `figure`"));
        }
        assert_eq!(wanted(Figure::Nodes, 0.0).unwrap(), Wanted::Nodes(0));
    }

    #[test]
    fn the_api_is_below_the_url() {
        for (url, path) in [("http://127.0.0.1:9090", "/api/v1/query"), ("https://a.example/prometheus/", "/prometheus/api/v1/query")] {
            assert_eq!(api(&url.parse().unwrap()).path(), path);
        }
    }
}
