//! Whom the configuration names, as far as the actor is concerned: nobody's to let in, to change, or to remove.

use super::{Actor, Answer, IfName, IpNet, Job, Peer, PublicKey, Slot};
use crate::proto::jit::Registered;
use std::sync::Arc;

impl Actor {
    pub(super) fn configure(&mut self, slot: Slot, peers: Vec<(PublicKey, Vec<IpNet>)>) {
        if !self.served.contains_key(&slot) {
            return;
        }
        for (key, prefixes) in peers {
            let peer = Peer { slot, key };
            let was = self.machine.peer(&peer).map(|standing| standing.registered.clone());
            self.machine.configured(peer);
            self.unless_it_stands(&peer);
            self.configured.entry(slot).or_default().insert(key, prefixes);
            // It may have been set after its owner did, or is just being.
            if let Some(was) = was {
                self.put_right(peer, Some(&was.allowed));
            }
        }
        // Of those who have what is another's now nobody asks but us.
        let (configured, members) = (&*self.configured.entry(slot).or_default(), self.machine.peers());
        let overlaps = members.filter(|(peer, standing)| peer.slot == slot && configured.overlap(&standing.registered.allowed).is_some());
        self.rechecks.extend(overlaps.map(|(peer, _)| *peer));
    }

    /// The configuration goes before the directory.
    pub(super) fn comply(&mut self, peer: &Peer, answer: Answer) -> Answer {
        let Answer::Found(registered) = &answer else { return answer };
        let Some(configured) = self.configured.get(&peer.slot).filter(|_| !self.machine.is_configured(peer)) else { return answer };
        let Some(taken) = configured.overlap(&registered.allowed) else { return answer };
        let host = &registered.host;
        let error =
            anyhow::anyhow!("the directory gives {taken} to {host}, and `peers` in the configuration to another: take it from either");
        self.warn("let in", peer, &error);
        Answer::Unknown
    }

    /// What hands had begun when a peer became the configuration's is as the configuration says in the end; and the other way round.
    pub(super) fn put_right(&mut self, peer: Peer, stands_with: Option<&[IpNet]>) {
        let Some(served) = self.served.get(&peer.slot) else { return };
        let interfaces: Vec<IfName> = served.gates.iter().map(|gate| gate.interface.clone()).collect();
        let configured = self.configured.get(&peer.slot).and_then(|configured| configured.get(&peer.key));
        match configured {
            Some(prefixes) if stands_with != Some(prefixes) => {
                if let Ok(host) = "configured".parse() {
                    let registered = Arc::new(Registered { host, allowed: prefixes.to_vec() });
                    for interface in interfaces {
                        self.hands.give(Job::Update { peer, interface, registered: registered.clone() });
                    }
                }
            }
            None if stands_with.is_some() && self.machine.peer(&peer).is_none() => {
                interfaces.into_iter().for_each(|interface| self.hands.give(Job::Remove { peer, interface }));
            }
            Some(_) | None => {}
        }
    }

    pub(super) fn configure_no_more(&mut self, slot: Slot, keys: &[PublicKey]) {
        for key in keys {
            self.machine.configured_no_more(&Peer { slot, key: *key });
            self.configured.entry(slot).or_default().remove(key);
        }
    }
}
