//! What a gateway or a host needs of the directory that it asks.

use super::{Facts, Finding};
use crate::config::{Config, DirectoryAt};
use crate::daemon::key_file;
use crate::directory::session::{Session, told};
use crate::directory::types::{Role, Whoami};
use std::time::Duration;

/// A directory that has not answered by then is not there.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn findings(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    let (Some(config), Some(asked)) = (config, &facts.directory) else { return Vec::new() };
    let Some(at) = config.asked_directory() else { return Vec::new() };
    let url = &at.url;
    let mut findings: Vec<Finding> = facts
        .host_key
        .iter()
        .map(|why| Finding::broken(format!("this host has no key: {why}"), format!("portway enroll --url {url} --token-file FILE")))
        .collect();
    findings.push(match (asked, config) {
        (Err(why), _) => {
            let remedy = "what was known before is served until then; docs/directory.md says what is needed";
            Finding::warning(format!("the directory at {url} is of no help: {why}"), remedy)
        }
        (Ok(Whoami { role: Role::Gateway, name: Some(name), .. }), Config::Gateway(gateway)) if *name == gateway.node => {
            Finding::ok(format!("the directory at {url} knows this gateway, {name}"))
        }
        (Ok(Whoami { role: Role::Host, name: Some(name), .. }), Config::Host(host)) if *name == host.node => {
            Finding::ok(format!("the directory at {url} knows this host, {name}"))
        }
        (Ok(Whoami { role, name, .. }), _) => {
            let other = name.as_ref().map_or_else(|| "nobody's".into(), |name| format!("{name}'s"));
            let what = format!("{} holds another's token: {other}, of the role `{}`", at.token_file.display(), role.as_str());
            let remedy = match config {
                Config::Gateway(gateway) => format!("portway directory token add --role gateway --gateway {}", gateway.node),
                _ => format!("portway enroll --url {url} --token-file FILE"),
            };
            Finding::broken(what, remedy)
        }
    });
    findings
}

/// Whom the directory takes this node for, or why it cannot be asked.
pub async fn ask(at: &DirectoryAt) -> Result<Whoami, String> {
    let session = Session::new(at.clone());
    match tokio::time::timeout(PATIENCE, session.ask(|client| async move { client.whoami().await })).await {
        Ok(answer) => answer.map_err(|error| told(&error)),
        Err(_) => Err(format!("it does not answer within {} s", PATIENCE.as_secs())),
    }
}

/// Why the key of a host that asks a directory cannot be used.
pub fn unusable_key(config: Option<&Config>) -> Option<String> {
    let Some(Config::Host(host)) = config else { return None };
    let own = host.wireguard.as_ref().filter(|_| host.directory.is_some())?;
    key_file::private_key(&own.private_key).err().map(|error| format!("{error:#}"))
}

impl Config {
    /// The one that this node asks.
    pub(super) fn asked_directory(&self) -> Option<&DirectoryAt> {
        match self {
            Config::Gateway(gateway) => gateway.directory.as_ref(),
            Config::Host(host) => host.directory.as_ref().map(|directory| &directory.at),
            Config::Directory(_) => None,
        }
    }
}
