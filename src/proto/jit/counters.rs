//! What the machine did, and what it holds.

use super::refusal::Refusal;

/// Everything here only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// First steps.
    pub claims: u64,
    /// Second steps.
    pub proofs: u64,
    pub look_ups: u64,
    /// Look-ups without an answer, or with garbage.
    pub failed_look_ups: u64,
    /// Initiations served with an answer that was not fresh any more.
    pub served_stale: u64,
    /// Peers that were installed.
    pub installed: u64,
    /// Authentic initiations of peers that were there already.
    pub renewed: u64,
    /// Authentic initiations of peers that the configuration names.
    pub configured: u64,
    pub reaped: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl Counters {
    /// Initiations that led to nothing for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize]
    }

    /// All reasons with what was counted.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> + use<> {
        Refusal::ALL.into_iter().zip(self.refused)
    }

    pub fn refuse(&mut self, why: Refusal) {
        self.refused[why as usize] += 1;
    }
}

/// How much of everything there is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    pub sources: usize,
    pub repeats: usize,
    /// Initiations that wait for the first step.
    pub backlog: usize,
    /// Steps that are with workers.
    pub at_work: usize,
    /// Initiations that wait for the directory or the second step.
    pub waiting: usize,
    /// Look-ups that are out.
    pub looking_up: usize,
    /// Look-ups that are out or wait.
    pub asked: usize,
    /// Answers that are remembered.
    pub known: usize,
    pub unknown: usize,
    /// Peers that stand or are about to.
    pub peers: usize,
    /// Peers that are about to.
    pub installing: usize,
    pub stamps: usize,
    /// Keys whose last timestamp had to be forgotten: recordings of theirs count as new.
    pub stamps_forgotten: u64,
}
