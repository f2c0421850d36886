//! Attachments that were made or have ended lately, which looks that are behind show otherwise.

use super::BEHIND;
use std::collections::BTreeMap;
use std::time::Instant;

/// By their ids, of which each is given once.
#[derive(Debug, Default)]
pub struct Lately(BTreeMap<String, Known>);

#[derive(Debug)]
struct Known {
    /// When it was made, or first shown. A look that is behind that shows it free.
    first: Instant,
    /// When it was last shown, or ended.
    last: Instant,
    has_ended: bool,
}

impl Known {
    fn is_new(&self, now: Instant) -> bool {
        now < self.first + BEHIND
    }
}

impl Lately {
    /// The cloud says that it made it, or a look shows it.
    pub fn made(&mut self, now: Instant, attachment: &str) {
        self.known(now, attachment).last = now;
    }

    /// It is gone, or on its way out.
    pub fn ended(&mut self, now: Instant, attachment: &str) {
        let known = self.known(now, attachment);
        (known.last, known.has_ended) = (now, true);
    }

    pub fn has_ended(&self, attachment: &str) -> bool {
        self.0.get(attachment).is_some_and(|known| known.has_ended)
    }

    /// Whether one may stand that a look does not show.
    pub fn may_stand(&self, now: Instant) -> bool {
        self.0.values().any(|known| !known.has_ended && known.is_new(now))
    }

    /// Whether one that has ended may still be on its way out though a look shows it free: that look may be of the time before it was made.
    pub fn may_be_leaving(&self, now: Instant) -> bool {
        self.0.values().any(|known| known.has_ended && known.is_new(now))
    }

    /// Of those that were last shown before then looks tell the truth.
    pub fn forget(&mut self, now: Instant) {
        self.0.retain(|_, known| now < known.last + BEHIND);
    }

    fn known(&mut self, now: Instant, attachment: &str) -> &mut Known {
        self.0.entry(attachment.to_owned()).or_insert(Known { first: now, last: now, has_ended: false })
    }
}
