//! The machine itself: kernel, rights, programs, settings.

use super::{Facts, Finding, Severity};
use crate::config::{Backend, Config, TunnelKind};
use crate::daemon::rights;

/// Since this kernel, an address says who added it (`IFA_PROTO`), which is how Portway knows its own.
const KERNEL: [u32; 2] = [5, 18];
/// The first that knows the hook at which packets leave (netdev egress).
const NFT: [u32; 3] = [1, 0, 1];
/// Fewer connections than this are few for a gateway: a connection takes some 300 bytes.
const FEW_CONNECTIONS: u64 = 65_536;
/// Percent of the connection table.
const FULL: u64 = 70;

pub fn findings(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    let mut findings = vec![kernel(facts), nft(facts), forwarding(facts), conntrack(facts)];
    findings.extend(rights_of(facts));
    let tunnel = config.and_then(Config::node_platform).map(|platform| platform.tunnel).unwrap_or_default();
    findings.extend(carrier(facts, config.map(Config::node_backend).unwrap_or_default(), tunnel));
    findings.extend(facts.running.iter().map(|role| match config {
        Some(config) if config.role() == role => {
            Finding::note(format!("a `portway {role}` is running here: starting it again takes over from it without a packet lost"))
        }
        _ => Finding::note(format!("a `portway {role}` is running here")),
    }));
    if facts.legacy_iptables {
        findings.push(Finding {
            severity: Severity::Note,
            what: "there are rules of the old iptables, which this does not judge".into(),
            remedy: Some("iptables-legacy-save".into()),
        });
    }
    findings
}

/// The first numbers in a version; what is not there is 0.
fn version<const N: usize>(text: &str) -> [u32; N] {
    let mut numbers = [0; N];
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    for (number, part) in numbers.iter_mut().zip(digits[..end].split('.')) {
        *number = part.parse().unwrap_or(0);
    }
    numbers
}

fn kernel(facts: &Facts) -> Finding {
    let [major, minor] = version(&facts.kernel);
    if [major, minor] >= KERNEL {
        return Finding::ok(format!("Linux {}", facts.kernel));
    }
    let what = format!("Linux {} is older than 5.18 and does not remember which addresses Portway added", facts.kernel);
    Finding::warning(what, "install a kernel of 5.18 or later, such as Debian 12's (`apt-get install -y linux-image-amd64`)")
}

fn nft(facts: &Facts) -> Finding {
    let Some(said) = &facts.nft else {
        return Finding::broken("the program `nft` is not in PATH", rights::NFT);
    };
    if version(said) >= NFT {
        return Finding::ok(said.clone());
    }
    Finding::broken(format!("{said} is older than 1.0.1"), rights::NFT)
}

fn rights_of(facts: &Facts) -> Vec<Finding> {
    if facts.missing_capabilities.is_empty() {
        return vec![Finding::ok("capabilities CAP_NET_ADMIN and CAP_NET_RAW")];
    }
    let missing = facts.missing_capabilities.iter();
    missing
        .map(|(name, purpose)| Finding::broken(format!("{name} is missing, which it takes to {purpose}"), rights::CAPABILITIES))
        .collect()
}

/// What can carry the tunnels.
fn carrier(facts: &Facts, backend: Backend, tunnel: TunnelKind) -> Vec<Finding> {
    let modprobe = |module: &str| format!("modprobe {module}");
    let (there, module) = match tunnel {
        TunnelKind::Gre => (facts.gre, "ip_gre"),
        TunnelKind::Wireguard => (facts.wireguard, "wireguard"),
    };
    let kernel = match (there, backend) {
        (Some(true), _) => Finding::ok(format!("the kernel has {tunnel} tunnels ({module})")),
        (_, Backend::Userspace) => Finding::ok("the tunnels are carried in userspace, as configured"),
        (Some(false), Backend::Kernel) => Finding::broken(format!("`backend: kernel`, but the kernel has no {module}"), modprobe(module)),
        (Some(false), Backend::Auto) => Finding {
            severity: Severity::Note,
            what: format!("the kernel has no {module}: Portway itself will carry the tunnels, which is slower"),
            remedy: Some(modprobe(module)),
        },
        (None, _) => Finding::note(format!("whether the kernel has {module} cannot be asked without CAP_NET_ADMIN")),
    };
    let needed = match backend {
        Backend::Kernel => false,
        Backend::Auto => there == Some(false),
        Backend::Userspace => true,
    };
    let tun = (needed && !facts.tun).then(|| Finding::broken("/dev/net/tun is missing, which userspace tunnels need", modprobe("tun")));
    [Some(kernel), tun].into_iter().flatten().collect()
}

fn forwarding(facts: &Facts) -> Finding {
    if let Some(why) = &facts.read_only {
        let remedy = "run as root with /proc/sys writable: in a container, `--privileged`; in a unit, not `ProtectKernelTunables=yes`";
        return Finding::broken(format!("settings below /proc/sys/net cannot be written ({why})"), remedy);
    }
    match facts.number("ipv4/ip_forward") {
        Some(0) => Finding::note(
            "net.ipv4.ip_forward is 0, which may stay so: Portway switches forwarding on only for the interfaces that it forwards between: its own, those of tenants and of attachments",
        ),
        _ => Finding::ok("IPv4 forwarding"),
    }
}

fn conntrack(facts: &Facts) -> Finding {
    let Some(max) = facts.number("netfilter/nf_conntrack_max") else {
        let what = "connection tracking is not loaded (there is no net.netfilter.nf_conntrack_max)";
        return Finding::warning(what, "modprobe nf_conntrack");
    };
    let count = facts.number("netfilter/nf_conntrack_count").unwrap_or(0);
    let larger = format!("sysctl -w net.netfilter.nf_conntrack_max={}", max.saturating_mul(4).max(4 * FEW_CONNECTIONS));
    if max > 0 && count.saturating_mul(100) > max.saturating_mul(FULL) {
        let what = format!("the connection table holds {count} of {max}: when it is full, new connections are dropped");
        return Finding::warning(what, larger);
    }
    // 0 is without limit.
    if max > 0 && max < FEW_CONNECTIONS {
        return Finding::warning(format!("the connection table has room for {max} only"), larger);
    }
    Finding::ok(format!("connection tracking, {count} of {max} in use"))
}
