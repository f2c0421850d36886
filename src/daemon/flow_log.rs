//! The flow log of a daemon: docs/flow-log.md.
//!
//! ```text
//!  kernel --notices--> reader: proto::flow_log --lines, so many at most--> writer --> file
//! ```
//! Two threads, so that a disk that hangs keeps nobody from reading what the kernel tells; and a socket of its own, so that nobody who reads slowly holds
//! up state sync. It tells of beginnings and ends alone, a third of what state sync has to hear. The socket outlives the process, with what waits in it.

mod file;
mod reader;
mod writer;

use super::bell::{Bell, bell};
use crate::config;
use crate::kernel::conntrack::FlowWatch;
use crate::metrics::Page;
use crate::model::FlowLife;
use crate::plan::{State, Sysctl};
use crate::proto::flow_log::{Author, Held, Place, Where};
use reader::{Order, Reader};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use writer::Writer;

/// As the next process finds the socket.
const NAME: &str = "flow-log";
/// Bytes of notices that may wait: at 20,000 connections a second, about a second of them.
const BUFFER: usize = 32 << 20;
/// Pieces, of 1,024 lines at most, that may wait for the disk.
const QUEUE: usize = 64;
/// How long the end of a log may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a role knows of connections. It is asked by a thread of the log.
pub trait Knows: Send + 'static {
    /// The shards that are here, of a gateway in a group.
    fn held(&self) -> Option<Held>;

    /// Says where a connection belongs; nothing, if it is no function's.
    fn place(&mut self, life: &FlowLife, take: &mut dyn FnMut(Place));
}

#[derive(Debug, Default)]
pub struct FlowLog {
    told: Arc<Told>,
    /// Open from the start on: what happens before the first line can be written waits there.
    socket: Option<OwnedFd>,
    running: Option<Running>,
    /// In the socket waits what has been told since the log before ended.
    gapless: bool,
    /// What the kernel cannot do.
    lacks: Vec<String>,
}

#[derive(Debug)]
struct Running {
    settings: config::FlowLog,
    author: Author,
    reader: Bell<Order>,
    /// Ends with the writer.
    over: Receiver<()>,
}

/// What the threads tell of themselves. Numbers only ever grow.
#[derive(Debug, Default)]
struct Told {
    written: AtomicU64,
    suppressed: AtomicU64,
    missed: AtomicU64,
    /// In the queue, and by the disk.
    lost: [AtomicU64; 2],
    errors: AtomicU64,
    /// Why nothing is written at present.
    failure: Mutex<Option<String>>,
}

impl Told {
    fn lost(&self, place: Where) -> &AtomicU64 {
        match place {
            Where::Queue => &self.lost[0],
            Where::Disk => &self.lost[1],
        }
    }

    /// Tells the log once of what is so for long.
    fn fails(&self, why: String) {
        self.errors.fetch_add(1, Relaxed);
        let mut failure = self.failure();
        if failure.as_ref() != Some(&why) {
            tracing::error!("the flow log is not written: {why}");
            *failure = Some(why);
        }
    }

    fn works(&self) {
        if self.failure().take().is_some() {
            tracing::info!("the flow log is written again");
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The settings that it needs.
pub fn settings(config: Option<&config::FlowLog>) -> impl Iterator<Item = Sysctl> {
    config.into_iter().flat_map(|_| [Sysctl::conntrack_acct(), Sysctl::conntrack_timestamp()])
}

impl FlowLog {
    /// Hears what the kernel tells from now on, or what it has told since an earlier process stopped listening.
    pub fn open(&mut self, config: Option<&config::FlowLog>, inherited: &mut BTreeMap<String, OwnedFd>) {
        self.socket = inherited.remove(NAME).filter(|_| config.is_some());
        self.gapless = self.socket.is_some();
        if config.is_some() {
            self.listen();
        }
    }

    fn listen(&mut self) {
        if self.socket.is_some() {
            return;
        }
        self.gapless = false;
        match FlowWatch::lives(BUFFER).map(|watch| watch.as_fd().try_clone_to_owned()) {
            Ok(Ok(socket)) => self.socket = Some(socket),
            Ok(Err(error)) => self.told.fails(format!("what the kernel tells of connections cannot be heard: {error}")),
            Err(error) => self.told.fails(format!("what the kernel tells of connections cannot be heard: {error}")),
        }
    }

    /// Asks for what of the settings the kernel has.
    pub fn want(&mut self, config: Option<&config::FlowLog>, observed: &State, desired: &mut State) {
        let (has, lacks): (Vec<Sysctl>, Vec<Sysctl>) = settings(config).partition(|setting| observed.sysctls.contains_key(setting));
        desired.sysctls.extend(has.into_iter().map(|setting| (setting, "1".to_owned())));
        self.lacks = lacks
            .iter()
            .map(|setting| format!("this kernel has no {}: figures of connections are missing", setting.key.as_str()))
            .collect();
    }

    /// As it is configured, from now on.
    pub fn follow<K: Knows>(&mut self, config: Option<&config::FlowLog>, author: &Author, knows: impl FnOnce() -> K) {
        let stands = self.running.as_ref().map(|running| (&running.settings, &running.author));
        if stands == config.map(|config| (config, author)) {
            return;
        }
        self.stop();
        let Some(config) = config else {
            self.socket = None;
            self.told.failure().take();
            return;
        };
        self.listen();
        if let Err(error) = self.start(config, author, knows) {
            self.told.fails(format!("{error:#}"));
        }
    }

    fn start<K: Knows>(&mut self, config: &config::FlowLog, author: &Author, knows: impl FnOnce() -> K) -> anyhow::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let watch = FlowWatch::inherit(socket.try_clone()?);
        let (reader, inbox) = bell()?;
        let (sender, jobs) = sync_channel(QUEUE);
        let (alive, over) = sync_channel(0);
        let writer = Writer::new(config, author.clone(), self.told.clone());
        std::thread::Builder::new().name("flow-log-file".into()).spawn(move || {
            let _alive = alive;
            writer.run(&jobs);
        })?;
        let work = Reader::new(config, author.clone(), watch, Box::new(knows()), self.told.clone(), sender, self.gapless);
        std::thread::Builder::new().name("flow-log".into()).spawn(move || work.run(&inbox))?;
        self.told.failure().take();
        self.gapless = true;
        self.running = Some(Running { settings: config.clone(), author: author.clone(), reader, over });
        Ok(())
    }

    /// Somebody may have put another file in the place of the one that is written.
    pub fn reopen(&self) {
        self.running.iter().for_each(|running| running.reader.send(Order::Reopen));
    }

    /// Writes what there is to write, if the disk takes it soon enough. The socket stays open, for another process.
    pub fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.reader.send(Order::Stop);
        if running.over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the end of the flow log is left to the disk, which does not take it");
        }
    }

    pub fn descriptor(&self) -> std::io::Result<Option<(String, OwnedFd)>> {
        self.socket.as_ref().map(|socket| Ok((NAME.to_owned(), socket.try_clone()?))).transpose()
    }

    /// Null: there is none.
    pub fn status(&self, config: Option<&config::FlowLog>) -> Value {
        let Some(config) = config else { return Value::Null };
        let told = &self.told;
        let warnings: Vec<String> = told.failure().clone().into_iter().chain(self.lacks.clone()).collect();
        json!({
            "file": config.file, "written": told.written.load(Relaxed), "suppressed": told.suppressed.load(Relaxed),
            "missed": told.missed.load(Relaxed), "lost": told.lost.iter().map(|lost| lost.load(Relaxed)).sum::<u64>(),
            "errors": told.errors.load(Relaxed), "warnings": warnings,
        })
    }

    pub fn metrics(&self, config: Option<&config::FlowLog>, out: &mut Page) {
        if config.is_none() {
            return;
        }
        let told = &self.told;
        out.counter("portway_flow_log_written_lines", "Lines of the flow log", &[], told.written.load(Relaxed));
        let help = "Lines of the flow log that were one too many for their tenant";
        out.counter("portway_flow_log_suppressed_lines", help, &[], told.suppressed.load(Relaxed));
        for (place, lost) in ["queue", "disk"].into_iter().zip(&told.lost) {
            let help = "Lines of the flow log that could not be written";
            out.counter("portway_flow_log_lost_lines", help, &[("place", place)], lost.load(Relaxed));
        }
        let help = "Times that the kernel had no room for what it had to tell the flow log";
        out.counter("portway_flow_log_missed", help, &[], told.missed.load(Relaxed));
        out.counter("portway_flow_log_errors", "Attempts to write the flow log that failed", &[], told.errors.load(Relaxed));
    }
}
