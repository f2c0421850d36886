//! What a gateway has counted, as it was read, and what becomes of two such readings. Nothing in a reading is believed unseen.

use serde::Serialize;
use std::time::{Duration, Instant};

/// What was read from a gateway. Numbers as they come over the wire (Prometheus knows floats only), so they may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    /// Seconds of the gateway's own clock at which all this was counted; a clock that only goes forwards, since whenever. A reading that somebody has kept and
    /// serves again is known by it.
    pub clock: f64,
    /// Bits received, ever. A gateway sends what it receives, and a cloud's bandwidth holds for each direction by itself.
    pub bits: f64,
    /// Packets received and sent, ever.
    pub packets: f64,
    pub conntrack: Option<Conntrack>,
    /// Which part of its processors' time goes to packets (softirq), 0 to 1: of the busiest processor that takes packets, not of all, as a queue of a network card
    /// is served by one.
    pub softirq: Option<f64>,
    /// What the cloud has held back, ever, each by [`Allowance`] as its index. None: not known here.
    pub exceeded: [Option<f64>; Allowance::ALL.len()],
}

/// net.netfilter.nf_conntrack_count and nf_conntrack_max.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conntrack {
    pub entries: f64,
    pub room: f64,
}

/// The counters of the Elastic Network Adapter of packets that were queued or dropped beyond what the instance may (`ethtool -S`, NAME_allowance_exceeded; EC2 User
/// Guide, "Monitor network performance for ENA settings"). One that rises is loss already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowance {
    BandwidthIn,
    BandwidthOut,
    Packets,
    Connections,
    /// Packets to the cloud's own services: DNS, metadata, time. These are of the machine itself and no more nodes make them fewer, so it is shown and no alarm.
    LinkLocal,
}

impl Allowance {
    pub const ALL: [Allowance; 5] =
        [Allowance::BandwidthIn, Allowance::BandwidthOut, Allowance::Packets, Allowance::Connections, Allowance::LinkLocal];

    /// The name of its counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Allowance::BandwidthIn => "bw_in_allowance_exceeded",
            Allowance::BandwidthOut => "bw_out_allowance_exceeded",
            Allowance::Packets => "pps_allowance_exceeded",
            Allowance::Connections => "conntrack_allowance_exceeded",
            Allowance::LinkLocal => "linklocal_allowance_exceeded",
        }
    }

    /// Whether more nodes mend it.
    pub fn is_of_traffic(self) -> bool {
        !matches!(self, Allowance::LinkLocal)
    }
}

/// Why a reading is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Nonsense {
    /// NaN or infinite.
    #[error("it holds what is no number")]
    NoNumber,
    #[error("it holds a negative number")]
    Negative,
    /// A fraction above 1, no room for connections, or more in a second than any machine carries.
    #[error("it holds what cannot be")]
    Impossible,
    /// A counter or its clock went back: the gateway or its network card has started anew.
    #[error("its counters went back: it has started anew")]
    Restarted,
    /// It is of the same moment as the one before, or a moment later: there is no rate to tell.
    #[error("it was counted when the one before was")]
    Repeated,
    /// Between two readings its clock has gone much further than ours, or much less far.
    #[error("its clock and ours disagree on how long ago the one before was")]
    Clock,
}

impl Nonsense {
    pub const ALL: [Nonsense; 6] =
        [Nonsense::NoNumber, Nonsense::Negative, Nonsense::Impossible, Nonsense::Restarted, Nonsense::Repeated, Nonsense::Clock];

    /// A metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Nonsense::NoNumber => "no_number",
            Nonsense::Negative => "negative",
            Nonsense::Impossible => "impossible",
            Nonsense::Restarted => "restarted",
            Nonsense::Repeated => "repeated",
            Nonsense::Clock => "clock",
        }
    }
}

/// Something that was told, and when it was last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told<T> {
    pub at: Instant,
    pub value: T,
}

/// What a gateway did between two readings. What it has told before and tells no more is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// When the later one came.
    pub at: Instant,
    /// Per second.
    pub bits: f64,
    /// Per second.
    pub packets: f64,
    /// No more entries than there is room.
    pub conntrack: Option<Told<Conntrack>>,
    /// 0 to 1.
    pub softirq: Option<Told<f64>>,
    /// What of the cloud's counters has risen, by [`Allowance`].
    pub risen: [bool; Allowance::ALL.len()],
}

impl Rates {
    pub fn risen(&self) -> impl Iterator<Item = Allowance> {
        Allowance::ALL.into_iter().filter(|allowance| self.risen[*allowance as usize])
    }
}

/// Readings nearer to each other than this tell no rate.
const APART: f64 = 0.05;
/// Seconds by which a reading may be late without its clock being wrong.
const LATE: f64 = 2.0;
/// More than any instance has: 10 Tbit/s and 10 billion packets a second.
const MOST: [f64; 2] = [1e13, 1e10];

/// One gateway's readings. What came before a reading that is not believed is kept; what it counts from is the last that could be right.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    last: Option<(Instant, Sample)>,
    rates: Option<Rates>,
    /// It has started anew since the last rates, and may have less to tell now.
    anew: bool,
}

impl Meter {
    /// None: the first one, by which nothing is known yet.
    pub fn read(&mut self, now: Instant, sample: Sample) -> Result<Option<Rates>, Nonsense> {
        sample.check()?;
        let Some((at, last)) = self.last else {
            self.last = Some((now, sample));
            return Ok(None);
        };
        if sample.clock >= last.clock && sample.clock - last.clock < APART {
            return Err(Nonsense::Repeated);
        }
        self.last = Some((now, sample));
        let read = sample.since(&last, now, now.saturating_duration_since(at));
        self.anew |= read == Err(Nonsense::Restarted);
        let mut rates = read?;
        let anew = std::mem::take(&mut self.anew);
        if let Some(before) = self.rates.filter(|_| !anew) {
            rates.conntrack = rates.conntrack.or(before.conntrack);
            rates.softirq = rates.softirq.or(before.softirq);
        }
        self.rates = Some(rates);
        Ok(Some(rates))
    }

    /// What it did last, however long ago.
    pub fn rates(&self) -> Option<&Rates> {
        self.rates.as_ref()
    }
}

impl Sample {
    fn check(&self) -> Result<(), Nonsense> {
        let [entries, room] = self.conntrack.map_or([0.0, 1.0], |conntrack| [conntrack.entries, conntrack.room]);
        let softirq = self.softirq.unwrap_or_default();
        let [bw_in, bw_out, packets, connections, link_local] = self.exceeded.map(Option::unwrap_or_default);
        let counted = [self.clock, self.bits, self.packets, entries, room, softirq, bw_in, bw_out, packets, connections, link_local];
        for number in counted {
            if !number.is_finite() {
                return Err(Nonsense::NoNumber);
            }
            if number < 0.0 {
                return Err(Nonsense::Negative);
            }
        }
        // The kernel counts an entry before it looks whether there is room, and a tick may be counted twice.
        let possible = room >= 1.0 && entries <= room * 1.1 && softirq <= 1.1;
        if possible { Ok(()) } else { Err(Nonsense::Impossible) }
    }

    fn since(&self, last: &Sample, now: Instant, ours: Duration) -> Result<Rates, Nonsense> {
        let (mut risen, mut anew) = ([false; Allowance::ALL.len()], false);
        for (index, risen) in risen.iter_mut().enumerate() {
            if let (Some(now), Some(before)) = (self.exceeded[index], last.exceeded[index]) {
                *risen = now > before;
                anew |= now < before;
            }
        }
        if anew || self.clock < last.clock || self.bits < last.bits || self.packets < last.packets {
            return Err(Nonsense::Restarted);
        }
        let (its, ours) = (self.clock - last.clock, ours.as_secs_f64());
        if its > 2.0 * ours + LATE || ours > 2.0 * its + LATE {
            return Err(Nonsense::Clock);
        }
        let [bits, packets] = [(self.bits - last.bits) / its, (self.packets - last.packets) / its];
        if bits > MOST[0] || packets > MOST[1] {
            return Err(Nonsense::Impossible);
        }
        let conntrack = self.conntrack.map(|Conntrack { entries, room }| Conntrack { entries: entries.min(room), room });
        let conntrack = conntrack.map(|value| Told { at: now, value });
        let softirq = self.softirq.map(|busy| Told { at: now, value: busy.min(1.0) });
        Ok(Rates { at: now, bits, packets, conntrack, softirq, risen })
    }
}
