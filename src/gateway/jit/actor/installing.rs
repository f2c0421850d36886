//! Peers that come and go: at the interfaces, and on the board, where somebody stands from before it is installed until after it has been removed.

use super::{Actor, Stranger};
use crate::gateway::jit::News;
use crate::gateway::jit::hands::{Greeted, Install, Job};
use crate::model::{PublicKey, Slot};
use crate::proto::jit::{Input, Peer, Reaped, Registered};
use crate::wire::wireguard::{Initiation, Tai64n};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

impl Actor {
    pub(super) fn install(&mut self, peer: Peer, endpoint: SocketAddr, registered: Arc<Registered>, initiation: Arc<Initiation>) {
        if !self.served.contains_key(&peer.slot) {
            return;
        }
        let replaces = self.former_keys(&peer, &registered);
        // They are on the board until they have been removed, with nothing that a pass could give back to them.
        for key in &replaces {
            let former = Peer { key: *key, ..peer };
            self.input(Input::Gone { peer: former });
            if let Some(served) = self.served.get(&peer.slot) {
                self.disown(&former, self.board.put(&served.of, *key, Vec::new()));
            }
        }
        self.put(&peer, &registered);
        let mac1 = initiation.mac1();
        let stranger = self.strangers.remove(&mac1).unwrap_or(Stranger { at: Instant::now(), to: None, port: None, opened: None });
        let stamp = self.machine.last(&peer).unwrap_or(Tai64n::NEVER);
        let Some(served) = self.served.get(&peer.slot) else { return };
        let Some(interface) = served.gate(stranger.port).map(|gate| gate.interface.clone()) else { return };
        let others = served.gates.iter().map(|gate| gate.interface.clone()).filter(|other| *other != interface).collect();
        let loaded = self.ears.is_flooded();
        // Told before it is done: whoever has the shard next knows of this session, and whoever sets a former one once more all the same can know.
        self.tell(News::Admitted { slot: peer.slot, key: peer.key, endpoint, registered: registered.clone() });
        for key in &replaces {
            self.tell(News::Reaped { slot: peer.slot, key: *key, why: Reaped::Replaced });
        }
        let install = Install { peer, interface, others, endpoint, registered, replaces, initiation, stranger, stamp, loaded };
        self.hands.give(Job::Install(Box::new(install)));
    }

    /// Peers of the same host that have its inner addresses: it has changed its key, and the former one is still good for a while.
    fn former_keys(&self, peer: &Peer, registered: &Registered) -> Vec<PublicKey> {
        let owner = |prefix: &IpNet| self.owners.get(&(peer.slot, prefix.trunc())).filter(|key| **key != peer.key).copied();
        let of_host = |key: &PublicKey| {
            let standing = self.machine.peer(&Peer { key: *key, ..*peer });
            standing.is_some_and(|standing| standing.registered.host == registered.host)
        };
        let mut keys: Vec<_> = registered.allowed.iter().filter_map(owner).filter(of_host).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Onto the board.
    pub(super) fn put(&mut self, peer: &Peer, registered: &Registered) {
        let Some(served) = self.served.get(&peer.slot) else { return };
        self.disown(peer, self.board.put(&served.of, peer.key, registered.allowed.clone()));
        for prefix in &registered.allowed {
            self.owners.insert((peer.slot, prefix.trunc()), peer.key);
        }
    }

    fn disown(&mut self, peer: &Peer, prefixes: Option<Vec<IpNet>>) {
        for prefix in prefixes.unwrap_or_default() {
            let place = (peer.slot, prefix.trunc());
            if self.owners.get(&place) == Some(&peer.key) {
                self.owners.remove(&place);
            }
        }
    }

    pub(super) fn remove(&mut self, peer: Peer) {
        for gate in self.served.get(&peer.slot).into_iter().flat_map(|served| &served.gates) {
            self.hands.give(Job::Remove { peer, interface: gate.interface.clone() });
        }
    }

    pub(super) fn installed(&mut self, install: Install, result: anyhow::Result<Greeted>) {
        let Install { peer, interface, others, registered, replaces, stranger, .. } = install;
        for key in replaces {
            let former = Peer { key, ..peer };
            if result.is_err() && self.machine.peer(&former).is_none() {
                // What is refused changes nothing: it is there yet. It goes from the board when it has gone.
                self.remove(former);
            } else {
                self.unless_it_stands(&former);
            }
        }
        match result {
            Ok(greeted) => {
                match greeted {
                    Greeted::Answered => self.greeted.answered += 1,
                    Greeted::Initiated => self.greeted.initiated += 1,
                    Greeted::Failed => self.greeted.failed += 1,
                }
                self.board.took(stranger.at.elapsed());
                if !self.served.contains_key(&peer.slot) {
                    // Another node has the shard meanwhile, and the owner may have removed its peers before this one came.
                    for interface in others.into_iter().chain([interface]) {
                        self.hands.give(Job::Remove { peer, interface });
                    }
                    return;
                }
                if self.machine.is_configured(&peer) {
                    self.put_right(peer, Some(&registered.allowed));
                }
                self.input(Input::Installed { peer });
            }
            Err(error) => {
                self.warn("installed", &peer, &error);
                self.input(Input::InstallFailed { peer });
                let is_peer = self.machine.peer(&peer).is_some() || self.machine.is_configured(&peer);
                if !is_peer && self.served.contains_key(&peer.slot) {
                    // The owner may have set it meanwhile, as it was told.
                    self.tell(News::Reaped { slot: peer.slot, key: peer.key, why: Reaped::Failed });
                    self.remove(peer);
                }
                self.unless_it_stands(&peer);
                self.own_again(peer.slot, &registered);
            }
        }
    }

    /// What was to be a new peer's and is not, is whose it was.
    fn own_again(&mut self, slot: Slot, registered: &Registered) {
        let Some(served) = self.served.get(&slot) else { return };
        for (key, allowed) in &*self.board.peers(&served.of) {
            for prefix in allowed.iter().filter(|prefix| registered.allowed.contains(prefix)) {
                self.owners.entry((slot, prefix.trunc())).or_insert(*key);
            }
        }
    }

    /// Off the board.
    pub(super) fn unless_it_stands(&mut self, peer: &Peer) {
        if self.machine.peer(peer).is_none()
            && let Some(served) = self.served.get(&peer.slot)
        {
            self.disown(peer, self.board.take(&served.of, &peer.key));
        }
    }
}
