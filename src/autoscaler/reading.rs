//! A gateway's page of metrics as what the decision machine takes. docs/metrics.md says what each number is.

use crate::proto::retire::Load;
use crate::proto::scale::{Allowance, Conntrack, Sample};
use crate::proto::vrrp::State;
use crate::wire::exposition::{self, Broken};
use std::collections::{BTreeMap, BTreeSet};

/// A page says too little.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its page has no {0}: is it a gateway's, and of this version?")]
pub struct Incomplete(&'static str);

/// Reads one gateway's pages, one after another.
#[derive(Debug, Default)]
pub struct Reader {
    /// Of each processor: seconds in softirq, and all seconds.
    processors: BTreeMap<String, (f64, f64)>,
}

/// Names of metrics.
const CLOCK: &str = "portway_clock_seconds";
const RECEIVED_BYTES: &str = "portway_interface_received_bytes_total";
const RECEIVED_PACKETS: &str = "portway_interface_received_packets_total";
const SENT_PACKETS: &str = "portway_interface_sent_packets_total";
const CONNTRACK_ENTRIES: &str = "portway_conntrack_entries";
const CONNTRACK_LIMIT: &str = "portway_conntrack_entries_limit";
const PROCESSOR: &str = "portway_cpu_seconds_total";
const ALLOWANCE: &str = "portway_allowance_exceeded_packets_total";

const VRRP_STATE: &str = "portway_vrrp_state";
const CONNECTIONS: &str = "portway_nat_connections";

/// What a page says.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    pub sample: Result<Sample, Incomplete>,
    /// None: it is in no group.
    pub load: Option<Load>,
}

impl Reader {
    pub fn read(&mut self, page: &str) -> Result<Read, Broken> {
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        let mut exceeded = [None; Allowance::ALL.len()];
        let mut processors: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        let mut shards = Shards::default();
        for sample in exposition::read(page) {
            let sample = sample?;
            match sample.name {
                name @ (CLOCK | RECEIVED_BYTES | RECEIVED_PACKETS | SENT_PACKETS | CONNTRACK_ENTRIES | CONNTRACK_LIMIT) => {
                    *sums.entry(name).or_default() += sample.value;
                }
                ALLOWANCE => {
                    let of = |allowance: &Allowance| sample.label("counter") == Some(allowance.as_str());
                    if let Some(allowance) = Allowance::ALL.into_iter().find(of) {
                        *exceeded[allowance as usize].get_or_insert(0.0) += sample.value;
                    }
                }
                PROCESSOR => {
                    let times = processors.entry(sample.label("cpu").unwrap_or_default().to_owned()).or_default();
                    times.1 += sample.value;
                    if sample.label("mode") == Some("softirq") {
                        times.0 += sample.value;
                    }
                }
                VRRP_STATE | CONNECTIONS => shards.take(&sample),
                _ => {}
            }
        }
        let sample = self.sample(&sums, &processors, exceeded);
        Ok(Read { sample, load: shards.load() })
    }

    fn sample(
        &mut self,
        sums: &BTreeMap<&str, f64>,
        processors: &BTreeMap<String, (f64, f64)>,
        exceeded: [Option<f64>; Allowance::ALL.len()],
    ) -> Result<Sample, Incomplete> {
        let sum = |name: &'static str| sums.get(name).copied().ok_or(Incomplete(name));
        let conntrack = sums.get(CONNTRACK_ENTRIES).zip(sums.get(CONNTRACK_LIMIT));
        let read = Sample {
            clock: sum(CLOCK)?,
            bits: 8.0 * sum(RECEIVED_BYTES)?,
            packets: sum(RECEIVED_PACKETS)? + sum(SENT_PACKETS)?,
            conntrack: conntrack.map(|(entries, room)| Conntrack { entries: *entries, room: *room }),
            softirq: self.busiest(processors),
            exceeded,
        };
        self.processors.clone_from(processors);
        Ok(read)
    }

    /// The part of its time that the busiest processor has given to softirq since the last page. None: there was none, or no time has passed.
    fn busiest(&self, now: &BTreeMap<String, (f64, f64)>) -> Option<f64> {
        let part = |(cpu, (softirq, all)): (&String, &(f64, f64))| {
            let (softirq_before, all_before) = self.processors.get(cpu)?;
            let (softirq, all) = (softirq - softirq_before, all - all_before);
            // A processor that was taken away and came back, or a machine that has started anew.
            (all > 0.0 && softirq >= 0.0).then_some(softirq / all)
        };
        now.iter().filter_map(part).reduce(f64::max)
    }
}

/// A shard's tenant and number.
type Of = (String, String);

/// The shards of a gateway that is in a group.
#[derive(Debug, Default)]
struct Shards {
    /// It is in one.
    any: bool,
    held: BTreeSet<Of>,
    connections: BTreeMap<Of, f64>,
}

impl Shards {
    fn take(&mut self, sample: &exposition::Sample<'_>) {
        let label = |name| sample.label(name).unwrap_or_default().to_owned();
        let of = (label("tenant"), label("shard"));
        if sample.name == CONNECTIONS {
            self.connections.insert(of, sample.value);
        } else {
            self.any = true;
            // Also those that it is handing over: it may have to keep them.
            let holds = |state: &State| state.holds_addresses() && sample.label("state") == Some(state.label());
            if sample.value > 0.0 && State::ALL.iter().any(holds) {
                self.held.insert(of);
            }
        }
    }

    fn load(&self) -> Option<Load> {
        // NaN is no number of connections.
        let counted = |of: &Of| self.connections.get(of).copied().filter(|count| *count >= 0.0);
        let connections = self.held.iter().map(counted).sum::<Option<f64>>();
        // `as` saturates.
        let connections = connections.map(|count| count.ceil() as u64);
        self.any.then_some(Load { shards: self.held.len() as u64, connections })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(clock: f64, softirq: [f64; 2], idle: [f64; 2]) -> String {
        let processors: String = (0..2)
            .map(|cpu| {
                format!(
                    "{PROCESSOR}{{cpu=\"{cpu}\",mode=\"softirq\"}} {}\n{PROCESSOR}{{cpu=\"{cpu}\",mode=\"idle\"}} {}\n",
                    softirq[cpu], idle[cpu]
                )
            })
            .collect();
        format!(
            "{CLOCK} {clock}\n{RECEIVED_BYTES}{{interface=\"eth0\"}} 100\n{RECEIVED_BYTES}{{interface=\"eth1\"}} 25\n\
             {RECEIVED_PACKETS}{{interface=\"eth0\"}} 3\n{SENT_PACKETS}{{interface=\"eth0\"}} 4\n{CONNTRACK_ENTRIES} 5\n{CONNTRACK_LIMIT} 6\n\
             {ALLOWANCE}{{interface=\"eth0\",counter=\"pps_allowance_exceeded\"}} 7\n{ALLOWANCE}{{interface=\"eth1\",counter=\"pps_allowance_exceeded\"}} 1\n\
             {ALLOWANCE}{{interface=\"eth0\",counter=\"of_the_future\"}} 9\n{processors}other 1\n# EOF\n"
        )
    }

    fn sample(reader: &mut Reader, page: &str) -> Sample {
        reader.read(page).unwrap().sample.unwrap()
    }

    #[test]
    fn what_a_page_says_is_added_up() {
        let mut reader = Reader::default();
        let read = sample(&mut reader, &page(1.5, [1.0, 1.0], [9.0, 9.0]));
        assert_eq!((read.clock, read.bits, read.packets), (1.5, 1000.0, 7.0));
        assert_eq!(read.conntrack, Some(Conntrack { entries: 5.0, room: 6.0 }));
        let mut exceeded = [None; Allowance::ALL.len()];
        exceeded[Allowance::Packets as usize] = Some(8.0);
        assert_eq!((read.exceeded, read.softirq), (exceeded, None));
        // The busiest since then; one that went back says nothing.
        assert_eq!(sample(&mut reader, &page(2.5, [1.75, 1.25], [9.25, 9.75])).softirq, Some(0.75));
        assert_eq!(sample(&mut reader, &page(3.5, [0.0, 1.5], [0.0, 10.5])).softirq, Some(0.25));
        assert_eq!(sample(&mut reader, &page(3.5, [0.0, 1.5], [0.0, 10.5])).softirq, None);
    }

    #[test]
    fn what_is_missing_is_named_and_what_may_be_is_none() {
        let mut reader = Reader::default();
        for name in [CLOCK, RECEIVED_BYTES, RECEIVED_PACKETS, SENT_PACKETS] {
            let less = page(1.0, [0.0; 2], [0.0; 2]).replace(name, "something_else");
            assert_eq!(reader.read(&less).unwrap().sample, Err(Incomplete(name)));
        }
        for name in [CONNTRACK_ENTRIES, CONNTRACK_LIMIT] {
            assert_eq!(sample(&mut reader, &page(1.0, [0.0; 2], [0.0; 2]).replace(name, "something_else")).conntrack, None);
        }
        assert!(matches!(reader.read("<html>"), Err(Broken { line: 1, .. })));
    }

    #[test]
    fn what_a_gateway_carries_are_the_shards_that_it_holds_and_their_connections() {
        let state = |shard: u8, state: &str, is: u8| format!("{VRRP_STATE}{{tenant=\"acme\",shard=\"{shard}\",state=\"{state}\"}} {is}\n");
        let connections = |shard: u8, count: &str| format!("{CONNECTIONS}{{tenant=\"acme\",shard=\"{shard}\"}} {count}\n");
        let both = format!("{}{}", state(0, "active", 1), state(1, "active", 1));
        let load = |page: &str| Reader::default().read(page).unwrap().load;
        let of = |shards, connections| Some(Load { shards, connections });
        assert_eq!(load(&format!("{both}{}{}", connections(0, "3"), connections(1, "4"))), of(2, Some(7)));
        // Of one it is not known, or cannot be.
        for unknown in ["", &connections(1, "NaN"), &connections(1, "-1"), &connections(2, "4")] {
            assert_eq!(load(&format!("{both}{}{unknown}", connections(0, "3"))), of(2, None), "{unknown}");
        }
        assert_eq!(load(&format!("{}{}{}", state(0, "active", 0), state(0, "backup", 1), connections(0, "3"))), of(0, Some(0)));
        assert_eq!(load(&format!("{}{}{}", state(0, "offering", 1), state(1, "releasing", 1), connections(0, "3"))), of(2, None));
        assert_eq!(load("up 1\n"), None);
    }

    proptest! {
        #[test]
        fn the_busiest_is_a_part(times in prop::collection::vec((0.0..1e9, 0.0..1e9, 0.0..1e9, 0.0..1e9), 1..6)) {
            let mut reader = Reader::default();
            for (a, b, c, d) in times {
                let read = sample(&mut reader, &page(1.0, [a, b], [c, d]));
                prop_assert!(read.softirq.is_none_or(|part| part >= 0.0));
            }
        }
    }
}
