//! `portway attach`, `detach`, `attachments`.

use super::client::RuntimeDir;
use crate::host::attachments::parse_source;
use crate::model::{AttachmentName, IfName, PoolName, TenantName};
use ipnet::IpNet;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Attach {
    /// A name of your own: the container's, the pod's, the microVM's.
    name: AttachmentName,
    #[arg(long)]
    tenant: TenantName,
    /// The host's end of the container's link, or the bridge port that it is plugged into.
    #[arg(long, required_unless_present = "netns", conflicts_with = "netns")]
    interface: Option<IfName>,
    /// The container's network namespace (/proc/PID/ns/net, /run/netns/NAME); the interface is found.
    #[arg(long)]
    netns: Option<PathBuf>,
    /// Only packets from this address or network.
    #[arg(long, value_parser = parse_source)]
    source: Option<IpNet>,
    /// Pin to a shard instead of letting the name decide.
    #[arg(long)]
    shard: Option<u16>,
    /// Seen by the tenant, and by whom it reaches, from an address of this pool only.
    #[arg(long)]
    egress: Option<PoolName>,
    #[command(flatten)]
    at: RuntimeDir,
}

impl Attach {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let netns = self.netns.map(|path| std::path::absolute(path).unwrap_or_default());
        let mut body = json!({ "tenant": self.tenant });
        let more = [
            ("interface", json!(self.interface)),
            ("netns", json!(netns)),
            ("source", json!(self.source)),
            ("shard", json!(self.shard)),
            ("egress", json!(self.egress)),
        ];
        for (key, value) in more {
            if !value.is_null() {
                body[key] = value;
            }
        }
        let (status, made) = super::block_on(self.at.ask("host", Method::PUT, &format!("/v1/attachments/{}", self.name), Some(&body)))?;
        println!("{} {}", if status == 201 { "attached" } else { "attached already" }, line(&made));
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, clap::Args)]
pub struct Detach {
    name: AttachmentName,
    #[command(flatten)]
    at: RuntimeDir,
}

impl Detach {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        super::block_on(self.at.ask("host", Method::DELETE, &format!("/v1/attachments/{}", self.name), None))?;
        println!("detached {}", self.name);
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, clap::Args)]
pub struct List {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: RuntimeDir,
}

impl List {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (_, all) = super::block_on(self.at.ask("host", Method::GET, "/v1/attachments", None))?;
        match all.as_array() {
            _ if self.json => println!("{all}"),
            Some(all) if !all.is_empty() => all.iter().for_each(|one| println!("{}", line(one))),
            _ => println!("nothing is attached"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn line(one: &Value) -> String {
    let source = one["source"].as_str().map(|net| format!(", source {net}")).unwrap_or_default();
    let egress = one["egress"].as_str().map(|pool| format!(", egress {pool}")).unwrap_or_default();
    let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
    format!("{}: tenant {} shard {}, interface {}{source}{egress}", text("name"), text("tenant"), one["shard"], text("interface"))
}
