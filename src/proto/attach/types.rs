//! What there is to say about interfaces, and what becomes of it.

use crate::model::{EniId, Failure, InstanceId, Why};
use crate::wire::arp::Mac;
use serde::Serialize;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// One with all the tags, as the cloud describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eni {
    pub id: EniId,
    pub mac: Mac,
    pub stand: Stand,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    Free,
    /// Attached to this instance at the right index, or about to be, by this attachment.
    Ours(String),
    /// It was, by this attachment, and is on its way out.
    Leaving(String),
    /// Attached to this instance by somebody else, at this index.
    Misplaced(u8),
    /// Another's, or being made or deleted; or this instance's primary one.
    Elsewhere,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say this to the cloud.
    Call { number: u64, call: Call },
    /// The answer is of no use any more.
    Drop(u64),
    /// For the log: the kernel has it, after so long.
    Here { eni: EniId, took: Duration },
    /// For the log: it is attached, and the kernel has no interface of this MAC.
    Late { eni: EniId, mac: Mac },
    /// For the log: the kernel has it no more.
    Lost { eni: EniId },
    /// For the log: nothing of ours is left.
    Gone,
    /// For the log: of so many with these tags none is free. `row`: so many times since the last that was good, 1 the first.
    None { all: usize, row: u32 },
    /// For the log: another was faster.
    Taken { eni: EniId },
    /// For the log. `row`: so many of this kind since the last that was good, 1 the first.
    Failed { failure: Failure, row: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Which there are.
    Look,
    Attach(EniId),
    /// By its attachment.
    Detach(String),
}

/// What a good call comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Seen(Vec<Eni>),
    /// By this attachment.
    Attached(String),
    Detached,
    /// It is another's; or, to be detached, nobody's.
    Taken,
    /// The index has another one; and what to do about it.
    Occupied(String),
}

/// They only ever grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    calls: BTreeMap<(&'static str, &'static str), u64>,
    /// Looks that found none free.
    pub none: u64,
    /// Times that the kernel lost one.
    pub lost: u64,
}

/// What there is to show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// `here`, `coming`, `wanted`, `going` or `gone`.
    pub state: &'static str,
    pub eni: Option<EniId>,
    /// Seconds from the attachment to the kernel's interface, as far as this process has seen it.
    pub took: Option<f64>,
    /// In a row.
    pub failures: u32,
    pub failure: Option<String>,
}

impl Eni {
    /// In which order an instance tries those that are free.
    pub(super) fn rank(&self, instance: &InstanceId) -> u64 {
        let mut hasher = DefaultHasher::new();
        (instance.as_str(), self.id.as_str()).hash(&mut hasher);
        hasher.finish()
    }
}

impl Call {
    /// A metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Call::Look => "look",
            Call::Attach(_) => "attach",
            Call::Detach(_) => "detach",
        }
    }
}

impl Counters {
    /// By what was called, and what became of it: `done`, `taken` or why not.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.calls.iter().map(|((call, result), count)| (*call, *result, *count))
    }

    pub(super) fn count(&mut self, call: &Call, outcome: &Result<Answer, Failure>) {
        let result = match outcome {
            Ok(Answer::Seen(_) | Answer::Attached(_) | Answer::Detached) => "done",
            Ok(Answer::Taken) => "taken",
            Ok(Answer::Occupied(_)) => Why::Refused.as_str(),
            Err(failure) => failure.why.as_str(),
        };
        *self.calls.entry((call.as_str(), result)).or_default() += 1;
    }
}
