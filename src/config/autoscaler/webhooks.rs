//! `webhooks:` who may post to the autoscaler, and where.

use crate::config::common::Seen;
use crate::config::decode::{At, Decoder, Field, Shape, Table};
use crate::config::directory::Tls;
use crate::config::node::Node;
use crate::config::types::KeyFile;
use crate::model::{AutoscalerName, TopicArn};
use std::net::SocketAddr;
use std::path::PathBuf;

/// `webhooks:` as validated values. At least one of tokens, keys and topics is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhooks {
    /// A listener of its own. Default 127.0.0.1:9475.
    pub listen: SocketAddr,
    /// None: plain HTTP, and tokens on loopback only.
    pub tls: Option<Tls>,
    /// The name of this autoscaler: what is signed for one counts at no other. Default `autoscaler`.
    pub audience: AutoscalerName,
    /// Files with a bearer token each.
    pub tokens: Vec<PathBuf>,
    /// Keys of those who sign.
    pub keys: Vec<KeyFile>,
    /// Topics of Amazon SNS that may send here.
    pub topics: Vec<TopicArn>,
}

impl Webhooks {
    /// The same place, and nobody may post there.
    pub fn closed(&self) -> Self {
        Self { tokens: vec![], keys: vec![], topics: vec![], ..self.clone() }
    }
}

const WEBHOOKS: Shape = Shape {
    what: "`webhooks`",
    fields: &[
        Field::optional("listen", "listen: 10.9.0.7:9475"),
        Field::optional("tls", "tls: { certificate: /etc/portway/autoscaler.pem, key: /etc/portway/autoscaler-tls.key }"),
        Field::optional("audience", "audience: autoscaler-1"),
        Field::optional("tokens", TOKENS),
        Field::optional("keys", KEYS),
        Field::optional("sns", SNS_EXAMPLE),
    ],
};

const TOKENS: &str = "tokens: [/etc/portway/alertmanager.token]";
const KEYS: &str = "keys: [{ id: 1, file: /etc/portway/functions.key }]";
const SNS_EXAMPLE: &str = "sns: { topics: [\"arn:aws:sns:eu-central-1:123456789012:portway\"] }";

const SNS: Shape =
    Shape { what: "`sns`", fields: &[Field::required("topics", "topics: [\"arn:aws:sns:eu-central-1:123456789012:portway\"]")] };

impl Decoder {
    pub(super) fn webhooks(&mut self, node: &Node) -> Option<Webhooks> {
        let table = self.table(node, &WEBHOOKS, node.span)?;
        let listen = self.field_or(&table, "listen", SocketAddr::from(([127, 0, 0, 1], 9475)), |d, node| d.socket(node, "listen"));
        let tls = self.field_or(&table, "tls", None, |d, node| d.tls(node).map(Some));
        let audience = self.audience(&table);
        let tokens = self.field_or(&table, "tokens", vec![], |d, node| {
            let mut seen = Seen::new("the file");
            d.items(node, "`tokens`", TOKENS, |d, item| {
                let file = d.absolute(item, "a token's file", "/etc/portway/alertmanager.token")?;
                let shown = At { value: file.value.display().to_string(), span: file.span };
                d.unique(&mut seen, Some(&shown), "name each file once");
                Some(file.value)
            })
        });
        let keys =
            self.field_or(&table, "keys", vec![], |d, node| d.key_files(node, KEYS, "give each key its own number: senders write it"));
        let topics = self.field_or(&table, "sns", vec![], Self::topics);
        if let (Some(listen), true, false) = (listen, table.written("tokens"), table.written("tls")) {
            self.plain(listen, table.place("tokens"));
        }
        if !["tokens", "keys", "sns"].iter().any(|name| table.written(name)) {
            let what = "`webhooks` names nobody who may post";
            self.fault(node.span, what, format!("add at least one of `{TOKENS}`, `{KEYS}` or `{SNS_EXAMPLE}`, or remove `webhooks`"));
        }
        Some(Webhooks { listen: listen?, tls: tls?, audience: audience?, tokens: tokens?, keys: keys?, topics: topics? })
    }

    fn audience(&mut self, table: &Table<'_>) -> Option<AutoscalerName> {
        match table.get("audience") {
            None => "autoscaler".parse().ok(),
            Some(node) => self.parsed(node, "`audience`", "audience: autoscaler-1").map(|at| at.value),
        }
    }

    fn topics(&mut self, node: &Node) -> Option<Vec<TopicArn>> {
        let table = self.table(node, &SNS, node.span)?;
        self.field(&table, "topics", |d, node| {
            let mut seen = Seen::new("the topic");
            d.items(node, "`topics`", SNS_EXAMPLE, |d, item| {
                let topic = d.parsed::<TopicArn>(item, "the topic", "\"arn:aws:sns:eu-central-1:123456789012:portway\"");
                d.unique(&mut seen, topic.as_ref(), "name each topic once");
                topic.map(|at| at.value)
            })
        })
    }
}
