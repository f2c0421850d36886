//! `actuator:` who is told how many nodes there shall be.

use crate::config::HaKey;
use crate::config::decode::{Decoder, Field, Shape};
use crate::config::directory::local;
use crate::config::node::{Kind, Node};
use crate::model::{AutoscalerName, KeyId};
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// `actuator:` as validated values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Actuator {
    /// Nobody: whoever scales asks at `/v1/wanted`.
    #[default]
    None,
    Webhook(OutgoingWebhook),
}

impl Actuator {
    /// Whether both lead to the same place, with whatever keys and times.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Webhook(one), Self::Webhook(other)) => one.url == other.url,
            (Self::None | Self::Webhook(_), _) => false,
        }
    }
}

/// Orders are posted there, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingWebhook {
    /// `https`, or `http` on loopback.
    pub url: Url,
    /// What the orders are signed with.
    pub key: HaKey,
    /// Whose orders they are: begins each Idempotency-Key. Default `autoscaler`.
    pub name: AutoscalerName,
    /// Whom they are signed for.
    pub audience: AutoscalerName,
    /// A call that takes longer has failed: 1 s to 30 s. Default 10 s.
    pub timeout: Duration,
    /// Who certifies the receiver, in PEM. None: whom the machine trusts.
    pub ca: Option<PathBuf>,
}

const EXAMPLE: &str = "actuator: { webhook: { url: https://functions.example/scale, ... } }";
const URL: &str = "url: https://functions.example/scale";

const ACTUATOR: Shape = Shape { what: "`actuator`", fields: &[Field::optional("webhook", "webhook: { url: https://functions.example/scale, ... }")] };

const WEBHOOK: Shape = Shape {
    what: "this webhook",
    fields: &[
        Field::required("url", URL),
        Field::required("key_file", "key_file: /etc/portway/orders.key"),
        Field::optional("key_id", "key_id: 1"),
        Field::optional("name", "name: autoscaler-1"),
        Field::required("audience", "audience: functions"),
        Field::optional("timeout", "timeout: 10s"),
        Field::optional("ca", "ca: /etc/portway/functions-ca.pem"),
    ],
};

const TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Decoder {
    pub(super) fn actuator(&mut self, node: &Node) -> Option<Actuator> {
        if matches!(node.kind, Kind::Scalar { .. }) {
            return self.word(node, "actuator", &[("none", ())]).map(|()| Actuator::None);
        }
        let table = self.table(node, &ACTUATOR, node.span)?;
        if !table.written("webhook") {
            self.fault(node.span, "`actuator` names nobody", format!("write `{EXAMPLE}` or `actuator: none`"));
        }
        self.field(&table, "webhook", Self::outgoing_webhook).map(Actuator::Webhook)
    }

    fn outgoing_webhook(&mut self, node: &Node) -> Option<OutgoingWebhook> {
        let table = self.table(node, &WEBHOOK, node.span)?;
        let url = self.field(&table, "url", Self::receiver_url);
        let file = self.field(&table, "key_file", |d, node| d.absolute(node, "key_file", "/etc/portway/orders.key"));
        let id = self.field_or(&table, "key_id", KeyId::try_from(1).ok(), |d, node| {
            let id = d.number(node, "key_id", 1..=u64::from(u8::MAX), "")?;
            Some(KeyId::try_from(u8::try_from(id.value).ok()?).ok())
        });
        let named = |d: &mut Self, node: &Node, what: &str, example: &str| d.parsed(node, what, example).map(|at| at.value);
        let name = self.field(&table, "name", |d, node| named(d, node, "`name`", "name: autoscaler-1"));
        let name = if table.written("name") { name } else { "autoscaler".parse().ok() };
        let audience = self.field(&table, "audience", |d, node| named(d, node, "`audience`", "audience: functions"));
        let timeout = self.field_or(&table, "timeout", Duration::from_secs(10), |d, node| d.time_in(node, "timeout", "10s", TIMEOUT));
        let ca =
            self.field_or(&table, "ca", None, |d, node| d.absolute(node, "ca", "/etc/portway/functions-ca.pem").map(|at| Some(at.value)));
        let key = HaKey { id: id??, file: file?.value };
        Some(OutgoingWebhook { url: url?, key, name: name?, audience: audience?, timeout: timeout?, ca: ca? })
    }

    fn receiver_url(&mut self, node: &Node) -> Option<Url> {
        let text = self.text(node, "`url`", URL)?;
        let url = Url::parse(text).ok().filter(|url| url.has_host() && url.username().is_empty() && url.password().is_none());
        let remedy = "write where orders are taken, such as https://functions.example/scale; http is for 127.0.0.1 and localhost";
        // Not the text itself: it may hold a secret.
        let Some(url) = url.filter(|url| url.fragment().is_none()) else {
            self.fault(node.span, "`url` is no place that orders can be posted to", remedy);
            return None;
        };
        // What stands in a query is PostgreSQL's to `local`.
        if url.scheme() == "https" || url.scheme() == "http" && url.query().is_none() && local(&url) {
            return Some(url);
        }
        self.fault(node.span, "`url` is neither https nor, on loopback, http: orders could be read and held back on their way", remedy);
        None
    }
}
