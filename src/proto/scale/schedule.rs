//! More nodes at times that are known beforehand.

use crate::model::Invalid;
use std::time::{SystemTime, UNIX_EPOCH};
use time::{OffsetDateTime, UtcOffset, Weekday};

/// At these hours of these days so many nodes at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// On which it begins; none: every day.
    pub days: Vec<Weekday>,
    /// Minutes since midnight, 0 to 1439.
    pub from: u16,
    /// Minutes since midnight, 1 to 1440. Not later than `from`: on the next day.
    pub to: u16,
    pub min: u32,
}

/// All hours, in one time zone. Zones with a summer time are an offset here that somebody changes twice a year: `portway` carries no table of zones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub offset: UtcOffset,
    pub hours: Vec<Hours>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { offset: UtcOffset::UTC, hours: vec![] }
    }
}

const DAY: u16 = 24 * 60;

impl Schedule {
    pub fn check(&self, max: u32) -> Result<(), Invalid> {
        for Hours { from, to, min, .. } in &self.hours {
            if *from >= DAY || !(1..=DAY).contains(to) {
                return Err(Invalid(format!("hours from minute {from} to {to} of a day: use 0 to 1439 and 1 to 1440")));
            }
            if *min > max {
                return Err(Invalid(format!("{min} nodes at certain hours are more than there may be: raise max ({max}), or use fewer")));
            }
        }
        Ok(())
    }

    /// The highest of the minima that hold now. 0: none does, or the clock shows a time that no calendar knows.
    pub fn min(&self, wall: SystemTime) -> u32 {
        let Some((weekday, minute)) = self.local(wall) else { return 0 };
        self.hours.iter().filter(|hours| hours.contain(weekday, minute)).map(|hours| hours.min).max().unwrap_or(0)
    }

    fn local(&self, wall: SystemTime) -> Option<(Weekday, u16)> {
        if self.hours.is_empty() {
            return None;
        }
        let seconds = i64::try_from(wall.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
        let local = OffsetDateTime::from_unix_timestamp(seconds).ok()?.checked_to_offset(self.offset)?;
        Some((local.weekday(), u16::from(local.hour()) * 60 + u16::from(local.minute())))
    }
}

impl Hours {
    fn contain(&self, weekday: Weekday, minute: u16) -> bool {
        let begins = |day: Weekday| self.days.is_empty() || self.days.contains(&day);
        if self.from < self.to {
            begins(weekday) && (self.from..self.to).contains(&minute)
        } else {
            (begins(weekday) && minute >= self.from) || (begins(weekday.previous()) && minute < self.to)
        }
    }
}
