//! What became of a call to somebody else's service.

use serde::Serialize;
use std::time::Duration;

/// Why a call did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub why: Why,
    /// What happened and how to mend it; one line.
    pub text: String,
    /// How long it asks to be left alone.
    pub after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It will not do it; saying so again at once is of no use.
    Refused,
    /// Too many calls.
    Throttled,
    /// It answers that it cannot now.
    Unavailable,
    TimedOut,
    Unreachable,
}

impl Why {
    pub const ALL: [Why; 5] = [Why::Refused, Why::Throttled, Why::Unavailable, Why::TimedOut, Why::Unreachable];

    /// A metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Refused => "refused",
            Why::Throttled => "throttled",
            Why::Unavailable => "unavailable",
            Why::TimedOut => "timed_out",
            Why::Unreachable => "unreachable",
        }
    }

    /// By the status of an answer (RFC 9110 section 15; 429: RFC 6585 section 4). None: it is taken.
    pub fn of_status(status: u16) -> Option<Why> {
        match status {
            200..=299 => None,
            429 => Some(Why::Throttled),
            408 | 425 | 500.. => Some(Why::Unavailable),
            _ => Some(Why::Refused),
        }
    }
}
