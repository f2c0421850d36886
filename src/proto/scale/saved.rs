//! What outlives a restart of the daemon.
//!
//! Levels, as their sources may not say them again; the last change, for the cooldowns, and as what stands if nobody else orders; the serial, as whoever is asked by it may remember it. Not the window of the
//! highest need: nobody knows how high it was while no daemon ran, so it begins anew and nobody is taken away before it is full. Not readings either: they come again
//! within seconds, and what is needed follows from them.

use super::level::{Levels, Said, Source, Standing};
use super::orders::Change;
use super::policy::Policy;
use super::{Scaler, seconds};
use crate::model::Invalid;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Write it after each order and each level, and every minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// What the clock on the wall showed: seconds since 1970. A clock that has gone back since counts as one that stood still: what was left is left.
    pub time: u64,
    /// Of the last order.
    pub serial: u64,
    pub last_change: Option<SavedChange>,
    pub levels: Vec<SavedLevel>,
}

/// The last time that another number was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedChange {
    /// Seconds.
    pub ago: u64,
    pub nodes: u32,
    /// Than before.
    pub fewer: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedLevel {
    pub source: Source,
    /// Seconds.
    pub left: u64,
    pub wanted: Vec<Standing>,
}

/// Seconds that nothing kept is older than, or lasts longer: 31 days.
const LONGEST: u64 = 31 * 24 * 3600;
/// Up to which a number in JSON is the same everywhere (RFC 8259 section 6).
pub(super) const HIGHEST_SERIAL: u64 = 1 << 53;
/// More than any policy allows.
const NODES: u32 = 1000;

impl Scaler {
    /// `wall` is what the clock on the wall shows.
    pub fn saved(&self, now: Instant, wall: SystemTime) -> Saved {
        let now = now.max(self.latest);
        let last_change = self.orders.as_ref().map_or(self.resumed, |orders| orders.last).map(|Change { at, nodes, fewer }| SavedChange {
            ago: now.saturating_duration_since(at).as_secs(),
            nodes,
            fewer,
        });
        let levels = self.levels.iter().filter_map(|(source, said)| {
            let left = seconds(said.until.saturating_duration_since(now))?;
            Some(SavedLevel { source: source.clone(), left, wanted: said.wanted.clone() })
        });
        Saved { time: unix(wall), serial: self.serial, last_change, levels: levels.collect() }
    }

    /// A machine that goes on where another was. What cannot be is refused as a whole; then begin by [`Scaler::new`].
    pub fn restore(now: Instant, wall: SystemTime, policy: Policy, saved: Saved) -> Result<Self, Invalid> {
        let mut scaler = Self::new(now, policy)?;
        let refused = |Invalid(why): Invalid| {
            Invalid(format!("what was kept of the time before the restart cannot be: {why}; remove it to begin anew"))
        };
        let gone = unix(wall).saturating_sub(saved.time);
        if saved.serial > HIGHEST_SERIAL {
            return Err(refused(Invalid(format!("a serial of {}", saved.serial))));
        }
        if let Some(SavedChange { ago, nodes, fewer }) = saved.last_change {
            if nodes > NODES {
                return Err(refused(Invalid(format!("an order of {nodes} nodes"))));
            }
            let ago = Duration::from_secs(ago.saturating_add(gone).min(LONGEST));
            scaler.resumed = Some(Change { at: now.checked_sub(ago).unwrap_or(now), nodes, fewer });
        }
        scaler.levels = levels(now, gone, saved.levels).map_err(refused)?;
        scaler.levels.reckon(&scaler.policy.capacity);
        (scaler.serial, scaler.wall) = (saved.serial, wall);
        Ok(scaler)
    }
}

fn levels(now: Instant, gone: u64, saved: Vec<SavedLevel>) -> Result<Levels, Invalid> {
    let mut levels = Levels::default();
    for SavedLevel { source, left, wanted } in saved {
        let until = now + Duration::from_secs(left.min(LONGEST).saturating_sub(gone));
        levels.restore(source, Said { wanted, until })?;
    }
    levels.expire(now);
    Ok(levels)
}

fn unix(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
