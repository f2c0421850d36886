//! Connection tracking entries: read, told of, copied from another node, deleted.
//!
//! ```text
//!  kernel of the Active --FlowWatch, FlowDump--> Flow ==proto::sync==> Flow --Conntrack::create, update, delete--> kernel of a Backup
//! ```

mod message;
mod watch;

pub use watch::{FlowWatch, Notices};

use super::attr;
use super::netlink::{Answer, Batch, Netlink, Request};
use super::{KernelError, Refused};
use crate::model::{Flow, FlowKey, Mark};
use message::{Shape, number};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};

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

/// What became of flows that were to be written.
#[derive(Debug, Default)]
pub struct Written {
    pub created: usize,
    pub updated: usize,
    pub refused: Vec<(FlowKey, Refused)>,
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

    /// Writes flows that are believed to be new. One that stands already is brought to the given state, replaced if it has another
    /// translation.
    pub fn create(&mut self, flows: &[Flow]) -> Result<Written, KernelError> {
        let mut written = Written { created: flows.len(), ..Written::default() };
        for (flow, why) in self.write(flows, Shape::New, NLM_F_CREATE | NLM_F_EXCL)? {
            written.created -= 1;
            match why.errno {
                libc::EEXIST => self.settle(flow, &mut written)?,
                _ => written.refused.push((flow.key, why)),
            }
        }
        Ok(written)
    }

    /// Writes flows that are believed to stand with the same translation. One that does not stand is created.
    pub fn update(&mut self, flows: &[Flow]) -> Result<Written, KernelError> {
        let mut written = Written { updated: flows.len(), ..Written::default() };
        for (flow, _) in self.write(flows, Shape::Standing, 0)? {
            written.updated -= 1;
            self.settle(flow, &mut written)?;
        }
        Ok(written)
    }

    /// Deletes flows, or finds them gone: how many there were.
    pub fn delete<'k>(&mut self, keys: impl IntoIterator<Item = &'k FlowKey>) -> Result<usize, KernelError> {
        let (mut deleted, mut keys) = (0, keys.into_iter().peekable());
        while keys.peek().is_some() {
            let mut count = 0;
            while let Some(key) = keys.next_if(|_| !self.batch.is_full()) {
                self.batch.push(number(message::DELETE), 0, |payload| message::write_key(payload, key));
                count += 1;
            }
            let refused = self.pour()?;
            deleted += count - refused.len();
            if let Some((_, why)) = refused.into_iter().find(|(_, why)| why.errno != libc::ENOENT) {
                return Err(why.into());
            }
        }
        Ok(deleted)
    }

    /// Deletes every flow that the filter takes: how many there were.
    ///
    /// By name, because kernels before 6.8 do not know a zone in the message that deletes many, and would delete everything.
    pub fn delete_all(&mut self, filter: Filter) -> Result<usize, KernelError> {
        self.netlink.start_dump(filter.list()).map_err(open_failed)?;
        let mut keys = Vec::new();
        let mut take = |payload: &[u8]| keys.extend(message::read_key(payload).filter(|(key, mark)| filter.takes(key, *mark)));
        while self.netlink.next_entries(&mut take).map_err(|refused| KernelError::read("connections", refused))? {}
        self.delete(keys.iter().map(|(key, _)| key))
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

    /// What was refused, with the reason.
    fn write<'f>(&mut self, flows: &'f [Flow], shape: Shape, flags: u16) -> Result<Vec<(&'f Flow, Refused)>, KernelError> {
        let (mut refused, mut rest) = (Vec::new(), flows);
        while !rest.is_empty() {
            let mut count = 0;
            while let Some(flow) = rest.get(count).filter(|_| !self.batch.is_full()) {
                self.batch.push(number(message::NEW), flags, |payload| message::write(payload, flow, shape));
                count += 1;
            }
            refused.extend(self.pour()?.into_iter().map(|(place, why)| (&rest[place], why)));
            rest = &rest[count..];
        }
        Ok(refused)
    }

    /// One flow whose entry is not as was believed: looks, and makes it right.
    fn settle(&mut self, flow: &Flow, written: &mut Written) -> Result<(), KernelError> {
        let standing = self.find(&flow.key)?;
        let result = match standing {
            Some(standing) if standing.key == flow.key && standing.nat == flow.nat => {
                // These two bits can be set and never cleared.
                let mut merged = *flow;
                merged.status.seen_reply |= standing.status.seen_reply;
                merged.status.assured |= standing.status.assured;
                written.updated += 1;
                self.write(&[merged], Shape::Standing, 0)?.pop().map(|(_, why)| why)
            }
            other => {
                if other.is_some() {
                    self.delete([&flow.key])?;
                }
                written.created += 1;
                self.write(&[*flow], Shape::New, NLM_F_CREATE | NLM_F_EXCL)?.pop().map(|(_, why)| why)
            }
        };
        if let Some(why) = result {
            *(if standing.is_some_and(|s| s.nat == flow.nat) { &mut written.updated } else { &mut written.created }) -= 1;
            written.refused.push((flow.key, why));
        }
        Ok(())
    }

    fn pour(&mut self) -> Result<Vec<(usize, Refused)>, KernelError> {
        self.netlink.pour(&mut self.batch).map_err(|error| KernelError::Refused(error.into()))
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
pub(super) fn delete_by_mark(netlink: &mut Netlink, mark: u32, mask: u32) -> Answer {
    let mut payload = message::header(libc::AF_UNSPEC);
    message::write_mark(&mut payload, Mark(mark), mask);
    netlink.execute(vec![Request::new(number(message::DELETE), 0, &payload)]).pop().unwrap_or(Ok(()))
}

fn open_failed(source: std::io::Error) -> KernelError {
    KernelError::Open { what: "for connections", source }
}
