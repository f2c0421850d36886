//! Takes the tenants' network interfaces that a node of an Auto Scaling group comes up without, and lets them go when it goes: asks EC2, and does what `proto::attach` says.

mod keeper;
mod translate;

use super::Node;
use super::ha::Links;
use crate::config::{self, Aws, Gateway};
use crate::kernel::Kernel;
use crate::metrics::Page;
use crate::model::TenantName;
use crate::plan::gateway::shards;
use futures::future::join_all;
use keeper::{Before, Keeper, Of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Whoever ends waits no longer for its interfaces to be let go: with the instance they are let go as well.
const LETS_GO: Duration = Duration::from_secs(10);

/// Of each tenant whose interface is attached by this node.
#[derive(Debug, Default)]
pub struct Attachments {
    kept: BTreeMap<TenantName, Keeper>,
    /// Those that are in the configuration no more, until they are let go.
    left: Vec<Keeper>,
}

impl Attachments {
    /// Has these attached, or none of them. What stands no more in the configuration is let go: its index is another's.
    fn follow(&mut self, config: &Gateway, kernel: &Arc<Kernel>, links: &watch::Receiver<Links>, wanted: bool) {
        let all = wanted_by(config);
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.kept).into_iter().partition(|(name, keeper)| all.get(name) == Some(&keeper.of));
        self.kept = kept;
        self.left.extend(gone.into_values());
        self.left.retain(|keeper| !keeper.is_gone() && is_left(&keeper.of, config, &all));
        self.left.iter().for_each(|keeper| keeper.want(false));
        for (name, of) in all {
            let at_its_index = self.left.iter().filter(|keeper| keeper.of.attach.device == of.attach.device);
            let before = at_its_index.map(Keeper::before).collect();
            let keeper = self.kept.entry(name).or_insert_with(|| Keeper::start(of, kernel.clone(), links.clone(), wanted, before));
            keeper.want(wanted);
        }
    }

    /// Lets all go, and returns when they are, or after some time.
    pub async fn let_go(&self) {
        let all = || self.kept.values().chain(&self.left);
        // Of all before any is waited for: EC2 takes seconds for each.
        all().for_each(|keeper| keeper.want(false));
        let mut free: Vec<Before> = all().map(Keeper::before).collect();
        if tokio::time::timeout(LETS_GO, join_all(free.iter_mut().map(Before::is_free))).await.is_err() {
            tracing::warn!("network interfaces could not be let go in time: they are free when this instance is terminated");
        }
    }

    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// By tenant.
    pub fn status(&self) -> Value {
        let left = self.left.iter().filter(|keeper| !keeper.is_gone());
        let all = left.chain(self.kept.values()).map(|keeper| (keeper.of.tenant.to_string(), keeper.status()));
        all.collect::<serde_json::Map<_, _>>().into()
    }

    pub fn metrics(&self, out: &mut Page) {
        self.kept.values().for_each(|keeper| keeper.metrics(out));
    }
}

impl Node {
    pub(super) fn take_or_let_go(&mut self) {
        let Some(kernel) = &self.kernel else { return };
        let has_left = self.leaves() && shards(&self.config).is_empty();
        let is_done = (has_left || self.group.end().1) && self.group.board().holds().is_empty();
        self.attachments.follow(&self.config, kernel, &self.group.links(), !is_done);
    }
}

/// What a configuration has a node attach.
fn wanted_by(config: &Gateway) -> BTreeMap<TenantName, Of> {
    let Some(aws) = &config.cloud else { return BTreeMap::new() };
    let of = |tenant: &config::GatewayTenant| {
        let aws = Aws { platform: config::Side::default(), tenants: BTreeMap::new(), ..(**aws).clone() };
        let attach = config.attach(&tenant.name)?.clone();
        Some((tenant.name.clone(), Of { tenant: tenant.name.clone(), interface: tenant.interface.clone(), attach, aws }))
    };
    config.tenants.iter().filter_map(of).collect()
}

/// Whether nobody needs the interface any more: another keeper that has the same attached takes it over, and who wrote a tenant without `attach` has one for it that stays.
fn is_left(of: &Of, config: &Gateway, all: &BTreeMap<TenantName, Of>) -> bool {
    let is_taken_over = all.values().any(|other| other.attach == of.attach);
    let stays = config.tenants.iter().any(|tenant| tenant.interface == of.interface && !all.contains_key(&tenant.name));
    !is_taken_over && !stays
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, parse};
    use futures::future::FutureExt;

    const PAIR: &str = include_str!("../../examples/gateway-pair.yaml");

    fn pair(aws: &str) -> Gateway {
        match parse(&PAIR.replace("\n  tenants:\n", &format!("\n  cloud: {{ aws: {{ {aws} }} }}\n  tenants:\n")), "pair.yaml") {
            Ok(Config::Gateway(gateway)) => gateway,
            other => panic!("{other:?}"),
        }
    }

    fn attaching(device: u8) -> Gateway {
        pair(&format!("tenants: {{ acme: {{ attach: {{ device: {device}, tags: {{ \"portway:tenant\": acme }} }} }} }}"))
    }

    fn of(device: u8) -> Of {
        wanted_by(&attaching(device)).into_values().next().expect("acme's")
    }

    #[tokio::test]
    async fn all_are_let_go_before_any_is_waited_for() {
        let kept = [("acme", 1), ("globex", 2)].map(|(name, device)| (name.parse().unwrap(), Keeper::idle(of(device))));
        let attachments = Attachments { kept: kept.into(), left: vec![Keeper::idle(of(3))] };
        assert!(attachments.let_go().now_or_never().is_none());
        assert!(attachments.kept.values().chain(&attachments.left).all(|keeper| !keeper.is_wanted()));
    }

    #[test]
    fn only_what_nobody_needs_is_let_go() {
        let is_left = |of: &Of, config: &Gateway| is_left(of, config, &wanted_by(config));
        let moved = Of { interface: "eth7".parse().unwrap(), ..of(1) };
        assert!(!is_left(&moved, &attaching(1)), "under another name: the same interface");
        assert!(is_left(&of(1), &attaching(2)));
        assert!(!is_left(&of(1), &pair("")), "the tenant has it without `attach`");
        let removed = Of { tenant: "globex".parse().unwrap(), interface: "eth7".parse().unwrap(), ..of(2) };
        assert!(is_left(&removed, &attaching(1)) && is_left(&removed, &pair("")));
    }
}
