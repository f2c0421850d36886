//! What it is all for: a database of a tenant's, used by a function.

use super::support::*;
use nix::sys::signal::Signal;
use portway::config::TunnelKind;
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Life, Process, Topology};
use rstest::rstest;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Where Debian keeps the programs of its newest PostgreSQL.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    versions.max().expect("PostgreSQL is not installed; run: apt-get install -y postgresql")
}

/// As the user `postgres`, and ended with this process.
fn as_postgres(lab: &Lab, program: &str) -> std::process::Command {
    let mut command = lab.node("db-acme").unwrap().command("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL", "--"]).arg(programs().join(program));
    command.current_dir("/").env("LC_ALL", "C");
    command
}

/// A server in acme's VPC on its default port, with its data in `directory`.
fn start(lab: &Lab, directory: &Path) -> Process {
    let postgres = nix::unistd::User::from_name("postgres").unwrap().expect("the package postgresql makes a user `postgres`");
    chown(directory, Some(postgres.uid.as_raw()), Some(postgres.gid.as_raw())).unwrap();
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o700)).unwrap();
    let data = directory.join("data");
    let made = as_postgres(lab, "initdb").args(["--no-sync", "--auth=trust", "-D"]).arg(&data).output().unwrap();
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    // Only the gateway's translated address may come in: any other source is refused.
    std::fs::write(data.join("pg_hba.conf"), "host all all 172.16.101.10/32 trust\n").unwrap();
    let mut command = as_postgres(lab, "postgres");
    command.arg("-D").arg(&data);
    for setting in ["listen_addresses=172.16.101.20", "unix_socket_directories=", "fsync=off"] {
        command.args(["-c", setting]);
    }
    Process::spawn("postgres", command, &lab.dir().log("postgres"), Life::WithLab).unwrap()
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn pgbench_runs_through_the_gateway_while_daemons_are_restarted(#[case] tunnel: TunnelKind) {
    let edit = |node: &str, yaml: String| match node {
        "gw-acme" => replaced(&yaml, "tcp: [80, ", "tcp: [80, 5432, "),
        _ => yaml,
    };
    let mut lab = stand_edited(Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(tunnel), edit);
    let directory = tempfile::tempdir().unwrap();
    let mut postgres = start(&lab, directory.path());
    lab.attach_all().unwrap();
    let client = "-h 172.16.101.20 -U postgres";
    wait("PostgreSQL", SOON, || try_sh(&lab, "fn-1a", &format!("pg_isready -q {client}")).code == 0);
    let source = sh(&lab, "fn-1a", &format!("psql -XAt {client} -c 'select inet_client_addr()' postgres"));
    assert_eq!(source, "172.16.101.10\n");
    sh(&lab, "fn-1a", &format!("pgbench -q -i -s 1 {client} postgres"));

    let netns = lab.node("fn-1a").unwrap().clone();
    let run = std::thread::spawn(move || {
        netns.command("pgbench").args(["-n", "-c", "4", "-j", "2", "-T", "5"]).args(client.split(' ')).arg("postgres").output().unwrap()
    });
    let busy = format!("psql -XAt {client} -c \"select count(*) from pg_stat_activity where application_name = 'pgbench'\" postgres");
    wait("four clients", SOON, || sh(&lab, "fn-1a", &busy).trim() == "4");
    lab.daemon("gw-acme").unwrap().restart().unwrap();
    lab.daemon("host-1").unwrap().restart().unwrap();
    let output = run.join().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("number of failed transactions: 0 (0.000%)"), "{out}{err}");
    let done = out.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: ")).unwrap();
    assert!(done.parse::<u32>().unwrap() > 100, "{out}");
    postgres.signal(Signal::SIGINT).unwrap();
    assert!(postgres.wait(SOON).unwrap().unwrap().success());
}
