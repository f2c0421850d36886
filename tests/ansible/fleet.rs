//! A lab whose gateways and function hosts are machines of their own, and Ansible beside them.

use crate::machine::Machine;
use portway::config::Backend;
use portway::lab::topology::port;
use portway::lab::{Lab, Topology, Transfer, answers, configs, poll_until};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Of the lab's group, on every gateway.
const KEY: &str = "8f1d5c0a7be24c6f9a3e0d7b15c8426ef1a0935b7d4c2e8869f0b3a1c5d7e942";

/// Fields are dropped in this order: machines before the namespaces that they are in.
pub struct Fleet {
    pub machines: BTreeMap<String, Machine>,
    pub lab: Lab,
    /// What is laid over all of the inventory's variables.
    pub vars: Map<String, Value>,
    dir: tempfile::TempDir,
}

/// What a playbook came to.
#[derive(Debug)]
pub struct Played(Value);

impl Played {
    /// Tasks that changed something, on all machines.
    pub fn changed(&self) -> u64 {
        self.each("changed")
    }

    fn each(&self, what: &str) -> u64 {
        self.0["stats"].as_object().expect("machines").values().map(|stats| stats[what].as_u64().expect("a number")).sum()
    }

    /// What changed, or failed, and how.
    fn told(&self, what: &str) -> Vec<String> {
        let results = self.0["results"].as_array().into_iter().flatten().filter(|result| result[what] == true);
        results
            .map(|result| format!("{}: {}: {} {} {}", result["host"], result["task"], result["msg"], result["stderr"], result["diff"]))
            .collect()
    }
}

impl Fleet {
    /// Machines without anything of Portway's.
    pub fn build(topology: Topology, backend: Backend) -> Self {
        let mut lab = Lab::build(topology).unwrap();
        lab.serve().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path();
        let runtime = Path::new("/run/portway");
        let gateways = lab.topology.gateways.iter().map(|g| (g.node.clone(), configs::gateway(&lab.topology, g, backend, runtime)));
        let hosts = lab.topology.hosts.iter().map(|h| (h.node.clone(), configs::host(&lab.topology, h, backend, runtime)));
        let mut machines = BTreeMap::new();
        for (node, yaml) in gateways.chain(hosts) {
            fs::write(place.join(format!("{node}.yaml")), yaml.replace("/run/ha.key", "/etc/portway/ha.key")).unwrap();
            let machine = Machine::start(lab.node(&node).unwrap(), &node, place);
            script(&place.join(format!("python-{node}")), machine.python());
            machines.insert(node, machine);
        }
        machines.values().for_each(Machine::await_boot);
        let vars = json!({
            "ansible_connection": "local", "ansible_become": false, "ansible_pipelining": true,
            "ansible_python_interpreter": format!("{}/python-{{{{ inventory_hostname }}}}", place.display()),
            "ansible_remote_tmp": place.join("tmp"),
            "portway_binary": program(), "portway_units_dir": format!("{ROOT}/packaging/systemd"), "portway_dependencies": [],
            "portway_sysctls": { "net.ipv4.conf.all.arp_ignore": 1 },
        });
        let Value::Object(vars) = vars else { unreachable!("written above") };
        Self { machines, lab, vars, dir }
    }

    /// The file from which a machine's configuration is taken.
    pub fn yaml(&self, node: &str) -> PathBuf {
        self.dir.path().join(format!("{node}.yaml"))
    }

    /// Changes what the inventory says of a machine.
    pub fn edit(&self, node: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.yaml(node)).unwrap();
        assert!(text.contains(from), "{from} in\n{text}");
        fs::write(self.yaml(node), text.replace(from, to)).unwrap();
    }

    /// The package, as a release has it, and from now on it is what is installed.
    pub fn package(&mut self) {
        let made = self.dir.path().join("package");
        done(Command::new(format!("{ROOT}/scripts/package")).args(["--quick", "--binary", env!("CARGO_BIN_EXE_portway")]).arg(&made));
        let mut debs = fs::read_dir(&made).unwrap().map(|entry| entry.unwrap().path());
        let deb = debs.find(|path| path.extension().is_some_and(|end| end == "deb")).expect("a package");
        done(Command::new("dpkg-deb").arg("--raw-extract").arg(&deb).arg(self.dir.path().join("tree")));
        self.installs(&deb);
    }

    /// From now on it is another version of the package; the program in it ends in these bytes.
    pub fn release(&mut self, version: &str, mark: &[u8]) {
        let tree = self.dir.path().join("tree");
        let (control, binary) = (tree.join("DEBIAN/control"), tree.join("usr/bin/portway"));
        let lines = fs::read_to_string(&control).unwrap();
        let lines = lines.lines().map(|line| if line.starts_with("Version: ") { format!("Version: {version}") } else { line.to_owned() });
        fs::write(&control, lines.map(|line| line + "\n").collect::<String>()).unwrap();
        fs::OpenOptions::new().append(true).open(&binary).unwrap().write_all(mark).unwrap();
        let deb = self.dir.path().join(format!("portway_{version}.deb"));
        done(Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "--build"]).arg(&tree).arg(&deb));
        self.installs(&deb);
    }

    fn installs(&mut self, deb: &Path) {
        self.vars.extend([
            ("portway_package".into(), json!(deb)),
            ("portway_binary".into(), json!("")),
            ("portway_units_dir".into(), json!("")),
        ]);
    }

    /// A file as `terraform output -json` writes it, with all configurations.
    pub fn terraform_outputs(&self) -> PathBuf {
        let texts = |nodes: Vec<&String>| -> Map<String, Value> {
            nodes.into_iter().map(|node| (node.clone(), fs::read_to_string(self.yaml(node)).unwrap().into())).collect()
        };
        let gateways = texts(self.lab.topology.gateways.iter().map(|g| &g.node).collect());
        let hosts = texts(self.lab.topology.hosts.iter().map(|h| &h.node).collect());
        let output = |value| json!({ "sensitive": false, "type": "dynamic", "value": value });
        let file = self.dir.path().join("outputs.json");
        fs::write(&file, json!({ "gateway_yaml": output(gateways), "host_yaml": output(hosts) }).to_string()).unwrap();
        file
    }

    fn inventory(&self) -> PathBuf {
        let config = format!("{{{{ lookup('file', '{}/' ~ inventory_hostname ~ '.yaml') | from_yaml }}}}", self.dir.path().display());
        let of = |nodes: Vec<&String>| nodes.into_iter().map(|node| (node.clone(), json!({}))).collect::<Map<String, Value>>();
        let mut vars = json!({ "portway_gateway_secrets": [{ "path": "/etc/portway/ha.key", "content": KEY }] });
        vars.as_object_mut().unwrap().extend(self.vars.clone());
        let inventory = json!({
            "all": { "vars": vars },
            "portway_gateways": {
                "hosts": of(self.lab.topology.gateways.iter().map(|g| &g.node).collect()), "vars": { "portway_gateway_config": config },
            },
            "portway_hosts": {
                "hosts": of(self.lab.topology.hosts.iter().map(|h| &h.node).collect()), "vars": { "portway_host_config": config },
            },
        });
        let file = self.dir.path().join("inventory.json");
        fs::write(&file, inventory.to_string()).unwrap();
        file
    }

    /// Runs a playbook; what failed, if something did.
    pub fn play(&self, playbook: &str, arguments: &[&str]) -> Result<Played, Vec<String>> {
        let mut command = ansible("ansible-playbook");
        command.arg("--inventory").arg(self.inventory()).arg(format!("playbooks/{playbook}.yml")).args(arguments);
        command.env("ANSIBLE_CALLBACK_PLUGINS", format!("{ROOT}/tests/ansible/callback")).env("ANSIBLE_STDOUT_CALLBACK", "told");
        command.env("ANSIBLE_HOME", self.dir.path().join("home"));
        let begun = Instant::now();
        let output = command.output().expect("ansible-playbook: run scripts/install-deps test");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let begin = text.find('{').unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)));
        let played = Played(serde_json::from_str(&text[begin..]).unwrap_or_else(|error| panic!("{error}: {text}")));
        eprintln!("{playbook} {arguments:?}: {:.1} s, {}", begun.elapsed().as_secs_f64(), played.0["stats"]);
        if output.status.success() {
            let changes = played.told("changed");
            if !changes.is_empty() && changes.len() < 8 {
                eprintln!("{changes:#?}");
            }
            Ok(played)
        } else {
            Err(played.told("failed"))
        }
    }

    /// Binds the lab's containers to their tenants.
    pub fn attach(&self) {
        for container in &self.lab.topology.containers {
            let machine = &self.machines[&container.host];
            machine.ok(&["portway", "attach", &container.node, "--tenant", &container.tenant, "--interface", &container.port]);
        }
    }

    /// A container reaches its tenant's server.
    pub fn carries(&self) {
        let (container, tenant) = (&self.lab.topology.containers[0], &self.lab.topology.tenants[0]);
        let from = self.lab.node(&container.node).unwrap();
        poll_until("traffic", Duration::from_secs(30), || answers(from, tenant.server, Duration::from_secs(1))).unwrap();
    }

    /// Bytes back and forth, until it is stopped.
    pub fn transfer(&self) -> Transfer {
        let (container, tenant) = (&self.lab.topology.containers[0], &self.lab.topology.tenants[0]);
        Transfer::start(self.lab.node(&container.node).unwrap(), SocketAddr::from((tenant.server, port::ECHO)), Some(256 << 10)).unwrap()
    }
}

/// One of Ansible's programs, where it finds ansible.cfg.
pub fn ansible(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(format!("{ROOT}/ansible")).env("LC_ALL", "C.UTF-8").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn done(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What is installed: the program without what only a debugger reads, a third of it.
pub fn program() -> PathBuf {
    static STRIPPED: LazyLock<PathBuf> = LazyLock::new(|| {
        let (whole, stripped) = (Path::new(env!("CARGO_BIN_EXE_portway")), Path::new(env!("CARGO_TARGET_TMPDIR")).join("portway-stripped"));
        let of = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        if of(&stripped) < of(whole) {
            let beside = stripped.with_extension(std::process::id().to_string());
            done(Command::new("strip").arg("-o").arg(&beside).arg(whole));
            fs::rename(beside, &stripped).unwrap();
        }
        stripped
    });
    STRIPPED.clone()
}

fn script(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
