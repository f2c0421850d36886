//! The pair of gateways of a lab as keepalived and conntrackd run it: one sync group of two VRRPv3 instances over unicast, every 100 ms;
//! conntrackd in FTFW mode without external cache, so that connections stand in the Backup's kernel before they are needed; its own
//! primary-backup script. Tunnels there are none: hosts send to the platform's HaVip as to any router, which spares this pair the work of ours.

use super::group::portway;
use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portway::lab::topology::{PLATFORM_IF, Wiring};
use portway::lab::{Kill, Lab, Life, Netns, Process, Topology, poll_until};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As in ours: the first is preferred.
const PRIORITIES: [u8; 2] = [200, 100];
const PATIENCE: Duration = Duration::from_secs(20);
/// As many connections as the kernel holds.
const TABLE: u32 = 262_144;

/// Fields are dropped in this order: the processes before their files and namespaces.
pub struct Pair {
    processes: Vec<(String, Process)>,
    pub lab: Lab,
    directory: tempfile::TempDir,
}

impl Pair {
    /// Stands when this returns: the first gateway has both HaVips, the second none.
    pub fn stand() -> anyhow::Result<Self> {
        let mut lab = Lab::build(Topology::group(&["acme"], 2, 1, &[Wiring::Veth]))?;
        lab.serve()?;
        let directory = super::nodes::directory()?;
        let mut pair = Self { processes: Vec::new(), lab, directory };
        pair.routes()?;
        for place in 0..2 {
            pair.start(place)?;
        }
        pair.await_owner("gw-1", PATIENCE)?;
        Ok(pair)
    }

    /// A gateway dies: see [`Kill`]. Known here are `Daemon` and `Node`.
    pub fn fail(&mut self, node: &str, how: Kill) -> anyhow::Result<()> {
        let signal = if how == Kill::Node { Signal::SIGSTOP } else { Signal::SIGKILL };
        for (_, process) in self.processes.iter().filter(|(at, _)| at == node) {
            // keepalived is a parent and a child; the child says good-bye when its parent dies.
            for child in children(process.pid()) {
                kill(Pid::from_raw(child), signal)?;
            }
            kill(Pid::from_raw(process.pid().cast_signed()), signal)?;
        }
        if how == Kill::Node {
            self.lab.fail(node, how)?;
        }
        Ok(())
    }

    pub fn await_owner(&self, node: &str, within: Duration) -> anyhow::Result<()> {
        let (gateway, other) = (self.lab.node(node)?, if node == "gw-1" { "gw-2" } else { "gw-1" });
        let other = self.lab.node(other)?.clone();
        let mine = |at: &Netns| -> portway::lab::Result<usize> {
            let output = at.command("ip").args(["-o", "-4", "addr", "show"]).output();
            let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
            Ok(self.havips().iter().filter(|havip| text.contains(&format!(" {havip}/32 "))).count())
        };
        let dark = || self.processes.iter().filter(|(at, _)| at != node).all(|(_, p)| stopped(p.pid()));
        poll_until(&format!("{node} as the owner"), within, || Ok(mine(gateway)? == 2 && (dark() || mine(&other)? == 0)))
            .with_context(|| self.logs())?;
        Ok(())
    }

    /// Waits until a gateway's kernel knows so many connections.
    pub fn await_copies(&self, node: &str, at_least: usize) -> anyhow::Result<()> {
        let netns = self.lab.node(node)?;
        poll_until(&format!("{at_least} connections at {node}"), PATIENCE, || Ok(count(netns) >= at_least)).with_context(|| self.logs())?;
        Ok(())
    }

    /// The process ids of a program (`keepalived`, `conntrackd`) in a node, its children included.
    pub fn pids(&self, node: &str, program: &str) -> Vec<u32> {
        let started = self.processes.iter().filter(|(at, process)| at == node && process.name().starts_with(program));
        started.flat_map(|(_, process)| children(process.pid()).into_iter().map(i32::cast_unsigned).chain([process.pid()])).collect()
    }

    fn havips(&self) -> [std::net::Ipv4Addr; 2] {
        let shard = &self.lab.topology.shards_of("acme")[0];
        [shard.gateway, shard.source]
    }

    fn file(&self, node: &str, name: &str) -> PathBuf {
        self.directory.path().join(format!("{node}-{name}"))
    }

    fn logs(&self) -> String {
        let files = ["gw-1", "gw-2"].into_iter().flat_map(|node| [self.file(node, "keepalived.log"), self.file(node, "conntrackd.log")]);
        files.map(|file| format!("{}:\n{}", file.display(), std::fs::read_to_string(&file).unwrap_or_default())).collect()
    }

    /// Hosts know the HaVip as their router to the VPC; gateways the hosts as theirs to the containers, and translate.
    fn routes(&self) -> anyhow::Result<()> {
        let lab = &self.lab;
        let (tenant, [platform, inside]) = (&lab.topology.tenants[0], self.havips());
        for host in &lab.topology.hosts {
            lab.ip(&host.node, &["route", "add", &tenant.vpc.to_string(), "via", &platform.to_string()])?;
        }
        for gateway in &lab.topology.gateways {
            for container in &lab.topology.containers {
                let host = lab.topology.host(&container.host).context("a container's host is in the topology")?;
                lab.ip(&gateway.node, &["route", "add", &container.address.to_string(), "via", &host.outer.to_string()])?;
            }
            let rules = format!(
                "table ip pair {{
                    chain input {{ type filter hook input priority 0; ip daddr {inside} tcp dport 1024-65535 drop; }}
                    chain postrouting {{ type nat hook postrouting priority 100
                        oifname {eni} ip protocol {{ tcp, udp, icmp }} snat to {inside}:1024-65535 fully-random; }}
                }}",
                eni = gateway.enis[0].interface
            );
            let file = self.file(&gateway.node, "rules.nft");
            std::fs::write(&file, rules)?;
            let node = lab.node(&gateway.node)?;
            shell(
                node,
                &format!(
                    "nft -f {}; echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal",
                    file.display()
                ),
            )?;
        }
        Ok(())
    }

    fn start(&mut self, place: usize) -> anyhow::Result<()> {
        let node = self.lab.topology.gateways[place].node.clone();
        for (name, text) in
            [("conntrackd.conf", self.conntrackd(place)), ("notify", self.notify(&node)), ("keepalived.conf", self.keepalived(place))]
        {
            std::fs::write(self.file(&node, name), text)?;
        }
        shell(self.lab.node(&node)?, &format!("chmod 700 {}", self.file(&node, "notify").display()))?;
        let mut conntrackd = self.lab.node(&node)?.command("conntrackd");
        conntrackd.arg("-C").arg(self.file(&node, "conntrackd.conf"));
        let mut keepalived = self.lab.node(&node)?.command("keepalived");
        keepalived.args(["-n", "-l", "-P", "-D"]).arg("-f").arg(self.file(&node, "keepalived.conf"));
        keepalived.arg("-p").arg(self.file(&node, "keepalived.pid")).arg("-r").arg(self.file(&node, "vrrp.pid"));
        for (program, command) in [("conntrackd", conntrackd), ("keepalived", keepalived)] {
            let log = self.file(&node, &format!("{program}.log"));
            self.processes.push((node.clone(), Process::spawn(&format!("{program} in {node}"), command, &log, Life::WithLab)?));
        }
        let control = self.file(&node, "conntrackd.ctl");
        poll_until(&format!("conntrackd in {node}"), PATIENCE, || Ok(control.exists())).with_context(|| self.logs())?;
        Ok(())
    }

    fn keepalived(&self, place: usize) -> String {
        let (own, other) = (&self.lab.topology.gateways[place], &self.lab.topology.gateways[1 - place]);
        let notify = self.file(&own.node, "notify");
        let instance = |name: &str, interface: &str, vrid: u8, from: String, to: String, havip: std::net::Ipv4Addr| {
            format!(
                "vrrp_instance {name} {{
    state BACKUP
    interface {interface}
    virtual_router_id {vrid}
    priority {}
    version 3
    advert_int 0.1
    unicast_src_ip {from}
    unicast_peer {{ {to} }}
    garp_master_delay 1
    garp_master_repeat 5
    virtual_ipaddress {{ {havip}/32 dev {interface} }}
}}
",
                PRIORITIES[place]
            )
            .replace("{ ", "{\n")
            .replace(" }", "\n}")
        };
        let [platform, inside] = self.havips();
        let mut text = format!(
            "global_defs {{
    router_id {}
    script_user root
    enable_script_security
    vrrp_rt_priority 40
    vrrp_no_swap
}}
vrrp_sync_group pair {{
    group {{
        platform
        tenant
    }}
    notify_master \"{notify} primary\"
    notify_backup \"{notify} backup\"
    notify_fault \"{notify} fault\"
}}
",
            own.node,
            notify = notify.display()
        );
        text += &instance("platform", PLATFORM_IF, 51, own.outer.to_string(), other.outer.to_string(), platform);
        text += &instance("tenant", &own.enis[0].interface, 52, own.enis[0].address.to_string(), other.enis[0].address.to_string(), inside);
        text
    }

    /// What conntrackd's primary-backup.sh does.
    fn notify(&self, node: &str) -> String {
        let conntrackd = format!("/usr/sbin/conntrackd -C {}", self.file(node, "conntrackd.conf").display());
        format!(
            "#!/bin/sh
case \"$1\" in
    primary) {conntrackd} -c; {conntrackd} -f; {conntrackd} -R; {conntrackd} -B ;;
    backup) {conntrackd} -t; {conntrackd} -n ;;
    fault) {conntrackd} -t ;;
esac
exit 0
"
        )
    }

    fn conntrackd(&self, place: usize) -> String {
        let (own, other) = (&self.lab.topology.gateways[place], &self.lab.topology.gateways[1 - place]);
        let mut text = format!(
            "Sync {{
    Mode FTFW {{
        DisableExternalCache On
        ResendQueueSize {TABLE}
    }}
    UDP {{
        IPv4_address {from}
        IPv4_Destination_Address {to}
        Port 3780
        Interface {PLATFORM_IF}
        SndSocketBuffer 8388608
        RcvSocketBuffer 8388608
        Checksum on
    }}
    Options {{
        TCPWindowTracking Off
    }}
}}
General {{
    HashSize 65536
    HashLimit {}
    LogFile {log}
    LockFile {lock}
    UNIX {{
        Path {control}
    }}
    NetlinkBufferSize 67108864
    NetlinkBufferSizeMaxGrowth 134217728
    NetlinkEventsReliable Off
    Filter From Kernelspace {{
        Protocol Accept {{
            TCP
            UDP
            ICMP
        }}
        Address Ignore {{
            IPv4_address 127.0.0.1
",
            TABLE * 2,
            from = own.outer,
            to = other.outer,
            log = self.file(&own.node, "conntrackd-own.log").display(),
            lock = self.file(&own.node, "conntrackd.lock").display(),
            control = self.file(&own.node, "conntrackd.ctl").display(),
        );
        // Their own talk, not that of containers, whose translated source is a HaVip in the reply direction only.
        for address in self.lab.topology.gateways.iter().flat_map(|g| [g.outer, g.enis[0].address]) {
            let _ = writeln!(text, "            IPv4_address {address}");
        }
        text + "        }\n    }\n}\n"
    }
}

impl Drop for Pair {
    /// What stands still does not end by a signal to its parent alone.
    fn drop(&mut self) {
        for (_, process) in &self.processes {
            for child in children(process.pid()) {
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            }
        }
    }
}

/// Connections in a namespace's kernel.
pub fn count(netns: &Netns) -> usize {
    let text = netns.run(|| std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

pub fn shell(netns: &Netns, script: &str) -> anyhow::Result<String> {
    let output = netns.command("sh").args(["-ec", script]).output().context("cannot run sh")?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Of the process's first thread, which is the one that forks.
fn children(pid: u32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| matches!(rest.split_whitespace().next(), Some("T" | "Z")))
}

/// Both programs are there.
pub fn available() -> bool {
    ["keepalived", "conntrackd"].iter().all(|program| Path::new("/usr/sbin").join(program).exists()) && portway().exists()
}
