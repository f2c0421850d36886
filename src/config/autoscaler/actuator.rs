//! `actuator:` who is told how many nodes there shall be.

use crate::config::KeyFile;
use crate::config::decode::{Decoder, Field, Shape};
use crate::config::node::{Kind, Node};
use crate::model::{AutoscalerName, KeyId};
use std::path::PathBuf;
use std::time::Duration;
use url::{Host, Url};

/// `actuator:` as validated values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Actuator {
    /// Nobody: whoever scales asks at `/v1/wanted`.
    #[default]
    None,
    Webhook(OutgoingWebhook),
    Aws(AutoScalingGroup),
}

impl Actuator {
    /// Whether it is asked what there is, rather than the configuration.
    pub fn is_asked(&self) -> bool {
        match self {
            Self::None | Self::Webhook(_) => false,
            Self::Aws(_) => true,
        }
    }

    /// Whether both lead to the same place, with whatever keys and times.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Webhook(one), Self::Webhook(other)) => one.url == other.url,
            (Self::Aws(one), Self::Aws(other)) => one == other,
            (Self::None | Self::Webhook(_) | Self::Aws(_), _) => false,
        }
    }
}

/// Orders are posted there, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingWebhook {
    /// `https`, or `http` on loopback.
    pub url: Url,
    /// What the orders are signed with.
    pub key: KeyFile,
    /// Whose orders they are: begins each Idempotency-Key. Default `autoscaler`.
    pub name: AutoscalerName,
    /// Whom they are signed for.
    pub audience: AutoscalerName,
    /// A call that takes longer has failed: 1 s to 30 s. Default 10 s.
    pub timeout: Duration,
    /// Who certifies the receiver, in PEM. None: whom the machine trusts.
    pub ca: Option<PathBuf>,
}

/// A group of EC2 Auto Scaling. Credentials are found as AWS's own tools find them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoScalingGroup {
    /// 1 to 255 characters.
    pub group: String,
    pub region: String,
    /// The lifecycle hook in which instances that are to go wait until they are drained. None: they do not wait for us.
    pub hook: Option<String>,
    /// `https`, or `http` on loopback. None: AWS's own of the region.
    pub endpoint: Option<Url>,
    /// From one look at the group to the next: 1 s to 15 s. Default 10 s.
    pub look: Duration,
    /// A call that takes longer has failed: 1 s to 30 s. Default 10 s.
    pub timeout: Duration,
}

const EXAMPLE: &str = "actuator: { webhook: { url: https://functions.example/scale, ... } }";
const URL: &str = "url: https://functions.example/scale";
const ENDPOINT: &str = "endpoint: https://vpce-1.autoscaling.eu-central-1.vpce.amazonaws.com";

const ACTUATOR: Shape = Shape {
    what: "`actuator`",
    fields: &[
        Field::optional("webhook", "webhook: { url: https://functions.example/scale, ... }"),
        Field::optional("aws", "aws: { group: gateways, region: eu-central-1 }"),
    ],
};

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

const AWS: Shape = Shape {
    what: "`aws`",
    fields: &[
        Field::required("group", "group: gateways"),
        Field::required("region", "region: eu-central-1"),
        Field::optional("hook", "hook: portway-drain"),
        Field::optional("endpoint", ENDPOINT),
        Field::optional("look", "look: 10s"),
        Field::optional("timeout", "timeout: 10s"),
    ],
};

const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
const TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Decoder {
    pub(super) fn actuator(&mut self, node: &Node) -> Option<Actuator> {
        if matches!(node.kind, Kind::Scalar { .. }) {
            return self.word(node, "actuator", &[("none", ())]).map(|()| Actuator::None);
        }
        let table = self.table(node, &ACTUATOR, node.span)?;
        match (table.written("webhook"), table.written("aws")) {
            (true, false) => self.field(&table, "webhook", Self::outgoing_webhook).map(Actuator::Webhook),
            (false, true) => self.field(&table, "aws", Self::auto_scaling_group).map(Actuator::Aws),
            (false, false) => {
                self.fault(node.span, "`actuator` names nobody", format!("write `{EXAMPLE}` or `actuator: none`"));
                None
            }
            (true, true) => {
                self.fault(table.place("aws"), "`actuator` names two", "keep `webhook` or `aws`: one runs the nodes");
                None
            }
        }
    }

    fn auto_scaling_group(&mut self, node: &Node) -> Option<AutoScalingGroup> {
        self.has_aws(node)?;
        let table = self.table(node, &AWS, node.span)?;
        let group = self.field(&table, "group", |d, node| d.aws_name(node, "group", "gateways"));
        let region = self.field(&table, "region", Self::region);
        let hook = self.field_or(&table, "hook", None, |d, node| d.aws_name(node, "hook", "portway-drain").map(Some));
        let endpoint = self.field_or(&table, "endpoint", None, |d, node| d.called_url(node, "endpoint", ENDPOINT).map(Some));
        let look = self.field_or(&table, "look", Duration::from_secs(10), |d, node| d.time_in(node, "look", "10s", LOOK));
        let timeout = self.field_or(&table, "timeout", Duration::from_secs(10), |d, node| d.time_in(node, "timeout", "10s", TIMEOUT));
        Some(AutoScalingGroup { group: group?, region: region?, hook: hook?, endpoint: endpoint?, look: look?, timeout: timeout? })
    }

    /// AutoScalingGroupName and LifecycleHookName of the API: 1 to 255 characters that can be seen.
    fn aws_name(&mut self, node: &Node, what: &str, example: &str) -> Option<String> {
        let text = self.text(node, &format!("`{what}`"), &format!("{what}: {example}"))?;
        let good = (1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if !good {
            self.fault(
                node.span,
                format!("`{what}` is no name that AWS would take"),
                format!("write 1 to 255 characters, such as {example}"),
            );
        }
        good.then(|| text.to_owned())
    }

    pub(in crate::config) fn region(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node, "`region`", "region: eu-central-1")?;
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_region = (1..=32).contains(&text.len())
            && text.chars().all(good)
            && !text.starts_with('-')
            && text.ends_with(|c: char| c.is_ascii_digit());
        if !is_region {
            self.fault(node.span, format!("`region` {text:?} is none"), "write one such as eu-central-1, without the zone's letter");
        }
        is_region.then(|| text.to_owned())
    }

    fn outgoing_webhook(&mut self, node: &Node) -> Option<OutgoingWebhook> {
        let table = self.table(node, &WEBHOOK, node.span)?;
        let url = self.field(&table, "url", |d, node| d.called_url(node, "url", URL));
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
        let key = KeyFile { id: id??, file: file?.value };
        Some(OutgoingWebhook { url: url?, key, name: name?, audience: audience?, timeout: timeout?, ca: ca? })
    }

    /// Where orders go; nobody on the way may read or change them.
    pub(in crate::config) fn called_url(&mut self, node: &Node, what: &str, example: &str) -> Option<Url> {
        let text = self.text(node, &format!("`{what}`"), example)?;
        let url = Url::parse(text).ok().filter(|url| url.has_host() && url.username().is_empty() && url.password().is_none());
        let remedy = format!("write where orders are taken, such as `{example}`; http is for 127.0.0.1 and localhost");
        // Not the text itself: it may hold a secret.
        let Some(url) = url.filter(|url| url.fragment().is_none()) else {
            self.fault(node.span, format!("`{what}` is no place that orders can be posted to"), remedy);
            return None;
        };
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if url.scheme() == "https" || url.scheme() == "http" && loopback {
            return Some(url);
        }
        let what = format!("`{what}` is neither https nor, on loopback, http: orders could be read and held back on their way");
        self.fault(node.span, what, remedy);
        None
    }
}
