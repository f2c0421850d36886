//! `directory:` of a gateway or a function host: the directory that it asks.

use super::decode::{Decoder, Field, Shape, Table};
use super::directory::local;
use super::node::Node;
use super::tunnel::TunnelKind;
use ipnet::IpNet;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Where the directory is, and who asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryAt {
    /// `https`, or `http` on loopback.
    pub url: Url,
    /// Who this is: a token, in a file that its owner alone may read. Read when it is needed, and again when the directory refuses it.
    pub token_file: PathBuf,
    /// Who certifies the directory, in PEM. None: whom the machine trusts.
    pub ca: Option<PathBuf>,
    /// What must be known while the directory does not answer is kept here, across a reboot. Default `/var/lib/portway`.
    pub state_dir: PathBuf,
}

/// What a function host leaves to the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDirectory {
    pub at: DirectoryAt,
    /// What goes into the tunnels of tenants that the directory names and `tenants` does not. Empty: such tenants are not served.
    pub cidrs: Vec<IpNet>,
}

/// As `portway enroll` leaves it.
pub const STATE_DIR: &str = "/var/lib/portway";

/// A peer that says nothing for so long is taken from the tunnel, unless another time is written.
const IDLE: Duration = Duration::from_secs(5 * 60);

pub(super) const OF_GATEWAY: &str = "directory: { url: https://directory.example:9473, token_file: /etc/portway/gw-a1.token }";
pub(super) const OF_HOST: &str = "directory: { url: https://directory.example:9473 }";
const URL: &str = "url: https://directory.example:9473";
const STATE: &str = "state_dir: /var/lib/portway";
const CA: &str = "ca: /etc/portway/directory-ca.pem";

const GATEWAY: Shape = Shape {
    what: "`directory`",
    fields: &[
        Field::required("url", URL),
        Field::required("token_file", "token_file: /etc/portway/gw-a1.token"),
        Field::optional("ca", CA),
        Field::optional("state_dir", STATE),
    ],
};

const HOST: Shape = Shape {
    what: "`directory`",
    fields: &[
        Field::required("url", URL),
        Field::optional("token_file", "token_file: /var/lib/portway/host.token"),
        Field::optional("ca", CA),
        Field::optional("state_dir", STATE),
        Field::optional("cidrs", "cidrs: [172.16.0.0/16]"),
    ],
};

impl Decoder {
    /// A gateway's, and how long a peer that it brings may be silent.
    pub fn gateway_directory(&mut self, role: &Table<'_>, kind: Option<TunnelKind>) -> Option<(Option<DirectoryAt>, Duration)> {
        self.with_wireguard_only(role, kind);
        let place = role.place("directory");
        let at = self.field_or(role, "directory", None, |d, node| {
            let table = d.table(node, &GATEWAY, place)?;
            d.directory_at(&table, None).map(Some)
        });
        let idle = self.field_or(role, "idle", IDLE, Self::idle);
        if role.written("idle") && !role.written("directory") {
            let remedy = "add `directory`, or remove it: peers of the file stay";
            self.fault(role.place("idle"), "`idle` goes with `directory` only", remedy);
        }
        Some((at?, idle?))
    }

    /// A host's. `tunnelled` decodes one of `cidrs`.
    pub fn host_directory(
        &mut self,
        role: &Table<'_>,
        kind: Option<TunnelKind>,
        tunnelled: impl FnMut(&mut Self, &Node) -> Option<IpNet>,
    ) -> Option<Option<HostDirectory>> {
        self.with_wireguard_only(role, kind);
        let place = role.place("directory");
        self.field_or(role, "directory", None, |d, node| {
            let table = d.table(node, &HOST, place)?;
            let at = d.directory_at(&table, Some("host.token"));
            let cidrs = d.field_or(&table, "cidrs", Vec::new(), |d, node| d.items(node, "`cidrs`", "cidrs: [172.16.0.0/16]", tunnelled));
            Some(Some(HostDirectory { at: at?, cidrs: cidrs? }))
        })
    }

    fn with_wireguard_only(&mut self, role: &Table<'_>, kind: Option<TunnelKind>) {
        if kind == Some(TunnelKind::Gre) && role.written("directory") {
            let remedy = "write that, or remove it: GRE knows hosts by their addresses, which the file lists";
            self.fault(role.place("directory"), "`directory` goes with `tunnel: wireguard` only", remedy);
        }
    }

    /// `token`: the token file's name in the state directory, unless another is written.
    pub(super) fn directory_at(&mut self, table: &Table<'_>, token: Option<&str>) -> Option<DirectoryAt> {
        let url = self.field(table, "url", Self::directory_url);
        let ca =
            self.field_or(table, "ca", None, |d, node| d.absolute(node, "ca", "/etc/portway/directory-ca.pem").map(|at| Some(at.value)));
        let state_dir = self
            .field_or(table, "state_dir", PathBuf::from(STATE_DIR), |d, node| d.absolute(node, "state_dir", STATE_DIR).map(|at| at.value));
        let token_file = match token {
            Some(name) if !table.written("token_file") => state_dir.as_ref().map(|dir| dir.join(name)),
            _ => self.field(table, "token_file", |d, node| d.absolute(node, "token_file", "/etc/portway/gw-a1.token")).map(|at| at.value),
        };
        Some(DirectoryAt { url: url?, token_file: token_file?, ca: ca?, state_dir: state_dir? })
    }

    fn directory_url(&mut self, node: &Node) -> Option<Url> {
        let text = self.text(node, "`url`", URL)?;
        let remedy = "write where the directory listens, such as https://directory.example:9473";
        let Ok(url) = Url::parse(text) else {
            self.fault(node.span, format!("`url` {text:?} is no URL"), remedy);
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            // Not the text itself: it may hold a password.
            self.fault(node.span, "`url` holds more than the place of a directory", remedy);
            return None;
        }
        match url.scheme() {
            "https" => Some(url),
            "http" if url.has_host() && local(&url) => Some(url),
            "http" => {
                let remedy = format!("write {}", text.replacen("http", "https", 1));
                self.fault(node.span, format!("`url` {text:?} would take the token over the network in clear"), remedy);
                None
            }
            _ => {
                self.fault(node.span, format!("`url` {text:?} is neither https nor, on loopback, http"), remedy);
                None
            }
        }
    }

    /// WireGuard's sessions end after three minutes; a host says something each 25 s.
    fn idle(&mut self, node: &Node) -> Option<Duration> {
        let idle = self.duration(node, "idle", "5m")?;
        if !(Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60)).contains(&idle.value) {
            self.fault(idle.span, "`idle` is out of range", "write 1s to 24h; below 30s, hosts that are there and silent are taken too");
            return None;
        }
        Some(idle.value)
    }
}
