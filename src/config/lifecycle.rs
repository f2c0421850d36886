//! `lifecycle:` who takes a gateway's machine away, and tells it beforehand.

use super::decode::{Decoder, Field, Shape};
use super::node::Node;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use url::{Host, Url};

/// `lifecycle: aws:` the metadata of an EC2 instance, which may be one of an Auto Scaling group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceMetadata {
    /// `http`, EC2's own or on loopback. Default http://169.254.169.254.
    pub endpoint: Url,
    /// From one look to the next: 1 s to 10 s. Default 2 s.
    pub look: Duration,
}

impl InstanceMetadata {
    /// Where EC2 has them.
    pub(super) fn of_ec2() -> Option<Url> {
        Url::parse("http://169.254.169.254").ok()
    }
}

pub(super) const LIFECYCLE: &str = "lifecycle: { aws: { look: 2s } }";
const ENDPOINT: &str = "endpoint: http://169.254.169.254";

const SHAPE: Shape = Shape { what: "`lifecycle`", fields: &[Field::required("aws", "aws: { look: 2s }")] };

const AWS: Shape = Shape { what: "`aws`", fields: &[Field::optional("look", "look: 2s"), Field::optional("endpoint", ENDPOINT)] };

/// Where EC2 has them.
const OF_EC2: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(169, 254, 169, 254), Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254));
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

impl Decoder {
    pub(super) fn lifecycle(&mut self, node: &Node) -> Option<InstanceMetadata> {
        let table = self.table(node, &SHAPE, node.span)?;
        self.field(&table, "aws", Self::instance_metadata)
    }

    fn instance_metadata(&mut self, node: &Node) -> Option<InstanceMetadata> {
        self.has_aws(node)?;
        let table = self.table(node, &AWS, node.span)?;
        let look = self.field_or(&table, "look", Duration::from_secs(2), |d, node| d.time_in(node, "look", "2s", LOOK));
        let endpoint = self.field_or(&table, "endpoint", InstanceMetadata::of_ec2(), |d, node| d.metadata_url(node, "endpoint").map(Some));
        Some(InstanceMetadata { endpoint: endpoint??, look: look? })
    }

    /// A token is sent there in clear: it stays on this machine.
    pub(super) fn metadata_url(&mut self, node: &Node, name: &str) -> Option<Url> {
        let text = self.text(node, &format!("`{name}`"), &format!("{name}: http://169.254.169.254"))?;
        let is_here = |url: &Url| match url.host() {
            Some(Host::Ipv4(address)) => address == OF_EC2.0 || address.is_loopback(),
            Some(Host::Ipv6(address)) => address == OF_EC2.1 || address.is_loopback(),
            Some(Host::Domain(_)) | None => false,
        };
        let is_bare = |url: &Url| url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.password().is_none() && is_here(url) && is_bare(url));
        if url.is_none() {
            let remedy = "write http://169.254.169.254, http://[fd00:ec2::254] or one on loopback, or remove the line";
            self.fault(node.span, format!("`{name}` is no place of instance metadata"), remedy);
        }
        url
    }

    /// Whether this Portway can speak to AWS.
    pub(super) fn has_aws(&mut self, node: &Node) -> Option<()> {
        let has = cfg!(feature = "aws");
        if !has {
            let remedy = "take one that was, or build it: `cargo build --release --features aws`";
            self.fault(node.span, "`aws` needs a Portway that was built with the feature `aws`, and this one was not", remedy);
        }
        has.then_some(())
    }
}
