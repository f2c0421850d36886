//! Certificates that are known, and which are to be fetched.

use super::certificate::Certificate;
use super::url::CertificateUrl;
use crate::wire::webhook::{Refusal, shown};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

/// Who waits for a certificate: the shell's own number of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiter(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// GET it: over TLS with the roots of the system, following no redirection, at most [`super::CERTIFICATE_LIMIT`] bytes, at most
    /// [`Certificates::PATIENCE`]. Answer by [`Certificates::fetched`].
    Fetch(CertificateUrl),
    /// The post can be verified.
    Known(Waiter, Certificate),
    /// The post is refused.
    Refused(Waiter, Refusal),
}

/// Which certificates there are and which are fetched.
///
/// ```text
///               +-- known, valid ----------------------------------------------------> Known
///  want(url) ---+-- failed lately, not forgotten -------------------------------------> Refused, as the fetch was
///               +-- under way: waits with the others ------+
///               +-- Fetch, if there is one left in this minute --> fetched, or no answer --+--> Known, all that wait
///               +-- Refused (503)                                                          +--> Refused, all that wait; remembered as failed
/// ```
///
/// Anybody may post an envelope, and with it the URL of a certificate that SNS does not have. So each URL is fetched once for all that wait, not again for a
/// while if that failed, and all together not more often than a few times a minute. Whoever names such URLs all the time keeps a new certificate from being
/// fetched; those that are known go on to count, and SNS tries again for an hour.
///
/// Contract: after each call take all of [`Certificates::next_effect`]; call [`Certificates::tick`] when [`Certificates::next`] is over, or earlier. Each waiter is
/// answered once.
#[derive(Debug)]
pub struct Certificates {
    known: BTreeMap<CertificateUrl, Certificate>,
    failed: BTreeMap<CertificateUrl, Failed>,
    under_way: BTreeMap<CertificateUrl, Fetch>,
    /// When the fetches of the last minute began; the oldest first.
    begun: VecDeque<Instant>,
    effects: VecDeque<Effect>,
    pub counters: Counters,
}

#[derive(Debug)]
struct Failed {
    refusal: Refusal,
    until: Instant,
}

#[derive(Debug)]
struct Fetch {
    waiters: Vec<Waiter>,
    until: Instant,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub fetches: u64,
    pub failed: u64,
    /// Posts that were refused as one fetch more would have been too many, or one waiter more.
    pub full: u64,
}

impl Certificates {
    /// Certificates that are kept. SNS has one or two for each region at a time.
    pub const KEPT: usize = 16;
    /// Fetches that are begun in any 60 s.
    pub const PER_MINUTE: usize = 10;
    /// How long a fetch may take.
    pub const PATIENCE: Duration = Duration::from_secs(10);
    /// How long one that failed is not tried again.
    pub const FAILED: Duration = Duration::from_secs(60);
    /// Failures that are remembered: as many as there can be.
    const FAILURES: usize = 2 * Self::PER_MINUTE;
    /// Posts that wait at once.
    pub const WAITERS: usize = 256;

    const MINUTE: Duration = Duration::from_secs(60);

    pub fn new() -> Self {
        Self {
            known: BTreeMap::new(),
            failed: BTreeMap::new(),
            under_way: BTreeMap::new(),
            begun: VecDeque::new(),
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// A post waits for this certificate. `wall` is what the clock on the wall shows.
    pub fn want(&mut self, now: Instant, wall: SystemTime, url: &CertificateUrl, waiter: Waiter) {
        self.tick(now);
        if let Some(certificate) = self.known.get(url).filter(|certificate| certificate.valid_at(wall).is_ok()) {
            self.effects.push_back(Effect::Known(waiter, certificate.clone()));
        } else if let Some(Failed { refusal, .. }) = self.failed.get(url) {
            self.effects.push_back(Effect::Refused(waiter, refusal.clone()));
        } else if self.under_way.values().map(|fetch| fetch.waiters.len()).sum::<usize>() >= Self::WAITERS {
            self.refuse_for_want_of_room(waiter, format!("{} posts wait for certificates", Self::WAITERS));
        } else if let Some(fetch) = self.under_way.get_mut(url) {
            fetch.waiters.push(waiter);
        } else if self.begun.len() >= Self::PER_MINUTE {
            self.refuse_for_want_of_room(waiter, format!("{} certificates were fetched in the last minute", Self::PER_MINUTE));
        } else {
            self.counters.fetches += 1;
            self.begun.push_back(now);
            self.under_way.insert(url.clone(), Fetch { waiters: vec![waiter], until: now + Self::PATIENCE });
            self.effects.push_back(Effect::Fetch(url.clone()));
        }
    }

    /// What came of a fetch: the bytes, or why there are none. What comes too late is as if it had not come.
    pub fn fetched(&mut self, now: Instant, wall: SystemTime, url: &CertificateUrl, answer: Result<&[u8], &str>) {
        self.tick(now);
        let Some(Fetch { waiters, .. }) = self.under_way.remove(url) else { return };
        let read = answer.map_err(|why| not_fetched(url, why)).and_then(|pem| Certificate::parse(url, pem));
        match read.and_then(|certificate| certificate.valid_at(wall).map(|()| certificate)) {
            Ok(certificate) => {
                self.effects.extend(waiters.into_iter().map(|waiter| Effect::Known(waiter, certificate.clone())));
                self.keep(url, certificate);
            }
            Err(refusal) => self.fail(now, url.clone(), waiters, refusal),
        }
    }

    /// What has lasted too long, or long enough.
    pub fn tick(&mut self, now: Instant) {
        let late: Vec<CertificateUrl> = self.under_way.iter().filter(|(_, fetch)| fetch.until <= now).map(|(url, _)| url.clone()).collect();
        for url in late {
            let waiters = self.under_way.remove(&url).map(|fetch| fetch.waiters).unwrap_or_default();
            let refusal = not_fetched(&url, "there was no answer in time");
            self.fail(now, url, waiters, refusal);
        }
        self.failed.retain(|_, failed| failed.until > now);
        while self.begun.front().is_some_and(|begun| now.saturating_duration_since(*begun) >= Self::MINUTE) {
            self.begun.pop_front();
        }
    }

    /// When to tick at the latest: a fetch has lasted too long.
    pub fn next(&self) -> Option<Instant> {
        self.under_way.values().map(|fetch| fetch.until).min()
    }

    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn refuse_for_want_of_room(&mut self, waiter: Waiter, why: String) {
        self.counters.full += 1;
        self.effects.push_back(Effect::Refused(waiter, Refusal::NotNow(why)));
    }

    fn fail(&mut self, now: Instant, url: CertificateUrl, waiters: Vec<Waiter>, refusal: Refusal) {
        self.counters.failed += 1;
        self.effects.extend(waiters.into_iter().map(|waiter| Effect::Refused(waiter, refusal.clone())));
        if self.failed.len() < Self::FAILURES {
            self.failed.insert(url, Failed { refusal, until: now + Self::FAILED });
        }
    }

    /// A full store lets go of that which ends first.
    fn keep(&mut self, url: &CertificateUrl, certificate: Certificate) {
        self.known.insert(url.clone(), certificate);
        if self.known.len() > Self::KEPT
            && let Some(first) = self.known.values().min_by_key(|known| known.until()).map(|known| known.url().clone())
        {
            self.known.remove(&first);
        }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

/// SNS may have it in a while.
fn not_fetched(url: &CertificateUrl, why: &str) -> Refusal {
    Refusal::NotNow(format!("the certificate at {url} could not be fetched, {}", shown(why)))
}

#[cfg(test)]
mod tests;
