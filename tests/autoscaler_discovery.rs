//! An autoscaler that learns of gateways from a directory: real ones of a group, over WireGuard, with namespaces of their own.

use nix::sys::signal::Signal;
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::PLATFORM;
use portway::lab::{Lab, Life, Process, Topology, directory, poll_until, unix};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PORTWAY: &str = env!("CARGO_BIN_EXE_portway");
/// In the virtual machine, too, where all is slow.
const SOON: Duration = Duration::from_secs(60);
/// From a gateway that is ready to one that counts: it tells the directory at once, which is asked each second, and is asked then itself.
const SECONDS: Duration = Duration::from_secs(10);

struct Stage {
    lab: Lab,
    autoscaler: Option<Process>,
    runtime_dir: PathBuf,
}

impl Stage {
    /// A group whose third node is not there yet, and whose second cannot be asked. No autoscaler runs.
    fn set() -> Self {
        let topology = Topology::group(&["acme"], 3, 1, &[]).with_tunnel(TunnelKind::Wireguard).with_directory().with_absent("gw-3");
        let mut lab = Lab::build(topology).unwrap();
        let edit = |node: &str, yaml: String| if node == "gw-2" { yaml.replace("0.0.0.0:9470", "127.0.0.1:9470") } else { yaml };
        lab.start_daemons_edited(Path::new(PORTWAY), Backend::Auto, edit).unwrap();
        let runtime_dir = lab.dir().runtime("autoscaler");
        let (state_dir, ca) = (directory::state_dir(&runtime_dir, "autoscaler"), directory::ca(&runtime_dir));
        let token = lab.directory().unwrap().observer(&runtime_dir).unwrap();
        let text = format!(
            "autoscaler:\n  gateways: {{ directory: {{ url: {:?}, token_file: {token:?}, ca: {ca:?}, every: 1s }} }}\n  scrape: 200ms\n  \
             nodes: {{ stale_after: 3s }}\n  runtime_dir: {runtime_dir:?}\n  state_dir: {state_dir:?}\n",
            directory::url()
        );
        std::fs::write(lab.dir().config("autoscaler"), text).unwrap();
        Self { lab, autoscaler: None, runtime_dir }
    }

    fn start(&mut self) {
        let mut command = self.lab.node(PLATFORM).unwrap().command(PORTWAY);
        command.args(["autoscaler", "--config"]).arg(self.lab.dir().config("autoscaler"));
        self.autoscaler = Some(Process::spawn("the autoscaler", command, &self.lab.dir().log("autoscaler"), Life::WithLab).unwrap());
    }

    fn stop(&mut self) {
        let mut process = self.autoscaler.take().unwrap();
        process.signal(Signal::SIGTERM).unwrap();
        assert!(process.wait(SOON).unwrap().is_some_and(|status| status.success()), "{}", process.tail());
    }

    fn ask(&self, path: &str) -> String {
        unix(&self.runtime_dir.join("autoscaler.sock"), "GET", path, None).map(|answer| answer.body).unwrap_or_default()
    }

    /// Until its status is like this; what it was then, and how long it took.
    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> (Value, Duration) {
        let (begun, mut status) = (Instant::now(), Value::Null);
        poll_until(what, SOON, || {
            status = serde_json::from_str(&self.ask("/v1/status")).unwrap_or_default();
            Ok(is_so(&status))
        })
        .unwrap_or_else(|error| panic!("{error}: {status:#}\n{}", self.autoscaler.as_ref().map(Process::tail).unwrap_or_default()));
        (status, begun.elapsed())
    }

    /// As an operator sees it.
    fn shown(&self) -> String {
        let mut command = self.lab.node(PLATFORM).unwrap().command(PORTWAY);
        let output = command.args(["status", "--runtime-dir"]).arg(&self.runtime_dir).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn metric(&self, line: &str) -> f64 {
        let page = self.ask("/metrics");
        let value = page.lines().find_map(|found| found.strip_prefix(line)?.trim_start_matches("{}").strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {line} in\n{page}")).parse().unwrap()
    }
}

/// `gw-1 gw-2!`: of the second nothing current is known.
fn names(status: &Value) -> String {
    let one = |gateway: &Value| format!("{}{}", gateway["name"].as_str().unwrap(), if gateway["current"] == true { "" } else { "!" });
    status["gateways"].as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn gateways_come_and_go_without_anybody_editing_a_file() {
    let mut stage = Stage::set();
    stage.start();
    // One of the two cannot be asked, and whoever looks is told what to write.
    let (status, _) = stage.until("the first two", |status| names(status) == "gw-1 gw-2!");
    assert_eq!((&status["ready"], &status["directory"]["known"]), (&false.into(), &2.into()), "{status:#}");
    assert_eq!(status["directory"]["registered"], serde_json::json!(["gw-3"]), "{status:#}");
    let shown = stage.shown();
    assert!(shown.contains("write `admin: ADDRESS:9470` in its file") && shown.contains("not heard there"), "{shown}");
    stage.lab.regroup("gw-2", Backend::Auto).unwrap();
    stage.lab.daemon("gw-2").unwrap().restart().unwrap();
    let (status, _) = stage.until("readings of both", |status| names(status) == "gw-1 gw-2" && status["ordered"] == 2);
    assert_eq!(status["ready"], true, "{status:#}");

    // A third is started.
    stage.lab.topology.group.iter_mut().for_each(|group| group.absent.clear());
    for node in ["gw-1", "gw-2"] {
        stage.lab.regroup(node, Backend::Auto).unwrap();
    }
    stage.lab.start_gateway("gw-3", Path::new(PORTWAY), Backend::Auto).unwrap();
    let (status, took) = stage.until("the third", |status| names(status) == "gw-1 gw-2 gw-3");
    assert!(took < SECONDS, "{took:?}");
    assert_eq!((&status["serving"], &status["ordered"]), (&3.into(), &2.into()), "nobody has ordered it: {status:#}");

    // The directory goes: nothing changes, not by a restart either.
    stage.lab.directory().unwrap().fail();
    let away = |status: &Value| status["directory"]["answers"] == false && status["directory"]["failed"].as_u64() > Some(1);
    let (status, _) = stage.until("a directory that is away", away);
    assert_eq!((names(&status).as_str(), &status["ready"], &status["ordered"]), ("gw-1 gw-2 gw-3", &true.into(), &2.into()));
    assert!(status["directory"]["age"].as_f64().unwrap() > 0.0 && stage.shown().contains("does not answer"), "{}", stage.shown());
    assert!(stage.metric("portway_autoscaler_directory_calls_total{result=\"failed\"}") > 1.0);
    stage.stop();
    stage.start();
    let (status, _) = stage.until("the same three", |status| names(status) == "gw-1 gw-2 gw-3" && away(status));
    assert_eq!((&status["ready"], &status["directory"]["age"]), (&true.into(), &Value::Null), "{status:#}");
    let ordered = status["ordered"].clone();
    assert!(ordered.as_u64() >= Some(2), "{status:#}");

    // It is back, and one is taken out of it on purpose.
    stage.lab.directory().unwrap().resume().unwrap();
    stage.until("the directory", |status| status["directory"]["answers"] == true && names(status) == "gw-1 gw-2 gw-3");
    assert!(stage.metric("portway_autoscaler_directory_age_seconds") < 30.0);
    stage.lab.directory().unwrap().remove_gateway("gw-3").unwrap();
    let (status, _) = stage.until("two are left", |status| names(status) == "gw-1 gw-2");
    assert_eq!((&status["ordered"], &status["ready"]), (&ordered, &true.into()), "{status:#}");
    stage.stop();
}
