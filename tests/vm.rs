//! The virtual machine itself: that it is what tests of kernel GRE need, and that it keeps this machine out of what happens in it.

mod vm_support;

use std::process::Command;
use vm_support::{in_vm, in_vm_ok, inside, vm};

fn sh(line: &str) -> String {
    let output = Command::new("bash").args(["-ec", line]).output().expect("bash");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn kernel_gre_with_a_key_joins_two_namespaces() {
    inside("kernel_gre_with_a_key_joins_two_namespaces", || {
        sh("ip netns add a; ip netns add b; ip link add va netns a type veth peer name vb netns b");
        for (own, mine, theirs) in [("a", 1, 2), ("b", 2, 1)] {
            sh(&format!(
                "ip -n {own} link set v{own} up; ip -n {own} addr add 192.0.2.{mine}/24 dev v{own}
                 ip -n {own} link add g{own} type gre local 192.0.2.{mine} remote 192.0.2.{theirs} key 7
                 ip -n {own} addr add 10.0.0.{mine} peer 10.0.0.{theirs} dev g{own}; ip -n {own} link set g{own} up"
            ));
        }
        sh("ip netns exec a ping -c 3 -i 0.2 -W 5 10.0.0.2");
        assert!(sh("ip -n a -d link show ga").contains("gre remote 192.0.2.2 local 192.0.2.1"));
        let received = sh("ip netns exec a cat /sys/class/net/ga/statistics/rx_packets");
        assert!(received.trim().parse::<u32>().unwrap() >= 3, "{received}");
    });
}

#[test]
fn what_the_build_machines_kernel_lacks_is_there() {
    let modules = "ip_gre ipip wireguard nf_flow_table nft_flow_offload nft_chain_nat nft_ct dummy vrf sch_netem bridge veth tun vxlan";
    in_vm_ok(&["bash", "-ec", &format!("for module in {modules}; do modprobe $module; done")]);
}

#[test]
fn output_errors_and_status_are_the_commands_and_the_shell_splits_no_word() {
    let output = in_vm(&["bash", "-c", "printf '%s|' \"$@\"; printf out; pwd >&2; exit 7", "bash", "two words", "", "$HOME 'x'\n*"]);
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "two words||$HOME 'x'\n*|out");
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn only_what_is_shared_is_written_on_this_machine() {
    let (shared, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(kept.path().join("old"), "old").unwrap();
    let (shared_path, kept_path) = (shared.path().to_str().unwrap(), kept.path().to_str().unwrap());
    let script = format!("echo yes > {shared_path}/new; echo no > {kept_path}/new; rm {kept_path}/old; ls {kept_path}; ls /sys/class/net");
    let output = vm(&["--share", shared_path, "--", "bash", "-ec", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "new\nlo\n", "inside, all can be written, and there is no network");
    assert_eq!(std::fs::read_to_string(shared.path().join("new")).unwrap(), "yes\n");
    assert_eq!(std::fs::read_to_string(kept.path().join("old")).unwrap(), "old");
    assert!(!kept.path().join("new").exists());
}

#[test]
fn what_takes_too_long_is_ended() {
    let output = vm(&["--timeout", "3", "--", "sleep", "100"]).output().unwrap();
    assert_eq!(output.status.code(), Some(124), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not done after 3 s"));
}
