//! Gateways of which there is only what claims: their metadata, interfaces and EC2 are in one namespace, and a shard comes when the benchmark says so.

use crate::nodes::{self, Node};
use anyhow::{Context, bail, ensure};
use portway::config::{self, Config};
use portway::gateway::ha::board::Board;
use portway::gateway::ha::cloud::Watch;
use portway::kernel::Kernel;
use portway::lab::cloud::Cloud;
use portway::lab::secret;
use portway::metrics::Page;
use portway::model::{EniId, TenantShard};
use portway::wire::arp;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at how far it is; times are the gateways' own.
const POLL: Duration = Duration::from_millis(20);
const PLATFORM: &str = "10.9.0.0/16";

/// A namespace with the interfaces of so many nodes, one toward the platform and one for each tenant, and a node that is dead and has all addresses.
pub struct Site {
    node: Node,
    size: (usize, usize),
}

/// The same, with the cloud that it is in.
pub struct Inside {
    pub cloud: Cloud,
    size: (usize, usize),
    directory: tempfile::TempDir,
}

struct Driver {
    board: Arc<Board>,
    watch: Watch,
    shards: Vec<TenantShard>,
    /// What it would hear of interfaces.
    _links: watch::Sender<BTreeMap<portway::model::IfName, u32>>,
}

pub struct Drivers(Vec<Driver>);

/// Of the platform, by tenant; its tenant's.
fn havips(tenant: usize) -> [IpAddr; 2] {
    let tenant = u8::try_from(tenant).expect("tenants up to 255");
    [Ipv4Addr::new(10, 9, 1, tenant).into(), Ipv4Addr::new(10, 100, tenant, 10).into()]
}

fn eni(number: usize) -> EniId {
    format!("eni-{number:08x}").parse().expect("an id")
}

/// Those of the node that is dead: the platform's, and a tenant's.
const DEAD: usize = 0x1_0000;

impl Site {
    pub fn new(size: (usize, usize)) -> anyhow::Result<Self> {
        let node = Node::new()?;
        let pairs = (size.0 * (1 + size.1)).div_ceil(2);
        let links = (0..pairs).fold(String::new(), |mut all, pair| {
            let _ = writeln!(all, "link add v{} type veth peer name v{}", 2 * pair, 2 * pair + 1);
            all
        });
        node.sh(&format!("ip -batch - <<'END'\n{links}END"))?;
        Ok(Self { node, size })
    }

    pub fn run<T: Send>(&self, work: impl AsyncFnOnce(&Inside) -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        self.node.run(|| {
            tokio::runtime::Runtime::new()?.block_on(async {
                let (cloud, directory) = (Cloud::start().await?, nodes::directory()?);
                secret(&directory.path().join("ha.key"), &"07".repeat(32))?;
                let inside = Inside { cloud, size: self.size, directory };
                inside.furnish();
                work(&inside).await
            })
        })
    }
}

impl Inside {
    fn tenants(&self) -> usize {
        self.size.0 * self.size.1
    }

    /// All that the dead node has.
    fn furnish(&self) {
        let subnet = |tenant: usize| format!("10.100.{tenant}.0/24").parse().expect("a subnet");
        self.cloud.eni(&eni(DEAD), "i-dead", "02:00:00:00:00:01", PLATFORM.parse().expect("a subnet"), [10, 9, 201, 1].into());
        for tenant in 0..self.tenants() {
            let [platform, inside] = havips(tenant);
            let primary = format!("10.100.{tenant}.5").parse().expect("an address");
            self.cloud.eni(&eni(DEAD + 1 + tenant), "i-dead", "02:00:00:00:00:02", subnet(tenant), primary);
            self.cloud.assign(platform, &eni(DEAD));
            self.cloud.assign(inside, &eni(DEAD + 1 + tenant));
        }
    }

    /// The first of a node's interfaces, and the first of its tenants.
    fn first(&self, node: usize) -> (usize, usize) {
        (node * (1 + self.size.1), node * self.size.1)
    }

    async fn driver(&self, node: usize) -> anyhow::Result<Driver> {
        let (interface, tenant) = self.first(node);
        let kernel = Kernel::open(self.directory.path()).await?;
        let mac = |number: usize| -> anyhow::Result<String> {
            Ok(arp::written(kernel.mac(&format!("v{number}").parse()?)?.context("an interface without a MAC")?))
        };
        let (instance, own) = (format!("i-{node:08x}"), Ipv4Addr::new(10, 9, 200, u8::try_from(node)?));
        self.cloud.eni(&eni(interface), &instance, &mac(interface)?, PLATFORM.parse()?, own.into());
        for number in 0..self.size.1 {
            let (at, of) = (interface + 1 + number, tenant + number);
            self.cloud.eni(&eni(at), &instance, &mac(at)?, format!("10.100.{of}.0/24").parse()?, format!("10.100.{of}.6").parse()?);
        }
        let metadata = TcpListener::bind("127.0.0.1:0")?;
        let yaml = self.yaml(node, own, metadata.local_addr()?.port());
        self.cloud.metadata(&instance, metadata)?;
        let config = match config::parse(&yaml, "a gateway") {
            Ok(Config::Gateway(config)) => config,
            other => bail!("{other:?}"),
        };
        let (board, (sender, links)) = (Arc::new(Board::default()), watch::channel(BTreeMap::new()));
        let aws = config.cloud.as_deref().context("a cloud")?;
        let watch = Watch::start(aws, &config, board.clone(), Arc::new(kernel), links);
        let shards = (tenant..tenant + self.size.1).map(|of| format!("t{of}/0").parse()).collect::<Result<_, _>>()?;
        Ok(Driver { board, watch, shards, _links: sender })
    }

    fn yaml(&self, node: usize, own: Ipv4Addr, metadata: u16) -> String {
        let ((interface, first), key, ec2) = (self.first(node), self.directory.path().join("ha.key"), &self.cloud.endpoint);
        let mut yaml = format!(
            "gateway:\n  node: gw-{node}\n  platform: {{ interface: v{interface}, address: {own} }}\n  ha:\n    nodes: {{ gw-{node}: {own}, gw-dead: 10.9.201.1 }}\n    \
             keys: [{{ id: 1, file: {} }}]\n  cloud: {{ aws: {{ metadata: \"http://127.0.0.1:{metadata}\", endpoint: \"{ec2}\" }} }}\n  tenants:\n",
            key.display()
        );
        for (at, of) in (first..first + self.size.1).enumerate() {
            let [platform, inside] = havips(of);
            let _ = write!(
                yaml,
                "    - name: t{of}\n      key: {}\n      interface: v{}\n      allow: [{{ to: 10.100.{of}.0/24, tcp: [80] }}]\n      snat: {{ ports: 1024-65535 }}\n      \
                 inner: 10.64.{of}.0/24\n      shards: [{{ shard: 0, vrid: 1, platform: {platform}, tenant: {inside} }}]\n",
                of + 1,
                interface + 1 + at,
            );
        }
        yaml
    }

    /// Addresses that are not where the living nodes want them.
    fn lost(&self) -> usize {
        let wrong = |node: usize| {
            let (interface, tenant) = self.first(node);
            let wanted = (0..self.size.1).flat_map(move |number| {
                let [platform, inside] = havips(tenant + number);
                [(platform, interface), (inside, interface + 1 + number)]
            });
            wanted.filter(|(address, at)| self.cloud.owner(*address) != Some(eni(*at))).count()
        };
        (0..self.size.0).map(wrong).sum()
    }
}

impl Drivers {
    /// Those of all nodes. `ready`: with credentials and connections; otherwise they have had nothing to do with the cloud yet.
    pub async fn start(site: &Inside, ready: bool) -> anyhow::Result<Self> {
        let mut drivers = vec![];
        for node in 0..site.size.0 {
            drivers.push(site.driver(node).await?);
        }
        let drivers = Self(drivers);
        if ready {
            drivers.until("connections that stand ready", |driver| Ok(driver.calls("ready")? >= 2)).await?;
        }
        Ok(drivers)
    }

    /// All shards come at once. The longest time, in seconds, that a gateway saw between a shard and both its addresses; and the addresses that are not there then.
    pub async fn claim(&self, site: &Inside) -> anyhow::Result<(f64, usize)> {
        for driver in &self.0 {
            driver.shards.iter().for_each(|of| driver.board.hold(of, true));
        }
        self.until("all claimed", |driver| Ok(driver.took()?.is_some())).await?;
        let mut longest = 0f64;
        for driver in &self.0 {
            longest = longest.max(driver.took()?.context("it was claimed, and is not")?);
        }
        Ok((longest, site.lost()))
    }

    async fn until(&self, what: &str, holds: impl Fn(&Driver) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let begun = Instant::now();
        for driver in &self.0 {
            while !holds(driver)? {
                ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {}", driver.watch.status());
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }
}

impl Driver {
    /// Good ones.
    fn calls(&self, call: &str) -> anyhow::Result<usize> {
        let mut page = Page::default();
        self.watch.metrics(&mut page);
        let text = page.encode(portway::metrics::Format::OpenMetrics)?;
        let start = format!("portway_cloud_calls_total{{call=\"{call}\",result=\"taken\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).map_or(Ok(0), |count| Ok(count.parse()?))
    }

    /// Seconds, if all are claimed.
    fn took(&self) -> anyhow::Result<Option<f64>> {
        let status = self.watch.status();
        let mut longest = 0f64;
        for of in &self.shards {
            let shard = &status["shards"][of.to_string()];
            match shard["took"].as_f64().filter(|_| shard["claimed"] == true) {
                Some(took) => longest = longest.max(took),
                None => return Ok(None),
            }
        }
        Ok(Some(longest))
    }
}
