//! Cables of a lab that stands: pulled, plugged in, replaced. For labs of this process and for pinned ones alike.

use super::build::{Lab, ip_batch, run};
use super::error::{During, Result};
use super::faults::Kill;
use super::netns::Netns;
use super::topology::{PLATFORM, PLATFORM_IF, Topology};
use super::wiring::{self, Cable};
use serde_json::Value;
use std::path::Path;

/// A lab's nodes and the way into them.
pub(super) struct Site<'a> {
    pub topology: &'a Topology,
    pub open: &'a dyn Fn(&str) -> Result<Netns>,
}

/// A node's cable: its own end, and where the other one is.
struct Plug {
    interface: String,
    far_node: String,
    far_interface: String,
}

impl Site<'_> {
    fn plugs(&self, node: &str) -> Vec<Plug> {
        let plug = |cable: Cable| {
            let [a, b] = cable.ends;
            let (near, far) = if a.0 == node { (a, b) } else { (b, a) };
            (near.0 == node).then_some(Plug { interface: near.1, far_node: far.0, far_interface: far.1 })
        };
        wiring::cables(self.topology).into_iter().filter_map(plug).collect()
    }

    /// All cables' far ends down or up: with the far ends down a node is gone for everybody, whatever it does itself.
    pub fn far_ends(&self, node: &str, up: bool) -> Result<()> {
        let plugs = self.plugs(node);
        let mut done: Vec<&str> = vec![];
        for far in plugs.iter().map(|p| p.far_node.as_str()) {
            if done.contains(&far) {
                continue;
            }
            done.push(far);
            let ends = plugs.iter().filter(|p| p.far_node == far);
            let lines: Vec<String> = ends.map(|p| format!("link set {} {}", p.far_interface, if up { "up" } else { "down" })).collect();
            ip_batch(far, &(self.open)(far)?, &lines)?;
        }
        Ok(())
    }

    /// Whether [`Site::far_ends`] have been put down.
    fn is_dark(&self, node: &str) -> Result<bool> {
        let Some(plug) = self.plugs(node).into_iter().next() else { return Ok(false) };
        let link = link(&plug.far_node, &(self.open)(&plug.far_node)?, &plug.far_interface)?;
        Ok(!link["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == "UP")))
    }

    pub fn is_gateway(&self, node: &str) -> bool {
        self.topology.gateways.iter().any(|g| g.node == node)
    }

    /// Those of a node's own interfaces down that `chosen` says.
    pub fn own_ends(&self, node: &str, chosen: impl Fn(&str) -> bool) -> Result<()> {
        let netns = (self.open)(node)?;
        let chosen = self.plugs(node).into_iter().filter(|p| chosen(&p.interface));
        let lines: Vec<String> = chosen.map(|p| format!("link set {} down", p.interface)).collect();
        ip_batch(node, &netns, &lines)
    }

    /// What [`Kill::Link`] and [`Kill::Eni`] do, and [`Kill::Node`] where no power can be cut; others do nothing here.
    pub fn take_links(&self, node: &str, kill: Kill) -> Result<()> {
        match kill {
            Kill::Link => self.own_ends(node, |interface| interface == PLATFORM_IF),
            Kill::Eni => self.own_ends(node, |interface| interface != PLATFORM_IF),
            Kill::Node => self.own_ends(node, |_| true),
            Kill::Daemon | Kill::Stop | Kill::Sigterm => Ok(()),
        }
    }

    /// Undoes whatever befell a node's cables. If its power was gone, it is another namespace from now on: this one.
    pub fn heal(&self, node: &str) -> Result<Option<Netns>> {
        if !self.is_dark(node)? {
            return self.mend(node).map(|()| None);
        }
        let fresh = Netns::create()?;
        self.replace(node, &(self.open)(node)?, &fresh)?;
        Ok(Some(fresh))
    }

    /// All of a node's cables up at both ends, with the routes that the kernel dropped.
    fn mend(&self, node: &str) -> Result<()> {
        self.far_ends(node, true)?;
        let mut lines: Vec<String> = self.plugs(node).iter().map(|p| format!("link set {} up", p.interface)).collect();
        lines.extend(wiring::setups(self.topology).into_iter().filter(|s| s.node == node).flat_map(|s| s.routes));
        ip_batch(node, &(self.open)(node)?, &lines)
    }

    /// What a machine is after its power has come back: `fresh` gets the cables of `old` with the same hardware
    /// addresses, and nothing else of what was in it.
    fn replace(&self, node: &str, old: &Netns, fresh: &Netns) -> Result<()> {
        let setups = wiring::setups(self.topology);
        for plug in self.plugs(node) {
            let far = (self.open)(&plug.far_node)?;
            let near_mac = hardware_address(node, old, &plug.interface)?;
            let far_mac = hardware_address(&plug.far_node, &far, &plug.far_interface)?;
            let near_end = format!("{} address {near_mac} netns {}", plug.interface, fresh.path().display());
            let mut lines = vec![
                format!("link del {}", plug.far_interface),
                format!("link add {near_end} type veth peer name {} address {far_mac}", plug.far_interface),
            ];
            let names_it = |line: &&String| line.split(' ').any(|word| word == plug.far_interface);
            for setup in setups.iter().filter(|s| s.node == plug.far_node) {
                lines.extend(setup.links.iter().filter(names_it).cloned());
                lines.extend(setup.routes.iter().cloned());
            }
            ip_batch(&plug.far_node, &far, &lines)?;
        }
        setups.iter().filter(|s| s.node == node).try_for_each(|s| s.apply(fresh))
    }

    /// The platform carries no frame between two nodes any more; both still reach everybody else.
    pub fn part(&self, a: &str, b: &str) -> Result<()> {
        let port = |node: &str| {
            let found = self.plugs(node).into_iter().find(|p| p.far_node == PLATFORM).map(|p| p.far_interface);
            found.ok_or_else(|| super::Error::State(format!("{node} is not on the platform's network")))
        };
        let (a, b) = (port(a)?, port(b)?);
        let drop = |from: &str, to: &str| format!("add rule bridge lab cut iifname {from} oifname {to} drop; ");
        let script = format!(
            "{UNITE}add table bridge lab; add chain bridge lab cut {{ type filter hook forward priority 0; }}; {}{}",
            drop(&a, &b),
            drop(&b, &a)
        );
        run(PLATFORM, &(self.open)(PLATFORM)?, "nft", &[&script]).map(std::mem::drop)
    }

    pub fn unite(&self) -> Result<()> {
        run(PLATFORM, &(self.open)(PLATFORM)?, "nft", &[UNITE]).map(drop)
    }
}

/// Adding first makes deleting succeed.
const UNITE: &str = "add table bridge lab; delete table bridge lab; ";

impl wiring::Setup {
    /// Carries it out.
    pub(super) fn apply(&self, netns: &Netns) -> Result<()> {
        netns
            .run(|| self.sysctls.iter().try_for_each(|(key, value)| std::fs::write(Path::new("/proc/sys/net").join(key), value)))
            .during(format!("set sysctls in {}", self.node))?;
        let lines: Vec<String> = self.links.iter().chain(&self.routes).cloned().collect();
        ip_batch(&self.node, netns, &lines)
    }
}

impl Lab {
    /// Of a node's interface, as `ip` writes it.
    pub fn hardware_address(&self, node: &str, interface: &str) -> Result<String> {
        hardware_address(node, self.node(node)?, interface)
    }
}

pub(super) fn hardware_address(node: &str, netns: &Netns, interface: &str) -> Result<String> {
    let link = link(node, netns, interface)?;
    link["address"].as_str().map(str::to_owned).ok_or_else(|| super::Error::Unreadable { what: "ip".into(), body: link.to_string() })
}

fn link(node: &str, netns: &Netns, interface: &str) -> Result<Value> {
    let text = run(node, netns, "ip", &["-j", "link", "show", "dev", interface])?;
    let links: Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(links[0].clone())
}
