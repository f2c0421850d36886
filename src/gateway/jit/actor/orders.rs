//! What its owner orders.

use super::{Actor, Gate, RECHECKS, Served};
use crate::gateway::jit::Order;
use crate::model::IfName;
use crate::plan::gateway::ends::End;
use crate::proto::jit::{Input, Peer, Standing};
use crate::wire::wireguard::Responder;
use std::sync::Arc;
use std::time::Instant;

impl Actor {
    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::Serve { of, slot, ends } => {
                self.machine.serve(slot, &ends.iter().map(|end| end.key.public()).collect::<Vec<_>>());
                self.ears.listen(slot, ends.iter().map(|end| end.port));
                self.slots.retain(|_, known| *known != slot);
                let gate = |end: &End| Gate {
                    interface: IfName::lane(slot, end.lane),
                    port: end.port,
                    responder: Arc::new(Responder::new(&end.key)),
                };
                let gates: Vec<Gate> = ends.iter().map(gate).collect();
                self.slots.extend(gates.iter().map(|gate| (gate.interface.clone(), slot)));
                self.served.insert(slot, Served { of, gates });
            }
            Order::Release { slot } => {
                self.machine.release(slot);
                self.ears.leave(slot);
                self.rechecks.retain(|peer| peer.slot != slot);
                self.owners.retain(|(of, _), _| *of != slot);
                self.configured.remove(&slot);
                self.slots.retain(|_, known| *known != slot);
                if let Some(served) = self.served.remove(&slot) {
                    self.board.clear(&served.of);
                }
            }
            Order::Learn { slot, mut stamps } => {
                stamps.retain(|(key, stamp)| self.machine.learn(Peer { slot, key: *key }, *stamp));
                if !stamps.is_empty() {
                    self.keep(slot, stamps);
                }
            }
            Order::Recall { slot, stamps } => {
                stamps.into_iter().for_each(|(key, stamp)| _ = self.machine.learn(Peer { slot, key }, stamp));
            }
            Order::Adopt { slot, peers } => {
                if !self.served.contains_key(&slot) {
                    return;
                }
                let now = Instant::now();
                for (key, adopted) in peers {
                    let peer = Peer { slot, key };
                    if self.machine.is_configured(&peer) {
                        continue;
                    }
                    self.put(&peer, &adopted.registered);
                    // It was told to another: whether it still holds is asked.
                    let standing = Standing {
                        endpoint: adopted.endpoint,
                        registered: adopted.registered,
                        fetched: now,
                        seen: adopted.heard.min(now),
                        installing: false,
                    };
                    self.machine.adopt(peer, standing);
                    self.rechecks.push_back(peer);
                }
            }
            Order::Adopted(expected) => drop(expected),
            Order::Configured { slot, peers } => self.configure(slot, peers),
            Order::ConfiguredNoMore { slot, keys } => self.configure_no_more(slot, &keys),
            Order::Seen { slot, key, at } => self.input(Input::Seen { peer: Peer { slot, key }, at }),
            Order::Gone { slot, key } => self.gone(Peer { slot, key }),
            Order::Changed(keys) => {
                for key in keys {
                    for slot in self.served.keys().copied().collect::<Vec<_>>() {
                        self.changed(Peer { slot, key });
                    }
                }
            }
            Order::AllChanged => {
                self.machine.distrust(Instant::now());
                self.rechecks = self.machine.peers().map(|(peer, _)| *peer).collect();
            }
            // Seen to by the loop.
            Order::Stop => {}
        }
    }

    /// One that stands is asked about in its turn, so that a long list of changes does not keep out who knocks.
    fn changed(&mut self, peer: Peer) {
        if self.machine.peer(&peer).is_some() {
            self.rechecks.push_back(peer);
        } else {
            self.input(Input::Changed { peer });
        }
    }

    pub(super) fn recheck(&mut self) {
        while self.machine.sizes().asked < RECHECKS
            && let Some(peer) = self.rechecks.pop_front()
        {
            if self.machine.peer(&peer).is_some() {
                self.input(Input::Changed { peer });
                self.carry_out();
            }
        }
    }
}
