//! Which alerts are old.

use super::{Alert, Ask, Fingerprint, History, Notification, State};
use crate::wire::webhook::{Figures, Level, Refusal, Said};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

/// How long an alert counts after it was last heard of, unless the configuration says otherwise: an hour longer than Alertmanager
/// takes to repeat itself (`repeat_interval`, 4 h if nothing is written).
pub const LASTS: Duration = Duration::from_secs(5 * 3600);

/// How long the end of an alert is remembered: as long as a notification from before it may still be tried again (Alertmanager gives one up after
/// `group_interval`, 5 min if nothing is written).
pub const ENDED: Duration = Duration::from_secs(300);

/// When each alert began and ended, and nothing of what it asks for.
///
/// ```text
///             firing, begun after the end
///        +-----------------------------------+
///        v                                   |
///     Firing ----- resolved, ended after --> Ended ----- 300 s ----> (not known)
///      |  ^  |     its beginning               |
///      |  +--+ firing                          +-- firing, begun before the end: overtaken, refused by 503
///      |
///      +-- resolved, ended before its beginning: old, passed over
/// ```
///
/// Notifications of several Alertmanagers, or tried again by one, come in any order. An end that is older than what fires is passed over. What fires from
/// before its end was overtaken, or fires again with its old beginning (its Prometheus was out of reach for a while). The two look the same, so it
/// is neither taken nor dropped: it is refused so that it is sent again, and if it is sent once its end is no longer remembered, it fires.
#[derive(Debug)]
pub struct Order {
    lasts: Duration,
    limit: usize,
    alerts: BTreeMap<Fingerprint, Known>,
}

#[derive(Debug)]
struct Known {
    phase: Phase,
    heard: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Ended(SystemTime),
    Firing { starts_at: SystemTime },
}

/// What a notification comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub said: Vec<Said>,
    /// Ends that are older than what fires.
    pub old: usize,
    /// Of the alerts that do not count. To be answered by, when what is said was acted on: what counts says the same when it is sent again.
    pub refused: Option<Refusal>,
}

impl Order {
    /// At most `limit` alerts are remembered; those that have ended make room first. Each lasts for `lasts` after it was last heard of.
    pub fn new(lasts: Duration, limit: usize) -> Self {
        Self { lasts, limit, alerts: BTreeMap::new() }
    }

    pub fn take(&mut self, notification: &Notification, history: &History, now: Instant) -> Heard {
        self.expire(now);
        let mut heard = Heard::default();
        for alert in &notification.alerts {
            match self.hear(alert, history, now) {
                Ok(Some(said)) => heard.said.push(said),
                Ok(None) => heard.old += 1,
                Err(refusal) => heard.refused = Some(refusal),
            }
        }
        heard
    }

    fn hear(&mut self, alert: &Alert, history: &History, now: Instant) -> Result<Option<Said>, Refusal> {
        let known = self.alerts.get(&alert.fingerprint).map(|known| (known.phase, known.heard));
        let (phase, said) = match alert.state {
            State::Resolved => {
                let end = alert.ends_at.map_or(alert.starts_at, |end| end.max(alert.starts_at));
                let end = match known {
                    Some((Phase::Firing { starts_at }, _)) if end < starts_at => return Ok(None),
                    Some((Phase::Ended(before), _)) => end.max(before),
                    Some((Phase::Firing { .. }, _)) | None => end,
                };
                (Phase::Ended(end), Said::Ends(alert.source()))
            }
            State::Firing(ask) => {
                let starts_at = match known {
                    Some((Phase::Ended(end), heard)) if alert.starts_at <= end => {
                        let left = ENDED.saturating_sub(now.saturating_duration_since(heard));
                        return Err(Refusal::Overtaken { alert: alert.source().to_string(), left });
                    }
                    // Several Prometheus may say so, each with a beginning of its own.
                    Some((Phase::Firing { starts_at }, _)) => starts_at.max(alert.starts_at),
                    Some((Phase::Ended(_), _)) | None => alert.starts_at,
                };
                (Phase::Firing { starts_at }, self.level(alert, ask, history, now)?)
            }
        };
        self.make_room(alert.fingerprint);
        self.alerts.insert(alert.fingerprint, Known { phase, heard: now });
        Ok(Some(said))
    }

    fn level(&self, alert: &Alert, ask: Option<Ask>, history: &History, now: Instant) -> Result<Said, Refusal> {
        let source = alert.source();
        let unknown = || Refusal::NotNow(format!("{source} asks for one node more, and how many there are is not known yet"));
        let nodes = match ask {
            // Its rule may have been changed.
            None => return Ok(Said::Ends(source)),
            Some(Ask::Nodes(nodes)) => nodes,
            Some(Ask::OneMore) => history.one_more(alert.starts_at).ok_or_else(unknown)?,
        };
        let figures = Figures { nodes: Some(nodes), ..Figures::default() };
        Ok(Said::Level(Level { source, figures, until: now + self.lasts }))
    }

    fn expire(&mut self, now: Instant) {
        let lasts = self.lasts;
        self.alerts.retain(|_, known| {
            let kept = match known.phase {
                Phase::Ended(_) => ENDED,
                Phase::Firing { .. } => lasts,
            };
            now < known.heard + kept
        });
    }

    fn make_room(&mut self, fingerprint: Fingerprint) {
        if self.alerts.len() < self.limit || self.alerts.contains_key(&fingerprint) {
            return;
        }
        let order = |known: &Known| (matches!(known.phase, Phase::Firing { .. }), known.heard);
        if let Some(first) = self.alerts.iter().min_by_key(|(_, known)| order(known)).map(|(fingerprint, _)| *fingerprint) {
            self.alerts.remove(&first);
        }
    }

    pub fn remembered(&self) -> usize {
        self.alerts.len()
    }
}

#[cfg(test)]
mod tests;
