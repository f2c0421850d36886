//! What the machine says. Nothing is changed; a module may be loaded by asking for it.

use super::{Clocks, Facts, directory, wireguard};
use crate::config::{Config, Ha, TunnelKind};
use crate::daemon::{client, rights, sockets};
use crate::kernel::{KernelError, Survey, clock};
use anyhow::Context;
use caps::Capability;
use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

const SYSCTLS: &str = "/proc/sys/net";
/// Stands for all settings: written by the daemons for their interfaces, here only opened.
const PROBE: &str = "/proc/sys/net/ipv4/conf/default/forwarding";
/// For an answer of the gateway that runs here.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks around in the network namespace of this process.
pub async fn gather(config: Option<&Config>) -> anyhow::Result<Facts> {
    let missing: Vec<_> = rights::missing().collect();
    let admin = missing.iter().all(|(capability, _)| *capability != Capability::CAP_NET_ADMIN);
    let survey = Survey::take()?;
    let nft = match Survey::nft_version().await {
        Ok(version) => Some(version),
        Err(KernelError::NoNft { .. }) => None,
        Err(error) => return Err(error).context("cannot ask nft for its version"),
    };
    let ruleset = Survey::ruleset().await.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned());
    let interfaces = survey.facts.links.keys().flat_map(|name| ["rp_filter", "arp_ignore"].map(|key| format!("ipv4/conf/{name}/{key}")));
    let general = [
        "ipv4/ip_forward",
        "ipv4/conf/all/rp_filter",
        "ipv4/conf/all/arp_ignore",
        "netfilter/nf_conntrack_max",
        "netfilter/nf_conntrack_count",
    ];
    let sysctls: BTreeMap<String, String> = general
        .map(str::to_owned)
        .into_iter()
        .chain(interfaces)
        .filter_map(|key| Some((key.clone(), fs::read_to_string(Path::new(SYSCTLS).join(&key)).ok()?.trim().to_owned())))
        .collect();
    let runtime_dir = config.map_or(Path::new("/run/portway"), Config::node_runtime_dir);
    let answers = |role: &&str| UnixStream::connect(sockets::api_path(runtime_dir, role)).is_ok();
    Ok(Facts {
        gre: admin.then_some(survey.gre),
        wireguard: match config.and_then(Config::node_platform).map(|platform| platform.tunnel) {
            Some(TunnelKind::Wireguard) => Some(Survey::has_wireguard()?),
            Some(TunnelKind::Gre) | None => None,
        },
        missing_capabilities: missing.into_iter().map(|(capability, purpose)| (capability.to_string(), purpose)).collect(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        tun: Path::new("/dev/net/tun").exists(),
        nft,
        ruleset,
        legacy_iptables: fs::read_to_string("/proc/net/ip_tables_names").is_ok_and(|names| !names.trim().is_empty()),
        network: survey.facts,
        sysctls,
        // Without the capability nobody may; that is said already.
        read_only: fs::OpenOptions::new().write(true).open(PROBE).err().filter(|_| admin).map(|error| error.to_string()),
        keys: match config {
            Some(Config::Gateway(gateway)) => gateway.ha.as_ref().map(Ha::refused_keys).unwrap_or_default(),
            Some(Config::Host(_) | Config::Directory(_) | Config::Autoscaler(_)) | None => Vec::new(),
        },
        directory: match config.and_then(Config::asked_directory) {
            Some(at) => Some(directory::ask(at).await),
            None => None,
        },
        tunnel_keys: wireguard::unusable(config),
        clock: clock::keeping(),
        clocks: clocks(runtime_dir, PATIENCE).await,
        missing_for_realtime: rights::missing_for_realtime().map(|capability| capability.to_string()).collect(),
        #[cfg(feature = "aws")]
        cloud: match config {
            Some(Config::Gateway(gateway)) => match &gateway.cloud {
                Some(aws) => Some(super::aws::ask::look(gateway, aws).await),
                None => None,
            },
            Some(Config::Host(_) | Config::Directory(_) | Config::Autoscaler(_)) | None => None,
        },
        running: ["gateway", "host"].into_iter().filter(answers).map(str::to_owned).collect(),
    })
}

/// Nothing, if no gateway answers.
async fn clocks(runtime_dir: &Path, patience: Duration) -> Clocks {
    let answer = timeout(patience, client::call(runtime_dir, "gateway", Method::GET, "/v1/status", None)).await;
    let Ok(Ok((_, status))) = answer else { return Clocks::default() };
    let ha = &status["ha"];
    let clocks = ha["clocks"].as_object().into_iter().flatten();
    let ahead = |(node, clock): (&String, &Value)| Some((node.clone(), clock["ahead_ms"].as_f64()?));
    Clocks { ahead_ms: clocks.filter_map(ahead).collect(), signed: ha["signs_with_the_time"] != false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn a_gateway_that_hangs_holds_nobody_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let _silent = UnixListener::bind(sockets::api_path(folder.path(), "gateway")).expect("a socket");
        assert_eq!(clocks(folder.path(), Duration::from_millis(20)).await, Clocks::default());
    }
}
