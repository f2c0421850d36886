//! A function host that comes or goes while the gateway runs: only what is its own changes, in the kernel and in the data
//! path, whatever the number of the others.

use super::Node;
use super::api::Failed;
use super::peers::{Peers, Refusal};
use super::sessions;
use crate::config::StaticPeer;
use crate::kernel::Kernel;
use crate::model::{IfName, Lane, NodeName};
use crate::plan::facts::Facts;
use crate::plan::gateway::Inputs;
use crate::plan::gateway::ends::Heard;
use crate::plan::{State, Step, plan};
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};

impl Node {
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Lets a function host send. `true` when it was added, `false` when it stood. When this returns, its packets pass.
    pub async fn add_peer(&mut self, kernel: &Kernel, peer: StaticPeer) -> Result<bool, Failed> {
        if !self.peers.check(&self.config, &peer)? {
            return Ok(false);
        }
        if let Some(outer) = peer.outer() {
            self.numbers.of(&outer).map_err(|_| Refusal::Full)?;
        }
        self.revision += 1;
        self.origins.add(&peer);
        if let Err(error) = self.admit(kernel, &peer).await {
            let _ = self.expel(kernel, &peer).await;
            self.release(&peer);
            return Err(error.context("the peer could not be added").into());
        }
        self.peers.add(peer);
        Ok(true)
    }

    /// Lets a function host that was added by the API send no more.
    pub async fn remove_peer(&mut self, kernel: &Kernel, name: &NodeName) -> Result<(), Failed> {
        let peer = self.peers.remove(name)?;
        self.revision += 1;
        let expelled = self.expel(kernel, &peer).await;
        self.release(&peer);
        Ok(expelled.context("the peer could not be removed altogether; the next pass tries again")?)
    }

    fn release(&mut self, peer: &StaticPeer) {
        peer.outer().iter().for_each(|outer| self.numbers.release(outer));
    }

    async fn admit(&mut self, kernel: &Kernel, peer: &StaticPeer) -> anyhow::Result<()> {
        self.store.save(peer.host.as_str(), peer).context("cannot store it: is `runtime_dir` writable?")?;
        carry_out(kernel, &plan(&self.fragment(peer), &State::default()).steps).await?;
        for (interface, prefixes) in self.tunnels_of(peer) {
            self.path.set_peer(&interface, &peer.end, prefixes)?;
        }
        self.tell_sessions(peer, true);
        Ok(())
    }

    async fn expel(&mut self, kernel: &Kernel, peer: &StaticPeer) -> anyhow::Result<()> {
        for (interface, _) in self.tunnels_of(peer) {
            self.path.remove_peer(&interface, &peer.end)?;
        }
        self.tell_sessions(peer, false);
        let mut fragment = self.fragment(peer);
        // One by one, for a removal by key alone has to read all routes.
        for (key, route) in std::mem::take(&mut fragment.routes) {
            kernel.remove_route(&key, &route)?;
        }
        carry_out(kernel, &plan(&State::default(), &fragment).steps).await?;
        self.store.remove(peer.host.as_str()).context("cannot remove what is stored of it")?;
        self.end_those_of(kernel, peer).await
    }

    fn tell_sessions(&self, peer: &StaticPeer, stands: bool) {
        for (key, (of, prefixes)) in peer.end.public_key().into_iter().flat_map(|key| peer.inner.iter().map(move |inner| (key, inner))) {
            let (of, prefixes) = (of.clone(), stands.then(|| prefixes.clone()));
            self.sessions.orders().send(sessions::Order::Configure { of, key, prefixes });
        }
    }

    /// What the kernel holds for this peer alone.
    fn fragment(&self, peer: &StaticPeer) -> State {
        let (facts, holds) = (Facts::default(), BTreeSet::new());
        let config = &self.config;
        Inputs {
            config,
            carrier: self.carrier,
            facts: &facts,
            copies: self.copies,
            hosts: &[],
            slots: &self.slots,
            peers: &self.numbers,
            ends: &self.ends,
            heard: &Heard::new(),
            holds: &holds,
            admitted: &BTreeMap::new(),
        }
        .peer(peer)
    }

    fn tunnels_of<'p>(&self, peer: &'p StaticPeer) -> Vec<(IfName, &'p [ipnet::IpNet])> {
        let served = peer.inner.iter().filter_map(|(of, prefixes)| Some((of, self.slots.get(of)?, prefixes.as_slice())));
        let interfaces = served.flat_map(|(of, slot, prefixes)| {
            let lanes: Vec<Lane> = self.ends.of(of).map(|end| end.lane).collect();
            let lanes = if lanes.is_empty() { vec![Lane::First] } else { lanes };
            lanes.into_iter().map(move |lane| (IfName::lane(slot, lane), prefixes))
        });
        interfaces.collect()
    }
}

async fn carry_out(kernel: &Kernel, steps: &[Step]) -> anyhow::Result<()> {
    match kernel.apply(steps).await.into_iter().next() {
        None => Ok(()),
        Some(failure) => Err(failure.into()),
    }
}
