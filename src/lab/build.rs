//! A lab that stands: its namespaces, its servers, its daemons.

use super::configs;
use super::daemon::{Daemon, Launch, Role};
use super::dir::LabDir;
use super::directory::Directory;
use super::error::{During, Error, Result};
use super::http;
use super::keys;
use super::measure;
use super::netns::Netns;
use super::process::{Life, Process, poll_until};
use super::serve::Servers;
use super::topology::{Attach, Container, NOBODY, PLATFORM, Topology, port};
use super::wiring;
use crate::config::{Backend, TunnelKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Fields are dropped in this order: processes, servers, namespaces, directory.
#[derive(Debug)]
pub struct Lab {
    pub topology: Topology,
    daemons: BTreeMap<String, Daemon>,
    helpers: Vec<Process>,
    servers: Option<Servers>,
    directory: Option<Directory>,
    nodes: BTreeMap<String, Netns>,
    dir: LabDir,
}

impl Lab {
    /// Namespaces with cables, addresses and routes between them, ending with this process. No process runs in them yet.
    pub fn build(topology: Topology) -> Result<Self> {
        Self::build_in(topology, LabDir::ephemeral()?)
    }

    pub(super) fn build_in(topology: Topology, dir: LabDir) -> Result<Self> {
        let mut nodes = BTreeMap::new();
        for node in topology.nodes() {
            nodes.insert(node, Netns::create()?);
        }
        let lab = Self { topology, daemons: BTreeMap::new(), helpers: vec![], servers: None, directory: None, nodes, dir };
        let cables: Vec<String> = wiring::cables(&lab.topology)
            .iter()
            .map(|cable| {
                let [(a, a_if), (b, b_if)] = &cable.ends;
                let (a, b) = (lab.node(a)?.path(), lab.node(b)?.path());
                Ok(format!("link add {a_if} netns {} type veth peer name {b_if} netns {}", a.display(), b.display()))
            })
            .collect::<Result<_>>()?;
        ip_batch(PLATFORM, lab.node(PLATFORM)?, &cables)?;
        for setup in wiring::setups(&lab.topology) {
            setup.apply(lab.node(&setup.node)?)?;
        }
        // Who takes over announces addresses, once and a second later: somebody has to hear it.
        for node in lab.topology.nodes().iter().filter(|_| lab.topology.group.is_some()) {
            lab.await_links(node)?;
        }
        Ok(lab)
    }

    /// Waits until all interfaces of a node send and all ports of its bridge forward: the kernel sees to the carrier of one that has just been
    /// made up to a second later (net/core/link_watch.c), and drops what comes before.
    pub(super) fn await_links(&self, node: &str) -> Result<()> {
        poll_until(&format!("the links of {node}"), Duration::from_secs(5), || {
            Ok(self.links(node)?.iter().all(|link| link["link_type"] == "loopback" || link["operstate"] == "UP"))
        })
    }

    pub fn node(&self, name: &str) -> Result<&Netns> {
        self.nodes.get(name).ok_or_else(|| no_node(name, &self.topology))
    }

    pub(super) fn put_node(&mut self, name: &str, netns: Netns) {
        self.nodes.insert(name.to_owned(), netns);
    }

    pub fn dir(&self) -> &LabDir {
        &self.dir
    }

    /// Starts the servers of every VPC (and the decoy) in this process, and iperf3 beside them.
    pub fn serve(&mut self) -> Result<()> {
        let servers = Servers::new()?;
        for tenant in &self.topology.tenants {
            servers.start(self.node(&tenant.node())?, &tenant.name)?;
        }
        if self.topology.decoy {
            servers.start(self.node(PLATFORM)?, NOBODY)?;
        }
        self.servers = Some(servers);
        self.start_iperf(Life::WithLab)
    }

    pub(super) fn start_iperf(&mut self, life: Life) -> Result<()> {
        for tenant in &self.topology.tenants {
            let node = self.node(&tenant.node())?;
            let mut command = node.command("iperf3");
            command.args(["-s", "-p", &port::IPERF.to_string()]);
            let process =
                Process::spawn(&format!("iperf3 in {}", tenant.node()), command, &self.dir.log(&format!("iperf3-{}", tenant.name)), life)?;
            self.helpers.push(process);
        }
        for tenant in &self.topology.tenants {
            let node = self.node(&tenant.node())?;
            poll_until(&format!("iperf3 in {}", tenant.node()), Duration::from_secs(5), || measure::listens(node, port::IPERF))?;
        }
        Ok(())
    }

    /// Writes every daemon's configuration, starts gateways and hosts, and waits until all are ready.
    pub fn start_daemons(&mut self, portway: &Path, backend: Backend) -> Result<()> {
        self.start_daemons_with(portway, backend, Life::WithLab, |_, yaml| yaml)
    }

    /// As [`Lab::start_daemons`], with configurations changed first: from a node and its YAML to the YAML wanted.
    pub fn start_daemons_edited(&mut self, portway: &Path, backend: Backend, edit: impl Fn(&str, String) -> String) -> Result<()> {
        self.start_daemons_with(portway, backend, Life::WithLab, edit)
    }

    pub(super) fn start_daemons_with(
        &mut self,
        portway: &Path,
        backend: Backend,
        life: Life,
        edit: impl Fn(&str, String) -> String,
    ) -> Result<()> {
        let lab = &self.topology;
        let dir = &self.dir;
        if lab.group.is_some() {
            dir.make_key()?;
        }
        if lab.tunnel == TunnelKind::Wireguard {
            keys::write(lab, &dir.runtime("node"))?;
        }
        if lab.directory {
            let directory = Directory::start(lab, self.node(PLATFORM)?, portway, dir)?;
            self.directory = Some(directory);
        }
        let (lab, dir) = (&self.topology, &self.dir);
        let gateways = lab.members().map(|g| (g.node.clone(), Role::Gateway, configs::gateway(lab, g, backend, &dir.runtime(&g.node))));
        let hosts = lab.hosts.iter().map(|h| (h.node.clone(), Role::Host, configs::host(lab, h, backend, &dir.runtime(&h.node))));
        // Gateways first: a WireGuard host whose first word nobody hears says it again after five seconds.
        for batch in [gateways.collect::<Vec<_>>(), hosts.collect()] {
            for (node, role, yaml) in batch {
                if let (Some(directory), Role::Host) = (&self.directory, role) {
                    // It learns at once where its gateways are.
                    directory.await_shards()?;
                    let tenants: Vec<&str> = self.topology.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
                    directory.enroll(&node, self.node(&node)?, &tenants, &self.dir.runtime(&node))?;
                }
                let config = self.dir.config(&node);
                std::fs::write(&config, edit(&node, yaml)).during(format!("write {}", config.display()))?;
                let launch = self.launch(&node, role, portway, life)?;
                self.daemons.insert(node, Daemon::start(launch)?);
            }
            self.daemons.values_mut().try_for_each(Daemon::await_ready)?;
        }
        Ok(())
    }

    fn launch(&self, node: &str, role: Role, portway: &Path, life: Life) -> Result<Launch> {
        let (config, runtime_dir, log) = (self.dir.config(node), self.dir.runtime(node), self.dir.log(node));
        Ok(Launch {
            role,
            netns: self.node(node)?.clone(),
            portway: portway.to_owned(),
            config,
            runtime_dir,
            log,
            life,
            node: node.to_owned(),
        })
    }

    /// Starts the gateway of a node that has been absent, with the configuration that the topology says now, and waits until it is ready.
    pub fn start_gateway(&mut self, node: &str, portway: &Path, backend: Backend) -> Result<()> {
        self.configure_gateway(node, backend)?;
        let launch = self.launch(node, Role::Gateway, portway, Life::WithLab)?;
        self.daemons.insert(node.to_owned(), Daemon::start(launch)?);
        self.daemon(node)?.await_ready()
    }

    pub(super) fn configure_gateway(&self, node: &str, backend: Backend) -> Result<()> {
        let gateway = self.topology.gateways.iter().find(|gateway| gateway.node == node).ok_or_else(|| no_node(node, &self.topology))?;
        let config = self.dir.config(node);
        let yaml = configs::gateway(&self.topology, gateway, backend, &self.dir.runtime(node));
        std::fs::write(&config, yaml).during(format!("write {}", config.display()))
    }

    pub fn directory(&mut self) -> Result<&mut Directory> {
        self.directory.as_mut().ok_or_else(|| Error::State("this lab has no directory".into()))
    }

    pub fn daemon(&mut self, node: &str) -> Result<&mut Daemon> {
        self.daemons.get_mut(node).ok_or_else(|| Error::State(format!("no daemon runs in {node}")))
    }

    /// Of the daemon of a node.
    pub fn socket(&self, node: &str) -> Result<PathBuf> {
        self.daemons.get(node).map(Daemon::socket).ok_or_else(|| Error::State(format!("no daemon runs in {node}")))
    }

    /// The samples of a daemon's metrics, by name with labels as they are written.
    pub fn metrics(&self, node: &str) -> Result<BTreeMap<String, f64>> {
        let page = http::unix_ok(&self.socket(node)?, "GET", "/metrics", None)?.body;
        let lines = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Ok(lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// The sum of a daemon's samples whose names with labels begin so.
    pub fn metric(&self, node: &str, begins: &str) -> Result<f64> {
        Ok(self.metrics(node)?.into_iter().filter(|(name, _)| name.starts_with(begins)).map(|(_, value)| value).sum())
    }

    /// Every process that was started, by name.
    pub fn processes(&mut self) -> Vec<(String, u32)> {
        let daemons = self.daemons.iter().map(|(node, d)| (node.clone(), d.pid()));
        daemons.chain(self.helpers.iter().map(|p| (p.name().to_owned(), p.pid()))).collect()
    }

    pub(super) fn keep(&mut self, process: Process) {
        self.helpers.push(process);
    }

    pub fn attach_all(&mut self) -> Result<()> {
        self.topology.containers.clone().iter().try_for_each(|c| self.attach(c))
    }

    /// Through the host's API, in the container's own form, under the container's name.
    pub fn attach(&mut self, container: &Container) -> Result<()> {
        let netns = self.netns_path(&container.node)?;
        self.attach_at(container, &netns)
    }

    pub(super) fn attach_at(&mut self, container: &Container, netns: &Path) -> Result<()> {
        let mut body = match container.attach {
            Attach::Interface => json!({ "tenant": container.tenant, "interface": container.port }),
            Attach::InterfaceAndSource => {
                json!({ "tenant": container.tenant, "interface": container.port, "source": format!("{}/32", container.address) })
            }
            Attach::Netns => json!({ "tenant": container.tenant, "netns": netns }),
        };
        if let Some(shard) = container.shard {
            body["shard"] = json!(shard);
        }
        let socket = self.daemon(&container.host)?.socket();
        http::unix_ok(&socket, "PUT", &format!("/v1/attachments/{}", container.node), Some(&body.to_string())).map(drop)
    }

    pub fn detach(&mut self, container: &Container) -> Result<()> {
        let socket = self.daemon(&container.host)?.socket();
        http::unix_ok(&socket, "DELETE", &format!("/v1/attachments/{}", container.node), None).map(drop)
    }

    fn netns_path(&self, node: &str) -> Result<PathBuf> {
        Ok(self.node(node)?.path())
    }

    /// Turns tso, gso and gro on or off on every cable's ends (`ethtool`).
    pub fn offloads(&self, on: bool) -> Result<()> {
        let state = if on { "on" } else { "off" };
        for (node, interface) in wiring::cables(&self.topology).into_iter().flat_map(|c| c.ends) {
            let arguments = ["-K", &interface, "tso", state, "gso", state, "gro", state];
            run(&node, self.node(&node)?, "ethtool", &arguments)?;
        }
        Ok(())
    }

    /// Runs `ip` with these arguments in a node; its output.
    pub fn ip(&self, node: &str, arguments: &[&str]) -> Result<String> {
        run(node, self.node(node)?, "ip", arguments)
    }

    /// A node's interfaces, as `ip` tells them.
    pub(super) fn links(&self, node: &str) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.ip(node, &["-d", "-j", "link", "show"])?).unwrap_or_default())
    }
}

/// Runs a short command in a namespace; its standard output, or its errors as an error.
pub(super) fn run(node: &str, netns: &Netns, program: &str, arguments: &[&str]) -> Result<String> {
    let output = netns.command(program).args(arguments).output().during(format!("run {program}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Command { node: node.to_owned(), command: format!("{program} {}", arguments.join(" ")), stderr });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) fn ip_batch(node: &str, netns: &Netns, lines: &[String]) -> Result<()> {
    let mut command = netns.command("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().during("run ip")?;
    let mut stdin = child.stdin.take().expect("piped above");
    let written = stdin.write_all((lines.join("\n") + "\n").as_bytes());
    drop(stdin);
    let output = child.wait_with_output().during("wait for ip")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Command { node: node.to_owned(), command: "ip -batch".into(), stderr });
    }
    written.during("write to ip")
}

pub(super) fn no_node(name: &str, topology: &Topology) -> Error {
    Error::NoNode { name: name.to_owned(), known: topology.nodes().join(", ") }
}
