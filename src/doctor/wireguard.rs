//! The keys of WireGuard tunnels.

use super::{Facts, Finding, Unusable};
use crate::config::{Config, Gateway, GatewayTunnel, Host, TunnelKind};
use crate::daemon::key_file;
use crate::model::{NodeName, PrivateKey, TenantShard};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use url::Url;

pub fn findings(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    let Some(config) = config.filter(|config| config.node_platform().is_some_and(|platform| platform.tunnel == TunnelKind::Wireguard))
    else {
        return Vec::new();
    };
    let unusable = |key: &Unusable| Finding::broken(format!("{}: {}", key.whose, key.why), key.remedy.clone());
    let mut findings: Vec<Finding> = facts.tunnel_keys.iter().map(unusable).collect();
    if findings.is_empty() {
        findings.extend(match config {
            Config::Gateway(_) => Some(Finding::ok("the WireGuard keys of all shards can be used")),
            Config::Host(_) => Some(Finding::ok("this host's key can be used")),
            Config::Directory(_) | Config::Autoscaler(_) => None,
        });
    }
    findings
}

/// Those that the daemon would not take, too.
pub fn unusable(config: Option<&Config>) -> Vec<Unusable> {
    match config {
        Some(Config::Gateway(gateway)) => of_gateway(gateway),
        Some(Config::Host(host)) => of_host(host).into_iter().collect(),
        Some(Config::Directory(_) | Config::Autoscaler(_)) | None => Vec::new(),
    }
}

/// Where a key comes from.
#[derive(Debug, Clone)]
pub(super) enum Origin<'a> {
    /// It is made here, and no other node has it.
    Own,
    /// It is the same at these candidates of its shard.
    Shared(Vec<&'a NodeName>),
    /// `portway enroll` makes it, and tells this directory.
    Enrolled(&'a Url),
}

fn of_gateway(gateway: &Gateway) -> Vec<Unusable> {
    let mut unusable = Vec::new();
    for (tenant, shard) in gateway.served() {
        let GatewayTunnel::Wireguard { private_key, next, .. } = &shard.tunnel else { continue };
        let of = tenant.of(shard.shard);
        let origin = Origin::of_shard(gateway, &of);
        let present = read(private_key, format!("the WireGuard key of {of}"), &origin);
        let Some(next) = next else {
            unusable.extend(present.err());
            continue;
        };
        let whose = format!("the next WireGuard key of {of}");
        match (present, read(&next.private_key, whose.clone(), &origin)) {
            (Ok(present), Ok(coming)) if present == coming => {
                let why = format!("{} holds the present one", next.private_key.display());
                let remedy = "put there a key that was never used, on all gateways of the shard the same, or, if the change is over, take `next` out of the configuration";
                unusable.push(Unusable { whose, why, remedy: remedy.into() });
            }
            (present, coming) => unusable.extend([present.err(), coming.err()].into_iter().flatten()),
        }
    }
    unusable
}

fn of_host(host: &Host) -> Option<Unusable> {
    let own = host.wireguard.as_ref()?;
    let origin = host.directory.as_ref().map_or(Origin::Own, |directory| Origin::Enrolled(&directory.at.url));
    read(&own.private_key, "this host's WireGuard key".into(), &origin).err()
}

fn read(file: &Path, whose: String, origin: &Origin) -> Result<PrivateKey, Unusable> {
    key_file::private_key(file).map_err(|error| Unusable { whose, why: format!("{error:#}"), remedy: origin.remedy(file, &error) })
}

impl<'a> Origin<'a> {
    fn of_shard(gateway: &'a Gateway, of: &TenantShard) -> Self {
        let candidates = gateway.ha.iter().flat_map(|ha| ha.candidates(of));
        let others: Vec<&NodeName> = candidates.filter(|node| **node != gateway.node).collect();
        if others.is_empty() { Self::Own } else { Self::Shared(others) }
    }

    /// What mends a file that could not be read so. A new key in the place of one that others know would cut them off.
    pub(super) fn remedy(&self, file: &Path, error: &anyhow::Error) -> String {
        let shown = file.display();
        let open = || std::fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o077 != 0);
        let kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        match (kind, self) {
            (Some(ErrorKind::PermissionDenied), _) => {
                format!("run this as root, or as the user of the service, whom {shown} must belong to")
            }
            (None, _) if open() => format!("chmod 600 {shown}"),
            (_, Self::Shared(others)) => {
                let others: Vec<&str> = others.iter().map(|node| node.as_str()).collect();
                format!(
                    "copy it from the gateway that has it ({}) to {shown}, of mode 0600; docs/gateway-pair.md says how it is made",
                    others.join(", ")
                )
            }
            (Some(ErrorKind::NotFound), Self::Own) => format!("(umask 077; set -C; wg genkey > {shown})"),
            (Some(ErrorKind::NotFound), Self::Enrolled(url)) => format!("portway enroll --url {url} --token-file FILE"),
            (_, Self::Own | Self::Enrolled(_)) => format!("put the key back; if it is lost, remove {shown} and look again"),
        }
    }
}
