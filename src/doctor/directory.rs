//! What a gateway or a host needs of the directory that it asks.

use super::{Facts, Finding};
use crate::config::{Config, DirectoryAt};
use crate::directory::session::{Session, told};
use crate::directory::types::{Role, Whoami};
use std::time::Duration;

/// A directory that has not answered by then is not there.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn finding(facts: &Facts, config: Option<&Config>) -> Option<Finding> {
    let (config, asked) = (config?, facts.directory.as_ref()?);
    let at = config.asked_directory()?;
    let url = &at.url;
    Some(match (asked, config) {
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
    })
}

/// Whom the directory takes this node for, or why it cannot be asked.
pub async fn ask(at: &DirectoryAt) -> Result<Whoami, String> {
    let session = Session::new(at.clone());
    match tokio::time::timeout(PATIENCE, session.ask(|client| async move { client.whoami().await })).await {
        Ok(answer) => answer.map_err(|error| told(&error)),
        Err(_) => Err(format!("it does not answer within {} s", PATIENCE.as_secs())),
    }
}

impl Config {
    /// The one that this node asks.
    pub(super) fn asked_directory(&self) -> Option<&DirectoryAt> {
        match self {
            Config::Gateway(gateway) => gateway.directory.as_ref(),
            Config::Host(host) => host.directory.as_ref().map(|directory| &directory.at),
            Config::Directory(_) | Config::Autoscaler(_) => None,
        }
    }
}
