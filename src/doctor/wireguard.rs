//! The keys of WireGuard tunnels.

use super::{Facts, Finding, Unusable};
use crate::config::{Config, Gateway, GatewayTunnel, Host, TunnelKind};
use crate::daemon::key_file;
use crate::model::PrivateKey;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
            // What the directory needs of a host says so itself.
            Config::Host(host) if host.directory.is_none() => Some(Finding::ok("this host's key can be used")),
            Config::Host(_) | Config::Directory(_) => None,
        });
    }
    findings
}

/// Those that the daemon would not take, too.
pub fn unusable(config: Option<&Config>) -> Vec<Unusable> {
    match config {
        Some(Config::Gateway(gateway)) => of_gateway(gateway),
        Some(Config::Host(host)) => of_host(host).into_iter().collect(),
        Some(Config::Directory(_)) | None => Vec::new(),
    }
}

fn of_gateway(gateway: &Gateway) -> Vec<Unusable> {
    let mut unusable = Vec::new();
    for (tenant, shard) in gateway.served() {
        let GatewayTunnel::Wireguard { private_key, next, .. } = &shard.tunnel else { continue };
        let (of, shared) = (tenant.of(shard.shard), shard.havip.is_some());
        let present = read(private_key, format!("the WireGuard key of {of}"), shared);
        let Some(next) = next else {
            unusable.extend(present.err());
            continue;
        };
        let whose = format!("the next WireGuard key of {of}");
        match (present, read(&next.private_key, whose.clone(), shared)) {
            (Ok(present), Ok(coming)) if present == coming => {
                let why = format!("{} holds the present one", next.private_key.display());
                unusable.push(Unusable { whose, why, remedy: made(&next.private_key, shared) });
            }
            (present, coming) => unusable.extend([present.err(), coming.err()].into_iter().flatten()),
        }
    }
    unusable
}

/// Where a directory is asked, `portway enroll` makes the key.
fn of_host(host: &Host) -> Option<Unusable> {
    let own = host.wireguard.as_ref().filter(|_| host.directory.is_none())?;
    read(&own.private_key, "this host's WireGuard key".into(), false).err()
}

fn read(file: &Path, whose: String, shared: bool) -> Result<PrivateKey, Unusable> {
    let open = || std::fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o077 != 0);
    key_file::private_key(file).map_err(|error| Unusable {
        whose,
        why: format!("{error:#}"),
        remedy: if open() { format!("chmod 600 {}", file.display()) } else { made(file, shared) },
    })
}

fn made(file: &Path, shared: bool) -> String {
    let make = format!("(umask 077; set -C; wg genkey > {})", file.display());
    if shared { format!("{make} on one gateway, and the same file on the shard's others") } else { make }
}
