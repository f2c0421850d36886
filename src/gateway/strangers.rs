//! Peers that nobody has configured: who they are the directory knows, and they are let in when they knock.

use super::jit::{Adopted, Capture, Door, Jit, News, Order, Setup};
use super::registry::{Changed, Registry};
use super::sessions::tunnels::Tunnels;
use crate::config::Gateway;
use crate::kernel::vrrp_socket::Family;
use crate::metrics::Page;
use crate::model::{PublicKey, Registered, TenantShard};
use crate::plan::gateway::Admitted;
use crate::plan::gateway::ends::Keys;
use crate::wire::wireguard::Tai64n;
use ipnet::IpNet;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Those whom a process before this one had let in are looked after by then.
pub const SETTLED: Duration = Duration::from_secs(30);

/// Nothing, where there is no directory.
#[derive(Debug, Default)]
pub struct Strangers {
    running: Option<(Registry, Jit)>,
    left: Left,
    /// Until when those of `left` stand whoever else says so.
    until: Option<Instant>,
}

/// Whom a process before this one had let in.
pub type Left = BTreeMap<TenantShard, Vec<(PublicKey, Adopted, Tai64n)>>;

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
        Ok((Self { running: Some((registry, jit)), left: Left::new(), until }, Some((door, news))))
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

    /// Those that are let in, and that the configuration does not name.
    pub fn admitted(&mut self, configured: impl Fn(&TenantShard, &PublicKey) -> bool) -> BTreeMap<TenantShard, Arc<Admitted>> {
        let mut all = self.running.as_ref().map(|(_, jit)| jit.door().board().all()).unwrap_or_default();
        if self.until.is_some_and(|until| Instant::now() >= until) {
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
    }

    pub fn status(&self) -> serde_json::Value {
        let Some((registry, jit)) = &self.running else { return serde_json::Value::Null };
        json!({ "peers": jit.door().report().json(), "directory": registry.status() })
    }

    pub fn metrics(&self, out: &mut Page) {
        if let Some((registry, jit)) = &self.running {
            jit.door().report().metrics(out);
            registry.metrics(out);
        }
    }

    /// Lets nobody in any more.
    pub async fn stop(&mut self) {
        if let Some((registry, jit)) = self.running.take() {
            jit.stop();
            registry.stop().await;
        }
    }
}
