//! YAML to validated values; faults with file, line, column and remedy, all at once.
//!
//! ```text
//! text --node--> tree with places --decode, values--> values --gateway, peers, host, space--> Config
//!                     |                   |                            |
//!                     +-------------------+----------- faults ---------+--> Faults
//! ```

mod autoscaler;
mod cloud;
mod common;
mod decode;
mod directory;
mod fault;
mod flow_log;
mod gateway;
mod ha;
mod host;
mod lifecycle;
mod node;
mod peers;
mod registry;
mod space;
#[cfg(test)]
mod tests;
mod track;
mod tunnel;
mod types;
mod values;

pub use autoscaler::{
    Actuator, AutoScalingGroup, Autoscaler, Change, Discovery, Figure, Gateways, Hours, Nodes, OutgoingWebhook, Prometheus, Query, Scraped,
    Webhooks,
};
pub use cloud::{Aws, Side, TenantSide};
pub use directory::{Database, Directory, Oidc, PostgresUrl, Tls};
pub use fault::{Fault, Faults};
pub use flow_log::FlowLog;
pub use lifecycle::InstanceMetadata;
pub use registry::{DirectoryAt, HostDirectory, STATE_DIR};
pub use space::{NEVER_ALLOWED, UNUSABLE};
pub use tunnel::{ENROLLED_KEY, GatewayTunnel, HostKey, HostTunnel, Identity, NextKey, PeerEnd, TunnelKind};
pub use types::*;
pub use values::duration;

use decode::{Decoder, Field, Shape};
use fault::Span;
use node::Broken;
use std::path::Path;

const ROLES: &str = "begin with `gateway:`, `host:`, `directory:` or `autoscaler:`";

const TOP: Shape = Shape {
    what: "the configuration",
    fields: &[
        Field::optional("gateway", "gateway: { node: gw-a1, ... }"),
        Field::optional("host", "host: { node: host-1, ... }"),
        Field::optional("peers", "peers: { static: [...] }"),
        Field::optional("directory", "directory: { listen: 10.9.0.5:9473, ... }"),
        Field::optional("autoscaler", "autoscaler: { gateways: [...] }"),
    ],
};

/// The configuration in a file.
///
/// # Errors
/// Everything that is wrong with it; a file that cannot be read is a fault in line 1.
pub fn load(path: impl AsRef<Path>) -> Result<Config, Faults> {
    let path = path.as_ref();
    let file = path.display().to_string();
    let unreadable = |span, what: String, remedy: &str| {
        let mut d = Decoder::new(&file);
        d.fault(span, what, remedy);
        Faults::new("", d.faults)
    };
    let bytes = std::fs::read(path)
        .map_err(|error| unreadable(Span::TOP, format!("the file cannot be read: {error}"), "check the path and its permissions"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let (line, column) = (good.matches('\n').count() + 1, good.rsplit('\n').next().unwrap_or("").chars().count() + 1);
        unreadable(Span { line, column, ..Span::TOP }, "this is not UTF-8 text".into(), "save the file as UTF-8")
    })?;
    parse(&text, &file)
}

/// The configuration in a text; `file_name` is what faults call it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file_name: &str) -> Result<Config, Faults> {
    let mut decoder = Decoder::new(file_name);
    let config = match node::read(text) {
        Ok(tree) => decoder.config(&tree),
        Err(Broken(span, what, remedy)) => {
            decoder.fault(span, what, remedy);
            None
        }
    };
    match config {
        Some(config) if decoder.faults.is_empty() => Ok(config),
        _ => {
            if decoder.faults.is_empty() {
                // Not reached: what gives no value says why. A configuration is still never accepted by mistake.
                decoder.fault(Span::TOP, "the configuration cannot be used", "compare it with the examples");
            }
            Err(Faults::new(text, decoder.faults))
        }
    }
}

impl Decoder {
    fn config(&mut self, tree: &node::Node) -> Option<Config> {
        if tree.is_null() {
            self.fault(Span::TOP, "the file is empty", ROLES);
            return None;
        }
        let table = self.table(tree, &TOP, tree.span)?;
        if let Some(directory) = table.get("directory") {
            self.alone("directory", "a directory's hosts are added by `portway directory host add`, or enrol", &table);
            return self.directory(directory, &table).map(Config::Directory);
        }
        if let Some(autoscaler) = table.get("autoscaler") {
            self.alone("autoscaler", "an autoscaler has gateways alone", &table);
            return self.autoscaler(autoscaler, &table).map(|autoscaler| Config::Autoscaler(Box::new(autoscaler)));
        }
        match (table.get("gateway"), table.get("host"), table.get("peers")) {
            (Some(gateway), None, peers) => self.gateway(gateway, &table, peers).map(Config::Gateway),
            (None, Some(host), peers) => {
                if peers.is_some() {
                    let remedy = "remove it: a host's gateways stand under `shards`";
                    self.fault(table.place("peers"), "`peers` goes with `gateway` only", remedy);
                }
                self.host(host, &table).map(Config::Host)
            }
            (Some(gateway), Some(host), peers) => {
                let second = table.place("gateway").max(table.place("host"));
                self.fault(second, "`gateway` and `host` stand in one file", "give each role its own file: they are two daemons");
                self.gateway(gateway, &table, peers);
                self.host(host, &table);
                None
            }
            (None, None, _) => {
                // A misspelt or empty role was reported as such.
                if self.faults.is_empty() {
                    self.fault(tree.span, "the file has no role", ROLES);
                }
                None
            }
        }
    }

    /// This role stands in one file with no other, and has no peers, which is why.
    fn alone(&mut self, role: &str, why: &str, table: &decode::Table<'_>) {
        for other in ["gateway", "host", "directory", "autoscaler"].into_iter().filter(|other| *other != role && table.written(other)) {
            let what = format!("`{role}` and `{other}` stand in one file");
            self.fault(table.place(other).max(table.place(role)), what, "give each role its own file: they are two daemons");
        }
        if table.written("peers") {
            self.fault(table.place("peers"), "`peers` goes with `gateway` only", format!("remove it: {why}"));
        }
    }
}
