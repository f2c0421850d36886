//! The strangers: keepalived, and FRR's vrrpd with its zebra. Each in a namespace, in the foreground, with files of the lab only.

use super::support::{HAVIPS, PLATFORM_IF, TENANT_IF, VRID, World, address, other, spawn, tool, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};
use portway::lab::Process;
use std::path::{Path, PathBuf};

/// What keepalived is to speak.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    pub version: u8,
    pub multicast: bool,
}

impl Dialect {
    /// Between advertisements, in milliseconds.
    pub fn interval_ms(self) -> u32 {
        if self.version == 2 { 1000 } else { 100 }
    }
}

pub struct Keepalived {
    parent: Process,
    /// Its child does the work.
    child: PathBuf,
    node: &'static str,
}

impl Keepalived {
    pub fn start(world: &World, node: &'static str, dialect: Dialect, priority: u8, more: &str) -> Self {
        let (own, peer, [platform, tenant]) = (address(node), address(other(node)), HAVIPS);
        let unicast = if dialect.multicast { String::new() } else { format!("unicast_src_ip {own}\nunicast_peer {{\n{peer}\n}}\n") };
        let (version, interval) = (dialect.version, f64::from(dialect.interval_ms()) / 1000.0);
        let instance = format!(
            "state BACKUP\ninterface {PLATFORM_IF}\nversion {version}\nvirtual_router_id {VRID}\npriority {priority}\nadvert_int {interval}\n{unicast}{more}\n\
             virtual_ipaddress {{\n{platform}/32 dev {PLATFORM_IF}\n{tenant}/32 dev {TENANT_IF}\n}}\n"
        );
        Self::start_with(world, node, &format!("vrrp_instance shared {{\n{instance}}}\n"))
    }

    pub fn start_with(world: &World, node: &'static str, instances: &str) -> Self {
        let file = |what: &str| world.dir().join(format!("keepalived-{node}.{what}"));
        let (config, child) = (file("conf"), file("child.pid"));
        std::fs::write(&config, format!("global_defs {{\nrouter_id {node}\nscript_user root\nenable_script_security\n}}\n{instances}"))
            .unwrap();
        let _ = std::fs::remove_file(&child);
        let text = |path: PathBuf| path.display().to_string();
        // In the foreground, VRRP alone, everything to the log.
        let mut arguments: Vec<String> = ["-n", "-l", "-D", "-G", "-P", "-f"].map(str::to_owned).into();
        arguments.extend([text(config), "-p".into(), text(file("pid")), "-r".into(), text(child.clone())]);
        let mut parent = spawn(world, node, &format!("keepalived-{node}"), &tool("keepalived", "keepalived"), &arguments);
        wait("keepalived", || {
            parent.check_alive().unwrap();
            world.log(&format!("keepalived-{node}")).contains("Entering BACKUP STATE")
        });
        Self { parent, child, node }
    }

    pub fn log(&self, world: &World) -> String {
        world.log(&format!("keepalived-{}", self.node))
    }

    /// SIGTERM: an Active lets go with priority 0.
    pub fn terminate(mut self) {
        self.parent.signal(Signal::SIGTERM).unwrap();
        self.parent.wait(super::support::SOON).unwrap().expect("keepalived ends when it is told to");
    }

    /// kill -9 of both its processes, the parent held meanwhile, or it would start another child, or the child would hear of its end.
    pub fn kill(mut self) {
        self.parent.signal(Signal::SIGSTOP).unwrap();
        let child = std::fs::read_to_string(&self.child).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
        self.parent.signal(Signal::SIGKILL).unwrap();
        self.parent.wait(super::support::SOON).unwrap().expect("it ends");
    }

    /// The same, and the addresses that its machine would still have go, too.
    pub fn lose_power(self, world: &World) {
        let node = self.node;
        self.kill();
        for (address, interface) in HAVIPS.into_iter().zip([PLATFORM_IF, TENANT_IF]) {
            world.sh(node, &format!("ip addr del {address}/32 dev {interface} 2>/dev/null || true"));
        }
    }
}

/// The hardware address of a virtual router (RFC 9568 section 7.3).
pub const VIRTUAL_MAC: &str = "00:00:5e:00:01:33";

/// zebra and vrrpd. The platform HaVip is on a macvlan with the virtual router's hardware address, as FRR's manual wants it; vrrpd takes its carrier
/// away (protodown) while it is Backup. The other is only advertised.
pub struct Frr {
    vrrpd: Process,
    /// Ends after it.
    _zebra: Process,
    node: &'static str,
    _directory: tempfile::TempDir,
}

impl Frr {
    pub fn start(world: &World, node: &'static str, priority: u8) -> Self {
        let [platform, tenant] = HAVIPS;
        world.sh(
            node,
            &format!(
                "[ -d /sys/class/net/vrrp4 ] && exit
                 ip link add vrrp4 link {PLATFORM_IF} type macvlan mode bridge
                 ip link set vrrp4 address {VIRTUAL_MAC}
                 ip addr add {platform}/32 dev vrrp4
                 ip link set vrrp4 up
                 # The way back is not through it; and {PLATFORM_IF} must not answer for it as well.
                 echo 0 | tee /proc/sys/net/ipv4/conf/all/rp_filter /proc/sys/net/ipv4/conf/vrrp4/rp_filter
                 echo 1 >/proc/sys/net/ipv4/conf/{PLATFORM_IF}/arp_ignore"
            ),
        );
        // Its daemons give up root for a user of their own, who may not see into the lab's directory.
        let (program, directory) = (tool("zebra", "frr"), tempfile::tempdir().unwrap());
        let user = User::from_name("frr").unwrap().expect("the package frr has made a user frr");
        chown(directory.path(), Some(user.uid), Some(user.gid)).unwrap();
        let file = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(
            file("vrrpd.conf"),
            format!(
                "log stdout\ninterface {PLATFORM_IF}\n vrrp {VRID} version 3\n vrrp {VRID} priority {priority}\n \
                 vrrp {VRID} advertisement-interval 100\n vrrp {VRID} ip {platform}\n vrrp {VRID} ip {tenant}\n"
            ),
        )
        .unwrap();
        std::fs::write(file("zebra.conf"), "log stdout\n").unwrap();
        let start = |name: &str| {
            let socket = file("zserv.api");
            let program = program.with_file_name(name).display().to_string();
            // They write to /var/tmp/frr, too: here to one that ends with them.
            let alone = ["-c", "mount -t tmpfs lab /var/tmp && exec \"$@\"", "sh", &program].map(str::to_owned);
            let arguments = ["-P", "0", "-z", &socket, "-f", &file(&format!("{name}.conf"))].map(str::to_owned);
            let own = ["-i".into(), file(&format!("{name}.pid")), "--vty_socket".into(), directory.path().display().to_string()];
            spawn(world, node, &format!("{name}-{node}"), Path::new("/bin/sh"), &[&alone[..], &arguments, &own].concat())
        };
        let mut zebra = start("zebra");
        wait("zebra", || {
            zebra.check_alive().unwrap();
            directory.path().join("zserv.api").exists()
        });
        let vrrpd = start("vrrpd");
        wait("vrrpd", || world.log(&format!("vrrpd-{node}")).contains("Initialize -> Backup"));
        Self { vrrpd, _zebra: zebra, node, _directory: directory }
    }

    pub fn terminate(mut self) {
        self.vrrpd.signal(Signal::SIGTERM).unwrap();
        self.vrrpd.wait(super::support::SOON).unwrap().expect("vrrpd ends when it is told to");
    }

    /// kill -9, and its macvlan goes, too.
    pub fn lose_power(mut self, world: &World) {
        self.vrrpd.signal(Signal::SIGKILL).unwrap();
        self.vrrpd.wait(super::support::SOON).unwrap().expect("it ends");
        world.sh(self.node, "ip link del vrrp4");
    }
}
