//! Shards that come here and go.

use super::{Keeper, STAMPS_AHEAD};
use crate::gateway::jit::{self, Adopted, Door};
use crate::gateway::sessions::shard::Shard;
use crate::gateway::sessions::tunnels::{Remote, Tunnels};
use crate::gateway::strangers::SETTLED;
use crate::model::{IfName, Lane, PublicKey, TenantShard};
use crate::plan::gateway::ends::End;
use crate::wire::sync::peer::{PeerRecord, PeerState};
use crate::wire::wireguard::Tai64n;
use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

impl Keeper {
    /// A shard is here: it speaks, its peers are where they were heard last, and are called. Also when its interface was opened anew. Where none stands
    /// nothing is done, and nothing forgotten: after the pass that opens it there is an order.
    pub(super) async fn take(&mut self, of: &TenantShard) {
        let Some(shard) = self.shards.get_mut(of) else { return };
        let now = Instant::now();
        let end = |end: &End| {
            let interface = shard.interface(end.lane);
            Some((end.lane, end.key.public(), self.tunnels.incarnation(&interface)?, interface))
        };
        let ends: Vec<(Lane, PublicKey, u64, IfName)> = shard.served.ends.iter().filter_map(end).collect();
        if ends.is_empty() {
            return tracing::warn!("{of}: its tunnel is not there yet: its peers are set and called when it is");
        }
        let told = self.known.remove(of).unwrap_or_default();
        let told_own: Vec<PeerState> = told.iter().filter(|state| shard.is_own(&state.key)).cloned().collect();
        shard.adopt(now, told.clone());
        let mut states = shard.states(now);
        let ours: HashSet<PublicKey> = states.iter().map(|state| state.key).collect();
        // Of these the stamps count.
        states.extend(told.into_iter().filter(|state| !ours.contains(&state.key) || told_own.contains(state)));
        let mut records = Vec::new();
        for (lane, own, stands, interface) in &ends {
            if shard.stands.insert(*lane, *stands).is_some_and(|former| former != *stands) {
                shard.begin_anew(*lane);
            }
            let used = states.iter().filter(|state| state.key == *own).map(|state| state.stamp.plus(state.idle)).max();
            let ahead = used.map(|used| (*lane, *own, used.plus(STAMPS_AHEAD)));
            records.extend(go_on_after(&self.tunnels, now, shard, ahead));
            if let Err(error) = self.tunnels.set_sending(interface, true) {
                tracing::error!("{of}: the tunnel is not there yet: {error:#}");
            }
        }
        let remote = |state: &PeerState| {
            let wanted = state.endpoint.is_some() || shard.served.peers.contains_key(&state.key);
            let allowed = shard.allowed(state).filter(|_| wanted)?;
            Some((state.key, Remote { allowed, endpoint: state.endpoint, heard: state.stamp }))
        };
        let mut remotes: BTreeMap<PublicKey, Remote> = states.iter().filter_map(remote).collect();
        for (key, allowed) in &shard.served.peers {
            remotes.entry(*key).or_insert_with(|| Remote { allowed: allowed.clone(), ..Remote::default() });
        }
        let remotes: Vec<(PublicKey, Remote)> = remotes.into_iter().collect();
        let mut left = self.left.remove(of).unwrap_or_default();
        // Whom the configuration names is nobody's to let in or to remove.
        left.retain(|(key, ..)| !shard.served.peers.contains_key(key));
        // Whoever was let in by the process before is told of as if it had been now; of those who are not known yet there will be news.
        for (key, adopted, stamp) in left.iter().filter(|(_, adopted, _)| !adopted.registered.allowed.is_empty()) {
            shard.admitted(now, *key, Some(adopted.endpoint), &adopted.registered);
            records.push(shard.stamped(now, *key, *stamp));
        }
        if let Some(door) = &self.door {
            introduce(door, now, shard, &states, left);
        }
        for (.., interface) in &ends {
            if let Err(error) = self.tunnels.set_peers(interface, &remotes).await {
                tracing::error!("{of}: not all peers could be set at {interface}: {error:#}");
            }
        }
        let set: Vec<PublicKey> = remotes.iter().map(|(key, _)| *key).collect();
        let called = shard.summon(remotes, &states, false);
        match self.coming.get_mut(of) {
            // Before neighbours know where the address is, answers would go to where it was.
            Some(later) => *later = called,
            None => self.wake.add(called),
        }
        if !shard.called.is_empty() {
            tracing::info!("{of}: calling {} peers", shard.called.len());
        }
        self.tell(of, records);
        for key in set {
            self.unless_known(of, &key).await;
        }
    }

    /// Who does not answer may have been called just before by another node, which had the shard for a moment and was as far ahead of the one before
    /// it as this one is.
    pub(super) fn doubt(&mut self, now: Instant, of: &TenantShard) {
        let Some(shard) = self.shards.get_mut(of) else { return };
        let ahead = shard.doubt(now, STAMPS_AHEAD);
        let records = go_on_after(&self.tunnels, now, shard, ahead);
        self.tell(of, records);
    }

    /// Another node believed that a shard was there, as this one did, and has let go of it: whoever that node has called sends by sessions that nobody has
    /// any more, and is called. Its stamps were ahead of our last one, by as much as a node's that takes over, and that somebody has not answered.
    pub(super) async fn heal(&mut self, of: &TenantShard) {
        if !self.here.contains(of) || self.coming.contains_key(of) {
            return;
        }
        let now = Instant::now();
        // How far its own stamps have come; and sessions from before are no answers.
        self.look_at(now, of).await;
        let Some(shard) = self.shards.get_mut(of) else { return };
        let ahead = shard.ahead(now, 3 * STAMPS_AHEAD);
        let records = go_on_after(&self.tunnels, now, shard, ahead);
        let states = shard.states(now);
        let remote = |state: &PeerState| {
            let (allowed, endpoint) = (shard.allowed(state)?, Some(state.endpoint?));
            Some((state.key, Remote { allowed, endpoint, heard: state.stamp }))
        };
        let remotes: Vec<(PublicKey, Remote)> = states.iter().filter_map(remote).collect();
        self.wake.add(shard.summon(remotes, &states, true));
        tracing::info!("{of}: another node was Active, too: calling {} peers", shard.called.len());
        self.tell(of, records);
    }

    /// A shard has another interface beside, or one less. A new one is to know everybody before whoever knocks there counts as a stranger.
    pub(super) async fn join(&mut self, of: &TenantShard) {
        let Some(shard) = self.shards.get_mut(of) else { return };
        let here = self.here.contains(of);
        let (everybody, ends) = (shard.everybody(), shard.served.ends.clone());
        for end in &ends {
            let interface = shard.interface(end.lane);
            let Some(stands) = self.tunnels.incarnation(&interface).filter(|_| !shard.stands.contains_key(&end.lane)) else { continue };
            if here {
                if let Err(error) = self.tunnels.set_peers(&interface, &everybody).await {
                    tracing::error!("{of}: not all peers could be set at {interface}: {error:#}");
                }
                if let Err(error) = self.tunnels.set_sending(&interface, true) {
                    tracing::error!("{of}: {interface} is not there yet: {error:#}");
                }
            }
            shard.stands.insert(end.lane, stands);
            shard.begin_anew(end.lane);
        }
        for (key, _) in everybody.iter().filter(|_| here) {
            self.unless_known(of, key).await;
        }
        let Some(shard) = self.shards.get(of) else { return };
        if let Some(door) = self.door.as_ref().filter(|_| here) {
            door.order(jit::Order::Serve { of: of.clone(), slot: shard.served.slot, ends });
        }
        self.show_lanes(of);
    }

    /// A shard is another node's: nothing of it speaks here any more.
    pub(super) async fn release(&mut self, of: &TenantShard) {
        self.here.remove(of);
        self.coming.remove(of);
        self.awaited.remove(of);
        self.left.remove(of);
        self.wake.retain(|(shard, _)| shard != of);
        let Some(shard) = self.shards.get_mut(of) else { return };
        for interface in shard.interfaces() {
            if let Err(error) = self.tunnels.set_sending(&interface, false) {
                tracing::error!("{of}: the tunnel may still speak: {error:#}");
            }
        }
        if let Some(door) = &self.door {
            door.order(jit::Order::Release { slot: shard.served.slot });
        }
        shard.release();
        // Whoever is there and not configured, whether it was heard of or not.
        for interface in shard.interfaces() {
            if let Err(error) = self.tunnels.remove_others(&interface, &shard.served.peers).await {
                tracing::warn!("{of}: not all peers could be removed: {error:#}");
            }
        }
        self.show_lanes(of);
    }
}

/// All further stamps with these keys are later than these: what there is to tell of it.
fn go_on_after(
    tunnels: &Tunnels,
    now: Instant,
    shard: &mut Shard,
    stamps: impl IntoIterator<Item = (Lane, PublicKey, Tai64n)>,
) -> Vec<PeerRecord> {
    let go_on = |(lane, own, stamp)| {
        tunnels.stamps_after(&shard.interface(lane), stamp);
        shard.reckon(now, own, stamp)
    };
    stamps.into_iter().map(go_on).collect()
}

/// Whoever knocks at this shard may be let in here from now on; what the node before knew counts, and what the process before did unless that is older.
fn introduce(door: &Door, now: Instant, shard: &Shard, states: &[PeerState], left: Vec<(PublicKey, Adopted, Tai64n)>) {
    let served = &shard.served;
    let slot = served.slot;
    door.order(jit::Order::Serve { of: served.of.clone(), slot, ends: served.ends.clone() });
    door.order(jit::Order::Configured { slot, peers: served.peers.iter().map(|(key, allowed)| (*key, allowed.clone())).collect() });
    let stamps = states.iter().filter(|state| !shard.is_own(&state.key)).map(|state| (state.key, state.stamp));
    let stamps = stamps.chain(left.iter().map(|(key, _, stamp)| (*key, *stamp))).collect();
    door.order(jit::Order::Learn { slot, stamps });
    let adopted = |state: &PeerState| {
        let (endpoint, registered) = (state.endpoint?, state.member.clone()?);
        Some((state.key, Adopted { endpoint, registered, heard: now.checked_sub(state.idle).unwrap_or(now) }))
    };
    let mut peers: BTreeMap<PublicKey, Adopted> = BTreeMap::new();
    let recent = |adopted: &Adopted| now.saturating_duration_since(adopted.heard) < SETTLED;
    peers.extend(left.into_iter().filter(|(_, adopted, _)| recent(adopted)).map(|(key, adopted, _)| (key, adopted)));
    peers.extend(states.iter().filter_map(adopted));
    peers.retain(|key, _| !served.peers.contains_key(key));
    door.adopt(&served.of, slot, peers.into_iter().collect());
}
