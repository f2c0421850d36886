//! A machine to apply roles to: a node of a lab with systemd in it (`machine.sh`).

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portway::lab::{Netns, poll_until};
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// systemd in an emulated machine takes its time.
const BOOT: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub struct Machine {
    child: Child,
    /// Of its systemd, as seen from here.
    pid: i32,
    group: Option<PathBuf>,
}

impl Machine {
    /// Begins to boot one; `dir` is the same place inside.
    pub fn start(node: &Netns, name: &str, dir: &Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ansible/machine.sh");
        let log = fs::File::create(dir.join(format!("{name}.log"))).unwrap();
        let mut command = node.command(script);
        command.arg(name).arg(dir).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(Into::into)) };
        let mut child = command.spawn().expect("machine.sh");
        let mut pid = None;
        poll_until(&format!("the machine {name}"), BOOT, || {
            let log = || fs::read_to_string(dir.join(format!("{name}.log"))).unwrap_or_default();
            assert_eq!(child.try_wait().unwrap(), None, "{}", log());
            pid = fs::read_to_string(dir.join(format!("{name}.pid"))).ok().and_then(|text| text.trim().parse().ok());
            Ok(pid.is_some())
        })
        .unwrap();
        let groups = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounted = groups.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let group = format!("portway{}-{name}", dir.file_name().expect("a name").display());
        Self { child, pid: pid.expect("seen above"), group: mounted.map(|mounted| Path::new(mounted).join(group)) }
    }

    /// Waits until its systemd takes orders.
    pub fn await_boot(&self) {
        poll_until("systemd", BOOT, || {
            std::thread::sleep(Duration::from_millis(100));
            Ok(self.run(&["systemctl", "is-active", "basic.target"]).0)
        })
        .unwrap();
    }

    /// A command in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--all", "--", program]).stdin(Stdio::null());
        command
    }

    /// A script that is its Python.
    pub fn python(&self) -> String {
        format!("#!/bin/sh\nexec nsenter --target {} --all -- /usr/bin/python3 \"$@\"\n", self.pid)
    }

    /// Whether a command in it succeeds, and what it prints.
    pub fn run(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.command(arguments[0]).args(&arguments[1..]).output().expect("nsenter");
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.success(), text)
    }

    pub fn ok(&self, arguments: &[&str]) -> String {
        let (succeeds, text) = self.run(arguments);
        assert!(succeeds, "{arguments:?}: {text}");
        text
    }

    /// Of its only daemon.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["portway", "status", "--json"]).1).expect("one daemon's status")
    }

    /// The daemon's process, as the machine knows it.
    pub fn daemon(&self, role: &str) -> String {
        self.ok(&["systemctl", "show", "--property=MainPID", "--value", &format!("portway-{role}.service")])
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        let _ = self.child.wait();
        if let Some(group) = &self.group {
            // Groups have files that go with them: only the folders are removed, the innermost first.
            let _ =
                Command::new("find").arg(group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]).stderr(Stdio::null()).status();
        }
    }
}
