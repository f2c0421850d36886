//! From the kernel's notices to lines.

use super::writer::Job;
use super::{Knows, Told};
use crate::config;
use crate::daemon::bell::Inbox;
use crate::kernel::conntrack::{FlowWatch, Notices};
use crate::kernel::flow_timeouts;
use crate::proto::flow_log::{Author, Counters, FlowLog, Stamp, Where};
use crate::proto::rate::Rate;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant, SystemTime};

/// How often it looks which shards are here, if nothing happens; and how long it waits after a failure.
const LOOK: Duration = Duration::from_secs(1);
/// The kernel's timeouts may be changed; they hardly ever are.
const RENEW: Duration = Duration::from_secs(60);
/// What the kernel has told before the end is read, this many times 1,024 at most: it may go on telling.
const LAST_TURNS: usize = 64;

#[derive(Debug)]
pub enum Order {
    Reopen,
    Stop,
}

pub struct Reader {
    log: FlowLog,
    watch: FlowWatch,
    knows: Box<dyn Knows>,
    told: Arc<Told>,
    /// What of the counters has been told.
    counted: Counters,
    writer: SyncSender<Job>,
    /// The writer is still to be told.
    reopen: bool,
    renewed: Instant,
}

impl Reader {
    pub fn new(
        config: &config::FlowLog,
        author: Author,
        watch: FlowWatch,
        knows: Box<dyn Knows>,
        told: Arc<Told>,
        writer: SyncSender<Job>,
        gapless: bool,
    ) -> Self {
        let rate = Rate { per_second: config.rate, burst: config.burst };
        let mut log = FlowLog::new(stamp(), author, rate);
        log.set_timeouts(flow_timeouts());
        log.open(stamp(), gapless);
        Self { log, watch, knows, told, counted: Counters::default(), writer, reopen: false, renewed: Instant::now() }
    }

    pub fn run(mut self, inbox: &Inbox<Order>) {
        let mut state = Ok(Notices::More);
        loop {
            self.wait(inbox, state);
            for order in inbox.take() {
                match order {
                    Order::Reopen => self.reopen = true,
                    Order::Stop => return self.end(),
                }
            }
            state = self.turn();
        }
    }

    fn wait(&self, inbox: &Inbox<Order>, state: Result<Notices, ()>) {
        let due = self.log.next_timeout().map_or(LOOK, |due| due.saturating_duration_since(Instant::now()).min(LOOK));
        let wait = if matches!(state, Ok(Notices::More | Notices::Overflow)) { Duration::ZERO } else { due };
        let timeout = PollTimeout::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        let mut ready = [inbox.as_fd(), self.watch.as_fd()].map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
        // What cannot be read would be ready all the time.
        let listened = if state.is_ok() { &mut ready[..] } else { &mut ready[..1] };
        match poll(listened, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => tracing::error!(%error, "waiting for connections to log failed"),
        }
    }

    /// Reads some of what the kernel has told.
    fn turn(&mut self) -> Result<Notices, ()> {
        let at = stamp();
        if at.now.duration_since(self.renewed) >= RENEW {
            self.renewed = at.now;
            self.log.set_timeouts(flow_timeouts());
        }
        // First, as connections begin once a shard is here.
        if let Some(held) = self.knows.held() {
            self.log.hold(at, held);
        }
        let (log, knows) = (&mut self.log, &mut self.knows);
        let read = self.watch.read_lives(|life| knows.place(&life, &mut |place| log.life(at, &life, place)));
        match &read {
            Ok(Notices::Drained) => log.drained(),
            Ok(Notices::More) => {}
            Ok(Notices::Overflow) => log.missed(at),
            Err(error) => {
                log.missed(at);
                self.told.fails(format!("what the kernel tells of connections cannot be read: {error}"));
            }
        }
        if log.next_timeout().is_some_and(|due| due <= at.now) {
            log.handle_timeout(at);
        }
        self.hand_on();
        read.map_err(drop)
    }

    /// Never waits.
    fn hand_on(&mut self) {
        let (now, before) = (self.log.counters, std::mem::replace(&mut self.counted, self.log.counters));
        self.told.suppressed.fetch_add(now.suppressed - before.suppressed, Relaxed);
        self.told.missed.fetch_add(now.missed - before.missed, Relaxed);
        self.reopen = self.reopen && self.writer.try_send(Job::Reopen).is_err();
        let Some(lines) = self.log.take() else { return };
        if let Err(TrySendError::Full(Job::Lines(lines)) | TrySendError::Disconnected(Job::Lines(lines))) =
            self.writer.try_send(Job::Lines(lines))
        {
            self.told.lost(Where::Queue).fetch_add(lines.count, Relaxed);
        }
    }

    fn end(mut self) {
        for _ in 0..LAST_TURNS {
            if !matches!(self.turn(), Ok(Notices::More | Notices::Overflow)) {
                break;
            }
        }
        self.log.finish(stamp());
        self.hand_on();
    }
}

fn stamp() -> Stamp {
    Stamp { now: Instant::now(), wall: SystemTime::now() }
}
