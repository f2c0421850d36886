//! systemd's watchdog (sd_notify(3), `WATCHDOG=1`). Whoever does a daemon's work says so each time it is done; one that hangs falls silent, and is
//! started anew after `WatchdogSec=` of its unit.

use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// Signs of life.
#[derive(Debug)]
pub struct Pulse {
    /// Who hears nothing for so long takes the daemon for dead. None: nobody listens.
    patience: Option<Duration>,
    /// Not before then is there another: work may be done a thousand times a second.
    due: Instant,
}

impl Pulse {
    /// As the environment says, of `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn new(now: Instant) -> Self {
        Self { patience: sd_notify::watchdog_enabled(), due: now }
    }

    /// How often there has to be work, if there is little to do: `most`, or half of the time after which a sign of life is missed.
    pub fn at_least_every(&self, most: Duration) -> Duration {
        self.patience.map_or(most, |patience| most.min(patience / 2))
    }

    /// The work has been done once more.
    pub fn beat(&mut self, now: Instant) {
        if self.is_due(now) {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let Some(patience) = self.patience.filter(|_| now >= self.due) else { return false };
        self.due = now + patience / 4;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_sign_of_life_in_time_and_not_with_all_that_is_done() {
        let now = Instant::now();
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut pulse = Pulse { patience: Some(minute), due: now };
        let signs: Vec<u32> = (0..60).filter(|at| pulse.is_due(now + second * *at)).collect();
        assert_eq!(signs, [0, 15, 30, 45]);
        assert_eq!([second, minute].map(|most| pulse.at_least_every(most)), [second, minute / 2]);
        // Work at the longest distance that is left: none of it is passed over.
        assert_eq!((0..4).filter(|n| pulse.is_due(now + minute + minute / 2 * *n)).count(), 4);
    }

    #[test]
    fn where_nobody_listens_work_is_done_as_often_as_ever_and_nothing_is_said() {
        let now = Instant::now();
        let mut pulse = Pulse { patience: None, due: now };
        assert_eq!(pulse.at_least_every(Duration::from_secs(30)), Duration::from_secs(30));
        assert!(!pulse.is_due(now));
    }
}
