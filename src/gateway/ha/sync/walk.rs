//! One reading of the kernel's table of connections, for all shards that want one.
//!
//! A reading goes through all buckets of the table, which all network namespaces share, and holds a processor meanwhile, packets
//! included: some ten milliseconds for the 262,144 buckets of a machine with more than 4 GiB, however few connections there are
//! (ctnetlink_dump_table, net/netfilter/nf_conntrack_netlink.c). So there are few of them, and none because a shard changes hands:
//! what stands is known then ([`Ledger`]).
//!
//! [`Ledger`]: crate::proto::sync::Ledger

use super::Entry;
use super::role::Role;
use crate::kernel::conntrack::{Filter, FlowDump};
use crate::model::TenantShard;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Pieces, of some hundred connections, that are read before others have their turn.
const PIECES: usize = 8;

/// For so long a reading waits for a stream that takes nothing more: its receiver may hear heartbeats only.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Default)]
pub struct Walk(Option<Reading>);

struct Reading {
    dump: FlowDump,
    /// When it last went on.
    moved: Instant,
}

impl Walk {
    /// Whether one is to begin.
    pub fn is_due(&self, shards: &BTreeMap<TenantShard, Entry>) -> bool {
        self.0.is_none() && shards.values().any(|entry| entry.role.waits())
    }

    pub fn begin(&mut self, now: Instant, shards: &mut BTreeMap<TenantShard, Entry>) {
        let mut zones = shards.values().filter(|entry| entry.role.waits()).map(|entry| entry.what.zone);
        let filter = match (zones.next(), zones.next()) {
            (Some(zone), None) => Filter::zone(zone),
            _ => Filter::default(),
        };
        tracing::debug!(waiting = shards.values().filter(|entry| entry.role.waits()).count(), "reading the kernel's connections");
        shards.values_mut().for_each(|entry| entry.role.begin());
        match FlowDump::start(filter) {
            Ok(dump) => self.0 = Some(Reading { dump, moved: now }),
            Err(error) => {
                tracing::warn!("connections cannot be read: {error}");
                shards.values_mut().for_each(|entry| entry.role.end(now, false));
            }
        }
    }

    /// Reads on, as far as those who pass it on have room. Whether there is more to read at once.
    pub fn turn(&mut self, now: Instant, shards: &mut BTreeMap<TenantShard, Entry>) -> bool {
        let Some(reading) = &mut self.0 else { return false };
        let mut roles: HashMap<u16, &mut Role> = shards.values_mut().map(|entry| (entry.what.zone, &mut entry.role)).collect();
        for _ in 0..PIECES {
            if roles.values_mut().map(|role| role.has_room(now)).filter(|room| !room).count() > 0 {
                if now < reading.moved + PATIENCE {
                    return false;
                }
                roles.values_mut().for_each(|role| role.give_up(now));
            }
            reading.moved = now;
            let more = reading.dump.next(|flow| {
                if let Some(role) = roles.get_mut(&flow.key.zone) {
                    role.read(now, flow);
                }
            });
            let whole = match more {
                Ok(true) => continue,
                Ok(false) => true,
                Err(error) => {
                    tracing::warn!("connections cannot be read to the end: {error}");
                    false
                }
            };
            self.0 = None;
            roles.into_values().for_each(|role| role.end(now, whole));
            return false;
        }
        true
    }
}
