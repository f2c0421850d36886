//! `prometheus:` what a Prometheus knows of the load.

use crate::config::common::Seen;
use crate::config::decode::{At, Decoder, Field, Shape};
use crate::config::node::Node;
use crate::model::SourceName;
use std::time::Duration;
use url::Url;

/// `prometheus:` as validated values.
#[derive(Debug, Clone, PartialEq)]
pub struct Prometheus {
    /// Where its API is: what stands before `/api/v1/query`.
    pub url: Url,
    pub queries: Vec<Query>,
}

/// One that is asked again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub name: SourceName,
    /// In PromQL; gives a scalar, or a vector of one sample.
    pub query: String,
    /// What its value is.
    pub figure: Figure,
    /// From one time to the next: 1 s to 10 min. Default 15 s.
    pub every: Duration,
    /// How long a value counts: two times `every` at least, to 24 h. Default 5 min, or three times `every` if that is longer.
    pub lasts: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Of the whole group, at least.
    Nodes,
    Bits,
    Packets,
    Connections,
}

const FIGURES: [(&str, Figure); 4] = [
    ("nodes", Figure::Nodes),
    ("bits_per_second", Figure::Bits),
    ("packets_per_second", Figure::Packets),
    ("connections", Figure::Connections),
];

const PROMETHEUS: Shape =
    Shape { what: "`prometheus`", fields: &[Field::required("url", "url: http://10.9.0.8:9090"), Field::required("queries", QUERIES)] };

const QUERIES: &str = "queries: [{ name: functions, query: \"sum(functions_expected)\", figure: connections }]";

const QUERY: Shape = Shape {
    what: "this query",
    fields: &[
        Field::required("name", "name: functions"),
        Field::required("query", "query: \"sum(functions_expected)\""),
        Field::required("figure", "figure: connections"),
        Field::optional("every", "every: 15s"),
        Field::optional("lasts", "lasts: 5m"),
    ],
};

const LONGEST: usize = 4096;
const SECOND: Duration = Duration::from_secs(1);

impl Decoder {
    pub(super) fn prometheus(&mut self, node: &Node) -> Option<Prometheus> {
        let table = self.table(node, &PROMETHEUS, node.span)?;
        let url = self.field(&table, "url", Self::prometheus_url);
        let queries = self.field(&table, "queries", |d, node| {
            let mut seen = Seen::new("the query");
            d.items(node, "`queries`", QUERIES, |d, item| d.query(item, &mut seen))
        });
        Some(Prometheus { url: url?, queries: queries? })
    }

    fn prometheus_url(&mut self, node: &Node) -> Option<Url> {
        let text = self.text(node, "`url`", "url: http://10.9.0.8:9090")?;
        let good = |url: &Url| {
            let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
            matches!(url.scheme(), "http" | "https") && plain
        };
        let url = Url::parse(text).ok().filter(good);
        if url.is_none() {
            // Not the text itself: it may hold a password.
            let remedy = "write http:// or https:// and its address, such as http://10.9.0.8:9090, with what stands before /api/v1/query";
            self.fault(node.span, "`url` is no place where a Prometheus is", remedy);
        }
        url
    }

    fn query(&mut self, node: &Node, seen: &mut Seen<SourceName>) -> Option<Query> {
        let table = self.table(node, &QUERY, node.span)?;
        let name = self.field(&table, "name", |d, node| d.parsed(node, "`name`", "name: functions"));
        self.unique(seen, name.as_ref(), "give each query a name of its own");
        let query = self.field(&table, "query", |d, node| {
            let text = d.text(node, "`query`", "query: \"sum(functions_expected)\"")?;
            if text.trim().is_empty() || text.len() > LONGEST {
                d.fault(node.span, format!("`query` has {} bytes", text.len()), format!("write one of 1 to {LONGEST}, in PromQL"));
                return None;
            }
            Some(text.to_owned())
        });
        let figure = self.field(&table, "figure", |d, node| d.word(node, "figure", &FIGURES));
        let every = self.field_or(&table, "every", 15 * SECOND, |d, node| d.time_in(node, "every", "15s", (SECOND, 600 * SECOND)));
        let least = every.map_or(SECOND, |every| every * 2);
        let lasts = self.field_or(&table, "lasts", (300 * SECOND).max(least * 3 / 2), |d, node| {
            d.time_in(node, "lasts", "5m", (least, 86_400 * SECOND))
        });
        Some(Query { name: name.map(|at: At<SourceName>| at.value)?, query: query?, figure: figure?, every: every?, lasts: lasts? })
    }
}
