//! The plugin's configuration, from a network's `plugins`, with what the runtime puts into it.

use super::call::{Call, is_name};
use super::name::{Container, attachment, of_network};
use super::{Args, Before, Code, Error, Version};
use crate::model::{IfName, PoolName, ShardId, TenantName};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    cni_version: String,
    /// The network's.
    name: String,
    tenant: Option<TenantName>,
    egress: Option<PoolName>,
    shard: Option<ShardId>,
    /// As in the configuration of the host's daemon.
    #[serde(default = "run_portway")]
    pub runtime_dir: PathBuf,
    pub prev_result: Option<Value>,
    /// GC: those that the runtime knows.
    #[serde(rename = "cni.dev/valid-attachments", default, deserialize_with = "known")]
    valid: Option<Vec<Container>>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

fn run_portway() -> PathBuf {
    "/run/portway".into()
}

/// A runtime without containers may write `null` (a nil slice in Go); none is only said by a key that is there.
fn known<'de, D: Deserializer<'de>>(given: D) -> Result<Option<Vec<Container>>, D::Error> {
    Ok(Some(Option::deserialize(given)?.unwrap_or_default()))
}

const VALID: &str = "cni.dev/valid-attachments";
/// What the first libraries of 1.1.0 called it (containernetworking/cni, issue 1101).
const FORMERLY_VALID: &str = "cni.dev/attachments";

/// What the specification has in the configuration of any plugin, beside what begins with `cni.dev/`.
const WELL_KNOWN: [&str; 7] = ["type", "args", "capabilities", "runtimeConfig", "dns", "ipam", "ipMasq"];

/// What an attachment is to be, apart from the interface; as the body of the daemon's API has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    pub tenant: TenantName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<PoolName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardId>,
}

impl Config {
    /// For a call. DEL and GC are given what is in the file by then, and read no more of it than they need: a fault keeps no container from going.
    pub fn read(given: &[u8], call: &Call) -> Result<Self, Error> {
        let only_ends = matches!(call, Call::Del(_) | Call::Gc);
        let read = if only_ends { Self::needed(given, call) } else { serde_json::from_slice(given) };
        let config = read.map_err(|error| match error.classify() {
            Category::Data => invalid(format!("the configuration: {error}")),
            Category::Io | Category::Syntax | Category::Eof => {
                Error::new(Code::Undecodable, format!("the configuration on standard input is no JSON: {error}"))
            }
        })?;
        let (said, all) = (&config.cni_version, Version::ALL.map(Version::as_str).join(", "));
        let incompatible = |why: String| Error::new(Code::IncompatibleVersion, why);
        let version = Version::ALL.into_iter().find(|version| version.as_str() == said);
        let version = version.ok_or_else(|| incompatible(format!("cniVersion {said:?} is not known here: write one of {all}")))?;
        if version < call.since() {
            return Err(incompatible(format!("cniVersion {version} has no such call: it is there since {}", call.since())));
        }
        if !is_name(&config.name) {
            return Err(invalid(format!(
                "{:?} is no name of a network: use letters, digits, '_', '.' and '-', a letter or digit first",
                config.name
            )));
        }
        config.nothing_else()?;
        Ok(config)
    }

    /// Without what ends no attachment.
    fn needed(given: &[u8], call: &Call) -> serde_json::Result<Self> {
        let mut all: Map<String, Value> = serde_json::from_slice(given)?;
        let valid = all.remove(VALID).or_else(|| all.remove(FORMERLY_VALID));
        all.retain(|key, _| ["cniVersion", "name", "runtimeDir"].contains(&key.as_str()));
        if *call == Call::Gc {
            all.extend(valid.map(|valid| (VALID.into(), valid)));
        }
        Self::deserialize(Value::Object(all))
    }

    fn nothing_else(&self) -> Result<(), Error> {
        let known = |key: &str| key.starts_with("cni.dev/") || WELL_KNOWN.contains(&key);
        match self.others.iter().find(|(key, _)| !known(key)) {
            None => Ok(()),
            Some((key, value)) => {
                let why = format!("`{key}` ({value}) is not known here: use `tenant`, `egress`, `shard` and `runtimeDir`");
                Err(Error::new(Code::UnsupportedField, why))
            }
        }
    }

    /// The name of a container's attachment.
    pub fn attachment(&self, container: &Container) -> String {
        attachment(&self.name, container)
    }

    pub fn before(&self) -> Result<Before, Error> {
        Before::read(self.prev_result.as_ref())
    }

    /// What is said here, and of this container alone. A network that names its tenant says all: of the tenant's pools a container chooses none.
    pub fn wanted(&self, args: &Args) -> Result<Wanted, Error> {
        let tenant = one_of("tenant", self.tenant.as_ref(), "PORTWAY_TENANT", args.tenant.as_ref(), "`tenant`")?;
        let free = if self.tenant.is_some() { "`tenant` and `egress`" } else { "`egress`" };
        let egress = one_of("egress", self.egress.as_ref(), "PORTWAY_EGRESS", args.egress.as_ref(), free)?;
        if let (Some(tenant), None, Some(pool)) = (&self.tenant, &self.egress, &egress) {
            return Err(invalid(format!(
                "the configuration is for {tenant} without `egress`, and PORTWAY_EGRESS in CNI_ARGS is {pool}: write `egress`, or leave out `tenant` if each \
                 container may have its own"
            )));
        }
        let missing = || {
            invalid("whose container is it? Write `tenant` into the configuration of the plugin, or have the runtime say PORTWAY_TENANT=NAME in CNI_ARGS".into())
        };
        Ok(Wanted { tenant: tenant.ok_or_else(missing)?, egress, shard: self.shard })
    }

    /// Of these names of attachments, those of this network that no runtime knows of any more.
    pub fn stale<'n>(&self, standing: impl IntoIterator<Item = &'n str>) -> Result<Vec<&'n str>, Error> {
        let valid = self
            .valid
            .as_ref()
            .ok_or_else(|| invalid("GC without `cni.dev/valid-attachments` would end all attachments of the network".into()))?;
        let valid: BTreeSet<String> = valid.iter().map(|container| self.attachment(container)).collect();
        let ours = of_network(&self.name);
        Ok(standing.into_iter().filter(|name| name.starts_with(&ours) && !valid.contains(*name)).collect())
    }
}

fn invalid(why: String) -> Error {
    Error::new(Code::InvalidConfig, why)
}

/// Of two places that may say something, whichever does. What is said here is so, whatever a container says, unless `free` is left out.
fn one_of<T>(key: &str, here: Option<&T>, variable: &str, there: Option<&T>, free: &str) -> Result<Option<T>, Error>
where
    T: Clone + PartialEq + Display,
{
    match (here, there) {
        (Some(here), Some(there)) if here != there => Err(invalid(format!(
            "`{key}` of the configuration is {here}, and {variable} in CNI_ARGS is {there}: leave out {free} if each container may have its own"
        ))),
        (here, there) => Ok(here.or(there).cloned()),
    }
}

impl Wanted {
    /// What the daemon is asked for. Without `source`, as everything that comes out of this interface is the container's: what it sends from another address
    /// goes into its own tunnel or nowhere, never into the platform's network.
    pub fn body(&self, interface: &IfName) -> Value {
        let mut body = json!(self);
        body["interface"] = json!(interface);
        body
    }

    /// In what an attachment, as the daemon tells it, differs from this; the shard only if one is wanted.
    pub fn differences(&self, interface: &IfName, stands: &Value) -> Vec<String> {
        let wanted = self.body(interface);
        let keys = ["tenant", "interface", "egress", "source", "shard"].into_iter().filter(|key| *key != "shard" || self.shard.is_some());
        keys.filter(|key| wanted[key] != stands[key]).map(|key| format!("{key} is {}, not {}", stands[key], wanted[key])).collect()
    }
}
