//! `directory:` the registry of tenants, gateways, hosts, keys and inner addresses.

use super::common::{ADMIN_NAMES, Seen};
use super::decode::{At, Decoder, Field, Shape, Table};
use super::fault::Span;
use super::node::{Kind, Node};
use crate::model::{HostName, TenantName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// `directory:` as validated values.
#[derive(Debug, Clone, PartialEq)]
pub struct Directory {
    /// Where gateways, hosts and operators call.
    pub listen: SocketAddr,
    /// None on loopback only: plain HTTP.
    pub tls: Option<Tls>,
    /// Default: the file `/var/lib/portway/directory.db`.
    pub database: Database,
    /// Where the operator's socket and the lock are kept; as a gateway's. Default `/run/portway`.
    pub runtime_dir: PathBuf,
    /// `/metrics`, `/healthz`, `/readyz`. Default 127.0.0.1:9472.
    pub admin: SocketAddr,
    /// As a gateway's.
    pub admin_names: BTreeSet<HostName>,
    /// How long a host's former key is still valid after it has brought a new one: 1 s to 30 days. Default 1 h.
    pub key_grace: Duration,
    /// How many changes are remembered for those who watch: 100 to 10,000,000. Who comes back after more of them lists anew. Default 100,000.
    pub keep_changes: u64,
    /// Whose tokens are good for enrolment, beside the directory's own.
    pub oidc: Vec<Oidc>,
}

/// Files in PEM (RFC 7468), read at the start and at SIGHUP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate, then those between it and the root.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    Sqlite(PathBuf),
    Postgres(PostgresUrl),
}

/// `postgres://...`. It holds no password: that is in PGPASSWORD or the file of PGPASSFILE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Sqlite(path) => write!(f, "SQLite, {}", path.display()),
            Database::Postgres(url) => write!(f, "PostgreSQL, {}", url.0),
        }
    }
}

/// An issuer of identity tokens (OpenID Connect Core 1.0 section 2), what they must say, and what they are good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oidc {
    /// `iss`, letter for letter.
    pub issuer: String,
    /// `aud`, or one of it.
    pub audience: String,
    /// Where its public keys are (RFC 7517): `https`, or `http` on loopback.
    pub jwks: Url,
    /// Whom the server of `jwks` is certified by, in PEM. None: whom the machine trusts.
    pub ca: Option<PathBuf>,
    /// Claims that must be there with these very values.
    pub claims: BTreeMap<String, String>,
    /// The claim that is the host's name. None: the host names itself, as nobody else is called.
    pub host_claim: Option<String>,
    /// The tenants that a host which enrols so may serve.
    pub tenants: Vec<TenantName>,
}

const DIRECTORY: Shape = Shape {
    what: "`directory`",
    fields: &[
        Field::required("listen", "listen: 10.9.0.5:9473"),
        Field::optional("tls", "tls: { certificate: /etc/portway/directory.pem, key: /etc/portway/directory.key }"),
        Field::optional("database", "database: sqlite:///var/lib/portway/directory.db"),
        Field::optional("runtime_dir", "runtime_dir: /run/portway"),
        Field::optional("admin", "admin: 127.0.0.1:9472"),
        Field::optional("admin_names", ADMIN_NAMES),
        Field::optional("key_grace", "key_grace: 1h"),
        Field::optional("keep_changes", "keep_changes: 100000"),
        Field::optional("oidc", "oidc: [{ issuer: https://issuer.example, ... }]"),
    ],
};

const TLS: Shape = Shape {
    what: "`tls`",
    fields: &[
        Field::required("certificate", "certificate: /etc/portway/directory.pem"),
        Field::required("key", "key: /etc/portway/directory.key"),
    ],
};

const OIDC: Shape = Shape {
    what: "this issuer",
    fields: &[
        Field::required("issuer", "issuer: https://issuer.example"),
        Field::required("audience", "audience: portway"),
        Field::required("jwks", "jwks: https://issuer.example/keys"),
        Field::optional("ca", "ca: /etc/portway/issuer-ca.pem"),
        Field::required("claims", "claims: { repository: acme/functions }"),
        Field::optional("host_claim", "host_claim: sub"),
        Field::required("tenants", "tenants: [acme]"),
    ],
};

const SQLITE: &str = "sqlite://";
const EXAMPLES: &str = "write sqlite:///var/lib/portway/directory.db, or postgres://portway@db.example/portway?sslmode=verify-full";
const DAY: u64 = 24 * 60 * 60;

impl Decoder {
    pub fn directory(&mut self, node: &Node, table: &Table<'_>) -> Option<Directory> {
        let place = table.place("directory");
        let table = self.table(node, &DIRECTORY, place)?;
        let listen = self.field(&table, "listen", |d, node| d.socket(node, "listen"));
        let tls = self.field_or(&table, "tls", None, |d, node| d.tls(node).map(Some));
        if let (Some(listen), false) = (listen, table.written("tls")) {
            self.plain(listen, table.place("listen"));
        }
        let database = self.field_or(&table, "database", Database::Sqlite("/var/lib/portway/directory.db".into()), Self::database);
        let runtime_dir = self.runtime_dir(&table);
        let admin = self.admin(&table, 9472);
        let admin_names = self.admin_names(&table);
        if let (Some(admin), true) = (admin, listen.is_some() && admin == listen) {
            self.fault(table.place("admin"), format!("`admin` {admin} is `listen` too"), "give it a port of its own");
        }
        let key_grace = self.field_or(&table, "key_grace", Duration::from_secs(60 * 60), Self::key_grace);
        let keep_changes = self.field_or(&table, "keep_changes", 100_000, |d, node| {
            d.number(node, "keep_changes", 100..=10_000_000, "").map(|number| number.value)
        });
        let oidc = self.field_or(&table, "oidc", Vec::new(), |d, node| {
            let mut seen = Seen::new("the issuer and audience");
            d.items(node, "`oidc`", "oidc: [{ issuer: https://issuer.example, ... }]", |d, item| d.issuer(item, &mut seen))
        });
        Some(Directory {
            listen: listen?,
            tls: tls?,
            database: database?,
            runtime_dir: runtime_dir?,
            admin: admin?,
            admin_names: admin_names?,
            key_grace: key_grace?,
            keep_changes: keep_changes?,
            oidc: oidc?,
        })
    }

    /// Tokens in clear do not leave the machine.
    pub(super) fn plain(&mut self, listen: SocketAddr, span: Span) {
        if !listen.ip().is_loopback() {
            let what = format!("`listen` {listen} would take tokens over plain HTTP");
            self.fault(span, what, "add `tls: { certificate: FILE, key: FILE }`, or listen on 127.0.0.1 behind a proxy that has TLS");
        }
    }

    pub(super) fn tls(&mut self, node: &Node) -> Option<Tls> {
        let table = self.table(node, &TLS, node.span)?;
        let certificate = self.field(&table, "certificate", |d, node| d.absolute(node, "certificate", "/etc/portway/directory.pem"));
        let key = self.field(&table, "key", |d, node| d.absolute(node, "key", "/etc/portway/directory.key"));
        Some(Tls { certificate: certificate?.value, key: key?.value })
    }

    fn key_grace(&mut self, node: &Node) -> Option<Duration> {
        let grace = self.duration(node, "key_grace", "1h")?;
        if !(Duration::from_secs(1)..=Duration::from_secs(30 * DAY)).contains(&grace.value) {
            self.fault(grace.span, "`key_grace` is out of range", "write 1s to 720h");
            return None;
        }
        Some(grace.value)
    }

    fn database(&mut self, node: &Node) -> Option<Database> {
        let text = self.text(node, "`database`", "database: sqlite:///var/lib/portway/directory.db")?;
        if let Some(path) = text.strip_prefix(SQLITE) {
            if path.starts_with('/') && path.len() > 1 && !path.contains(['?', '%', '\0']) && !path.ends_with('/') {
                return Some(Database::Sqlite(path.into()));
            }
            let remedy = "write a file's absolute path after sqlite://, such as sqlite:///var/lib/portway/directory.db";
            self.fault(node.span, format!("`database` {text:?} names no file"), remedy);
            return None;
        }
        let url = Url::parse(text).ok().filter(|_| ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)));
        let Some(url) = url else {
            // Not the text itself: whoever mistyped the scheme may still have written a password.
            self.fault(node.span, "`database` is neither a file for SQLite nor the URL of a PostgreSQL server", EXAMPLES);
            return None;
        };
        if url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password") {
            let remedy = "remove it, and put it into PGPASSWORD or the file that PGPASSFILE names";
            self.fault(node.span, "`database` holds a password, which whoever sees the configuration would know", remedy);
            return None;
        }
        // Both names are good, and the last one counts.
        let mut modes = url.query_pairs().filter(|(key, _)| matches!(&**key, "sslmode" | "ssl-mode")).peekable();
        let verified = modes.peek().is_some() && modes.all(|(_, value)| value == "verify-full");
        if !local(&url) && !verified {
            let remedy = "add `?sslmode=verify-full` (and `&sslrootcert=FILE` for a CA of your own)";
            self.fault(node.span, "`database` is on another machine, and its certificate would not be verified", remedy);
            return None;
        }
        Some(Database::Postgres(PostgresUrl(text.to_owned())))
    }

    fn issuer(&mut self, node: &Node, seen: &mut Seen<String>) -> Option<Oidc> {
        let table = self.table(node, &OIDC, node.span)?;
        let text = |d: &mut Self, name, example| {
            d.field(&table, name, |d, node| Some(At { value: d.text(node, &format!("`{name}`"), example)?.to_owned(), span: node.span }))
        };
        let issuer = text(self, "issuer", "issuer: https://issuer.example");
        let audience = text(self, "audience", "audience: portway");
        let host_claim = text(self, "host_claim", "host_claim: sub").map(|at| at.value);
        let both = issuer.as_ref().zip(audience.as_ref());
        let pair = both.map(|(issuer, audience)| At { value: format!("{} {}", issuer.value, audience.value), span: issuer.span });
        self.unique(seen, pair.as_ref(), "write all that is good for one issuer and audience in one entry");
        let jwks = self.field(&table, "jwks", Self::jwks);
        let ca = self.field_or(&table, "ca", None, |d, node| d.absolute(node, "ca", "/etc/portway/issuer-ca.pem").map(|at| Some(at.value)));
        let claims = self.field(&table, "claims", Self::claims);
        let tenants = self.field(&table, "tenants", |d, node| {
            d.items(node, "`tenants`", "tenants: [acme]", |d, item| d.parsed::<TenantName>(item, "the tenant", "acme").map(|at| at.value))
        });
        Some(Oidc {
            issuer: issuer?.value,
            audience: audience?.value,
            jwks: jwks?,
            ca: ca?,
            claims: claims?,
            host_claim,
            tenants: tenants?,
        })
    }

    fn jwks(&mut self, node: &Node) -> Option<Url> {
        let text = self.text(node, "`jwks`", "jwks: https://issuer.example/keys")?;
        match Url::parse(text) {
            Ok(url) if url.scheme() == "https" || url.scheme() == "http" && local(&url) => Some(url),
            _ => {
                let remedy = "write an https:// URL: whoever could change these keys could enrol any host";
                self.fault(node.span, format!("`jwks` {text:?} is no place to take keys from"), remedy);
                None
            }
        }
    }

    /// An issuer that anybody can get a token of says nothing by its signature alone.
    fn claims(&mut self, node: &Node) -> Option<BTreeMap<String, String>> {
        let example = "claims: { repository: acme/functions }";
        let Kind::Map(entries) = &node.kind else {
            self.fault(node.span, format!("`claims` must be a map, not {}", node.describe()), format!("write `{example}`"));
            return None;
        };
        if entries.is_empty() {
            let what = "`claims` is empty: every token of this issuer and audience would be good";
            self.fault(node.span, what, format!("say what tells your machines apart from others', such as `{example}`"));
            return None;
        }
        let mut claims = BTreeMap::new();
        for (key, value) in entries {
            let text = self.text(value, &format!("the claim `{}`", key.text), example)?;
            if claims.insert(key.text.clone(), text.to_owned()).is_some() {
                self.fault(key.span, format!("the claim `{}` is given twice", key.text), "keep one of them");
            }
        }
        Some(claims)
    }
}

/// Whether a URL leads to this machine and nowhere else: loopback, or (PostgreSQL's) a socket's directory.
pub(super) fn local(url: &Url) -> bool {
    let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let mut named = url.query_pairs().filter(|(key, _)| matches!(&**key, "host" | "hostaddr")).peekable();
    if named.peek().is_some() {
        named.all(|(_, value)| value.starts_with('/'))
    } else {
        loopback || name.is_empty() || name.starts_with("%2F")
    }
}
