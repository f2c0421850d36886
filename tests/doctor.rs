//! `portway doctor` as a user runs it, in network namespaces of its own; its remedies are carried out as they are printed.

use portway::lab::Netns;
use serde_json::Value;
use std::process::Output;

const CONFIG: &str = "
gateway:
  node: gw
  platform: { interface: plat0, address: 10.9.0.1 }
  runtime_dir: DIRECTORY
  tenants:
    - { name: acme, key: 7, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16 }
peers:
  static: [{ host: host-1, outer: 10.9.0.11, inner: { acme: [10.64.0.9] } }]
";

const WELL: &str = "
ip link set lo up
ip link add plat0 type veth peer name plat1; ip addr add 10.9.0.1/24 dev plat0; ip link set plat0 up; ip link set plat1 up
ip link add eni0 type veth peer name eni1; ip addr add 172.16.101.4/24 dev eni0; ip link set eni0 up; ip link set eni1 up
for at in all plat0 eni0; do echo 0 > /proc/sys/net/ipv4/conf/$at/rp_filter; done
nft -f - <<END
table inet filter {
  chain input { type filter hook input priority filter; policy accept; ct state vmap { established : accept, invalid : drop }; tcp dport 22 accept;
    tcp dport != 443 drop; icmp type != echo-request drop; ip6 saddr != fe80::/10 drop; }
  chain forward { type filter hook forward priority filter; policy accept; iifname \"docker0\" drop; }
}
END";

const SPOILT: &str = "
ip link del eni0
ip link set dev plat0 mtu 1200
echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter
nft -f - <<END
table inet wall {
  chain forward { type filter hook forward priority filter; policy drop; ct state established,related accept; jump services; }
  chain services { iifname \"docker0\" accept; }
  chain input { type filter hook input priority filter; policy accept; iif lo accept; ip protocol icmp accept; reject; }
}
table ip nat {
  chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept; ip saddr 172.17.0.0/16 masquerade; counter masquerade random; }
}
END";

/// The peer's key is nobody's.
const WIREGUARD: &str = "
gateway:
  node: gw
  platform: { interface: plat0, address: 10.9.0.1 }
  tunnel: wireguard
  backend: userspace
  runtime_dir: DIRECTORY
  tenants:
    - { name: acme, wireguard: { private_key: DIRECTORY/acme.key, next: { private_key: DIRECTORY/acme.next.key } }, interface: eni0,
        router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16 }
peers:
  static: [{ host: host-1, public_key: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=, inner: { acme: [10.64.0.9] } }]
";

/// One port of two is let in, and nothing goes out.
const WALLED: &str = "
nft -f - <<END
table inet wall {
  chain input { type filter hook input priority filter; policy drop; iif lo accept; udp dport { 53, 51820 } accept; }
  chain output { type filter hook output priority filter; policy drop; oif lo accept; tcp dport 443 accept; }
}
END";

struct Machine {
    netns: Netns,
    directory: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self::with(CONFIG)
    }

    fn with(config: &str) -> Self {
        let netns = Netns::create().expect("these tests make network namespaces: run them as root");
        let directory = tempfile::tempdir().expect("a directory");
        let config = config.replace("DIRECTORY", &directory.path().display().to_string());
        std::fs::write(directory.path().join("gateway.yaml"), config).expect("a file");
        let machine = Self { netns, directory };
        machine.sh(WELL);
        machine
    }

    fn sh(&self, script: &str) {
        let output = self.netns.command("sh").args(["-ec", script]).output().expect("sh");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn doctor(&self, arguments: &[&str]) -> Output {
        let config = self.directory.path().join("gateway.yaml");
        let mut command = self.netns.command(env!("CARGO_BIN_EXE_portway"));
        command.args(["doctor", "--config"]).arg(config).args(arguments).output().expect("portway")
    }

    /// (severity, what, remedy) and the exit code.
    fn findings(&self) -> (Vec<[String; 3]>, Option<i32>) {
        let output = self.doctor(&["--json"]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let field = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let findings: Vec<_> = answer["findings"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|f| ["severity", "what", "remedy"].map(|name| field(f, name)))
            .collect();
        assert_eq!(answer["worst"], findings[0][0]);
        (findings, output.status.code())
    }
}

fn find<'a>(findings: &'a [[String; 3]], severity: &str, what: &str) -> &'a str {
    let found = findings.iter().find(|[is, says, _]| is == severity && says.contains(what));
    &found.unwrap_or_else(|| panic!("no {severity} with {what:?}: {findings:#?}"))[2]
}

#[test]
fn where_all_is_well_nothing_is_broken_and_nothing_changes() {
    let machine = Machine::new();
    let (findings, code) = machine.findings();
    assert_eq!(code, Some(0), "{findings:#?}");
    find(&findings, "ok", "no nftables rule of others stands in the way");
    find(&findings, "ok", "plat0: MTU 1500, 1472 inside tunnels");
    find(&findings, "ok", "plat0 has the platform address 10.9.0.1");
    let left: Vec<_> =
        std::fs::read_dir(machine.directory.path()).expect("a directory").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["gateway.yaml"]);
    let output = machine.doctor(&[]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success() && text.contains("✓ plat0: MTU 1500") && !text.contains('\x1b'), "{text}");
}

#[test]
fn what_is_broken_is_found_and_the_printed_commands_mend_it() {
    let machine = Machine::new();
    machine.sh(SPOILT);
    let (findings, code) = machine.findings();
    assert_eq!(code, Some(1), "{findings:#?}");
    find(&findings, "broken", "there is no interface eni0");
    find(&findings, "note", "rp_filter is strict on plat0");
    let remedies = [
        find(&findings, "broken", "plat0 has an MTU of 1200"),
        find(&findings, "broken", "table inet wall, chain forward (hook forward) drops"),
        find(&findings, "broken", "table inet wall, chain input (hook input) drops tunnel packets that come in (GRE) by a rule"),
        find(&findings, "warning", "table ip nat, chain POSTROUTING (hook postrouting) may translate what goes out to eni0"),
    ];
    assert!(remedies[1].contains(r#"nft insert rule inet wall forward 'iifname "pw-*" accept'"#), "{}", remedies[1]);
    let text = String::from_utf8(machine.doctor(&[]).stdout).expect("text");
    assert!(text.starts_with('✗') && text.contains("\n    ip link set dev plat0 mtu 1500\n"), "{text}");
    for remedy in remedies {
        machine.sh(remedy);
    }
    machine.sh("ip link add eni0 type veth peer name eni1; ip addr add 172.16.101.4/24 dev eni0; ip link set eni1 up");
    let (findings, code) = machine.findings();
    assert_eq!(code, Some(1), "{findings:#?}");
    machine.sh(find(&findings, "broken", "eni0 is down"));
    let (findings, code) = machine.findings();
    assert_eq!(code, Some(0), "{findings:#?}");
    find(&findings, "note", "rp_filter is strict on eni0: Portway sets src_valid_mark");
    find(&findings, "ok", "no nftables rule of others stands in the way");
}

#[test]
fn a_gateway_of_wireguard_is_told_of_its_keys_and_of_walls_around_its_ports() {
    let machine = Machine::with(WIREGUARD);
    let key = |name: &str| machine.directory.path().join(name).display().to_string();
    machine.sh(&format!("umask 022; wg genkey > {}", key("acme.key")));
    machine.sh(WALLED);
    let (findings, code) = machine.findings();
    assert_eq!(code, Some(1), "{findings:#?}");
    find(&findings, "ok", "the tunnels are carried in userspace, as configured");
    find(&findings, "ok", "plat0: MTU 1500, 1440 inside tunnels");
    assert!(findings.iter().flatten().all(|text| !text.contains("GRE") && !text.contains("gre ")), "{findings:#?}");
    let remedies = [
        find(&findings, "broken", "the WireGuard key of acme/0: cannot use"),
        find(&findings, "broken", "the next WireGuard key of acme/0: cannot use"),
        find(
            &findings,
            "broken",
            "table inet wall, chain input (hook input) drops tunnel packets that come in (WireGuard, UDP) by its policy",
        ),
        find(
            &findings,
            "broken",
            "table inet wall, chain output (hook output) drops tunnel packets that go out (WireGuard, UDP) by its policy",
        ),
    ];
    assert_eq!(remedies[0], format!("chmod 600 {}", key("acme.key")));
    assert_eq!(remedies[2], "nft insert rule inet wall input 'udp dport { 51819, 51820 } accept'");
    for remedy in remedies {
        machine.sh(remedy);
    }
    let (findings, code) = machine.findings();
    assert_eq!(code, Some(0), "{findings:#?}");
    find(&findings, "ok", "the WireGuard keys of all shards can be used");
    find(&findings, "ok", "no nftables rule of others stands in the way");
}

#[test]
fn faults_of_the_configuration_come_before_all_else() {
    let machine = Machine::new();
    std::fs::write(machine.directory.path().join("gateway.yaml"), "gateway: { node: gw }").expect("a file");
    let output = machine.doctor(&["--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("platform"), "{output:?}");
}
