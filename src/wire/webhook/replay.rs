//! What was taken already of those who sign.

use super::Refusal;
use super::auth::{self, Proof, Signed};
use crate::model::{Invalid, KeyId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, SystemTime};

/// Sources that are remembered at once: four times those of which an autoscaler keeps levels.
pub const SOURCES: usize = 1024;
/// Posts of one source that are remembered of one second.
pub const MOMENT: usize = 4096;

/// What a post is about: `demand/functions`, `alerts/HASH`. What is said later of the same takes the place of what was said before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(String);

impl Subject {
    pub(super) fn new(name: String) -> Self {
        Self(name)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether a post says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    First,
    /// This very post was taken, and nothing later: it is in force. To be answered as it was the first time, and nothing more.
    Again,
}

/// What tells a signed post from the others of its second: half of its tag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mark(u128);

impl From<[u8; 32]> for Mark {
    fn from(tag: [u8; 32]) -> Self {
        let (half, _) = tag.split_at(16);
        Self(half.iter().fold(0, |mark, byte| mark << 8 | u128::from(*byte)))
    }
}

impl From<Mark> for String {
    fn from(mark: Mark) -> String {
        format!("{:032x}", mark.0)
    }
}

impl TryFrom<String> for Mark {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let read = u128::from_str_radix(&text, 16).ok().filter(|_| text.len() == 32);
        read.map(Self).ok_or_else(|| "a mark has 32 hexadecimal digits".into())
    }
}

/// With a tag, a post can be made again.
impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark(..)")
    }
}

/// Whose: of each key, each subject has an order of its own.
type Whose = (KeyId, Subject);

/// Of each source, the time of what was taken last, and what was taken of that second.
///
/// A level is idempotent, so of a source only the last is worth telling from a replay: the very same once more changes nothing and is answered as it was
/// (a sender that never got the answer sends it again), and whatever is older is refused, replayed or late, since something later is in force. So there is
/// no need to remember each post for as long as it could be sent again: a thousand posts a second cost what there is of the last second, and no honest one is
/// refused for want of room.
///
/// Of a source that is not known nothing counts from before the floor: the latest time that was forgotten, or the start. What an earlier process has taken is
/// known from [`Replay::saved`], written when it stops and taken away when it is read. Without it (a crash) nothing counts that was signed
/// before the start, or within [`auth::AHEAD`] after it.
#[derive(Debug)]
pub struct Replay {
    window: Duration,
    latest: BTreeMap<Whose, Latest>,
    /// Seconds since 1970.
    floor: Option<u64>,
}

#[derive(Debug)]
struct Latest {
    /// Seconds since 1970.
    at: u64,
    marks: BTreeSet<Mark>,
}

/// A [`Replay`] for the next process. Nothing in it is secret. The levels that were said go with it: the very same post says nothing to the next process either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    floor: Option<u64>,
    latest: Vec<SavedLatest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedLatest {
    key: u8,
    subject: Subject,
    at: u64,
    marks: BTreeSet<Mark>,
}

impl Replay {
    /// `window`: how long a signed post counts ([`auth::Limits::window`]). `start`: when this process began.
    pub fn new(window: Duration, start: SystemTime) -> Self {
        let floor = Some(auth::seconds_since_1970(start).saturating_add(auth::AHEAD.as_secs()));
        Self { window, latest: BTreeMap::new(), floor }
    }

    /// After a process that has stopped in order.
    pub fn restore(window: Duration, saved: Saved) -> Result<Self, Invalid> {
        let latest = saved.latest.into_iter().map(|SavedLatest { key, subject, at, marks }| {
            let whose = (KeyId::try_from(key)?, subject);
            Ok((whose, Latest { at, marks }))
        });
        let mut replay = Self { window, latest: latest.collect::<Result<_, Invalid>>()?, floor: saved.floor };
        replay.make_room();
        Ok(replay)
    }

    pub fn saved(&self) -> Saved {
        let latest = self.latest.iter().map(|((key, subject), Latest { at, marks })| SavedLatest {
            key: key.get(),
            subject: subject.clone(),
            at: *at,
            marks: marks.clone(),
        });
        Saved { floor: self.floor, latest: latest.collect() }
    }

    /// Changes nothing. What a token has shown has no time: it counts whenever it comes.
    pub fn ask(&self, proof: &Proof, subject: &Subject) -> Result<Novelty, Refusal> {
        let Proof::Signature(Signed { key, at, mark }) = proof else { return Ok(Novelty::First) };
        let Some(known) = self.latest.get(&(*key, subject.clone())) else {
            let forgotten = self.floor.is_some_and(|floor| *at <= floor);
            return if forgotten { Err(Refusal::Forgotten) } else { Ok(Novelty::First) };
        };
        if *at < known.at {
            return Err(Refusal::Replayed { subject: subject.to_string() });
        }
        if *at > known.at {
            return Ok(Novelty::First);
        }
        match known.marks.contains(mark) {
            true => Ok(Novelty::Again),
            false if known.marks.len() >= MOMENT => Err(Refusal::TooMany { limit: MOMENT, subject: subject.to_string() }),
            false => Ok(Novelty::First),
        }
    }

    /// It was acted on.
    pub fn taken(&mut self, proof: &Proof, subject: &Subject, now: SystemTime) {
        let Proof::Signature(Signed { key, at, mark }) = proof else { return };
        let known = self.latest.entry((*key, subject.clone())).or_insert(Latest { at: *at, marks: BTreeSet::new() });
        if *at > known.at {
            *known = Latest { at: *at, marks: BTreeSet::new() };
        }
        if *at == known.at {
            known.marks.insert(*mark);
        }
        if self.latest.len() > SOURCES {
            self.forget(now);
            self.make_room();
        }
    }

    /// Lets go of what is too old to be sent again.
    fn forget(&mut self, now: SystemTime) {
        let oldest = auth::seconds_since_1970(now).saturating_sub(self.window.as_secs());
        let floor = &mut self.floor;
        self.latest.retain(|_, known| {
            let kept = known.at >= oldest;
            if !kept {
                *floor = (*floor).max(Some(known.at));
            }
            kept
        });
    }

    /// Lets go of those that have said nothing for longest.
    fn make_room(&mut self) {
        while self.latest.len() > SOURCES
            && let Some(whose) = self.latest.iter().min_by_key(|(_, known)| known.at).map(|(whose, _)| whose.clone())
            && let Some(gone) = self.latest.remove(&whose)
        {
            self.floor = self.floor.max(Some(gone.at));
        }
    }

    /// Sources and posts that are remembered.
    pub fn remembered(&self) -> (usize, usize) {
        (self.latest.len(), self.latest.values().map(|known| known.marks.len()).sum())
    }
}

#[cfg(test)]
mod tests;
