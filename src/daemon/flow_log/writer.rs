//! From lines to the file.

use super::Told;
use super::file::LogFile;
use crate::config;
use crate::proto::flow_log::{Author, Lines, Where, lost};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

/// How soon it is tried again to say what was lost, if nothing else is to be written.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub enum Job {
    Lines(Lines),
    Reopen,
}

pub struct Writer {
    file: LogFile,
    author: Author,
    told: Arc<Told>,
    /// How many of the lost lines a line has told of.
    said: [u64; 2],
}

impl Writer {
    pub fn new(config: &config::FlowLog, author: Author, told: Arc<Told>) -> Self {
        // What was lost before this log began stands in another.
        let said = [Where::Queue, Where::Disk].map(|place| told.lost(place).load(Relaxed));
        Self { file: LogFile::new(config), author, told, said }
    }

    /// Until nobody has anything to write any more.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(RETRY) {
                Ok(Job::Lines(lines)) => self.write(&lines),
                Ok(Job::Reopen) => self.file.close(),
                Err(RecvTimeoutError::Timeout) => drop(self.confess()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.confess();
    }

    pub(super) fn write(&mut self, lines: &Lines) {
        let written = if self.confess() { self.append(lines) } else { 0 };
        self.told.lost(Where::Disk).fetch_add(lines.count - written, Relaxed);
    }

    /// Says how many lines were lost, if that has not been said. Whether the file takes more.
    fn confess(&mut self) -> bool {
        for (number, place) in [Where::Queue, Where::Disk].into_iter().enumerate() {
            let all = self.told.lost(place).load(Relaxed);
            if all > self.said[number] {
                let confession = lost(&self.author, SystemTime::now(), all - self.said[number], place);
                if self.append(&confession) < confession.count {
                    return false;
                }
                self.said[number] = all;
            }
        }
        true
    }

    /// How many are in the file.
    fn append(&mut self, lines: &Lines) -> u64 {
        let (written, result) = self.file.append(&lines.text);
        self.told.written.fetch_add(written, Relaxed);
        match result {
            Ok(()) => self.told.works(),
            Err(error) => self.told.fails(error.to_string()),
        }
        written
    }
}

#[cfg(test)]
mod tests;
