//! Asks a directory which gateways there are, again and again. What is made of its answers: `proto::roster`.

use super::brain::Brain;
use super::scrape::{Scrapes, Target};
use crate::config::{self, Gateways};
use crate::directory::session::Session;
use crate::directory::types::Reach;
use crate::metrics::Page;
use crate::model::NodeName;
use crate::proto::roster::{Listed, Status};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Who is asked how much it carries, as the configuration or the directory says.
#[derive(Debug, Clone, Default)]
pub struct Discovery(Arc<Mutex<Option<Following>>>);

/// A directory that is followed.
#[derive(Debug)]
struct Following {
    of: config::Discovery,
    scrape: Duration,
    calls: Arc<Calls>,
    /// Ends it when it is dropped.
    task: JoinSet<()>,
}

#[derive(Debug)]
struct Calls {
    session: Session,
    good: AtomicU64,
    failed: AtomicU64,
}

/// What there is to show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    url: String,
    /// The last call had an answer. None: there was none yet.
    answers: Option<bool>,
    failure: Option<String>,
    good: u64,
    failed: u64,
    #[serde(flatten)]
    pub roster: Status,
}

impl Discovery {
    /// From now on. Who was asked and still is goes on; a directory that is followed already is asked with what its files hold now.
    pub fn follow(&self, config: &config::Autoscaler, brain: &Arc<Brain>, scrapes: &Arc<Scrapes>) {
        let mut following = self.locked();
        match &config.gateways {
            Gateways::Listed(all) => {
                *following = None;
                scrapes.replace(all.iter().map(Target::from), config.scrape, brain);
            }
            Gateways::Discovered(of) => {
                scrapes.replace(brain.known().into_iter().map(Target::from), config.scrape, brain);
                if let Some(same) = following.as_ref().filter(|same| same.of == *of && same.scrape == config.scrape) {
                    same.calls.session.renew();
                    return;
                }
                let calls = Arc::new(Calls { session: Session::new(of.at.clone()), good: AtomicU64::new(0), failed: AtomicU64::new(0) });
                let mut task = JoinSet::new();
                task.spawn(ask(self.clone(), calls.clone(), of.every, brain.clone(), scrapes.clone()));
                *following = Some(Following { of: of.clone(), scrape: config.scrape, calls, task });
            }
        }
    }

    /// None: the configuration lists the gateways.
    pub fn shown(&self, brain: &Brain) -> Option<Shown> {
        let following = self.locked();
        let Following { of, calls, .. } = following.as_ref()?;
        let standing = calls.session.standing();
        Some(Shown {
            url: of.at.url.to_string(),
            answers: standing.reachable,
            failure: standing.failed,
            good: calls.good.load(Relaxed),
            failed: calls.failed.load(Relaxed),
            roster: brain.roster_status()?,
        })
    }

    pub async fn stop(&self) {
        let following = self.locked().take();
        if let Some(mut following) = following {
            following.task.shutdown().await;
        }
    }

    /// The directory has answered. Nothing, if another is followed by now.
    fn learn(&self, calls: &Arc<Calls>, list: Vec<Reach>, brain: &Arc<Brain>, scrapes: &Scrapes) {
        let following = self.locked();
        if let Some(following) = following.as_ref().filter(|following| Arc::ptr_eq(&following.calls, calls)) {
            brain.learn(&listed(list));
            scrapes.replace(brain.known().into_iter().map(Target::from), following.scrape, brain);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<Following>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    pub fn metrics(&self, page: &mut Page) {
        for (result, count) in [("good", self.good), ("failed", self.failed)] {
            page.counter("portway_autoscaler_directory_calls", "Times that the directory was asked", &[("result", result)], count);
        }
        if let Some(age) = self.roster.age {
            page.gauge("portway_autoscaler_directory_age_seconds", "Since the directory said last which gateways there are", &[], age);
        }
        let Status { known, registered, doubted, .. } = &self.roster;
        for (what, count) in [("known", *known), ("registered", registered.len()), ("doubted", doubted.len())] {
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            page.gauge(
                "portway_autoscaler_directory_gateways",
                "Gateways in the directory, by what is made of it",
                &[("what", what)],
                count,
            );
        }
    }
}

async fn ask(discovery: Discovery, calls: Arc<Calls>, every: Duration, brain: Arc<Brain>, scrapes: Arc<Scrapes>) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match calls.session.ask(|client| async move { client.reach().await }).await {
            Ok(list) => {
                calls.good.fetch_add(1, Relaxed);
                calls.session.follows();
                discovery.learn(&calls, list, &brain, &scrapes);
            }
            Err(error) => {
                calls.failed.fetch_add(1, Relaxed);
                calls.session.cut_off(&error, "what is known of the gateways");
            }
        }
    }
}

/// A time that is none is as good as none said.
fn listed(list: Vec<Reach>) -> BTreeMap<NodeName, Listed> {
    let heard = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    list.into_iter().map(|one| (one.name, Listed { heard: one.heard_s.and_then(heard), at: one.admin })).collect()
}
