//! Function hosts that come and go by the gateway's API, against a real daemon in a real namespace.

use portway::lab::{Netns, unix};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A gateway in a namespace of its own.
struct Gateway {
    netns: Netns,
    directory: tempfile::TempDir,
    child: Child,
}

const CONFIG: &str = "
gateway:
  node: gw
  platform: { interface: plat0, address: 10.9.0.1 }
  backend: userspace
  runtime_dir: DIRECTORY
  admin: 127.0.0.1:9470
  tenants:
    - name: acme
      key: 7
      interface: eni0
      allow: [{ to: 172.16.0.0/16, tcp: all }]
      inner: 10.64.0.0/16
peers:
  static: [{ host: fixed, outer: 10.9.0.11, inner: { acme: [10.64.0.9] } }]
";

impl Gateway {
    fn start() -> Self {
        let netns = Netns::create().expect("these tests make network namespaces: run them as root");
        let directory = tempfile::tempdir().expect("a directory");
        let config = CONFIG.replace("DIRECTORY", &directory.path().display().to_string());
        std::fs::write(directory.path().join("gateway.yaml"), config).expect("a file");
        sh(
            &netns,
            "ip link set lo up
             ip link add plat0 type veth peer name plat1; ip addr add 10.9.0.1/24 dev plat0; ip link set plat0 up; ip link set plat1 up
             ip link add eni0 type veth peer name eni1; ip addr add 172.16.101.4/24 dev eni0; ip link set eni0 up; ip link set eni1 up",
        );
        let child = daemon(&netns, directory.path());
        let mut gateway = Self { netns, directory, child };
        gateway.await_ready();
        gateway
    }

    fn restart(&mut self) {
        let successor = daemon(&self.netns, self.directory.path());
        let mut old = std::mem::replace(&mut self.child, successor);
        assert!(old.wait().expect("the old daemon to end").success());
        self.await_ready();
    }

    fn await_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while !matches!(unix(&self.socket(), "GET", "/readyz", None), Ok(answer) if answer.status == 200) {
            assert!(self.child.try_wait().expect("a child").is_none() && Instant::now() < deadline, "the gateway is not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("gateway.sock")
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(ToString::to_string);
        let answer = unix(&self.socket(), method, path, body.as_deref()).expect("an answer");
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }

    fn put(&self, name: &str, outer: &str, tenant: &str, prefix: &str) -> u16 {
        self.call("PUT", &format!("/v1/peers/{name}"), Some(&json!({ "outer": outer, "inner": { tenant: [prefix] } }))).0
    }

    fn routes(&self) -> String {
        sh(&self.netns, "ip route show table 0x70001")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn daemon(netns: &Netns, directory: &Path) -> Child {
    let mut command = netns.command(env!("CARGO_BIN_EXE_portway"));
    command.args(["--log", "warn", "gateway", "--config"]).arg(directory.join("gateway.yaml")).stdin(Stdio::null());
    command.spawn().expect("the daemon")
}

fn sh(netns: &Netns, script: &str) -> String {
    let mut command: Command = netns.command("sh");
    let output = command.args(["-ec", script]).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_function_host_comes_stays_over_a_restart_and_goes() {
    let mut gateway = Gateway::start();
    assert_eq!(gateway.put("late", "10.9.0.12", "acme", "10.64.1.0/24"), 201);
    assert!(gateway.routes().contains("10.64.1.0/24 dev pw-1"), "{}", gateway.routes());
    assert_eq!(gateway.put("late", "10.9.0.12", "acme", "10.64.1.0/24"), 200);
    let (status, list) = gateway.call("GET", "/v1/peers", None);
    assert_eq!(status, 200);
    assert_eq!(
        list,
        json!([
            { "host": "fixed", "outer": "10.9.0.11", "inner": { "acme": ["10.64.0.9/32"] }, "configured": true },
            { "host": "late", "outer": "10.9.0.12", "inner": { "acme": ["10.64.1.0/24"] }, "configured": false },
        ])
    );
    let before = gateway.routes();
    gateway.restart();
    assert_eq!(gateway.call("GET", "/v1/peers", None).1, list);
    assert_eq!(gateway.routes(), before);
    assert_eq!(gateway.call("DELETE", "/v1/peers/late", None).0, 204);
    assert!(!gateway.routes().contains("10.64.1.0/24"), "{}", gateway.routes());
    assert!(gateway.routes().contains("10.64.0.9 dev pw-1"), "{}", gateway.routes());
    assert_eq!(gateway.call("DELETE", "/v1/peers/late", None).0, 404);
    gateway.restart();
    assert_eq!(gateway.call("GET", "/v1/peers", None).1.as_array().map(Vec::len), Some(1));
}

#[test]
fn what_cannot_be_is_refused_with_its_status_and_changes_nothing() {
    let gateway = Gateway::start();
    let before = gateway.routes();
    for (status, name, outer, tenant, prefix) in [
        (400, "late", "10.9.0.12", "acme", "10.65.0.9/32"),
        (400, "late", "10.9.0.12", "acme", "10.64.1.1/24"),
        (400, "late", "10.9.0.1", "acme", "10.64.1.1/32"),
        (404, "late", "10.9.0.12", "nobody", "10.64.1.1/32"),
        (409, "late", "10.9.0.11", "acme", "10.64.1.1/32"),
        (409, "late", "10.9.0.12", "acme", "10.64.0.0/24"),
        (409, "fixed", "10.9.0.12", "acme", "10.64.0.9/32"),
    ] {
        assert_eq!(gateway.put(name, outer, tenant, prefix), status, "{name} {outer} {tenant} {prefix}");
    }
    assert_eq!(gateway.put("fixed", "10.9.0.11", "acme", "10.64.0.9"), 200);
    let (status, answer) = gateway.call("PUT", "/v1/peers/late", Some(&json!({ "outer": "10.9.0.12" })));
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("inner")), "{answer}");
    let (status, answer) = gateway.call("DELETE", "/v1/peers/fixed", None);
    assert_eq!(status, 409);
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("reload")), "{answer}");
    assert_eq!(gateway.routes(), before);
}
