//! What can befall a node of a lab, and its end.

use super::build::Lab;
use super::cut::Site;
use super::error::Result;

/// As `--kill` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kill {
    /// SIGKILL for its daemon alone
    Daemon,
    /// A gateway's power: it vanishes at once, and comes back empty. Other nodes: all interfaces down
    Node,
    /// The interface toward the platform down
    Link,
    /// The interfaces toward the tenants down
    Eni,
    /// SIGSTOP for its daemon
    Stop,
    /// SIGTERM for its daemon
    Sigterm,
}

impl Kill {
    pub const ALL: [Self; 6] = [Self::Daemon, Self::Node, Self::Link, Self::Eni, Self::Stop, Self::Sigterm];

    pub fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Node => "node",
            Self::Link => "link",
            Self::Eni => "eni",
            Self::Stop => "stop",
            Self::Sigterm => "sigterm",
        }
    }

    /// The node is told, and may hand over before it goes.
    pub fn planned(self) -> bool {
        self == Self::Sigterm
    }
}

/// Everything here may be done twice, with the effect of once.
impl Lab {
    /// Lets `kill` befall a node. Returns once it has; nobody is waited for, [`Kill::Sigterm`]'s daemon neither.
    pub fn fail(&mut self, node: &str, kill: Kill) -> Result<()> {
        self.node(node)?;
        match kill {
            Kill::Daemon => self.daemon(node)?.kill(),
            Kill::Stop => self.daemon(node)?.freeze(),
            Kill::Sigterm => self.daemon(node)?.terminate(),
            Kill::Node if self.site(|site| Ok(site.is_gateway(node)))? => {
                // A machine without power neither sees its links go nor says good-bye.
                if let Ok(daemon) = self.daemon(node) {
                    daemon.freeze()?;
                }
                self.site(|site| site.far_ends(node, false))?;
                self.daemon(node).map_or(Ok(()), super::Daemon::kill)
            }
            Kill::Link | Kill::Eni | Kill::Node => self.site(|site| site.take_links(node, kill)),
        }
    }

    /// Undoes whatever [`Lab::fail`] did to a node, and waits until its daemon, if it has one, is ready. After
    /// [`Kill::Node`] the node is another namespace: [`Lab::node`] must be asked again.
    pub fn heal(&mut self, node: &str) -> Result<()> {
        self.node(node)?;
        if let Some(fresh) = self.site(|site| site.heal(node))? {
            if let Ok(daemon) = self.daemon(node) {
                daemon.move_to(fresh.clone());
            }
            self.put_node(node, fresh);
        }
        self.daemon(node).map_or(Ok(()), super::Daemon::revive)
    }

    /// The platform carries no frame between two nodes any more, until [`Lab::unite`]; both still reach everybody else.
    pub fn part(&self, a: &str, b: &str) -> Result<()> {
        self.site(|site| site.part(a, b))
    }

    pub fn unite(&self) -> Result<()> {
        self.site(|site| site.unite())
    }

    fn site<T>(&self, work: impl FnOnce(&Site<'_>) -> Result<T>) -> Result<T> {
        work(&Site { topology: &self.topology, open: &|node| self.node(node).cloned() })
    }
}
