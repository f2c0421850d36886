//! Whose the connections of a gateway are: shards by conntrack zone, function hosts by inner address.

use super::Node;
use super::ha::board::Board;
use super::strangers::Found;
use crate::config::StaticPeer;
use crate::daemon::flow_log::Knows;
use crate::model::{FlowLife, NodeName, TenantName, TenantShard};
use crate::plan::gateway::Admitted;
use crate::proto::flow_log::{Author, From, Held, Place};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Those that are let in just in time are looked up no more often than this, of each shard.
const LOOK_UP: Duration = Duration::from_millis(250);

/// Prefixes by their first address; no two have one in common.
type Owners = BTreeMap<IpAddr, (IpNet, NodeName)>;

/// What the gateway knows, for the thread of the flow log. Locks are held for moments.
#[derive(Debug, Default)]
pub struct Origins {
    zones: Mutex<BTreeMap<u16, TenantShard>>,
    hosts: Mutex<BTreeMap<TenantName, Owners>>,
}

impl Origins {
    /// Before its first packet can come. What went by the API is known until the next pass: its connections end after it.
    pub fn add(&self, peer: &StaticPeer) {
        let mut hosts = lock(&self.hosts);
        for (of, prefixes) in &peer.inner {
            let owners = hosts.entry(of.tenant.clone()).or_default();
            prefixes.iter().for_each(|prefix| add(owners, *prefix, &peer.host));
        }
    }
}

/// In the place of what stands for any of its addresses.
fn add(owners: &mut Owners, prefix: IpNet, host: &NodeName) {
    if owner(owners, prefix.network()).is_some_and(|(wider, _)| wider.contains(&prefix))
        && let Some((first, _)) = owners.range(..=prefix.network()).next_back()
    {
        let first = *first;
        owners.remove(&first);
    }
    let within: Vec<IpAddr> = owners.range(prefix.network()..=prefix.broadcast()).map(|(first, _)| *first).collect();
    within.iter().for_each(|first| _ = owners.remove(first));
    owners.insert(prefix.network(), (prefix, host.clone()));
}

fn owner(owners: &Owners, address: IpAddr) -> Option<&(IpNet, NodeName)> {
    owners.range(..=address).next_back().map(|(_, owned)| owned).filter(|(prefix, _)| prefix.contains(&address))
}

impl Node {
    /// Whose connections are in which zone: of shards that come before their first packet can. Connections end after their shard has gone.
    pub(super) fn name_zones(&self) {
        if self.config.flow_log.is_some() {
            lock(&self.origins.zones).extend(self.zones());
        }
    }

    /// The log as it is configured, with what it needs to know.
    pub(super) fn log_flows(&mut self) {
        let config = self.config.flow_log.as_ref();
        if config.is_some() {
            let hosts = self.peers.owners().clone();
            *lock(&self.origins.hosts) = hosts;
        }
        let author = Author { node: self.config.node.clone(), role: "gateway" };
        let (origins, strangers) = (&self.origins, &self.strangers);
        let board = self.config.ha.is_some().then(|| self.group.shared_board());
        self.flow_log.follow(config, &author, || Known {
            origins: origins.clone(),
            board,
            find: strangers.finder().map(|find| -> Find { Box::new(find) }),
            found: HashMap::new(),
        });
    }
}

type Find = Box<dyn Fn(&TenantShard, Option<&Arc<Admitted>>) -> Option<Found> + Send>;

/// What the thread asks.
struct Known {
    origins: Arc<Origins>,
    /// With a group.
    board: Option<Arc<Board>>,
    /// With a directory.
    find: Option<Find>,
    /// Whom it found, of each shard.
    found: HashMap<TenantShard, Strange>,
}

/// Hosts that were let in just in time.
#[derive(Default)]
struct Strange {
    looked: Option<Instant>,
    peers: Arc<Admitted>,
    /// Those that have gone among them, until somebody else has their addresses: connections end after them.
    owners: Owners,
}

impl Known {
    /// Those that nobody has configured.
    fn stranger(&mut self, of: &TenantShard, address: IpAddr) -> Option<NodeName> {
        let find = self.find.as_ref()?;
        let all = match self.found.get_mut(of) {
            Some(all) => all,
            None => self.found.entry(of.clone()).or_default(),
        };
        if all.looked.is_none_or(|at| at.elapsed() >= LOOK_UP) {
            // Its name may have come later than it did.
            let known = owner(&all.owners, address).is_some();
            if let Some(found) = find(of, known.then_some(&all.peers)) {
                found.hosts.iter().for_each(|(prefix, host)| add(&mut all.owners, *prefix, host));
                all.peers = found.peers;
            }
            all.looked = Some(Instant::now());
        }
        owner(&all.owners, address).map(|(_, host)| host.clone())
    }
}

impl Knows for Known {
    fn held(&self) -> Option<Held> {
        self.board.as_ref().map(|board| board.held())
    }

    fn place(&mut self, life: &FlowLife, take: &mut dyn FnMut(Place)) {
        // What the machine itself sends has no mark, or is in a zone of its own.
        if life.mark.slot().is_none_or(|slot| slot.zone() != life.key.zone) {
            return;
        }
        let Some(of) = lock(&self.origins.zones).get(&life.key.zone).cloned() else { return };
        let configured =
            lock(&self.origins.hosts).get(&of.tenant).and_then(|owners| owner(owners, life.key.source)).map(|(_, host)| host.clone());
        let host = configured.or_else(|| self.stranger(&of, life.key.source));
        take(Place { of: &of, from: From::Host(host.as_ref()) });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is let in at one shard, as a test has it.
    type Let = Arc<Mutex<(Arc<Admitted>, Vec<(IpNet, NodeName)>)>>;

    fn known(there: &Let) -> Known {
        let there = there.clone();
        let find = move |_: &TenantShard, former: Option<&Arc<Admitted>>| {
            let there = there.lock().unwrap();
            let (peers, hosts) = there.clone();
            (!former.is_some_and(|former| Arc::ptr_eq(former, &peers))).then_some(Found { peers, hosts })
        };
        Known { origins: Arc::default(), board: None, find: Some(Box::new(find)), found: HashMap::new() }
    }

    #[test]
    fn an_address_that_has_another_host_is_told_as_its() {
        let (of, address): (TenantShard, IpAddr) = ("acme/0".parse().unwrap(), "10.64.0.9".parse().unwrap());
        let hosts = |host: &str| vec![("10.64.0.9/32".parse().unwrap(), host.parse().unwrap())];
        let there: Let = Arc::default();
        let mut known = known(&there);
        // As if the last look were long ago.
        let host = |known: &mut Known| {
            known.found.values_mut().for_each(|all| all.looked = None);
            known.stranger(&of, address).map(|host| host.to_string())
        };
        assert_eq!(host(&mut known), None);
        *there.lock().unwrap() = (Arc::default(), hosts("first"));
        assert_eq!(host(&mut known).as_deref(), Some("first"));
        *there.lock().unwrap() = (Arc::default(), vec![]);
        assert_eq!(host(&mut known).as_deref(), Some("first"), "its connections end after it");
        *there.lock().unwrap() = (Arc::default(), hosts("second"));
        assert_eq!(host(&mut known).as_deref(), Some("second"));
        // The same still: nobody is asked for names again.
        there.lock().unwrap().1 = hosts("third");
        assert_eq!(host(&mut known).as_deref(), Some("second"));
    }

    #[test]
    fn the_latest_owner_of_an_address_counts() {
        let mut owners = Owners::new();
        let mut put = |prefix: &str, host: &str| add(&mut owners, prefix.parse().unwrap(), &host.parse().unwrap());
        put("10.64.1.0/28", "first");
        put("10.64.0.9/32", "second");
        put("10.64.1.3/32", "third");
        put("10.64.2.0/30", "fourth");
        put("10.64.2.0/28", "fifth");
        put("10.64.0.9/32", "sixth");
        let of = |address: &str| owner(&owners, address.parse().unwrap()).map(|(_, host)| host.to_string());
        assert_eq!(["10.64.0.9", "10.64.1.3", "10.64.2.1", "10.64.2.15"].map(|at| of(at).unwrap()), ["sixth", "third", "fifth", "fifth"]);
        assert_eq!(["10.64.1.1", "10.64.0.8", "10.64.2.16", "9.0.0.0"].map(of), [const { None }; 4]);
    }
}
