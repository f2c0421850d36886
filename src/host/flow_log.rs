//! Whose the connections of a function host are: shards by conntrack zone, attachments by mark.

use super::Node;
use crate::daemon::flow_log::Knows;
use crate::model::{AttachmentName, FlowLife, TenantShard, Who};
use crate::proto::flow_log::{Author, From, Held, Place};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the host knows, for the thread of the flow log. Locks are held for moments.
#[derive(Debug, Default)]
pub struct Origins {
    /// With the inner address, which connections through the tunnel are translated to.
    zones: Mutex<HashMap<u16, (TenantShard, IpAddr)>>,
    /// Of all that ever stood, until their number serves again: connections end after their attachment.
    attachments: Mutex<HashMap<Who, AttachmentName>>,
}

impl Origins {
    /// Before its first packet can come.
    pub fn add(&self, who: Who, name: &AttachmentName) {
        lock(&self.attachments).insert(who, name.clone());
    }
}

impl Node {
    /// Whose connections are in which zone: of shards that come before their first packet can. Connections end after their shard has gone.
    pub(super) fn name_zones(&self) {
        if self.config.flow_log.is_none() {
            return;
        }
        let served = self.config.served().map(|(tenant, shard)| (tenant.of(shard.shard), shard.inner));
        let zone = |(of, inner): (TenantShard, IpAddr)| Some((self.slots.get(&of)?.zone(), (of, inner)));
        lock(&self.origins.zones).extend(served.filter_map(zone));
    }

    /// The log as it is configured, with what it needs to know.
    pub(super) fn log_flows(&mut self) {
        let config = self.config.flow_log.as_ref();
        if config.is_some() {
            self.attachments.iter().for_each(|attachment| self.origins.add(attachment.attached.who, &attachment.name));
        }
        let author = Author { node: self.config.node.clone(), role: "host" };
        let origins = &self.origins;
        self.flow_log.follow(config, &author, || Known(origins.clone()));
    }
}

/// What the thread asks.
struct Known(Arc<Origins>);

impl Knows for Known {
    fn held(&self) -> Option<Held> {
        None
    }

    fn place(&mut self, life: &FlowLife, take: &mut dyn FnMut(Place)) {
        if life.mark.slot().is_none_or(|slot| slot.zone() != life.key.zone) {
            return;
        }
        // What an attachment says to others beside the tunnel is the host's business.
        let through = |(_, inner): &(TenantShard, IpAddr)| life.reply.destination == *inner;
        let Some((of, _)) = lock(&self.0.zones).get(&life.key.zone).filter(|zone| through(zone)).cloned() else { return };
        let attachment = life.mark.who().and_then(|who| lock(&self.0.attachments).get(&who).cloned());
        take(Place { of: &of, from: From::Attachment(attachment.as_ref()) });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
