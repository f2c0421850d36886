//! `autoscaler:` how many gateways there should be, and who is asked.

mod actuator;
mod gateways;
mod nodes;
mod prometheus;
mod webhooks;

use super::common::ADMIN_NAMES;
use super::decode::{Decoder, Field, Shape, Table};
use super::node::Node;
use super::registry::STATE_DIR;
use crate::model::HostName;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use actuator::{Actuator, AutoScalingGroup, OutgoingWebhook};
pub use gateways::{Discovery, Gateways, Scraped};
pub use nodes::{Change, Hours, Nodes};
pub use prometheus::{Figure, Prometheus, Query};
pub use webhooks::Webhooks;

/// `autoscaler:` as validated values.
#[derive(Debug, Clone, PartialEq)]
pub struct Autoscaler {
    /// Who is asked how much it carries.
    pub gateways: Gateways,
    /// From one reading of a gateway to the next: 200 ms to 1 min. Default 1 s.
    pub scrape: Duration,
    pub nodes: Nodes,
    /// Who may post what is to come. None: nobody, and nothing listens for it.
    pub webhooks: Option<Webhooks>,
    /// Who is asked what is to come.
    pub prometheus: Option<Prometheus>,
    /// Who is told. Default: nobody.
    pub actuator: Actuator,
    /// Decide and tell, but order nothing. Default: no.
    pub dry_run: bool,
    /// Where what must outlive the process is kept. Default `/var/lib/portway`.
    pub state_dir: PathBuf,
    /// Where the socket and the lock are kept; as a gateway's. Default `/run/portway`.
    pub runtime_dir: PathBuf,
    /// `/metrics`, `/healthz`, `/readyz`, `/v1/status`, `/v1/wanted`. Default 127.0.0.1:9474.
    pub admin: SocketAddr,
    /// As a gateway's.
    pub admin_names: BTreeSet<HostName>,
}

const AUTOSCALER: Shape = Shape {
    what: "`autoscaler`",
    fields: &[
        Field::required("gateways", gateways::EXAMPLE),
        Field::optional("scrape", "scrape: 1s"),
        Field::optional("nodes", "nodes: { min: 2, max: 10 }"),
        Field::optional("webhooks", "webhooks: { keys: [{ id: 1, file: /etc/portway/functions.key }] }"),
        Field::optional("prometheus", "prometheus: { url: http://10.9.0.8:9090, queries: [...] }"),
        Field::optional("actuator", "actuator: none"),
        Field::optional("dry_run", "dry_run: true"),
        Field::optional("state_dir", "state_dir: /var/lib/portway"),
        Field::optional("runtime_dir", "runtime_dir: /run/portway"),
        Field::optional("admin", "admin: 127.0.0.1:9474"),
        Field::optional("admin_names", ADMIN_NAMES),
    ],
};

impl Decoder {
    pub fn autoscaler(&mut self, node: &Node, table: &Table<'_>) -> Option<Autoscaler> {
        let place = table.place("autoscaler");
        let table = self.table(node, &AUTOSCALER, place)?;
        let gateways = self.field(&table, "gateways", Self::gateways);
        let scrape = self.field_or(&table, "scrape", Duration::from_secs(1), |d, node| {
            d.time_in(node, "scrape", "1s", (Duration::from_millis(200), Duration::from_secs(60)))
        });
        let nodes = self.field_or(&table, "nodes", Nodes::default(), Self::nodes);
        if let (Some(scrape), Some(nodes)) = (scrape, &nodes)
            && nodes.stale_after < scrape * 2
        {
            let what =
                format!("`stale_after` {:?} is less than two scrapes of {scrape:?}: every gateway would be silent", nodes.stale_after);
            self.fault(table.place("nodes"), what, "write at least three times `scrape`");
        }
        let webhooks = self.field_or(&table, "webhooks", None, |d, node| d.webhooks(node).map(Some));
        let prometheus = self.field_or(&table, "prometheus", None, |d, node| d.prometheus(node).map(Some));
        let actuator = self.field_or(&table, "actuator", Actuator::None, Self::actuator);
        let dry_run = self.field_or(&table, "dry_run", false, |d, node| d.boolean(node, "dry_run"));
        let state_dir = self
            .field_or(&table, "state_dir", PathBuf::from(STATE_DIR), |d, node| d.absolute(node, "state_dir", STATE_DIR).map(|at| at.value));
        let runtime_dir = self.runtime_dir(&table);
        let admin = self.admin(&table, 9474);
        let admin_names = self.admin_names(&table);
        if let (Some(admin), Some(Some(webhooks))) = (admin, &webhooks)
            && webhooks.listen == admin
        {
            let what = format!("`webhooks` listens on {admin}, which is `admin` too");
            self.fault(table.place("webhooks"), what, "give each a port of its own");
        }
        Some(Autoscaler {
            gateways: gateways?,
            scrape: scrape?,
            nodes: nodes?,
            webhooks: webhooks?,
            prometheus: prometheus?,
            actuator: actuator?,
            dry_run: dry_run?,
            state_dir: state_dir?,
            runtime_dir: runtime_dir?,
            admin: admin?,
            admin_names: admin_names?,
        })
    }
}
