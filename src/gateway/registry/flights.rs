//! Calls that are under way, and whether what they ask for has changed meanwhile: then their answer may be older than the news of the change.

use crate::model::PublicKey;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct Flights(Mutex<HashMap<PublicKey, Flight>>);

#[derive(Debug, Default)]
struct Flight {
    calls: usize,
    overtaken: bool,
}

/// One call. It ends when this goes.
pub struct Call<'a> {
    flights: &'a Flights,
    key: PublicKey,
}

impl Flights {
    pub fn begin(&self, key: PublicKey) -> Call<'_> {
        self.all().entry(key).or_default().calls += 1;
        Call { flights: self, key }
    }

    /// It is different now.
    pub fn changed<'k>(&self, keys: impl IntoIterator<Item = &'k PublicKey>) {
        let mut all = self.all();
        for key in keys {
            if let Some(flight) = all.get_mut(key) {
                flight.overtaken = true;
            }
        }
    }

    pub fn all_changed(&self) {
        self.all().values_mut().for_each(|flight| flight.overtaken = true);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<PublicKey, Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call<'_> {
    /// Whether its answer may be older than what was told of a change.
    pub fn overtaken(&self) -> bool {
        self.flights.all().get(&self.key).is_some_and(|flight| flight.overtaken)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut all = self.flights.all();
        if let Some(flight) = all.get_mut(&self.key) {
            flight.calls -= 1;
            if flight.calls == 0 {
                all.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_while_it_changes_is_overtaken() {
        let flights = Flights::default();
        let [one, other] = [1, 2].map(|n| PublicKey::try_from([n; 32]).unwrap());
        flights.changed([&one]);
        let (first, beside) = (flights.begin(one), flights.begin(other));
        assert!(!first.overtaken());
        flights.changed([&one]);
        assert!(first.overtaken() && !beside.overtaken());
        drop(first);
        let next = flights.begin(one);
        assert!(!next.overtaken());
        flights.all_changed();
        assert!(next.overtaken() && beside.overtaken());
        drop((next, beside));
        assert!(flights.all().is_empty());
    }
}
