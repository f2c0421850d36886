//! What a gateway needs to share addresses with others.

use super::{Clocks, Facts, Finding};
use crate::config::{Config, Gateway, Ha};
use crate::daemon::rights;
use crate::kernel::clock::Keeping;
use crate::model::IfName;
use crate::plan::gateway::havips;
use crate::proto::skew::tolerated_ms;
use ipnet::IpNet;
use std::collections::BTreeSet;

const CHRONY: &str = "apt-get install -y chrony, with `rtcsync` in /etc/chrony/chrony.conf (on EC2 also `server 169.254.169.123 prefer iburst minpoll 4 maxpoll 4`)";
const RTCSYNC: &str = "write `rtcsync` in /etc/chrony/chrony.conf, and restart chrony; `chronyc tracking` tells how far off the clock is";

pub fn findings(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    let Some(Config::Gateway(gateway)) = config else { return Vec::new() };
    let Some(ha) = &gateway.ha else { return Vec::new() };
    let mut findings: Vec<Finding> = facts.keys.iter().map(key).collect();
    findings.extend(foreign(facts, gateway));
    findings.extend(elsewhere(facts, gateway));
    findings.extend(realtime(facts));
    findings.extend(clocks(facts));
    if findings.is_empty() && ha.by_directory() {
        findings.push(Finding::ok("the directory says which gateways share the shards: `portway status` shows them"));
    } else if findings.is_empty() {
        findings.push(Finding::ok(format!("{} gateways share {} shards", ha.nodes.len(), gateway.served().count())));
    }
    findings
}

fn key((id, refused): &(u8, String)) -> Finding {
    Finding::broken(format!("key {id} of the group: {refused}"), "mend the file that `ha.keys` names")
}

/// A HaVip that somebody else has put on an interface stays there when another node is Active.
fn foreign(facts: &Facts, gateway: &Gateway) -> Vec<Finding> {
    let served = gateway.shared();
    let all = served.flat_map(|(tenant, shard)| havips(&gateway.platform, tenant, shard));
    let stands = all.filter_map(|(interface, address)| {
        let net = facts.network.link(&interface)?.addresses.iter().find(|net| net.addr() == address)?;
        let what = format!("the HaVip {address} is on {interface} for good, though it is another node's at times");
        Some(Finding::broken(what, format!("ip address del {net} dev {interface}, and take it out of the machine's configuration")))
    });
    stands.collect()
}

/// Portway fences its own interfaces. At others the kernel answers ARP for a HaVip, too, of a daemon that is dead as well, if it comes in there.
fn elsewhere(facts: &Facts, gateway: &Gateway) -> Vec<Finding> {
    let ours: BTreeSet<&IfName> =
        [&gateway.platform.interface].into_iter().chain(gateway.tenants.iter().map(|tenant| &tenant.interface)).collect();
    let shared: BTreeSet<IpNet> = ours.iter().flat_map(|interface| facts.network.connected(interface)).collect();
    let answers = |interface: &IfName| {
        let of = |name: &str| facts.number(&format!("ipv4/conf/{name}/arp_ignore")).unwrap_or(0);
        // The kernel takes the larger of the two (IN_DEV_MAXCONF).
        of("all").max(of(interface.as_str())) == 0
    };
    let others = facts.network.links.keys().filter(|interface| !ours.contains(interface) && answers(interface));
    let beside = others.filter_map(|interface| {
        let net = facts.network.connected(interface).find(|net| shared.iter().any(|one| one.contains(net) || net.contains(one)))?;
        let what = format!("{interface} is in {net} too, and the kernel answers ARP for HaVips there, whoever has them");
        Some(Finding::warning(what, "sysctl -w net.ipv4.conf.all.arp_ignore=1"))
    });
    beside.collect()
}

fn realtime(facts: &Facts) -> Option<Finding> {
    let lacks: Vec<&str> = facts.missing_for_realtime.iter().map(String::as_str).collect();
    (!lacks.is_empty()).then(|| {
        let what = format!("without {} a busy machine may delay advertisements, and others take over from it", lacks.join(" and "));
        Finding::warning(what, rights::REALTIME)
    })
}

/// Gateways tell recordings by their time, and the kernel's WireGuard signs with it.
fn clocks(facts: &Facts) -> impl Iterator<Item = Finding> {
    let kept = match facts.clock {
        Some(Keeping::Kept) | None => None,
        Some(Keeping::Unmarked) => Some(Finding {
            remedy: Some(RTCSYNC.into()),
            ..Finding::note(
                "a daemon keeps this machine's clock, though the kernel counts it as unsynchronised, as with chrony without `rtcsync`",
            )
        }),
        Some(Keeping::Unkept) => {
            let what = "nothing keeps this machine's clock right: gateways whose clocks differ by 5 s do not hear each other, and with the kernel's WireGuard hosts refuse one whose clock is behind";
            Some(Finding::warning(what, CHRONY))
        }
    };
    let Clocks { ahead_ms, signed } = &facts.clocks;
    let apart = ahead_ms.iter().filter(|(_, ahead)| ahead.abs() > tolerated_ms(*signed)).map(|(node, ahead)| {
        let side = if *ahead < 0.0 { "behind" } else { "ahead of" };
        let what = format!("this clock is {:.0} ms {side} that of {node}", ahead.abs());
        Finding::warning(what, format!("see `chronyc tracking` on both; {CHRONY}"))
    });
    kept.into_iter().chain(apart)
}

impl Ha {
    /// The keys that cannot be used, and why.
    pub(super) fn refused_keys(&self) -> Vec<(u8, String)> {
        let refused = self.keys.iter().filter_map(|key| Some((key.id.get(), format!("{:#}", crate::daemon::key_file::key(key).err()?))));
        refused.collect()
    }
}
