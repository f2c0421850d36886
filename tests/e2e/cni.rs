//! The chained CNI plugin behind other people's plugins, called as a container runtime calls them.

use super::support::*;
use portway::kernel::ends_in;
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Netns, Topology, answers, whoami};
use portway::model::IfName;
use rstest::rstest;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";
const OURS: &str = "portway-cni";

/// What the reference plugins make containers' interfaces with.
fn ptp() -> Value {
    // Masquerading is what most networks are told to do: it must not take the tunnel's packets.
    json!({ "type": "ptp", "ipMasq": true })
}

fn bridge() -> Value {
    json!({ "type": "bridge", "bridge": "functions0", "isGateway": true })
}

/// A runtime on `host-1` with one network.
struct Runtime {
    lab: Lab,
    network: Value,
    /// In the order in which they are called.
    plugins: Vec<Value>,
    /// Ours.
    ours_at: PathBuf,
}

struct Container {
    id: String,
    netns: Netns,
}

impl Container {
    fn new(id: &str) -> Self {
        Self { id: id.into(), netns: Netns::create().unwrap() }
    }
}

/// A plugin that has its configuration.
struct Called(Child);

impl Called {
    fn start(mut call: Command, config: &Value) -> Self {
        call.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = call.spawn().expect("a plugin: run scripts/install-deps test");
        process.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        Self(process)
    }

    /// Exit code and what it printed.
    fn end(self) -> (i32, Value) {
        let ran = Ran::from(self.0.wait_with_output().unwrap());
        let said = if ran.out.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
        };
        (ran.code, said)
    }
}

impl Runtime {
    /// Of the tenant acme, its daemons ready.
    fn stand(mut maker: Value) -> Self {
        let mut topology = Topology::of(&["acme"], &[Wiring::Veth]);
        topology.containers.clear();
        let lab = stand(topology);
        let dir = lab.dir().path();
        // As the package has it in the folder of plugins.
        let ours_at = dir.join(OURS);
        symlink(program(), &ours_at).unwrap();
        maker["ipam"] =
            json!({ "type": "host-local", "subnet": "10.89.0.0/24", "dataDir": dir.join("ipam"), "routes": [{ "dst": "0.0.0.0/0" }] });
        let ours = json!({ "type": OURS, "tenant": "acme", "runtimeDir": lab.dir().runtime("host-1") });
        let network = json!({ "cniVersion": "1.0.0", "name": "functions" });
        Self { network, plugins: vec![maker, ours], ours_at, lab }
    }

    /// One call of one plugin: exit code and what it printed.
    fn call(&self, plugin: &Value, command: &str, container: Option<&Container>, more: Value) -> (i32, Value) {
        self.begin(plugin, command, container, &more).end()
    }

    /// The same, without waiting for its end.
    fn begin(&self, plugin: &Value, command: &str, container: Option<&Container>, more: &Value) -> Called {
        let mut config = self.network.clone();
        for part in [plugin, more] {
            config.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        }
        let mut call = self.command(plugin["type"].as_str().unwrap(), command);
        if let Some(Container { id, netns }) = container {
            call.env("CNI_CONTAINERID", id).env("CNI_NETNS", netns.path()).env("CNI_IFNAME", "eth0");
            call.env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={id}"));
        }
        Called::start(call, &config)
    }

    /// Of a plugin, with nothing of a container.
    fn command(&self, name: &str, command: &str) -> Command {
        let program = if name == OURS { self.ours_at.clone() } else { PathBuf::from(REFERENCE).join(name) };
        let mut call = self.lab.node("host-1").unwrap().command(program);
        call.env("CNI_COMMAND", command).env("CNI_PATH", REFERENCE);
        call
    }

    fn ok(&self, plugin: &Value, command: &str, container: Option<&Container>, more: Value) -> Value {
        let (code, said) = self.call(plugin, command, container, more);
        assert!(code == 0, "{command} of {plugin}: {said}");
        said
    }

    /// A call of our plugin that fails: the error's code and message.
    fn fault(&self, command: &str, container: Option<&Container>, more: Value) -> (u64, String) {
        let (code, said) = self.call(&self.plugins[1], command, container, more);
        assert!(code == 1 && said["cniVersion"].is_string(), "{command}: {code} {said}");
        (said["code"].as_u64().unwrap(), said["msg"].as_str().unwrap().to_owned())
    }

    /// Adds a container to the network: the result of the plugin before ours, and of ours.
    fn add(&self, container: &Container) -> (Value, Value) {
        let made = self.ok(&self.plugins[0], "ADD", Some(container), json!({}));
        let result = self.ok(&self.plugins[1], "ADD", Some(container), json!({ "prevResult": made }));
        (made, result)
    }

    fn attachments(&mut self) -> Vec<Value> {
        let (status, all) = call(&mut self.lab, "host-1", "GET", "/v1/attachments", None);
        assert_eq!(status, 200);
        all.as_array().unwrap().clone()
    }

    fn names(&mut self) -> Vec<String> {
        self.attachments().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }
}

#[rstest]
#[case::ptp(ptp())]
#[case::bridge(bridge())]
fn a_container_of_a_chain_reaches_its_tenant_until_it_is_deleted(#[case] maker: Value) {
    let mut runtime = Runtime::stand(maker);
    let port = runtime.plugins[0]["type"] == "bridge";
    let container = Container::new("3f6940ab5ab43bc522569d15b23f8c1bbde1d7678b080398506924fc01d72755");
    let (made, result) = runtime.add(&container);
    assert_eq!(result, made, "what is passed on is what came");
    assert_eq!(whoami(&container.netns, SERVER, SOON).unwrap().tenant, "acme");

    let [one]: [Value; 1] = runtime.attachments().try_into().expect("one attachment");
    assert_eq!((&one["tenant"], &one["bridge_port"], &one["source"]), (&json!("acme"), &json!(port), &Value::Null));
    let name = one["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("cni-") && name.contains(&container.id), "{name}");
    let ours = runtime.plugins[1].clone();
    let before = || json!({ "prevResult": made });
    assert_eq!(runtime.ok(&ours, "ADD", Some(&container), before()), made, "once more changes nothing");
    assert_eq!(runtime.ok(&ours, "CHECK", Some(&container), before()), Value::Null);
    assert_eq!(runtime.attachments(), [one]);
    let (code, message) = runtime.fault("CHECK", Some(&container), json!({ "prevResult": made, "tenant": "blue" }));
    assert!(code == 101 && message.contains("tenant is \"acme\", not \"blue\""), "{message}");

    detach(&mut runtime.lab, "host-1", &name);
    let (code, message) = runtime.fault("CHECK", Some(&container), before());
    assert!(code == 101 && message.contains("not attached"), "{message}");
    runtime.ok(&ours, "ADD", Some(&container), before());
    // A daemon's next process knows it.
    runtime.lab.daemon("host-1").unwrap().restart().unwrap();
    runtime.ok(&ours, "CHECK", Some(&container), before());
    assert_eq!(whoami(&container.netns, SERVER, SOON).unwrap().tenant, "acme");

    for _ in 0..2 {
        assert_eq!(runtime.ok(&ours, "DEL", Some(&container), before()), Value::Null);
        assert_eq!(runtime.attachments(), [Value::Null; 0]);
    }
    assert!(!answers(&container.netns, SERVER, SILENCE).unwrap());
    runtime.ok(&runtime.plugins[0], "DEL", Some(&container), json!({}));
    runtime.ok(&ours, "DEL", Some(&container), json!({}));
}

/// As runtimes do when a node starts, and when they are not sure that an ADD has come to its end.
#[test]
fn containers_come_at_once_and_go_when_they_have_stopped() {
    let mut runtime = Runtime::stand(ptp());
    let containers = ["a", "b"].map(Container::new);
    let made = containers.each_ref().map(|container| runtime.ok(&runtime.plugins[0], "ADD", Some(container), json!({})));
    let ours = runtime.plugins[1].clone();
    let calls: Vec<Called> =
        (0..4).map(|n| runtime.begin(&ours, "ADD", Some(&containers[n % 2]), &json!({ "prevResult": made[n % 2] }))).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.end(), (0, made[n % 2].clone()));
    }
    assert_eq!(runtime.attachments().len(), 2);
    for container in &containers {
        assert_eq!(whoami(&container.netns, SERVER, SOON).unwrap().tenant, "acme");
    }

    // The namespace is gone, and somebody has written something wrong into the network's file.
    let mut config = runtime.network.clone();
    config.as_object_mut().unwrap().extend(ours.as_object().unwrap().clone());
    config["tenant"] = json!("Acme Ltd");
    let mut stopped = runtime.command(OURS, "DEL");
    stopped.env("CNI_CONTAINERID", "a").env("CNI_IFNAME", "eth0");
    assert_eq!(Called::start(stopped, &config).end(), (0, Value::Null));
    let [left]: [String; 1] = runtime.names().try_into().expect("one attachment");
    assert!(left.contains("-b-"), "{left}");
}

/// Its document says which bit that is to use.
#[test]
fn published_ports_and_the_tunnel_go_together() {
    let runtime = Runtime::stand(ptp());
    let container = Container::new("a");
    let (made, _) = runtime.add(&container);
    let published =
        json!({ "prevResult": made, "runtimeConfig": { "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] } });
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true }, "markMasqBit": 14 });
    runtime.ok(&portmap, "ADD", Some(&container), published.clone());
    assert_eq!(whoami(&container.netns, SERVER, SOON).unwrap().tenant, "acme");
    let rules = sh(&runtime.lab, "host-1", "iptables-save -t nat");
    assert!(rules.contains("0x4000/0x4000") && !rules.contains("0x2000/0x2000"), "{rules}");
    runtime.ok(&portmap, "DEL", Some(&container), published);
}

/// As with runtimes that make it beside both, in a namespace of their own.
#[test]
fn the_end_of_a_pair_is_known_that_nobody_has_looked_at() {
    let [host, maker, container, other] = [(); 4].map(|()| Netns::create().unwrap());
    let ip = |arguments: &str| {
        let ran = Ran::from(maker.command("ip").args(arguments.split(' ')).output().unwrap());
        assert!(ran.code == 0, "ip {arguments}: {ran:?}");
    };
    for (end, peer, to) in [("veth7", "eth0", &container), ("veth8", "eth1", &other)] {
        ip(&format!("link add {end} type veth peer name {peer}"));
        ip(&format!("link set {end} netns {}", host.path().display()));
        ip(&format!("link set {peer} netns {}", to.path().display()));
    }
    let file = File::open(container.path()).unwrap();
    let named = || ["veth7", "veth8", "veth9"].map(|name| name.parse().unwrap()).to_vec();
    let ends = host.run(|| ends_in(file.as_fd(), named())).unwrap();
    assert_eq!(ends.iter().map(IfName::as_str).collect::<Vec<_>>(), ["veth7"]);
}

/// People call it too, and scripts whose standard input stays open.
#[test]
fn without_a_command_nothing_is_read() {
    let mut call = Command::new(program());
    call.arg("cni").env_remove("CNI_COMMAND").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = call.spawn().unwrap();
    let open = process.stdin.take();
    let ran = Ran::from(process.wait_with_output().unwrap());
    drop(open);
    let said: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(ran.code == 1 && said["code"] == 4 && said["msg"].as_str().unwrap().contains("a container runtime calls this"), "{said}");
}

#[test]
fn what_the_runtime_knows_no_more_is_collected_and_nothing_else() {
    let mut runtime = Runtime::stand(ptp());
    let containers = ["a", "b", "c"].map(Container::new);
    for container in &containers[..2] {
        runtime.add(container);
    }
    // Of another network, and one that no runtime has made.
    runtime.network["name"] = json!("functions.more");
    let (made, _) = runtime.add(&containers[2]);
    runtime.network["name"] = json!("functions");
    let port = made["interfaces"].as_array().unwrap().iter().find(|one| one["sandbox"].is_null()).unwrap()["name"].clone();
    attach(&mut runtime.lab, "host-1", "by-hand", &json!({ "tenant": "acme", "interface": port, "source": "10.99.0.1/32" }));
    let all = runtime.names();
    assert_eq!(all.len(), 4);

    runtime.network["cniVersion"] = json!("1.1.0");
    let valid = |ids: &[&str]| {
        let known: Vec<Value> = ids.iter().map(|id| json!({ "containerID": id, "ifname": "eth0" })).collect();
        json!({ "cni.dev/valid-attachments": known })
    };
    let ours = runtime.plugins[1].clone();
    runtime.ok(&ours, "GC", None, valid(&["a", "b"]));
    assert_eq!(runtime.names(), all);
    runtime.ok(&ours, "GC", None, valid(&["b"]));
    let left: Vec<String> = all.iter().filter(|name| !name.contains("-a-")).cloned().collect();
    assert_eq!(runtime.names(), left);
    assert_eq!(runtime.fault("GC", None, json!({})).0, 7, "or all would be gone");
    assert_eq!(runtime.names(), left);
    assert_eq!(whoami(&containers[1].netns, SERVER, SOON).unwrap().tenant, "acme");
}

#[test]
fn without_a_daemon_nothing_is_added_and_everything_can_go() {
    let mut runtime = Runtime::stand(ptp());
    runtime.network["cniVersion"] = json!("1.1.0");
    let ours = runtime.plugins[1].clone();
    assert_eq!(runtime.ok(&ours, "STATUS", None, json!({})), Value::Null);
    // The reference plugins of some distributions are older than 1.1.0.
    runtime.network["cniVersion"] = json!("1.0.0");
    let containers = ["a", "b"].map(Container::new);
    let (made, _) = runtime.add(&containers[0]);
    let other = runtime.ok(&runtime.plugins[0], "ADD", Some(&containers[1]), json!({}));

    runtime.lab.daemon("host-1").unwrap().stop().unwrap();
    let (code, message) = runtime.fault("ADD", Some(&containers[1]), json!({ "prevResult": other }));
    assert!(code == 11 && message.contains("is it running"), "{message}");
    assert_eq!(runtime.fault("CHECK", Some(&containers[0]), json!({ "prevResult": made })).0, 11);
    for (command, more, expected) in [("STATUS", json!({}), 50), ("GC", json!({ "cni.dev/valid-attachments": [] }), 11)] {
        runtime.network["cniVersion"] = json!("1.1.0");
        let (code, message) = runtime.fault(command, None, more);
        assert!(code == expected && message.contains("is it running"), "{command}: {code} {message}");
    }
    runtime.network["cniVersion"] = json!("1.0.0");
    runtime.ok(&ours, "DEL", Some(&containers[0]), json!({ "prevResult": made }));
    runtime.ok(&runtime.plugins[0], "DEL", Some(&containers[0]), json!({ "prevResult": made }));
    runtime.lab.daemon("host-1").unwrap().start_again().unwrap();
    assert_eq!(runtime.names(), [""; 0], "it ended with its interface");
}

#[test]
fn what_cannot_be_done_is_said_with_what_would_help() {
    let mut runtime = Runtime::stand(ptp());
    let [container, other] = ["a", "b"].map(Container::new);
    let made = runtime.ok(&runtime.plugins[0], "ADD", Some(&container), json!({}));
    let plugin = |changes: Value| {
        let mut plugin = json!({ "prevResult": made });
        plugin.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        plugin
    };
    for (changes, expected, says) in [
        (json!({ "prevResult": null }), 7, "put it behind the one that does"),
        (json!({ "tenant": null }), 7, "whose container is it?"),
        (json!({ "tenant": "blue" }), 100, "tenant blue is not served here"),
        (json!({ "shard": 9 }), 100, "shard acme/9 is not served here"),
        (json!({ "egress": "partners" }), 100, "partners"),
        (json!({ "tenannt": "acme" }), 2, "`tenannt`"),
        (json!({ "runtimeDir": "/nonexistent" }), 11, "/nonexistent/host.sock"),
        (json!({ "cniVersion": "2.0.0" }), 1, "0.3.1, 0.4.0, 1.0.0, 1.1.0"),
    ] {
        let (code, message) = runtime.fault("ADD", Some(&container), plugin(changes.clone()));
        assert!(code == expected && message.contains(says), "{changes}: {code} {message}");
    }
    let (code, message) = runtime.fault("ADD", Some(&other), plugin(json!({})));
    assert!(code == 101 && message.contains("none has its other end in"), "another's result: {code} {message}");
    let (code, message) = runtime.fault("ADD", None, plugin(json!({})));
    assert!(code == 4 && message.contains("CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS"), "{code} {message}");
    assert_eq!(runtime.names(), [""; 0]);

    // The tenant may be each container's own.
    let config = json!({ "cniVersion": "1.0.0", "name": "functions", "type": OURS, "runtimeDir": runtime.lab.dir().runtime("host-1"), "prevResult": made });
    let netns = container.netns.path();
    let ran = sh(
        &runtime.lab,
        "host-1",
        &format!(
            "echo '{config}' | CNI_COMMAND=ADD CNI_CONTAINERID=a CNI_IFNAME=eth0 CNI_NETNS={} CNI_ARGS=PORTWAY_TENANT=acme {} cni",
            netns.display(),
            program().display()
        ),
    );
    assert_eq!(serde_json::from_str::<Value>(&ran).unwrap(), made);
    assert_eq!(whoami(&container.netns, SERVER, SOON).unwrap().tenant, "acme");
    assert_eq!(
        runtime.ok(&json!({ "type": OURS }), "VERSION", None, json!({})),
        json!({ "cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] })
    );
}
