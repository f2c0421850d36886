//! Log lines of the threads that must not wait for whoever reads the log.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tracing::Level;

/// Lines that wait; what is beyond is left out.
const LINES: usize = 1024;

type Line = (Level, String);

#[derive(Debug, Clone)]
pub struct Scribe(SyncSender<Line>);

impl Scribe {
    /// The way in, and the work of an ordinary thread: it ends with the last of those who write.
    pub fn new() -> (Self, impl FnOnce() + Send + 'static) {
        let (sender, receiver) = sync_channel(LINES);
        (Self(sender), move || write(&receiver))
    }

    /// Never waits.
    pub fn say(&self, level: Level, line: String) {
        // A full queue loses lines: better than advertisements.
        let _ = self.0.try_send((level, line));
    }
}

fn write(lines: &Receiver<Line>) {
    for (level, line) in lines {
        match level {
            Level::ERROR => tracing::error!("{line}"),
            Level::WARN => tracing::warn!("{line}"),
            Level::INFO => tracing::info!("{line}"),
            _ => tracing::debug!("{line}"),
        }
    }
}
