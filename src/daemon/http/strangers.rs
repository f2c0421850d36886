//! Those who have not shown yet who they are, the first who came first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Whoever comes when all places are taken gets the place of the stranger who has had one for longest. So places that are held for nothing are held for as long only as others
/// take to come, and an honest caller, who shows who it is within a few round trips, is among the last to go.
#[derive(Debug, Clone, Default)]
pub struct Strangers(Arc<Mutex<Here>>);

#[derive(Debug, Default)]
struct Here {
    came: u64,
    /// By when they came.
    all: BTreeMap<u64, CancellationToken>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Stranger {
    among: Strangers,
    number: u64,
    out: CancellationToken,
}

impl Strangers {
    pub fn enter(&self) -> Stranger {
        let mut here = self.here();
        here.came += 1;
        let (number, out) = (here.came, CancellationToken::new());
        here.all.insert(number, out.clone());
        Stranger { among: self.clone(), number, out }
    }

    /// With so many places in all.
    pub fn enter_one_of(&self, places: usize) -> Stranger {
        while self.here().all.len() >= places && self.push_out() {}
        self.enter()
    }

    /// Who has been here for longest has to go. False: nobody is here.
    pub fn push_out(&self) -> bool {
        let first = self.here().all.pop_first();
        first.inspect(|(_, out)| out.cancel()).is_some()
    }

    fn here(&self) -> MutexGuard<'_, Here> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Its place is somebody else's.
    pub async fn pushed_out(&self) {
        self.out.cancelled().await;
    }

    /// It is none any more: nobody pushes it out from now on.
    pub fn known(&self) {
        self.among.here().all.remove(&self.number);
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.among.here().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn who_came_first_goes_first_and_who_is_known_stays() {
        let strangers = Strangers::default();
        let all: Vec<Stranger> = (0..4).map(|_| strangers.enter_one_of(3)).collect();
        let out = |all: &[Stranger]| all.iter().map(|one| one.pushed_out().now_or_never().is_some()).collect::<Vec<_>>();
        assert_eq!(out(&all), [true, false, false, false]);
        all[1].known();
        assert!(strangers.push_out());
        assert_eq!(out(&all), [true, false, true, false]);
        drop(all);
        assert!(!strangers.push_out(), "all have gone");
    }
}
