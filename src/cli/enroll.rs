//! `portway enroll`.

use crate::config::STATE_DIR;
use crate::daemon::key_file;
use crate::directory::client::Client;
use crate::directory::enrolled;
use crate::directory::types::{Enrolled, Membership};
use crate::model::NodeName;
use anyhow::{Context, ensure};
use reqwest::Url;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Make this machine a function host that a directory knows; or change its key.
///
/// Makes a key pair if there is none, proves to the directory to have it, and keeps the key, the host's own token and what the directory
/// says of gateways and inner addresses in the state directory, where `portway host` finds them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the directory listens: https://directory.example:9473.
    #[arg(long, env = "PORTWAY_DIRECTORY")]
    url: String,
    /// A file with what is good for enrolment: a token of the role `enroll`, or an identity token.
    #[arg(long, required_unless_present = "rotate")]
    token_file: Option<PathBuf>,
    /// Who certifies the directory, in PEM. Without: whom this machine trusts.
    #[arg(long, env = "PORTWAY_DIRECTORY_CA")]
    ca: Option<PathBuf>,
    /// The host's name. Without: this machine's.
    #[arg(long)]
    name: Option<NodeName>,
    /// As `state_dir` of `directory` in the host's configuration.
    #[arg(long, env = "PORTWAY_STATE_DIR", default_value = STATE_DIR)]
    state: PathBuf,
    /// Give the host a new key. The daemon changes to it by itself, and gateways accept the former one for a while.
    #[arg(long, conflicts_with_all = ["token_file", "name"])]
    rotate: bool,
}

impl Args {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        // As the configuration has it, so that what is kept is found again.
        let url = Url::parse(&self.url).with_context(|| format!("{:?} is no URL: write https://directory.example:9473", self.url))?;
        let client = Client::new(url.as_str(), self.ca.as_deref(), None)?;
        super::block_on(async {
            match &self.token_file {
                Some(token) if !self.rotate => enroll(&client, &url, &self.state, token, self.name.as_ref()).await,
                _ => rotate(&client, &self.state).await,
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn enroll(client: &Client, url: &Url, state: &Path, token: &Path, name: Option<&NodeName>) -> anyhow::Result<()> {
    let name = match name {
        Some(name) => name.clone(),
        None => {
            let own = std::fs::read_to_string("/proc/sys/kernel/hostname").context("cannot read this machine's name")?;
            own.trim().parse().context("this machine's name is no name for a host: give one by `--name`")?
        }
    };
    let text = std::fs::read_to_string(token).with_context(|| format!("cannot read the token in {}", token.display()))?;
    let text = Zeroizing::new(text);
    ensure!(!text.trim().is_empty(), "{} is empty: write what `portway directory token add --role enroll` prints there", token.display());
    let key = enrolled::key_or_new(&enrolled::key(state))?;
    let Enrolled { credential, membership } = client.with_token(text.trim()).enroll(&key, &name).await?;
    // First what cannot be had again.
    enrolled::save_token(state, &credential.token)?;
    enrolled::save(state, url.as_str(), &membership)?;
    println!("host {name} has enrolled, its key {} and token are in {}", key.public(), state.display());
    show(&membership);
    Ok(())
}

fn show(membership: &Membership) {
    for shard in &membership.shards {
        let inner: Vec<String> = membership.host.inner.get(&shard.of).into_iter().flatten().map(ToString::to_string).collect();
        let gateway = shard.endpoint.map_or_else(|| "a gateway that is not there yet".into(), |endpoint| endpoint.to_string());
        println!("  {} as {} through {gateway}", shard.of, inner.join(" "));
    }
}

/// The new key is on the disk before the directory learns of it, and the former one until it has: whatever is cut off where, the daemon finds the
/// one that the directory knows (`enrolled::present_key`), and hears from the directory itself that it is another.
async fn rotate(client: &Client, state: &Path) -> anyhow::Result<()> {
    let token = enrolled::token(state);
    let credential = key_file::read(&token).with_context(|| format!("this host has not enrolled: cannot read {}", token.display()))?;
    let credential = std::str::from_utf8(credential.trim_ascii()).context("the host's token is no text")?;
    let client = client.with_token(credential);
    let path = enrolled::key(state);
    let membership = client.membership().await?;
    let present = enrolled::present_key(&path, &membership)?;
    let coming = enrolled::next(&path);
    // One that was made before and never became known serves as well.
    let key = enrolled::key_or_new(&coming)?;
    client.rotate(&key, &membership.host.name).await?;
    enrolled::take_place(&coming, &path)?;
    println!("the key of host {} is {} now, and was {}", membership.host.name, key.public(), present.public());
    Ok(())
}
