//! The package installed on a machine with systemd as its process 1, and its services run there as they are, with all that they are kept from.

mod vm_support;

use std::path::Path;
use std::process::Command;
use vm_support::{vm, wait};

const NAME: &str = "services_of_the_package_run_with_no_more_rights_than_they_have";
/// Set for what runs in the VM: the package.
const PACKAGE: &str = "PORTWAY_TEST_PACKAGE";

#[test]
fn services_of_the_package_run_with_no_more_rights_than_they_have() {
    if let Some(package) = std::env::var_os(PACKAGE) {
        return in_the_vm(Path::new(&package));
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!("{}/scripts/package", env!("CARGO_MANIFEST_DIR"));
    run(Command::new(script).args(["--quick", "--binary", env!("CARGO_BIN_EXE_portway")]).arg(folder.path()));
    let package = run(Command::new("sh").args(["-ec", "ls $PWD/portway_*.deb"]).current_dir(folder.path()));
    let own = std::env::current_exe().unwrap();
    let output =
        vm(&["--systemd", "--timeout", "280", "--"]).arg(own).args(["--exact", NAME, "--nocapture"]).env(PACKAGE, package.trim()).output();
    let output = output.expect("scripts/vm");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && said.contains("test result: ok. 1 passed"), "{}: {said}", output.status);
    println!("{said}");
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn sh(script: &str) -> String {
    eprintln!("{script}");
    run(Command::new("bash").args(["-ec", script]))
}

/// Starts a service, and tells its log if that does not become ready.
fn start(role: &str) {
    sh(&format!(
        "systemctl start portway-{role} || {{ systemctl status portway-{role} >&2; journalctl -u portway-{role} >&2; exit 1; }}
         systemctl is-active portway-{role}"
    ));
}

fn of(role: &str, property: &str) -> String {
    sh(&format!("systemctl show --value -p {property} portway-{role}")).trim().to_owned()
}

/// A line of /proc/PID/status.
fn process(role: &str, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", of(role, "MainPID"))).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

fn wait_for(what: &str, script: &str) {
    wait(what, || Command::new("bash").args(["-ec", script]).status().is_ok_and(|status| status.success()));
}

/// Nothing was refused that it asked for.
fn has_no_complaint(role: &str) {
    let log = sh(&format!("journalctl -o cat -u portway-{role}"));
    for refusal in ["not permitted", "denied", "Read-only", "read-only", "not locked", "ERROR"] {
        assert!(!log.contains(refusal), "{role}: {log}");
    }
}

const NETWORK: &str = "
ip link add plat0 type veth peer name plat1; ip addr add 10.9.0.1/24 dev plat0; ip link set plat0 up; ip link set plat1 up
ip link add eni0 type veth peer name eni1; ip addr add 172.16.101.4/24 dev eni0; ip link set eni0 up; ip link set eni1 up
install -d /etc/portway; umask 077
openssl rand -hex 32 > /etc/portway/ha.key; wg genkey > /etc/portway/host.key";

/// A pair of which the other is not there: VRRP, realtime threads, HaVips. The kernel's tunnels, of which it loads the modules.
const GATEWAY: &str = "
gateway:
  node: gw-1
  platform: { interface: plat0, address: 10.9.0.1 }
  ha: { nodes: { gw-1: 10.9.0.1, gw-2: 10.9.0.2 }, keys: [{ id: 1, file: /etc/portway/ha.key }] }
  flow_log: { file: /var/log/portway/flows.jsonl }
  tenants:
    - { name: acme, key: 7, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16,
        shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10 }] }
peers:
  static: [{ host: host-1, outer: 10.9.0.11, inner: { acme: [10.64.0.9] } }]
";

/// Tunnels in the process itself: devices and sockets.
const HOST: &str = "
host:
  node: host-1
  platform: { interface: plat0, address: 10.9.0.1 }
  tunnel: wireguard
  backend: userspace
  wireguard: { private_key: /etc/portway/host.key }
  tenants:
    - { name: acme, cidrs: [172.16.0.0/16], shards: [{ shard: 0, gateway: 10.9.0.50, inner: 10.64.0.9, wireguard: { public_key: 3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08= } }] }
";

const DIRECTORY: &str = "directory: { listen: '127.0.0.1:9473', database: 'sqlite:///var/lib/portway-directory/directory.db', \
    runtime_dir: /run/portway-directory }\n";
const AUTOSCALER: &str = "autoscaler: { gateways: [{ name: gw-1, metrics: 'http://127.0.0.1:9470/metrics' }], \
    state_dir: /var/lib/portway-autoscaler, runtime_dir: /run/portway-autoscaler }\n";

fn in_the_vm(package: &Path) {
    sh("systemctl is-system-running --wait || systemctl --failed >&2");
    // Its tools, and so its dependencies, are this machine's own.
    sh(&format!("dpkg --no-triggers --force-unsafe-io --install {}", package.display()));
    assert_eq!(sh("systemctl list-unit-files --no-legend 'portway-*' | awk '{print $1, $2}' | sort").lines().count(), 4);
    start_of_nothing();
    sh(NETWORK);
    for (role, config) in [("gateway", GATEWAY), ("host", HOST), ("directory", DIRECTORY), ("autoscaler", AUTOSCALER)] {
        std::fs::write(format!("/etc/portway/{role}.yaml"), config).unwrap();
        sh(&format!("portway check /etc/portway/{role}.yaml"));
    }
    a_gateway();
    a_host();
    a_directory_and_an_autoscaler();
    // Where services may not be started by packages, they may not be stopped by them either.
    sh("rm -f /usr/sbin/policy-rc.d; dpkg --no-triggers --remove portway");
    assert_eq!(sh("ip -br link | grep -c pw- || true").trim(), "0");
}

/// Where nothing is configured nothing runs.
fn start_of_nothing() {
    sh("systemctl start portway-gateway");
    assert_eq!(of("gateway", "ActiveState"), "inactive");
}

fn a_gateway() {
    start("gateway");
    wait_for("the shard", "portway status | grep -q ' active '");
    // CAP_NET_ADMIN and CAP_NET_RAW.
    assert_eq!((process("gateway", "CapBnd"), process("gateway", "CapEff")), ("0000000000003000".into(), "0000000000003000".into()));
    assert_eq!((process("gateway", "NoNewPrivs"), process("gateway", "Seccomp")), ("1".into(), "2".into()));
    assert_ne!(process("gateway", "VmLck"), "0 kB", "its memory is not paged out");
    let threads = sh("ps -L -o cls=,rtprio=,ni= -p $(systemctl show --value -p MainPID portway-gateway)");
    for thread in ["FF     40", "-10"] {
        assert!(threads.contains(thread), "{thread} in {threads}");
    }
    for setting in ["conf/eni0/src_valid_mark", "conf/eni0/forwarding"] {
        assert_eq!(sh(&format!("cat /proc/sys/net/ipv4/{setting}")), "1\n", "{setting}");
    }
    assert_eq!(sh("cat /proc/sys/net/netfilter/nf_conntrack_acct"), "1\n", "the flow log's");
    sh("portway doctor --config /etc/portway/gateway.yaml; test -S /run/portway/gateway.sock; test -s /var/log/portway/flows.jsonl");
    assert_eq!(sh("stat -c %a /var/log/portway/flows.jsonl"), "640\n");
    has_no_complaint("gateway");

    let index = || sh("cat /sys/class/net/pw-1/ifindex");
    let (process, before) = (of("gateway", "MainPID"), index());
    sh("systemctl reload portway-gateway");
    wait_for("the reload", "journalctl -o cat -u portway-gateway | grep -q 'configuration read anew'");
    assert_ne!(of("gateway", "NFileDescriptorStore"), "0");
    sh("systemctl restart portway-gateway");
    let second = of("gateway", "MainPID");
    assert!(second != process && index() == before, "it goes on with what stands");
    sh(&format!("kill -KILL {second}"));
    wait_for(
        "another one",
        &format!(
            "p=$(systemctl show --value -p MainPID portway-gateway); [ $p != 0 -a $p != {second} ]; systemctl is-active -q portway-gateway"
        ),
    );
    assert_eq!(index(), before);
    sh("systemctl stop portway-gateway");
    assert_eq!((index(), of("gateway", "Result")), (before, "success".into()), "what is stopped stands");
    sh("portway gateway --config /etc/portway/gateway.yaml --teardown");
}

fn a_host() {
    start("host");
    // And CAP_SYS_PTRACE.
    assert_eq!(process("host", "CapEff"), "0000000000083000");
    // A container's process, which is not root's.
    sh("systemd-run -q --unit=container -p PrivateNetwork=yes -p User=nobody sleep infinity
        p=$(systemctl show --value -p MainPID container); ip link add veth7 type veth peer name in7; ip link set in7 netns $p; ip link set veth7 up
        portway attach web-7 --tenant acme --netns /proc/$p/ns/net
        portway attachments | grep -q web-7");
    sh("portway doctor --config /etc/portway/host.yaml");
    has_no_complaint("host");
    sh("systemctl restart portway-host; portway attachments | grep -q web-7");
    has_no_complaint("host");
}

fn a_directory_and_an_autoscaler() {
    for role in ["directory", "autoscaler"] {
        start(role);
        assert_eq!((process(role, "CapBnd"), process(role, "CapEff")), ("0000000000000000".into(), "0000000000000000".into()));
        let user = sh(&format!("id -u portway-{role}"));
        assert_eq!(process(role, "Uid").split_whitespace().next(), Some(user.trim()));
    }
    sh("portway directory tenant add acme --inner 10.64.0.0/16 --runtime-dir /run/portway-directory");
    sh("systemctl restart portway-directory; portway directory tenant list --runtime-dir /run/portway-directory | grep -q acme");
    has_no_complaint("directory");
}
