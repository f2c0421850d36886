//! Peers that nobody has configured: who they are the directory knows, and they are let in when they knock.

use super::jit::{Adopted, Capture, Door, Jit, News, Order, Setup};
use super::registry::report::Told;
use super::registry::{Changed, Registry};
use super::sessions::tunnels::Tunnels;
use super::stamps::{ByShard, Stamps};
use crate::config::Gateway;
use crate::kernel::vrrp_socket::Family;
use crate::metrics::Page;
use crate::model::{NodeName, PublicKey, Registered, Slot, TenantShard};
use crate::plan::gateway::Admitted;
use crate::plan::gateway::ends::Keys;
use crate::wire::wireguard::Tai64n;
use ipnet::IpNet;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Those whom a process before this one had let in are looked after by then.
pub const SETTLED: Duration = Duration::from_secs(30);

/// Nothing, where there is no directory.
#[derive(Debug, Default)]
pub struct Strangers {
    running: Option<(Registry, Jit)>,
    stamps: Option<Stamps>,
    /// Shards of which it has been asked what it held; and that, until the group has it.
    recalled: BTreeSet<TenantShard>,
    used: ByShard,
    left: Left,
    /// Until when those of `left` stand whoever else says so.
    until: Option<Instant>,
    passed: Arc<Mutex<Passed>>,
}

/// Of the last pass: what counting takes beside those that are let in now.
#[derive(Debug, Default)]
struct Passed {
    named: Named,
    left: Option<Left>,
}

/// Keys of those that the configuration or the API names, at each shard.
pub type Named = BTreeMap<TenantShard, HashSet<PublicKey>>;

/// Whom a process before this one had let in.
pub type Left = BTreeMap<TenantShard, Vec<(PublicKey, Adopted, Tai64n)>>;

/// Those that are let in at a shard, and inner prefix and host of each.
pub struct Found {
    pub peers: Arc<Admitted>,
    pub hosts: Vec<(IpNet, NodeName)>,
}

/// How many are let in that nobody has configured.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count(BTreeMap<TenantShard, HashSet<PublicKey>>);

impl Count {
    /// `left`: whom a process before this one had let in, at shards that have not been taken yet.
    fn of(
        board: &BTreeMap<TenantShard, Arc<Admitted>>,
        left: Option<&Left>,
        configured: impl Fn(&TenantShard, &PublicKey) -> bool,
    ) -> Self {
        let mut count = Self::default();
        let standing = board.iter().flat_map(|(of, peers)| peers.keys().map(move |key| (of, key)));
        let left = left.into_iter().flatten().filter(|(of, _)| !board.contains_key(*of));
        let left = left.flat_map(|(of, left)| left.iter().map(move |(key, ..)| (of, key)));
        for (of, key) in standing.chain(left).filter(|(of, key)| !configured(of, key)) {
            match count.0.get_mut(of) {
                Some(keys) => _ = keys.insert(*key),
                None => _ = count.0.insert(of.clone(), [*key].into()),
            }
        }
        count
    }

    pub fn of_shard(&self, of: &TenantShard) -> usize {
        self.0.get(of).map_or(0, HashSet::len)
    }

    /// Those of all shards, each once.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.values().flatten().collect::<HashSet<_>>().into_iter()
    }
}

/// Where knocks go, and what comes of them.
pub type Way = (Door, mpsc::UnboundedReceiver<News>);

impl Strangers {
    /// Whoever follows the sessions of peers passes knocks on, and hears what becomes of them.
    pub fn start(config: &Gateway, keys: &BTreeMap<TenantShard, Keys>, tunnels: &Tunnels) -> anyhow::Result<(Self, Option<Way>)> {
        let Some(registry) = Registry::start(config, keys) else { return Ok((Self::default(), None)) };
        let platform = &config.platform;
        let capture = Capture { interface: platform.interface.clone(), family: Family::of(platform.address) };
        let capture = matches!(tunnels, Tunnels::Kernel(_)).then_some(capture);
        let mut setup = Setup::new(tunnels.clone(), capture, Arc::new(registry.clone()), Handle::current());
        setup.config.idle = config.idle;
        let stamps = Stamps::open(&registry.at().state_dir)?;
        setup.used = Some(stamps.used().clone());
        let (jit, news) = Jit::start(setup)?;
        let (door, mut changes) = (jit.door().clone(), registry.changes());
        tokio::spawn({
            let door = door.clone();
            async move {
                // Until the registry ends.
                while let Some(changed) = changes.recv().await {
                    door.order(match changed {
                        Changed::Keys(keys) => Order::Changed(keys),
                        Changed::All => Order::AllChanged,
                    });
                }
            }
        });
        let until = Some(Instant::now() + SETTLED);
        Ok((Self { running: Some((registry, jit)), stamps: Some(stamps), left: Left::new(), until, ..Self::default() }, Some((door, news))))
    }

    /// None: there is no directory.
    pub fn registry(&self) -> Option<&Registry> {
        self.running.as_ref().map(|(registry, _)| registry)
    }

    /// The directory is told how this gateway is.
    pub fn tell(&self, told: Told) {
        if let Some((registry, _)) = &self.running {
            registry.tell(told);
        }
    }

    /// What was used up of hosts' stamps when the process before this one ended, is; of each shard once. To be called before anybody may knock there.
    /// `shared`: there is a group.
    pub fn recall(&mut self, slots: &BTreeMap<TenantShard, Slot>, shared: bool) {
        let (Some((_, jit)), Some(stamps)) = (&self.running, &mut self.stamps) else { return };
        self.recalled.retain(|of| slots.contains_key(of));
        let anew: Vec<&TenantShard> = slots.keys().filter(|of| !self.recalled.contains(*of)).collect();
        if anew.is_empty() {
            return;
        }
        self.recalled.extend(anew.iter().map(|of| (*of).clone()));
        // The rest of this runtime goes on meanwhile.
        let used = tokio::task::block_in_place(|| stamps.found(anew));
        for (of, stamps) in &used {
            if let Some(slot) = slots.get(of).copied() {
                jit.door().order(Order::Recall { slot, stamps: stamps.clone() });
            }
        }
        self.used.extend(used.into_iter().filter(|_| shared));
    }

    /// The same for the group, of shards that come to it; to be taken out.
    pub fn used(&mut self) -> &mut ByShard {
        &mut self.used
    }

    /// The same of all shards, for a group that begins, anew perhaps.
    pub fn all_used(&mut self, shards: &[TenantShard]) -> ByShard {
        if shards.iter().any(|of| !self.used.contains_key(of))
            && let Some(stamps) = &mut self.stamps
        {
            self.used = tokio::task::block_in_place(|| stamps.found(shards));
        }
        std::mem::take(&mut self.used)
    }

    /// A peer that nobody has configured stands already, or has a session. Who it is, as far as that is known; the directory is asked in time.
    pub fn found(
        &mut self,
        of: &TenantShard,
        key: PublicKey,
        allowed: Vec<IpNet>,
        endpoint: Option<SocketAddr>,
        stamp: Tai64n,
    ) -> Option<Arc<Registered>> {
        let (registry, endpoint) = (&self.running.as_ref()?.0, endpoint?);
        let unknown = || Some(Arc::new(Registered { host: "unknown".parse().ok()?, allowed }));
        let registered = registry.recall(of, &key).or_else(unknown)?;
        let adopted = Adopted { endpoint, registered: registered.clone(), heard: Instant::now() };
        self.left.entry(of.clone()).or_default().push((key, adopted, stamp));
        Some(registered)
    }

    /// For whoever passes knocks on.
    pub fn left(&self) -> Left {
        self.left.clone()
    }

    fn board(&self) -> BTreeMap<TenantShard, Arc<Admitted>> {
        self.running.as_ref().map(|(_, jit)| jit.door().board().all()).unwrap_or_default()
    }

    fn is_settled(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// How many are let in that the configuration does not name.
    pub fn count(&self, configured: impl Fn(&TenantShard, &PublicKey) -> bool) -> Count {
        Count::of(&self.board(), (!self.is_settled()).then_some(&self.left), configured)
    }

    /// After a pass: who is named.
    pub fn passed(&self, named: Named) {
        *lock(&self.passed) = Passed { named, left: (!self.is_settled()).then(|| self.left.clone()) };
    }

    /// Counts those that may send through each shard, in whichever thread.
    pub fn counter(&self) -> Box<dyn Fn() -> BTreeMap<TenantShard, u64> + Send + Sync> {
        let board = self.running.as_ref().map(|(_, jit)| jit.door().board().clone());
        let passed = self.passed.clone();
        Box::new(move || {
            let board = board.as_ref().map(|board| board.all()).unwrap_or_default();
            lock(&passed).count(&board)
        })
    }

    /// Those that are let in, and that the configuration does not name.
    pub fn admitted(&mut self, configured: impl Fn(&TenantShard, &PublicKey) -> bool) -> BTreeMap<TenantShard, Arc<Admitted>> {
        let mut all = self.board();
        if self.is_settled() {
            self.left.clear();
        }
        // Those of a shard that has been taken are on the board, as long as they are let in.
        self.left.retain(|of, _| !all.contains_key(of));
        for (of, left) in &self.left {
            let peers = Arc::make_mut(all.entry(of.clone()).or_default());
            for (key, adopted, _) in left {
                peers.entry(*key).or_insert_with(|| adopted.registered.allowed.clone());
            }
        }
        for (of, peers) in &mut all {
            if peers.keys().any(|key| configured(of, key)) {
                Arc::make_mut(peers).retain(|key, _| !configured(of, key));
            }
        }
        all
    }

    /// Asks for those that are let in at a shard, from another thread; nothing, if they are these still.
    pub fn finder(&self) -> Option<impl Fn(&TenantShard, Option<&Arc<Admitted>>) -> Option<Found> + Send + 'static> {
        let (registry, jit) = self.running.as_ref()?;
        let (registry, board) = (registry.clone(), jit.door().board().clone());
        Some(move |of: &TenantShard, former: Option<&Arc<Admitted>>| {
            let peers = board.peers(of);
            if former.is_some_and(|former| Arc::ptr_eq(former, &peers)) {
                return None;
            }
            let host = |key: &PublicKey| registry.recall(of, key).map(|registered| registered.host.clone());
            let known = peers.iter().filter_map(|(key, prefixes)| Some((host(key)?, prefixes)));
            let hosts = known.flat_map(|(host, prefixes)| prefixes.iter().map(move |prefix| (*prefix, host.clone()))).collect();
            Some(Found { peers, hosts })
        })
    }

    pub fn reload(&self, config: &Gateway, keys: &BTreeMap<TenantShard, Keys>) {
        if let Some((registry, _)) = &self.running {
            registry.reload(config, keys);
        }
    }

    /// For a process that goes on with those who were let in.
    pub async fn write_down(&self) {
        if let Some((registry, _)) = &self.running {
            registry.write_down().await;
        }
        if let Some(stamps) = &self.stamps {
            // The rest of this runtime goes on meanwhile.
            tokio::task::block_in_place(|| stamps.write_down());
        }
    }

    pub fn status(&self) -> serde_json::Value {
        let Some((registry, jit)) = &self.running else { return serde_json::Value::Null };
        json!({ "peers": jit.report().json(), "directory": registry.status() })
    }

    pub fn metrics(&self, out: &mut Page) {
        if let Some((registry, jit)) = &self.running {
            jit.report().metrics(out);
            registry.metrics(out);
        }
    }

    /// Lets nobody in any more.
    pub async fn stop(&mut self) {
        if let Some((registry, jit)) = self.running.take() {
            jit.stop();
            registry.stop().await;
        }
        // Nobody is let in any more: these are all.
        if let Some(stamps) = self.stamps.take() {
            tokio::task::block_in_place(|| drop(stamps));
        }
    }
}

impl Passed {
    fn count(&self, board: &BTreeMap<TenantShard, Arc<Admitted>>) -> BTreeMap<TenantShard, u64> {
        let Self { named, left } = self;
        let admitted = Count::of(board, left.as_ref(), |of, key| named.get(of).is_some_and(|keys| keys.contains(key)));
        let shards = named.keys().chain(admitted.0.keys());
        shards.map(|of| (of.clone(), (named.get(of).map_or(0, HashSet::len) + admitted.of_shard(of)) as u64)).collect()
    }
}

fn lock(passed: &Mutex<Passed>) -> MutexGuard<'_, Passed> {
    passed.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PrivateKey;

    #[test]
    fn each_host_counts_once_and_those_of_the_configuration_do_not() {
        let key = |n: u8| PrivateKey::new([n; 32]).public();
        let shard = |of: &str| of.parse::<TenantShard>().unwrap();
        let standing = |keys: &[u8]| Arc::new(keys.iter().map(|n| (key(*n), vec![])).collect::<Admitted>());
        let board = BTreeMap::from([(shard("acme/0"), standing(&[1, 2, 9])), (shard("acme/1"), standing(&[2]))]);
        let registered = Arc::new(Registered { host: "host-1".parse().unwrap(), allowed: vec![] });
        let adopted = Adopted { endpoint: "10.9.0.11:51820".parse().unwrap(), registered, heard: Instant::now() };
        let left = |n: u8| (key(n), adopted.clone(), Tai64n::NEVER);
        // At both interfaces of a shard that has not come yet; and at one that has, whose board says who is there.
        let left = Left::from([(shard("blue/0"), vec![left(3), left(3)]), (shard("acme/1"), vec![left(4)])]);
        let configured = |of: &TenantShard, is: &PublicKey| *of == shard("acme/0") && *is == key(9);
        let count = Count::of(&board, Some(&left), configured);
        assert_eq!(["acme/0", "acme/1", "blue/0", "blue/1"].map(|of| count.of_shard(&shard(of))), [2, 1, 1, 0]);
        assert_eq!(count.keys().copied().collect::<HashSet<_>>(), [1, 2, 3].map(key).into());
        assert_eq!(Count::of(&board, None, configured).of_shard(&shard("blue/0")), 0);
        // Whoever may send, named or not.
        let named = Named::from([(shard("acme/0"), [key(8), key(9)].into())]);
        let all =
            |counts: [u64; 3]| ["acme/0", "acme/1", "blue/0"].map(shard).into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
        assert_eq!(Passed { named: named.clone(), left: Some(left) }.count(&board), all([4, 1, 1]));
        assert_eq!(Passed { named, left: None }.count(&board), all([4, 1, 0]));
    }
}
