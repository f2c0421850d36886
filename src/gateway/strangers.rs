//! Peers that nobody has configured: who they are the directory knows, and they are let in when they knock.

use super::jit::{Capture, Door, Jit, News, Order, Setup};
use super::registry::{Changed, Registry};
use super::sessions::tunnels::Tunnels;
use crate::config::Gateway;
use crate::kernel::vrrp_socket::Family;
use crate::metrics::Page;
use crate::model::{PrivateKey, TenantShard};
use crate::plan::gateway::Admitted;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Nothing, where there is no directory.
#[derive(Debug, Default)]
pub struct Strangers(Option<(Registry, Jit)>);

/// Where knocks go, and what comes of them.
pub type Way = (Door, mpsc::UnboundedReceiver<News>);

impl Strangers {
    /// Whoever follows the sessions of peers passes knocks on, and hears what becomes of them.
    pub fn start(config: &Gateway, keys: &BTreeMap<TenantShard, PrivateKey>, tunnels: &Tunnels) -> anyhow::Result<(Self, Option<Way>)> {
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
        Ok((Self(Some((registry, jit))), Some((door, news))))
    }

    /// Those that are let in.
    pub fn admitted(&self) -> BTreeMap<TenantShard, Arc<Admitted>> {
        self.0.as_ref().map(|(_, jit)| jit.door().board().all()).unwrap_or_default()
    }

    pub fn reload(&self, config: &Gateway, keys: &BTreeMap<TenantShard, PrivateKey>) {
        if let Some((registry, _)) = &self.0 {
            registry.reload(config, keys);
        }
    }

    pub fn status(&self) -> serde_json::Value {
        let Some((registry, jit)) = &self.0 else { return serde_json::Value::Null };
        json!({ "peers": jit.door().report().json(), "directory": registry.status() })
    }

    pub fn metrics(&self, out: &mut Page) {
        if let Some((registry, jit)) = &self.0 {
            jit.door().report().metrics(out);
            registry.metrics(out);
        }
    }

    /// Lets nobody in any more.
    pub async fn stop(&mut self) {
        if let Some((registry, jit)) = self.0.take() {
            jit.stop();
            registry.stop().await;
        }
    }
}
