//! A gateway or a host that asks its directory again and again: with the token that is in its file now, and knowing whether it answers.

use super::client::{Client, ClientError};
use super::refusal::Code;
use crate::config::DirectoryAt;
use crate::daemon::key_file;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Between attempts: from the first, doubled each time up to the second, each at random between its half and itself.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

#[derive(Debug)]
pub struct Session {
    at: DirectoryAt,
    client: Mutex<Option<(Client, Zeroizing<String>)>>,
    standing: Mutex<Standing>,
}

/// Whether the directory answers.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// None: it was not asked yet.
    pub reachable: Option<bool>,
    /// Of the last call, if that was not what it should be.
    pub error: Option<String>,
    /// The last answer of a directory, whatever it said.
    pub heard: Option<Instant>,
    /// Why what changes is not followed, if so.
    pub failed: Option<String>,
}

impl Session {
    /// Calls nobody yet; a token or a CA that cannot be read is told by each call until it can.
    pub fn new(at: DirectoryAt) -> Self {
        Self { at, client: Mutex::new(None), standing: Mutex::new(Standing::default()) }
    }

    pub fn at(&self) -> &DirectoryAt {
        &self.at
    }

    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last call had no answer: the next would have to wait, too.
    pub fn is_away(&self) -> bool {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).reachable == Some(false)
    }

    /// One call. If it is refused for its token, the file is read again, and if it holds another one, that is tried.
    pub async fn ask<T, Called>(&self, call: impl Fn(Client) -> Called) -> Result<T, ClientError>
    where
        Called: Future<Output = Result<T, ClientError>>,
    {
        let result = match self.client() {
            Ok(client) => match call(client.clone()).await {
                Err(refused) if refused.is(Code::Unauthenticated) => match self.renewed() {
                    Some(renewed) => call(renewed).await,
                    None => Err(refused),
                },
                result => result,
            },
            Err(error) => Err(error),
        };
        self.note(&result);
        result
    }

    /// What the files of token and CA hold now, serves from the next call on.
    pub fn renew(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn client(&self) -> Result<Client, ClientError> {
        let mut known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((client, _)) = &*known {
            return Ok(client.clone());
        }
        let token = self.token()?;
        let client = Client::new(self.at.url.as_str(), self.at.ca.as_deref(), Some(token.clone()))?;
        *known = Some((client.clone(), token));
        Ok(client)
    }

    /// None: the file holds the same token, or none.
    fn renewed(&self) -> Option<Client> {
        let token = self.token().ok()?;
        let mut known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let (client, former) = known.as_mut()?;
        if *former == token {
            return None;
        }
        *client = client.with_token(token.as_str());
        *former = token;
        Some(client.clone())
    }

    fn token(&self) -> Result<Zeroizing<String>, ClientError> {
        let file = &self.at.token_file;
        let unusable = |why: String| ClientError::Setup(format!("cannot use {} as a token: {why}", file.display()));
        let bytes = key_file::read(file).map_err(|error| unusable(format!("{error:#}")))?;
        let text = std::str::from_utf8(bytes.trim_ascii()).map_err(|_| unusable("it is no text".into()))?;
        if text.is_empty() || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(unusable("it does not hold one token: write what `portway directory token add` printed".into()));
        }
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// What changes is not followed any more. Told once for each reason; `meanwhile`: what goes on.
    pub fn cut_off(&self, error: &ClientError, meanwhile: &str) {
        let error = told(error);
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.failed.replace(error.clone()).as_ref() != Some(&error) {
            tracing::error!("the directory is of no help, {meanwhile} goes on: {error}");
        }
    }

    /// It is followed, as before or again.
    pub fn follows(&self) {
        if self.standing.lock().unwrap_or_else(PoisonError::into_inner).failed.take().is_some() {
            tracing::info!("the directory answers again");
        }
    }

    fn note<T>(&self, result: &Result<T, ClientError>) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let reachable = match result {
            Ok(_) => true,
            Err(ClientError::Refused { status, .. }) => *status < 500,
            Err(ClientError::Unreachable { .. } | ClientError::Garbage { .. } | ClientError::Setup(_)) => false,
        };
        if reachable {
            standing.heard = Some(Instant::now());
        }
        standing.reachable = Some(reachable);
        standing.error = match result {
            // What is not there is an answer like any other.
            Ok(_) => None,
            Err(error) if error.is(Code::Unknown) || error.is(Code::Compacted) => None,
            Err(error) => Some(told(error)),
        };
    }
}

/// An error with all that is behind it, in one line.
pub fn told(error: &ClientError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// How long to wait until the next attempt.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// All who lost the same directory come back at different times.
    pub fn failed(&mut self) -> Duration {
        let longest = BACKOFF.0.saturating_mul(1 << self.failures.min(16)).min(BACKOFF.1);
        self.failures = self.failures.saturating_add(1);
        // Without random bytes it waits as long as it may.
        let part = super::random::<2>().map_or(u16::MAX, u16::from_le_bytes);
        longest / 2 + (longest / 2).mul_f64(f64::from(part) / f64::from(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_further_and_further_apart_and_never_in_step() {
        let mut backoff = Backoff::default();
        let first: Vec<Duration> = (0..40).map(|_| Backoff::default().failed()).collect();
        assert!(first.iter().all(|wait| *wait >= BACKOFF.0 / 2 && *wait <= BACKOFF.0), "{first:?}");
        assert!(first.iter().any(|wait| *wait != first[0]));
        let waits: Vec<Duration> = (0..40).map(|_| backoff.failed()).collect();
        assert!(waits[39] >= BACKOFF.1 / 2 && waits.iter().all(|wait| *wait <= BACKOFF.1), "{waits:?}");
        backoff.succeeded();
        assert!(backoff.failed() <= BACKOFF.0);
    }
}
