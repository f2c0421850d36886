//! `gateways:` who is asked how much it carries: those of a list, or those that a directory knows.

use crate::config::common::Seen;
use crate::config::decode::{At, Decoder, Field, Shape};
use crate::config::node::{Kind, Node};
use crate::config::registry::DirectoryAt;
use crate::model::NodeName;
use std::fmt;
use std::time::Duration;
use url::Url;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gateways {
    /// These and no others.
    Listed(Vec<Scraped>),
    /// Those that the directory knows, wherever they say that they are.
    Discovered(Discovery),
}

impl fmt::Display for Gateways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gateways::Listed(all) => write!(f, "{} gateways", all.len()),
            Gateways::Discovered(discovery) => write!(f, "the gateways of the directory at {}", discovery.at.url),
        }
    }
}

/// A gateway's `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scraped {
    pub name: NodeName,
    /// `http` on any address: it holds no secret, and what a stranger could make of it is bounded by `min` and `max`.
    pub metrics: Url,
}

/// A directory that is asked which gateways there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Its `state_dir` means nothing here: what must outlive the process is with the autoscaler's own.
    pub at: DirectoryAt,
    /// From one time to the next: 1 s to 1 min. Default 5 s, as often as gateways tell it of themselves.
    pub every: Duration,
}

pub(super) const EXAMPLE: &str = "gateways: [{ name: gw-a1, metrics: \"http://10.9.0.1:9470/metrics\" }]";
const OF_DIRECTORY: &str = "directory: { url: https://directory.example:9473, token_file: /etc/portway/autoscaler.token }";

const GATEWAY: Shape = Shape {
    what: "this gateway",
    fields: &[Field::required("name", "name: gw-a1"), Field::required("metrics", "metrics: http://10.9.0.1:9470/metrics")],
};

const GATEWAYS: Shape = Shape { what: "`gateways`", fields: &[Field::required("directory", OF_DIRECTORY)] };

const DIRECTORY: Shape = Shape {
    what: "`directory`",
    fields: &[
        Field::required("url", "url: https://directory.example:9473"),
        Field::required("token_file", "token_file: /etc/portway/autoscaler.token"),
        Field::optional("ca", "ca: /etc/portway/directory-ca.pem"),
        Field::optional("every", "every: 5s"),
    ],
};

const SECOND: Duration = Duration::from_secs(1);

impl Decoder {
    pub(super) fn gateways(&mut self, node: &Node) -> Option<Gateways> {
        match node.kind {
            Kind::Map(_) => {
                let table = self.table(node, &GATEWAYS, node.span)?;
                self.field(&table, "directory", Self::discovery).map(Gateways::Discovered)
            }
            Kind::Scalar { .. } => {
                let what = format!("`gateways` must be a list, or a map with `directory`, not {}", node.describe());
                self.fault(node.span, what, format!("write `{EXAMPLE}` or `gateways: {{ {OF_DIRECTORY} }}`"));
                None
            }
            Kind::List(_) => {
                let mut seen = (Seen::new("the gateway"), Seen::new("the URL"));
                self.items(node, "`gateways`", EXAMPLE, |d, item| d.scraped(item, &mut seen)).map(Gateways::Listed)
            }
        }
    }

    fn discovery(&mut self, node: &Node) -> Option<Discovery> {
        let table = self.table(node, &DIRECTORY, node.span)?;
        let at = self.directory_at(&table, None);
        let every = self.field_or(&table, "every", 5 * SECOND, |d, node| d.time_in(node, "every", "5s", (SECOND, 60 * SECOND)));
        Some(Discovery { at: at?, every: every? })
    }

    fn scraped(&mut self, node: &Node, seen: &mut (Seen<NodeName>, Seen<Url>)) -> Option<Scraped> {
        let table = self.table(node, &GATEWAY, node.span)?;
        let name = self.field(&table, "name", |d, node| d.parsed(node, "`name`", "name: gw-a1"));
        self.unique(&mut seen.0, name.as_ref(), "name each gateway once");
        let metrics = self.field(&table, "metrics", Self::metrics_url);
        self.unique(&mut seen.1, metrics.as_ref(), "give each gateway its own");
        Some(Scraped { name: name?.value, metrics: metrics?.value })
    }

    fn metrics_url(&mut self, node: &Node) -> Option<At<Url>> {
        let text = self.text(node, "`metrics`", "metrics: http://10.9.0.1:9470/metrics")?;
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.password().is_none() && url.username().is_empty() => {
                Some(At { value: url, span: node.span })
            }
            _ => {
                let remedy = "write http:// or https://, the gateway's `admin` address and /metrics, such as http://10.9.0.1:9470/metrics";
                // Not the text itself: it may hold a password.
                self.fault(node.span, "`metrics` is no place where a gateway tells of itself", remedy);
                None
            }
        }
    }
}
