//! The log of connections: what the kernel tells of their beginnings and ends goes in, lines of JSON come out. docs/flow-log.md is about each field.
//!
//! ```text
//!  FlowLife, Place --> is it ours now? --> the tenant's bucket --> line
//!                        | no: another      | empty: counted, and said once a second
//!                        | node tells of it
//! ```
//! Nothing is remembered of a connection: when it began, and what it carried, the kernel says when it forgets it. So a flood costs no memory,
//! and a restart loses nothing. Of each tenant so many lines are written and no more, so that none hides what others do.

mod line;

use crate::model::{AttachmentName, FlowEnd, FlowLife, FlowProtocol, FlowTimeouts, NodeName, TcpState, TenantName, TenantShard};
use crate::proto::rate::{Bucket, Rate};
use line::{Line, Note};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

pub use line::{Where, lost};

/// How long what is left out is gathered before a line says so.
pub const EVERY: Duration = Duration::from_secs(1);

/// Who writes the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    pub node: NodeName,
    /// `gateway` or `host`.
    pub role: &'static str,
}

/// Now, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    pub now: Instant,
    pub wall: SystemTime,
}

/// Where a connection belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub of: &'a TenantShard,
    pub from: From<'a>,
}

/// What began it. None: it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From<'a> {
    /// As a gateway knows it.
    Host(Option<&'a NodeName>),
    /// As a function host knows it.
    Attachment(Option<&'a AttachmentName>),
}

/// The shards that are here, and since when. None: since before this process began.
pub type Held = BTreeMap<TenantShard, Option<SystemTime>>;

/// Whole lines, each with its newline.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lines {
    pub text: String,
    pub count: u64,
}

/// These only ever grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Lines that were one too many for their tenant.
    pub suppressed: u64,
    /// Times that the kernel had no room for what it had to tell.
    pub missed: u64,
}

#[derive(Debug)]
pub struct FlowLog {
    author: Author,
    /// Of each tenant.
    rate: Rate,
    timeouts: FlowTimeouts,
    began: SystemTime,
    /// None: there is no group, all are here.
    held: Option<Held>,
    /// Those that have gone since all was read last: what the kernel told before that is still to come.
    leaving: Held,
    tenants: BTreeMap<TenantName, Tenant>,
    missed: Option<Missed>,
    out: Lines,
    pub counters: Counters,
}

#[derive(Debug)]
struct Tenant {
    bucket: Bucket,
    suppressed: Option<Suppressed>,
}

/// What is still to be said.
#[derive(Debug)]
struct Suppressed {
    since: Stamp,
    starts: u64,
    ends: u64,
}

#[derive(Debug)]
struct Missed {
    since: Stamp,
    times: u64,
}

/// Why a connection is no more, as far as it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Both sides have closed it.
    Closed,
    /// One side has reset it, or refused it.
    Reset,
    /// Nothing was heard of it for as long as the kernel keeps such connections.
    Expired,
    /// It was never answered.
    Unanswered,
    /// It was deleted: its rules, its host or its attachment are no more; somebody has; or the table was full.
    Removed,
}

impl FlowLog {
    pub fn new(at: Stamp, author: Author, rate: Rate) -> Self {
        Self {
            author,
            rate,
            timeouts: FlowTimeouts::default(),
            began: at.wall,
            held: None,
            leaving: Held::new(),
            tenants: BTreeMap::new(),
            missed: None,
            out: Lines::default(),
            counters: Counters::default(),
        }
    }

    pub fn set_timeouts(&mut self, timeouts: FlowTimeouts) {
        self.timeouts = timeouts;
    }

    /// The log begins. `gapless`: what the kernel has told since the one before ended is still to come.
    pub fn open(&mut self, at: Stamp, gapless: bool) {
        self.note(at.wall, Note::Opened { gapless });
    }

    /// The shards that are here, of a gateway in a group. To be told before what happens to their connections.
    pub fn hold(&mut self, at: Stamp, held: Held) {
        let before = self.held.as_ref();
        if before == Some(&held) {
            return;
        }
        let gone: Held =
            before.into_iter().flatten().filter(|(of, _)| !held.contains_key(*of)).map(|(of, since)| (of.clone(), *since)).collect();
        let stood = |of: &TenantShard, since| before.is_some_and(|before| before.get(of) == Some(since));
        let come = held.iter().filter_map(|(of, since)| Some((of.clone(), (*since).filter(|_| !stood(of, since))?)));
        for (of, since) in come.collect::<Vec<_>>() {
            self.note(since, Note::TakenOver { tenant: &of.tenant, shard: of.shard });
            self.leaving.remove(&of);
        }
        for of in gone.keys() {
            self.note(at.wall, Note::LetGo { tenant: &of.tenant, shard: of.shard });
        }
        self.leaving.extend(gone);
        self.held = Some(held);
    }

    /// A connection has begun or ended.
    pub fn life(&mut self, at: Stamp, life: &FlowLife, place: Place) {
        if !self.is_ours(life, place.of) {
            return;
        }
        let tenant = match self.tenants.get_mut(&place.of.tenant) {
            Some(tenant) => tenant,
            None => self.tenants.entry(place.of.tenant.clone()).or_insert_with(|| Tenant { bucket: Bucket::new(at.now), suppressed: None }),
        };
        if !tenant.bucket.take(at.now, self.rate) {
            let suppressed = tenant.suppressed.get_or_insert(Suppressed { since: at, starts: 0, ends: 0 });
            *if life.end.is_some() { &mut suppressed.ends } else { &mut suppressed.starts } += 1;
            self.counters.suppressed += 1;
            return;
        }
        let end = life.end.map(|end| self.end(at, life, &end, place.of));
        self.out.add(&Line::new(&self.author, at.wall, life, place, end));
    }

    /// The kernel has thrown some of what it had to tell away.
    pub fn missed(&mut self, at: Stamp) {
        self.counters.missed += 1;
        self.missed.get_or_insert(Missed { since: at, times: 0 }).times += 1;
    }

    /// All that the kernel had told has been read.
    pub fn drained(&mut self) {
        self.leaving.clear();
    }

    /// When to call [`FlowLog::handle_timeout`] at the latest: something is still to be said.
    pub fn next_timeout(&self) -> Option<Instant> {
        let suppressed = self.tenants.values().filter_map(|tenant| Some(tenant.suppressed.as_ref()?.since.now));
        suppressed.chain(self.missed.as_ref().map(|missed| missed.since.now)).min().map(|since| since + EVERY)
    }

    pub fn handle_timeout(&mut self, at: Stamp) {
        self.say(at, |since| since.now + EVERY <= at.now);
    }

    /// Says all that is still to be said: the log ends here.
    pub fn finish(&mut self, at: Stamp) {
        self.say(at, |_| true);
        self.note(at.wall, Note::Closed {});
    }

    /// What there is to write.
    pub fn take(&mut self) -> Option<Lines> {
        (self.out.count > 0).then(|| std::mem::take(&mut self.out))
    }

    fn say(&mut self, at: Stamp, due: impl Fn(&Stamp) -> bool) {
        if let Some(Missed { since, times }) = self.missed.take_if(|missed| due(&missed.since)) {
            self.note(at.wall, Note::Missed { since: line::time(since.wall), times });
        }
        let (out, author) = (&mut self.out, &self.author);
        for (name, tenant) in &mut self.tenants {
            if let Some(Suppressed { since, starts, ends }) = tenant.suppressed.take_if(|suppressed| due(&suppressed.since)) {
                let note = Note::Suppressed { tenant: name, since: line::time(since.wall), count: starts + ends, starts, ends };
                out.add(&note.by(author, at.wall));
            }
        }
    }

    fn note(&mut self, wall: SystemTime, note: Note) {
        self.out.add(&note.by(&self.author, wall));
    }

    /// Copies of connections come and go where they are kept, too: whoever has the shard tells of it.
    fn is_ours(&self, life: &FlowLife, of: &TenantShard) -> bool {
        let Some(held) = &self.held else { return true };
        // What is deleted once a shard has gone is another node's now; what ended by itself did so before.
        let ended_before = || self.leaving.contains_key(of) && life.by == 0;
        let copied = life.by != 0 && life.end.is_none();
        !copied && (held.contains_key(of) || ended_before())
    }

    fn end(&self, at: Stamp, life: &FlowLife, end: &FlowEnd, of: &TenantShard) -> line::End {
        let began = end.began.map(since_1970);
        let forgotten = end.ended.map_or(at.wall, since_1970);
        let idle = self.kept(life).saturating_sub(end.left);
        let ended =
            forgotten.checked_sub(Duration::from_secs(idle.into())).unwrap_or(forgotten).max(began.unwrap_or(SystemTime::UNIX_EPOCH));
        let since = self.held.as_ref().map(|held| held.get(of).or(self.leaving.get(of)).copied().flatten());
        let taken_over = match (since, began) {
            (None, _) => Some(false),
            (Some(Some(since)), Some(began)) => Some(began < since),
            // Here since before this process began: what it does not remember.
            (Some(None), Some(began)) => (began >= self.began).then_some(false),
            (Some(_), None) => None,
        };
        line::End::new(began, ended, end.counted, reason(life, end), taken_over)
    }

    /// For how long the kernel keeps such a connection that says nothing more, where that is certain. In seconds.
    fn kept(&self, life: &FlowLife) -> u32 {
        let timeouts = &self.timeouts;
        match (life.key.protocol, life.tcp) {
            (FlowProtocol::Tcp { .. }, Some(TcpState::TimeWait)) => timeouts.tcp_time_wait,
            (FlowProtocol::Tcp { .. }, Some(TcpState::Close)) => timeouts.tcp_close,
            (FlowProtocol::Tcp { .. }, Some(TcpState::SynSent)) => timeouts.tcp_syn_sent,
            (FlowProtocol::Tcp { .. }, _) => 0,
            (FlowProtocol::Udp { .. }, _) if life.status.assured => timeouts.udp_stream,
            (FlowProtocol::Udp { .. }, _) => timeouts.udp,
            (FlowProtocol::Icmp { .. }, _) => timeouts.icmp,
        }
    }
}

impl Lines {
    fn add(&mut self, line: &impl serde::Serialize) {
        // Names and numbers can be written.
        if let Ok(json) = serde_json::to_string(line) {
            self.text += &json;
            self.text.push('\n');
            self.count += 1;
        }
    }
}

fn reason(life: &FlowLife, end: &FlowEnd) -> Reason {
    match life.tcp {
        Some(TcpState::TimeWait | TcpState::LastAck) => Reason::Closed,
        Some(TcpState::Close) => Reason::Reset,
        _ if end.left > 0 => Reason::Removed,
        _ if !life.status.seen_reply => Reason::Unanswered,
        _ => Reason::Expired,
    }
}

fn since_1970(nanoseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

#[cfg(test)]
mod tests;
