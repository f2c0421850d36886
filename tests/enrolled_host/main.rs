//! Gateways and a function host that a directory brings together: nobody's file names the other. They follow what changes, and do without it.

mod impostor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use portway::config::{Backend, TunnelKind};
use portway::directory::client::Client;
use portway::directory::types::*;
use portway::lab::topology::{Wiring, port};
use portway::lab::{Lab, Life, Netns, Probe, Process, Topology, Transfer, configs, keys, poll_until, secret, unix, whoami};
use portway::model::{NodeName, PrivateKey, TenantName, TenantShard};
use portway::userspace::wireguard::knock;
use portway::wire::wireguard::Tai64n;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 20);
/// On the host, where gateways reach it, too.
const URL: &str = "https://10.9.0.101:9473";
/// In the virtual machine, too, where all is slow.
const SOON: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Two tenants with a gateway each, `gw-acme` and `gw-blue`; one host, and on the same machine a directory. The host has enrolled for acme.
struct Stage {
    lab: Lab,
    directory: Option<Process>,
    operator: Client,
    runtime: tokio::runtime::Runtime,
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn of(text: &str) -> TenantShard {
    text.parse().unwrap()
}

fn tenants(names: &[&str]) -> BTreeSet<TenantName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn host_of(names: &[&str]) -> HostSpec {
    HostSpec { tenants: tenants(names), public_key: None }
}

impl Stage {
    fn set() -> Self {
        let stage = Self::directory_alone();
        let said = stage.portway(&["enroll", "--token-file", stage.file("enroll.token").to_str().unwrap(), "--name", "host-1"]);
        assert!(said.contains("acme/0 as 10.64.0.1/32 through a gateway that is not there yet"), "{said}");
        stage
    }

    /// Nobody has enrolled, and no daemon but the directory runs.
    fn directory_alone() -> Self {
        let topology = Topology::of(&["acme", "blue"], &[Wiring::Veth]).with_tunnel(TunnelKind::Wireguard);
        let mut lab = Lab::build(topology).unwrap();
        lab.serve().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let operator = Client::local(&lab.dir().path().join("directory/directory.sock")).unwrap();
        let mut stage = Self { lab, directory: None, operator, runtime };
        let (certificate, key) = stage.certify();
        std::fs::write(
            stage.file("directory.yaml"),
            format!(
                "directory:\n  listen: 10.9.0.101:9473\n  tls: {{ certificate: {}, key: {} }}\n  database: sqlite://{}\n  runtime_dir: {}\n",
                certificate.display(),
                key.display(),
                stage.file("directory.db").display(),
                stage.file("directory").display()
            ),
        )
        .unwrap();
        stage.directory_up();
        let (runtime, operator) = (&stage.runtime, &stage.operator);
        runtime.block_on(async {
            for tenant in &stage.lab.topology.tenants {
                let spec = TenantSpec {
                    inner: tenant.inner.into(),
                    host_prefix: 32,
                    shards: [Default::default()].into(),
                    egress: Default::default(),
                };
                operator.put_tenant(&tenant.name.parse().unwrap(), &spec).await.unwrap();
            }
            for tenant in ["acme", "blue"] {
                let node = format!("gw-{tenant}");
                operator.put_gateway(&name(&node), &GatewaySpec { shards: [of(tenant)].into() }).await.unwrap();
                let spec = TokenSpec { role: Role::Gateway, tenants: None, gateway: Some(name(&node)), host: None, expires_s: None };
                secret(&stage.file(&format!("{node}.token")), &operator.add_token(&spec).await.unwrap().token).unwrap();
            }
            let spec = TokenSpec { role: Role::Enroll, tenants: Some(tenants(&["acme"])), gateway: None, host: None, expires_s: None };
            std::fs::write(stage.file("enroll.token"), operator.add_token(&spec).await.unwrap().token).unwrap();
        });
        stage
    }

    fn file(&self, name: &str) -> PathBuf {
        self.lab.dir().path().join(name)
    }

    fn node(&self) -> &Netns {
        self.lab.node("host-1").unwrap()
    }

    /// What a tenant's gateway would tell.
    fn shard(&self, tenant: &str) -> ShardSpec {
        let outer = self.lab.topology.gateways_of(tenant).next().unwrap().0.outer;
        let endpoint = SocketAddr::from((outer, self.lab.topology.port(tenant, 0)));
        ShardSpec { endpoint, public_key: keys::of_shard(tenant, 0).public(), next_key: None, next_port: None }
    }

    fn directory_up(&mut self) {
        let mut command = self.node().command(env!("CARGO_BIN_EXE_portway"));
        command.args(["directory", "--config"]).arg(self.file("directory.yaml"));
        self.directory = Some(Process::spawn("the directory", command, &self.lab.dir().log("directory"), Life::WithLab).unwrap());
        poll_until("the directory", SOON, || Ok(self.runtime.block_on(self.operator.tenants()).is_ok())).unwrap();
    }

    fn directory_down(&mut self) {
        self.directory.take().unwrap().stop(SOON).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.node().command(env!("CARGO_BIN_EXE_portway"));
        command.args(arguments).env("PORTWAY_RUNTIME_DIR", self.lab.dir().runtime("host-1"));
        if arguments[0] == "enroll" {
            command.args(["--url", URL, "--state"]).arg(self.file("state")).arg("--ca").arg(self.file("ca.pem"));
        }
        command.output().unwrap()
    }

    /// `portway` on the host: what it says.
    fn portway(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Everybody's file knows the directory, and nobody else.
    fn start(&mut self) {
        let dir = self.lab.dir().path().to_owned();
        let edit = |node: &str, yaml: String| edited(node, &yaml, &dir);
        self.lab.start_daemons_edited(Path::new(env!("CARGO_BIN_EXE_portway")), Backend::Auto, edit).unwrap();
        poll_until("the host's tunnel", SOON, || Ok(self.tunnels() == ["acme=10.9.0.1"])).unwrap();
    }

    /// A CA, and by it the directory's certificate and its key.
    fn certify(&self) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(self.file("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["10.9.0.101".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        std::fs::write(self.file("directory.pem"), leaf.pem()).unwrap();
        secret(&self.file("directory.key"), &key.serialize_pem()).unwrap();
        (self.file("directory.pem"), self.file("directory.key"))
    }

    /// acme's, without any other daemon.
    fn gateway_alone(&self) -> Process {
        let (lab, node) = (&self.lab, "gw-acme");
        let runtime_dir = lab.dir().runtime(node);
        keys::write(&lab.topology, &runtime_dir).unwrap();
        let yaml = configs::gateway(&lab.topology, &lab.topology.gateways[0], Backend::Auto, &runtime_dir);
        std::fs::write(lab.dir().config(node), edited(node, &yaml, lab.dir().path())).unwrap();
        let mut command = lab.node(node).unwrap().command(env!("CARGO_BIN_EXE_portway"));
        command.args(["gateway", "--config"]).arg(lab.dir().config(node));
        let gateway = Process::spawn(node, command, &lab.dir().log(node), Life::WithLab).unwrap();
        let ready = || unix(&runtime_dir.join("gateway.sock"), "GET", "/readyz", None).is_ok_and(|answer| answer.status == 200);
        poll_until("the gateway", SOON, || Ok(ready())).unwrap();
        gateway
    }

    /// Of the private key on the disk.
    fn public_key(&self) -> String {
        portway::daemon::key_file::private_key(&self.file("state/host.key")).unwrap().public().to_string()
    }

    fn status(&self) -> Value {
        let answer = unix(&self.lab.socket("host-1").unwrap(), "GET", "/v1/status", None).unwrap();
        serde_json::from_str(&answer.body).unwrap()
    }

    /// `acme=10.9.0.1`, of all tunnels.
    fn tunnels(&self) -> Vec<String> {
        let status = self.status();
        let tunnels = status["tenants"].as_array().unwrap().iter();
        tunnels.map(|one| format!("{}={}", one["name"].as_str().unwrap(), one["gateway"].as_str().unwrap())).collect()
    }

    /// Waits until these are the tunnels: for a second, from when the directory knew it.
    fn becomes(&self, tunnels: &[&str]) {
        let begun = Instant::now();
        poll_until(&format!("tunnels {tunnels:?}"), SOON, || Ok(self.tunnels() == tunnels)).unwrap();
        assert!(begun.elapsed() < SECOND, "{tunnels:?} after {:?}", begun.elapsed());
    }

    fn attach(&self, container: &str) {
        let container = self.lab.topology.container(container).unwrap();
        let spec = json!({"tenant": container.tenant, "interface": container.port}).to_string();
        let answer = unix(&self.lab.socket("host-1").unwrap(), "PUT", &format!("/v1/attachments/{}", container.node), Some(&spec)).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    fn fetches(&self, container: &str) -> bool {
        let tenant = &self.lab.topology.container(container).unwrap().tenant;
        let seen = whoami(self.lab.node(container).unwrap(), SERVER, SECOND);
        seen.as_ref().is_ok_and(|seen| seen.tenant == *tenant)
    }

    fn is_served(&self, container: &str) {
        poll_until(&format!("an answer to {container}"), SOON, || Ok(self.fetches(container))).unwrap();
    }
}

/// Whoever looks into a failure wants to know what the daemons said.
impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in ["directory", "gw-acme", "gw-blue", "host-1"] {
                eprintln!("--- {node}\n{}", std::fs::read_to_string(self.lab.dir().log(node)).unwrap_or_default());
            }
        }
    }
}

fn edited(node: &str, yaml: &str, dir: &Path) -> String {
    let dir = dir.display();
    let directory = format!("  directory: {{ url: {URL}, ca: {dir}/ca.pem, state_dir: {dir}/state-{node}");
    if node != "host-1" {
        let (head, _) = yaml.split_once("peers:").unwrap();
        return head.replacen("  tenants:", &format!("{directory}, token_file: {dir}/{node}.token }}\n  tenants:"), 1);
    }
    let head = yaml.split("  wireguard:").next().unwrap();
    format!("{head}{directory}, cidrs: [172.16.0.0/16] }}\n").replace("state-host-1", "state")
}

/// The first block of a language behind a heading of docs/directory.md.
fn block<'d>(document: &'d str, heading: &str, language: &str) -> &'d str {
    let section = document.split(&format!("\n## {heading}\n")).nth(1).expect("the heading");
    let section = section.split("\n## ").next().unwrap();
    section.split(&format!("```{language}\n")).nth(1).expect("a block").split("```").next().unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_host_that_enrolled_serves_and_does_so_without_the_directory() {
    let mut stage = Stage::set();
    for file in ["host.key", "host.token", "membership.json"] {
        assert_eq!(mode(&stage.file("state").join(file)), 0o600, "{file}");
    }
    let token = std::fs::read_to_string(stage.file("state/host.token")).unwrap();
    assert!(!std::fs::read_to_string(stage.file("state/membership.json")).unwrap().contains(token.trim()));
    let again = stage.refused(&["enroll", "--token-file", stage.file("enroll.token").to_str().unwrap(), "--name", "host-2"]);
    assert!(again.contains("this call needs a token"), "{again}");
    stage.start();
    assert_eq!(stage.tunnels(), ["acme=10.9.0.1"]);
    stage.attach("fn-1a");
    stage.is_served("fn-1a");
    let status = stage.status();
    assert_eq!(
        (status["public_key"].as_str(), status["directory"]["reachable"].as_bool()),
        (Some(stage.public_key().as_str()), Some(true))
    );
    // Away: what stands goes on, in the next process and in one after a while, too.
    stage.directory_down();
    poll_until("a word about it", SOON, || Ok(stage.status()["directory"]["reachable"] == false)).unwrap();
    assert!(stage.fetches("fn-1a"));
    stage.lab.daemon("host-1").unwrap().restart().unwrap();
    stage.is_served("fn-1a");
    stage.lab.daemon("host-1").unwrap().kill().unwrap();
    stage.lab.daemon("host-1").unwrap().start_again().unwrap();
    stage.is_served("fn-1a");
    let status = stage.status();
    assert!(status["directory"]["failed"].as_str().is_some_and(|why| why.contains("does not answer")), "{status:#}");
    let config = stage.lab.dir().config("host-1");
    assert_eq!(stage.portway(&["plan", "--config", config.to_str().unwrap()]), "nothing to do\n");
    // Back.
    stage.directory_up();
    poll_until("a word about it", SOON, || Ok(stage.status()["directory"]["reachable"] == true)).unwrap();
    assert!(stage.fetches("fn-1a"));
}

/// What was recorded of a host that was let in and is gone again, sent by whoever has recorded it: to the next process, and to the one after a kill.
#[test]
fn a_recording_lets_nobody_in_after_a_takeover_or_a_kill() {
    let stage = Stage::directory_alone();
    let (host, shard) = (PrivateKey::new([77; 32]), stage.shard("acme"));
    let initiation = |second: u64| knock(&host, &shard.public_key, Tai64n::from_unix(1_000_000_000 + second, 0)).unwrap();
    let socket = stage.node().run(|| UdpSocket::bind("0.0.0.0:4000")).unwrap();
    socket.connect(shard.endpoint).unwrap();
    // Of the last one that it was sent it is to have heard before it is told otherwise.
    socket.set_read_timeout(Some(if is_emulated() { 20 * SECOND } else { SECOND })).unwrap();
    // Between two processes there is nobody to ask.
    let peers = || {
        let answer = unix(&stage.lab.dir().runtime("gw-acme").join("gateway.sock"), "GET", "/v1/status", None).ok()?;
        serde_json::from_str::<Value>(&answer.body).ok().map(|status| status["jit"]["peers"].clone())
    };
    let until = |what: &str, is: &dyn Fn(&Value) -> bool| {
        poll_until(what, SOON, || Ok(peers().is_some_and(|peers| is(&peers)))).unwrap_or_else(|error| panic!("{error}: {:#?}", peers()));
    };
    let spec = HostSpec { public_key: Some(host.public()), ..host_of(&["acme"]) };
    let put = || stage.runtime.block_on(stage.operator.put_host(&name("host-9"), &spec)).map(drop).unwrap();
    // Lets it in, by an initiation that it answers, and takes it out; it stays known to the directory.
    let comes_and_goes = |from: u64| {
        let answers = |second: &u64| {
            socket.send(&initiation(*second)).unwrap();
            socket.recv(&mut [0; 200]).is_ok_and(|length| length == 92)
        };
        let latest = (from..from + 20).find(answers).expect("an answer to a genuine one");
        stage.runtime.block_on(stage.operator.remove_host(&name("host-9"))).unwrap();
        until("the host to be gone", &|peers| peers["live"] == 0 && peers["reaped"] == 1);
        put();
        until("its stamp on the disk", &|peers| peers["stamps_unwritten"] == 0);
        latest
    };
    // The last one, and older ones, until a process says so.
    let is_refused = |latest: u64| {
        let older = std::cell::RefCell::new((latest - 20..=latest).rev());
        until("recordings to be refused", &|peers| {
            if let Some(second) = older.borrow_mut().next() {
                socket.send(&initiation(second)).unwrap();
            }
            peers["refused"]["replayed"].as_u64().is_some_and(|refused| refused > 0)
        });
        let peers = peers().unwrap();
        assert!(peers["live"] == 0 && peers["admitted"] == 0, "{peers:#}");
    };
    put();
    let mut gateway = stage.gateway_alone();
    let latest = comes_and_goes(100);
    // Another takes over.
    let mut next = stage.gateway_alone();
    assert!(gateway.wait(SOON).unwrap().is_some_and(|status| status.success()));
    is_refused(latest);
    let latest = comes_and_goes(200);
    assert_eq!(mode(&stage.file("state-gw-acme/used-stamps")), 0o600);
    next.signal(Signal::SIGKILL).unwrap();
    next.wait(SOON).unwrap();
    let _third = stage.gateway_alone();
    is_refused(latest);
    comes_and_goes(300);
}

#[test]
fn serial_what_changes_is_taken_up_within_a_second_and_disturbs_nothing_else() {
    let mut stage = Stage::set();
    stage.start();
    stage.attach("fn-1a");
    stage.is_served("fn-1a");
    let probe = Probe::start(stage.lab.node("fn-1a").unwrap(), SERVER, Duration::from_millis(5)).unwrap();
    poll_until("traffic", SOON, || Ok(probe.answered() > 20)).unwrap();
    let put = |tenants: &[&str]| {
        stage.runtime.block_on(stage.operator.put_host(&name("host-1"), &host_of(tenants))).unwrap();
    };
    // A tenant more.
    put(&["acme", "blue"]);
    stage.becomes(&["acme=10.9.0.1", "blue=10.9.0.2"]);
    stage.attach("fn-1b");
    stage.is_served("fn-1b");
    // Its gateway is elsewhere, and comes back.
    let moved = ShardSpec { endpoint: "10.9.0.77:51999".parse().unwrap(), ..stage.shard("blue") };
    stage.runtime.block_on(stage.operator.put_shard(&of("blue"), &moved)).unwrap();
    stage.becomes(&["acme=10.9.0.1", "blue=10.9.0.77"]);
    assert!(!stage.fetches("fn-1b"));
    stage.runtime.block_on(stage.operator.put_shard(&of("blue"), &stage.shard("blue"))).unwrap();
    stage.becomes(&["acme=10.9.0.1", "blue=10.9.0.2"]);
    stage.is_served("fn-1b");
    // What cannot be is left out, and said.
    let inside = ShardSpec { endpoint: "172.16.0.1:51820".parse().unwrap(), ..stage.shard("blue") };
    stage.runtime.block_on(stage.operator.put_shard(&of("blue"), &inside)).unwrap();
    stage.becomes(&["acme=10.9.0.1"]);
    let status = stage.status();
    assert!(status["left_out"][0].as_str().is_some_and(|why| why.contains("would run inside itself")), "{status:#}");
    stage.runtime.block_on(stage.operator.put_shard(&of("blue"), &stage.shard("blue"))).unwrap();
    stage.becomes(&["acme=10.9.0.1", "blue=10.9.0.2"]);
    // And gone, with all that was its.
    put(&["acme"]);
    stage.becomes(&["acme=10.9.0.1"]);
    let links = String::from_utf8(stage.node().command("ip").args(["-o", "link"]).output().unwrap().stdout).unwrap();
    assert!(links.contains("pw-1") && !links.contains("pw-2"), "{links}");
    assert!(!stage.fetches("fn-1b"));
    let done = probe.stop();
    assert_eq!(done.lost, 0, "{done:?}");
    // The host itself is gone from the directory: gateways let it in no more; it keeps what it has, as nobody told it otherwise.
    stage.runtime.block_on(stage.operator.remove_host(&name("host-1"))).unwrap();
    poll_until("a word about it", SOON, || Ok(stage.status()["directory"]["failed"].as_str().is_some_and(|why| why.contains("token"))))
        .unwrap();
    assert_eq!(stage.tunnels(), ["acme=10.9.0.1"]);
    poll_until("the end of the host", SOON, || Ok(!stage.fetches("fn-1a"))).unwrap();
}

/// In an emulated machine two processes that start at once take longer than one waits for the other.
fn is_emulated() -> bool {
    std::env::var_os("PORTWAY_INSIDE_VM").is_some()
}

/// Between two pings, bytes a second of a transfer, and how soon something is that takes less than a second: in an emulated machine, what it can do.
fn load() -> (Duration, u64, Duration) {
    if is_emulated() { (Duration::from_millis(20), 128 << 10, 20 * SECOND) } else { (Duration::from_millis(1), 4 << 20, SECOND) }
}

/// A ping and a transfer: what both came to is looked at in the end.
struct Traffic {
    probe: Probe,
    transfer: Transfer,
}

impl Traffic {
    fn start(stage: &Stage) -> Self {
        let (from, (interval, pace, _)) = (stage.lab.node("fn-1a").unwrap(), load());
        let transfer = Transfer::start(from, SocketAddr::from((SERVER, port::ECHO)), Some(pace)).unwrap();
        let traffic = Self { probe: Probe::start(from, SERVER, interval).unwrap(), transfer };
        traffic.goes_on();
        traffic.probe.mark();
        traffic
    }

    /// Until more has come back than was under way.
    fn goes_on(&self) {
        let (answered, returned) = (self.probe.answered() + 50, self.transfer.returned() + (128 << 10));
        poll_until("traffic", SOON, || Ok(self.probe.answered() > answered && self.transfer.returned() > returned)).unwrap();
    }

    fn ends_whole(self) {
        let (probed, transferred) = (self.probe.stop(), self.transfer.stop());
        assert!(probed.lost == 0 && transferred.ok, "{probed:?} {transferred:?}");
        println!("{probed:?} {transferred:?}");
    }
}

impl Stage {
    /// Of the one tunnel: the interface that it has, and the one beside it.
    fn interfaces(&self) -> (String, Option<String>) {
        let tunnel = &self.status()["tenants"][0];
        let of = |what: &str| tunnel[what].as_str().map(str::to_owned);
        (of("tunnel").unwrap(), of("former").or(of("coming")))
    }

    /// Waits until a tunnel is one interface again.
    fn settles(&self) -> String {
        let links = || {
            let listed = self.node().command("ip").args(["-o", "link", "show", "group", "28672"]).output().unwrap();
            String::from_utf8(listed.stdout).unwrap().lines().count()
        };
        poll_until("one interface", SOON, || Ok(self.interfaces().1.is_none() && links() == 1)).unwrap();
        self.interfaces().0
    }
}

#[test]
fn serial_a_host_changes_its_key_and_nothing_is_lost() {
    let mut stage = Stage::set();
    stage.start();
    stage.attach("fn-1a");
    stage.is_served("fn-1a");
    let traffic = Traffic::start(&stage);
    let former = stage.public_key();
    let said = stage.portway(&["enroll", "--rotate"]);
    let present = stage.public_key();
    assert!(former != present && said.contains(&format!("is {present} now, and was {former}")), "{said}");
    assert!(!stage.file("state/host.key.next").exists());
    let begun = Instant::now();
    poll_until("the new key", SOON, || Ok(stage.interfaces() == ("pw-1-b".into(), Some("pw-1".into())))).unwrap();
    assert!(begun.elapsed() < load().2, "{:?}", begun.elapsed());
    assert_eq!(stage.status()["public_key"], present.as_str());
    // Both are the host's for a while, and gateways are told both; a third has to wait.
    let host = stage.runtime.block_on(stage.operator.host(&name("host-1"))).unwrap();
    let known: Vec<_> = host.keys.iter().map(|key| (key.public_key.to_string(), key.expires.is_some())).collect();
    assert_eq!(known, [(former.clone(), true), (present.clone(), false)]);
    assert!(stage.refused(&["enroll", "--rotate"]).contains("still"), "a third key");
    assert_eq!(stage.public_key(), present);
    traffic.goes_on();
    // The next process finds both interfaces, and which is which.
    stage.lab.daemon("host-1").unwrap().restart().unwrap();
    assert_eq!(stage.interfaces(), ("pw-1-b".into(), Some("pw-1".into())));
    traffic.goes_on();
    assert_eq!(stage.settles(), "pw-1-b");
    let config = stage.lab.dir().config("host-1");
    assert_eq!(stage.portway(&["plan", "--config", config.to_str().unwrap()]), "nothing to do\n");
    // And the one that there is after that.
    stage.lab.daemon("host-1").unwrap().restart().unwrap();
    assert_eq!((stage.interfaces(), stage.status()["public_key"].as_str()), (("pw-1-b".into(), None), Some(present.as_str())));
    traffic.goes_on();
    traffic.ends_whole();
    // One that was killed has no sessions, and begins where the routes lead.
    stage.lab.daemon("host-1").unwrap().kill().unwrap();
    stage.lab.daemon("host-1").unwrap().start_again().unwrap();
    assert_eq!(stage.interfaces(), ("pw-1-b".into(), None));
    stage.is_served("fn-1a");
}

impl Stage {
    /// The gateway's file says something else from now on.
    fn reload(&mut self, from: &str, to: &str) {
        let path = self.lab.dir().config("gw-acme");
        let yaml = std::fs::read_to_string(&path).unwrap();
        assert!(yaml.contains(from), "{from} is not in\n{yaml}");
        std::fs::write(&path, yaml.replacen(from, to, 1)).unwrap();
        self.lab.daemon("gw-acme").unwrap().process().signal(Signal::SIGHUP).unwrap();
    }

    /// What the gateway says of its shard.
    fn gateway(&self) -> Value {
        let answer = unix(&self.lab.socket("gw-acme").unwrap(), "GET", "/v1/status", None).unwrap();
        serde_json::from_str::<Value>(&answer.body).unwrap()["tenants"][0].clone()
    }

    /// The gateway's route to the host.
    fn way_in(&self) -> String {
        let show = ["route", "show", "table", "458753", "10.64.0.1"];
        let routes = self.lab.node("gw-acme").unwrap().command("ip").args(show).output().unwrap();
        String::from_utf8(routes.stdout).unwrap()
    }

    fn known(&self) -> Shard {
        self.runtime.block_on(self.operator.shards()).unwrap().into_iter().find(|shard| shard.of == of("acme")).unwrap()
    }
}

#[test]
fn serial_a_shard_changes_its_key_and_nothing_is_lost() {
    let mut stage = Stage::set();
    stage.start();
    stage.attach("fn-1a");
    stage.is_served("fn-1a");
    let traffic = Traffic::start(&stage);
    let (former, present) = (keys::of_shard("acme", 0).public(), PrivateKey::new([77; 32]));
    let (file, port) = (stage.file("next.key"), stage.lab.topology.port("acme", 0));
    secret(&file, &STANDARD.encode(present.expose())).unwrap();
    let (port_is, next_is) = (format!("port: {port} }}"), format!("port: {port}, next: {{ private_key: {} }} }}", file.display()));
    stage.reload(&port_is, &next_is);
    let both = ("pw-1-b".to_owned(), Some("pw-1".to_owned()));
    poll_until("the host to move", SOON, || Ok(stage.interfaces() == both)).unwrap();
    let known = stage.known();
    assert_eq!((known.public_key, known.next_key, known.next_port), (Some(former), Some(present.public()), Some(51819)));
    poll_until("the gateway to answer there", SOON, || Ok(stage.gateway()["beside"]["heard"] == 1)).unwrap();
    poll_until("the route", SOON, || Ok(stage.way_in().contains("dev pw-1-b"))).unwrap();
    traffic.goes_on();
    // The next process finds both, and by which of them the host is heard.
    if !is_emulated() {
        stage.lab.daemon("gw-acme").unwrap().restart().unwrap();
        assert!(stage.way_in().contains("dev pw-1-b"), "{}", stage.way_in());
    }
    traffic.goes_on();
    assert_eq!(stage.settles(), "pw-1-b");
    // It is the present one now: nothing moves, and the former one goes after a while.
    let from = format!("port: {port}, next: {{ private_key: {} }} }}", file.display());
    let yaml = std::fs::read_to_string(stage.lab.dir().config("gw-acme")).unwrap();
    let own = yaml.split("wireguard: { private_key: ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    stage.reload(&format!("private_key: {own}, {from}"), &format!("private_key: {}, port: 51819 }}", file.display()));
    poll_until("the directory to know", SOON, || {
        let known = stage.known();
        Ok((known.public_key, known.next_key, known.next_port) == (Some(present.public()), None, None))
    })
    .unwrap();
    poll_until("the gateway to know", SOON, || Ok(stage.gateway()["tunnel"] == "pw-1-b")).unwrap();
    assert_eq!(stage.interfaces(), ("pw-1-b".into(), None));
    traffic.goes_on();
    if !is_emulated() {
        poll_until("the end of the former key", SOON, || Ok(stage.gateway()["beside"].is_null())).unwrap();
        stage.lab.daemon("gw-acme").unwrap().restart().unwrap();
    }
    traffic.goes_on();
    assert_eq!(stage.interfaces(), ("pw-1-b".into(), None));
    traffic.ends_whole();
}

/// The very commands of docs/directory.md, each where it belongs.
#[test]
fn the_five_commands_of_the_documentation_serve_a_function() {
    let document = include_str!("../../docs/directory.md");
    let heading = "A function served, in five commands";
    let commands: Vec<&str> = block(document, heading, "sh").lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(commands.len(), 5, "{commands:?}");
    let stage = Stage::directory_alone();
    let _gateway = stage.gateway_alone();
    // Of the file, what is this lab's: its addresses, and where things are.
    let runtime_dir = stage.lab.dir().runtime("host-1");
    let yaml = [
        ("eth0, address: 10.9.0.11", "plat0, address: 10.9.0.101".to_owned()),
        (
            "https://directory.example:9473, ca: /etc/portway/directory-ca.pem",
            format!("{URL}, state_dir: {}", stage.file("state").display()),
        ),
        ("  tunnel: wireguard", format!("  tunnel: wireguard\n  runtime_dir: {}", runtime_dir.display())),
    ];
    let yaml = yaml.iter().fold(block(document, heading, "yaml").to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in\n{text}");
        text.replacen(from, to, 1)
    });
    std::fs::write(stage.file("host.yaml"), yaml).unwrap();
    let shell = |node: &str, command: &str, runtime_dir: &Path| {
        let mut shell = stage.lab.node(node).unwrap().command("sh");
        let programs = Path::new(env!("CARGO_BIN_EXE_portway")).parent().unwrap();
        shell.args(["-e", "-c", command]).current_dir(stage.lab.dir().path());
        shell.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
        shell
            .env("PORTWAY_RUNTIME_DIR", runtime_dir)
            .env("PORTWAY_STATE_DIR", stage.file("state"))
            .env("PORTWAY_DIRECTORY", URL)
            .env("PORTWAY_DIRECTORY_CA", stage.file("ca.pem"));
        shell
    };
    let run = |mut command: std::process::Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // On the directory's machine there is no directory to name: it has a socket.
    let mut mint = shell("host-1", commands[0], &stage.file("directory"));
    mint.env_remove("PORTWAY_DIRECTORY");
    run(mint);
    let said = run(shell("host-1", commands[1], &runtime_dir));
    assert!(said.contains("host host-1 has enrolled"), "{said}");
    let serve = commands[2].strip_suffix(" &").expect("in the background");
    let daemon = shell("host-1", &format!("exec {serve}"), &runtime_dir);
    let (attach, curl) = (shell("host-1", commands[3], &runtime_dir), shell("fn-1a", commands[4], &runtime_dir));
    let _daemon = Process::spawn("the host", daemon, &stage.lab.dir().log("host-1"), Life::WithLab).unwrap();
    // The gateway began just before, and may not have told the directory of itself when the host asks first.
    poll_until("the host", SOON, || {
        let answer = unix(&runtime_dir.join("host.sock"), "GET", "/v1/status", None);
        let status = answer.ok().and_then(|answer| serde_json::from_str::<serde_json::Value>(&answer.body).ok()).unwrap_or_default();
        Ok(status["ready"] == true && status["left_out"] == serde_json::json!([]))
    })
    .unwrap();
    run(attach);
    let seen = run(curl);
    assert!(seen.contains("acme"), "{seen}");
}

/// A pool is a matter of the tenant's, so all of its hosts learn it where they learn of its shards.
#[test]
fn pools_of_outbound_addresses_come_from_the_directory() {
    let mut stage = Stage::set();
    stage.start();
    let attach = |egress: &[&str]| {
        let container = stage.lab.topology.container("fn-1a").unwrap();
        stage.run(&[&["attach", "fn-1a", "--tenant", "acme", "--interface", &container.port][..], egress].concat())
    };
    let refusal = |output: Output| String::from_utf8(output.stderr).unwrap();
    let unknown = refusal(attach(&["--egress", "partners"]));
    assert!(unknown.contains("tenant acme has no pool partners: give it pools with `egress`"), "{unknown}");
    let inner = stage.lab.topology.tenants[0].inner.to_string();
    let tenant = ["directory", "tenant", "add", "acme", "--inner", &inner];
    let runtime = stage.file("directory").display().to_string();
    let add = |pools: &[&str]| stage.run(&[&tenant[..], pools, &["--runtime-dir", &runtime]].concat());
    let refused = refusal(add(&["--egress", "partners=0,3"]));
    assert!(refused.contains("the pool partners has a shard 3, which the tenant has not"), "{refused}");
    let added = add(&["--egress", "partners=0"]);
    assert!(added.status.success() && String::from_utf8_lossy(&added.stdout).contains("partners=0"), "{added:?}");
    let mut attached = String::new();
    poll_until("the pool", SOON, || {
        attached = String::from_utf8(attach(&["--egress", "partners"]).stdout).unwrap();
        Ok(!attached.is_empty())
    })
    .unwrap();
    assert!(attached.starts_with("attached fn-1a: tenant acme shard 0") && attached.ends_with(", egress partners\n"), "{attached}");
    stage.is_served("fn-1a");
    // Known without the directory, too.
    assert!(std::fs::read_to_string(stage.file("state/membership.json")).unwrap().contains("\"egress\":{\"acme\":{\"partners\":[0]}}"));
    stage.portway(&["detach", "fn-1a"]);
    let refused = refusal(attach(&[]));
    let says = "all shards of tenant acme are in pools of outbound addresses: name one with `egress` (partners)";
    assert!(refused.contains(says), "{refused}");
    assert!(add(&[]).status.success(), "which leaves the pools as they are");
    assert!(refusal(attach(&[])).contains(says));
    assert!(add(&["--no-egress"]).status.success());
    poll_until("an attachment without a pool", SOON, || Ok(attach(&[]).status.success())).unwrap();
}
