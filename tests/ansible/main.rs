//! The roles and playbooks of ansible/: linted, and applied to machines that have systemd as their process 1.

mod fleet;
mod lint;
mod machine;
mod pair;
mod roles;
#[path = "../vm_support/mod.rs"]
mod vm_support;

use fleet::Fleet;
use portway::config::Backend;
use portway::lab::Topology;
use portway::lab::topology::Wiring;

/// The kernel's tunnels, and modules to be loaded, which the machine that the tests run on may not have.
#[test]
fn in_vm_a_role_loads_modules_and_the_gateway_has_the_kernels_tunnels() {
    const NAME: &str = "in_vm_a_role_loads_modules_and_the_gateway_has_the_kernels_tunnels";
    if std::env::var_os("PORTWAY_INSIDE_VM").is_some() {
        return in_the_vm();
    }
    fleet::program();
    let own = std::env::current_exe().unwrap();
    // Python is slow in an emulated machine.
    let mut command = vm_support::vm(&["--timeout", "480", "--", "env", "PORTWAY_INSIDE_VM=1"]);
    let output = command.arg(own).args(["--exact", NAME, "--nocapture"]).output().expect("scripts/vm");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && out.contains("test result: ok. 1 passed"), "in the VM: {}\n{out}\n{err}", output.status);
    println!("{out}\n{err}");
}

fn in_the_vm() {
    let fleet = Fleet::build(Topology::of(&["acme"], &[Wiring::Veth]), Backend::Auto);
    fleet.play("install", &["--limit", "gw-acme"]).expect("to be installed");
    let gateway = &fleet.machines["gw-acme"];
    assert_eq!(gateway.status()["backend"], "kernel");
    let modules = gateway.ok(&["cat", "/etc/modules-load.d/portway.conf"]);
    let loaded = std::fs::read_to_string("/proc/modules").unwrap();
    for module in ["ip_gre", "wireguard", "nf_flow_table"] {
        assert!(modules.lines().any(|line| line == module), "{modules}");
        assert!(loaded.lines().any(|line| line.split(' ').next() == Some(module)), "{loaded}");
    }
}
