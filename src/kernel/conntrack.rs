//! Connection tracking entries: read, told of, copied from another node, deleted.
//!
//! ```text
//!  kernel of the Active --FlowWatch, FlowDump--> Flow ==proto::sync==> FlowStep --Conntrack::apply--> kernel of a Backup
//! ```

mod failures;
mod life;
mod message;
mod watch;

pub use failures::ConntrackFailures;
pub(super) use failures::read as failures;
pub use watch::{FlowWatch, Notices};

use super::attr;
use super::netlink::{Answer, Batch, Netlink, Request};
use super::{Kernel, KernelError, Refused, flow_table, lock, nft};
use crate::model::{Flow, FlowKey, FlowStep, Mark, NatSource};
use crate::plan::NftTable;
use message::{Shape, number};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use std::collections::BTreeSet;

/// Which entries are meant: all conditions must hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    pub zone: Option<u16>,
    /// What the entry's mark is under the mask.
    pub mark: Mark,
    /// 0: whatever the mark.
    pub mask: u32,
}

impl Filter {
    pub fn zone(zone: u16) -> Self {
        Self { zone: Some(zone), ..Self::default() }
    }

    fn takes(&self, key: &FlowKey, mark: Mark) -> bool {
        self.zone.is_none_or(|zone| zone == key.zone) && mark.0 & self.mask == self.mark.0
    }

    /// Kernels that know less of this list more; each entry is looked at again anyhow.
    fn list(&self) -> Request {
        let mut payload = message::header(libc::AF_UNSPEC);
        if self.mask != 0 {
            message::write_mark(&mut payload, self.mark, self.mask);
        }
        if let Some(zone) = self.zone {
            attr::put(&mut payload, message::CTA_ZONE, &zone.to_be_bytes());
        }
        Request::new(number(message::GET), 0, &payload)
    }
}

/// What became of steps.
#[derive(Debug, Default)]
pub struct Written {
    pub created: usize,
    pub updated: usize,
    pub deleted: usize,
    pub refused: Vec<(FlowKey, Refused)>,
}

impl Written {
    fn of(&mut self, step: &FlowStep) -> &mut usize {
        match step {
            FlowStep::Create(_) => &mut self.created,
            FlowStep::Update(_) => &mut self.updated,
            FlowStep::Delete(_) => &mut self.deleted,
        }
    }
}

/// Writes to the conntrack table of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Conntrack {
    netlink: Netlink,
    batch: Batch,
}

impl Conntrack {
    pub fn open() -> Result<Self, KernelError> {
        let netlink = Netlink::open(libc::NETLINK_NETFILTER).map_err(open_failed)?;
        Ok(Self { netlink, batch: Batch::default() })
    }

    /// Whose doing the kernel's notices of these steps are, for [`FlowWatch::pass_over`].
    pub fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// Carries steps out in order. A flow to create that stands already is brought to the given state, replaced if it has another
    /// translation; one to update that does not stand is created; one to delete may be gone.
    pub fn apply(&mut self, steps: &[FlowStep]) -> Result<Written, KernelError> {
        let (mut written, mut rest) = (Written::default(), steps);
        while !rest.is_empty() {
            let mut count = 0;
            while let Some(step) = rest.get(count).filter(|_| !self.batch.is_full()) {
                self.push(step);
                count += 1;
            }
            let (piece, later) = rest.split_at(count);
            rest = later;
            piece.iter().for_each(|step| *written.of(step) += 1);
            for (place, why) in self.pour()? {
                let step = &piece[place];
                *written.of(step) -= 1;
                match (step, why.errno) {
                    (FlowStep::Delete(_), libc::ENOENT) => {}
                    // Whatever comes later for the same flow has been done already.
                    (_, libc::EEXIST | libc::ENOENT | libc::EBUSY) if piece[place + 1..].iter().any(|after| after.key() == step.key()) => {}
                    (FlowStep::Create(flow), libc::EEXIST) | (FlowStep::Update(flow), libc::ENOENT | libc::EBUSY) => {
                        self.settle(flow, &mut written)?;
                    }
                    _ => written.refused.push((*step.key(), why)),
                }
            }
        }
        Ok(written)
    }

    /// Deletes every flow that the filter takes: how many there were.
    pub fn delete_all(&mut self, filter: Filter) -> Result<usize, KernelError> {
        Ok(self.delete_if(filter, |_, _| true)?.deleted)
    }

    /// Deletes the flows that the filter takes and `ends` names, by their key and the source that they are translated to.
    ///
    /// By name, because kernels before 6.8 do not know a zone in the message that deletes many, and would delete everything.
    /// After an error open it anew: the kernel may not be done with the list.
    pub fn delete_if(&mut self, filter: Filter, ends: impl Fn(&FlowKey, Option<NatSource>) -> bool) -> Result<Written, KernelError> {
        self.netlink.start_dump(filter.list()).map_err(open_failed)?;
        let mut steps = Vec::new();
        let mut take = |payload: &[u8]| {
            let Some((key, _)) = message::read_key(payload).filter(|(key, mark)| filter.takes(key, *mark)) else { return };
            if ends(&key, message::read(payload).and_then(|flow| flow.nat)) {
                steps.push(FlowStep::Delete(key));
            }
        };
        while self.netlink.next_entries(&mut take).map_err(|refused| KernelError::read("connections", refused))? {}
        self.apply(&steps)
    }

    /// The flow that stands under this key, with the state that it has here.
    pub fn find(&mut self, key: &FlowKey) -> Result<Option<Flow>, KernelError> {
        let mut payload = Vec::new();
        message::write_key(&mut payload, key);
        match self.netlink.get(Request::new(number(message::GET), 0, &payload)) {
            Ok(answer) => Ok(message::read(&answer)),
            Err(Refused { errno: libc::ENOENT, .. }) => Ok(None),
            Err(refused) => Err(KernelError::read("a connection", refused)),
        }
    }

    fn push(&mut self, step: &FlowStep) {
        let (new, delete) = (number(message::NEW), number(message::DELETE));
        match step {
            FlowStep::Create(flow) => self.batch.push(new, NLM_F_CREATE | NLM_F_EXCL, |p| message::write(p, flow, Shape::New)),
            FlowStep::Update(flow) => self.batch.push(new, 0, |payload| message::write(payload, flow, Shape::Standing)),
            FlowStep::Delete(key) => self.batch.push(delete, 0, |payload| message::write_key(payload, key)),
        }
    }

    /// One flow whose entry is not as was believed: looks, and makes it right.
    fn settle(&mut self, flow: &Flow, written: &mut Written) -> Result<(), KernelError> {
        let mut flow = *flow;
        let step = match self.find(&flow.key)? {
            Some(standing) if standing.key == flow.key && standing.nat == flow.nat => {
                // These two bits can be set and never cleared.
                flow.status.seen_reply |= standing.status.seen_reply;
                flow.status.assured |= standing.status.assured;
                FlowStep::Update(flow)
            }
            Some(_) => {
                self.push(&FlowStep::Delete(flow.key));
                FlowStep::Create(flow)
            }
            None => FlowStep::Create(flow),
        };
        self.push(&step);
        match self.pour()?.pop() {
            Some((_, why)) => written.refused.push((flow.key, why)),
            None => *written.of(&step) += 1,
        }
        Ok(())
    }

    fn pour(&mut self) -> Result<Vec<(usize, Refused)>, KernelError> {
        self.netlink.pour(&mut self.batch).map_err(|error| KernelError::Refused(error.into()))
    }
}

impl Kernel {
    /// Deletes every connection tracking entry whose mark has these bits under this mask.
    pub async fn delete_conntrack_by_mark(&self, mark: Mark, mask: u32) -> Result<(), KernelError> {
        delete_by_mark(&mut lock(&self.elements), mark, mask)?;
        if self.keeps_offloaded().await? {
            self.end(Filter { zone: None, mark, mask }, |_, _| true).await?;
        }
        Ok(())
    }

    /// Deletes the connections of these zones that `ends` names, in one walk over the table, and says how many there were.
    pub async fn end_flows(&self, zones: &BTreeSet<u16>, ends: impl Fn(&FlowKey, Option<NatSource>) -> bool) -> Result<usize, KernelError> {
        let filter = match zones.iter().next() {
            None => return Ok(0),
            Some(zone) if zones.len() == 1 => Filter::zone(*zone),
            Some(_) => Filter::default(),
        };
        self.end(filter, |key, nat| zones.contains(&key.zone) && ends(key, nat)).await
    }

    /// Deletes these connections, without a walk over the table, and says how many there were.
    pub async fn end_these(&self, keys: &[FlowKey]) -> Result<usize, KernelError> {
        let steps: Vec<FlowStep> = keys.iter().map(|key| FlowStep::Delete(*key)).collect();
        self.delete(|conntrack| conntrack.apply(&steps)).await
    }

    /// Deletes the connections that the filter takes and `ends` names, those in the flow table too.
    async fn end(&self, filter: Filter, ends: impl Fn(&FlowKey, Option<NatSource>) -> bool) -> Result<usize, KernelError> {
        self.delete(|conntrack| conntrack.delete_if(filter, &ends)).await
    }

    async fn delete(&self, delete: impl Fn(&mut Conntrack) -> Result<Written, KernelError>) -> Result<usize, KernelError> {
        match self.delete_flows(&delete) {
            Err(KernelError::Refused(Refused { errno: libc::EBUSY, .. })) => {
                // All leave the flow table; those that go on find the way back by themselves.
                nft::renew(&mut *self.netfilter.lock().await, NftTable::Inet).await?;
                self.delete_flows(&delete)
            }
            other => other,
        }
    }

    fn delete_flows(&self, delete: impl Fn(&mut Conntrack) -> Result<Written, KernelError>) -> Result<usize, KernelError> {
        let mut kept = lock(&self.conntrack);
        let mut conntrack = kept.take().map_or_else(Conntrack::open, Ok)?;
        let written = delete(&mut conntrack)?;
        *kept = Some(conntrack);
        // On a kernel before 6.4: one that is in the flow table.
        written.refused.into_iter().next().map_or(Ok(written.deleted), |(_, why)| Err(why.into()))
    }

    /// Kernels before 6.4 do not delete a connection that is in a flow table (ctnetlink_del_conntrack, ctnetlink_flush_iterate).
    async fn keeps_offloaded(&self) -> Result<bool, KernelError> {
        Ok(*self.flow_tables.get_or_try_init(nft::has_flow_tables).await? && !flow_table::entries_can_be_deleted())
    }
}

/// A reading of the conntrack table, a piece at a time: the kernel goes on when it is asked to, so the caller sets the pace.
/// It is no picture of one moment.
#[derive(Debug)]
pub struct FlowDump {
    netlink: Netlink,
    filter: Filter,
}

impl FlowDump {
    pub fn start(filter: Filter) -> Result<Self, KernelError> {
        let mut netlink = Netlink::open(libc::NETLINK_NETFILTER).map_err(open_failed)?;
        netlink.start_dump(filter.list()).map_err(open_failed)?;
        Ok(Self { netlink, filter })
    }

    /// The next flows, some hundred. False: that was the end. Entries that cannot be copied are left out: other protocols, other
    /// kinds of translation.
    pub fn next(&mut self, mut take: impl FnMut(Flow)) -> Result<bool, KernelError> {
        let filter = self.filter;
        let take = |payload: &[u8]| {
            if let Some(flow) = message::read(payload).filter(|flow| filter.takes(&flow.key, flow.mark)) {
                take(flow);
            }
        };
        self.netlink.next_entries(take).map_err(|refused| KernelError::read("connections", refused))
    }
}

/// Deletes every entry, of any zone and address family, whose mark has these bits under this mask: one message, and the
/// kernel walks its table.
fn delete_by_mark(netlink: &mut Netlink, mark: Mark, mask: u32) -> Answer {
    let mut payload = message::header(libc::AF_UNSPEC);
    message::write_mark(&mut payload, mark, mask);
    netlink.execute(vec![Request::new(number(message::DELETE), 0, &payload)]).pop().unwrap_or(Ok(()))
}

fn open_failed(source: std::io::Error) -> KernelError {
    KernelError::Open { what: "for connections", source }
}
