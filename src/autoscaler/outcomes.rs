//! What comes of asking somebody again and again.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What came of asking one.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Outcome {
    pub good: u64,
    pub failed: u64,
    /// Why the last attempt failed, if it did.
    pub failure: Option<String>,
    /// Seconds that the last good one took.
    pub took: Option<f64>,
}

/// By name.
#[derive(Debug)]
pub struct Outcomes<Name>(Arc<Mutex<BTreeMap<Name, Outcome>>>);

impl<Name> Clone for Outcomes<Name> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Name> Default for Outcomes<Name> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<Name: Ord + Clone + fmt::Display> Outcomes<Name> {
    pub fn all(&self) -> BTreeMap<Name, Outcome> {
        self.locked().clone()
    }

    /// Whoever is asked no more is forgotten.
    pub fn retain(&self, is_asked: impl Fn(&Name) -> bool) {
        self.locked().retain(|name, _| is_asked(name));
    }

    pub fn tell(&self, name: &Name, result: Result<Duration, impl fmt::Display>) {
        let mut all = self.locked();
        let outcome = all.entry(name.clone()).or_default();
        match result {
            Ok(took) => {
                if outcome.failure.take().is_some() {
                    tracing::info!("{name} tells of itself again");
                }
                outcome.good += 1;
                outcome.took = Some(took.as_secs_f64());
            }
            Err(failure) => {
                if outcome.failure.is_none() {
                    tracing::warn!("{name}: {failure}");
                }
                outcome.failed += 1;
                outcome.failure = Some(failure.to_string());
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Name, Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
