//! The kernel's side of the reconciler, for the network namespace in which [`Kernel::open`] was called: reads what stands,
//! carries out the steps of a plan, and tells what changed.
//!
//! The netlink calls are made in place: the kernel answers within the call, most within microseconds.

mod address;
pub mod announce;
mod apply;
mod attr;
pub mod clock;
pub mod conntrack;
mod counter;
mod driver;
mod element;
mod flow_table;
mod former;
pub mod havip;
pub mod knock_socket;
pub mod lease;
mod link;
mod namespace;
mod neighbour;
mod netlink;
mod nft;
pub(crate) mod packet;
pub mod pass_back;
pub mod processors;
mod route;
mod rule;
mod store;
mod survey;
mod sysctl;
mod traffic;
pub mod tun;
pub mod vrrp_socket;
mod watch;
mod wireguard;

pub use conntrack::ConntrackFailures;
pub use netlink::Refused;
pub use survey::Survey;
pub use sysctl::{ConntrackUse, flow_timeouts};
pub use traffic::{Counted, Traffic};
pub use watch::{Change, Own, Watch};

use crate::model::{IfName, PublicKey};
use crate::plan::facts::{Facts, LinkFacts, on_link};
use crate::plan::{LinkKind, NftTable, Route, RouteKey, Ruleset, State, Step, Sysctl, SysctlKey, WireguardPeer};
use crate::wire::arp::Mac;
use apply::{Indices, same_kind};
use conntrack::Conntrack;
use ipnet::IpNet;
use netlink::Netlink;
use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;
pub use wireguard::PeerSeen;
use wireguard::Wireguard;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("cannot use a netlink socket {what}")]
    Open { what: &'static str, source: io::Error },
    #[error("cannot use a socket {what}")]
    Socket { what: &'static str, source: io::Error },
    #[error("cannot read {what} from the kernel")]
    Read { what: &'static str, source: Refused },
    #[error("the kernel refused")]
    Refused(#[from] Refused),
    #[error("there is no interface {0}")]
    NoInterface(IfName),
    #[error("cannot {attempt}: nft says: {complaint}")]
    Nft { attempt: &'static str, complaint: String },
    #[error("cannot run nft: install the package nftables")]
    NoNft { source: io::Error },
    #[error("cannot use {}", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl KernelError {
    fn read(what: &'static str, source: Refused) -> Self {
        Self::Read { what, source }
    }
}

/// Which of these interfaces of the calling thread's network namespace have their other end in that one.
pub fn ends_in(namespace: BorrowedFd<'_>, names: Vec<IfName>) -> Result<Vec<IfName>, KernelError> {
    let mut netlink = Netlink::open(libc::NETLINK_ROUTE).map_err(|source| KernelError::Open { what: "for interfaces", source })?;
    let mut leading = Vec::new();
    for name in names {
        let found = link::find(&mut netlink, link::Which::Name(&name)).map_err(|e| KernelError::read("an interface", e))?;
        leading.extend(found.and_then(|(_, link)| Some((name, link.peer_namespace?))));
    }
    // After the links: a namespace gets its number when a link that leads into it is told (rtnl_fill_link_netnsid in net/core/rtnetlink.c).
    let number = namespace::number(&mut netlink, namespace).map_err(|e| KernelError::read("a network namespace", e))?;
    Ok(leading.into_iter().filter(|(_, leads)| Some(*leads) == number).map(|(name, _)| name).collect())
}

/// A step that was not carried out.
#[derive(Debug, thiserror::Error)]
#[error("not done: {step}")]
pub struct Failure {
    pub step: Step,
    #[source]
    pub error: KernelError,
}

/// Long-lived handles to one network namespace. Shared by reference; calls exclude each other only briefly.
#[derive(Debug)]
pub struct Kernel {
    route: Mutex<Netlink>,
    /// The same for lists, for which no change on the hot path should wait.
    lists: Mutex<Netlink>,
    /// For lists, so that a long one does not delay a change on the hot path.
    netfilter: tokio::sync::Mutex<Netlink>,
    /// For changes.
    elements: Mutex<Netlink>,
    wireguard: Mutex<Wireguard>,
    /// For figures, which wait for neither.
    counters: Mutex<Netlink>,
    /// The same of interfaces.
    traffic: Mutex<Netlink>,
    drivers: driver::Drivers,
    /// For connections that end. None after a failure, which may have left a list half read.
    conntrack: Mutex<Option<Conntrack>>,
    tables: tokio::sync::Mutex<nft::KnownTables>,
    sysctls: Mutex<former::FormerValues>,
    /// Neighbours that we take away (interface, address): the notices of that have no sender (`neigh_cleanup_and_release`).
    leaving: watch::Leaving,
    /// The ports of our sockets.
    own: watch::Ports,
    /// Whether the kernel has them, asked once.
    flow_tables: OnceCell<bool>,
}

impl Kernel {
    /// Opens the calling thread's network namespace. The directory must exist, and outlive this process but not the
    /// machine's uptime (`/run/portway`): it holds what the kernel cannot be asked for.
    pub async fn open(state_dir: &Path) -> Result<Self, KernelError> {
        let open = |family, what| Netlink::open(family).map_err(|source| KernelError::Open { what, source });
        let (route, elements) = (open(libc::NETLINK_ROUTE, "for routes")?, open(libc::NETLINK_NETFILTER, "for nftables")?);
        Ok(Self {
            own: watch::Ports::new(Mutex::new([route.port(), elements.port()].into())),
            route: Mutex::new(route),
            lists: Mutex::new(open(libc::NETLINK_ROUTE, "for routes")?),
            netfilter: tokio::sync::Mutex::new(open(libc::NETLINK_NETFILTER, "for nftables")?),
            elements: Mutex::new(elements),
            wireguard: Mutex::new(Wireguard::open()?),
            counters: Mutex::new(open(libc::NETLINK_NETFILTER, "for nftables")?),
            traffic: Mutex::new(open(libc::NETLINK_ROUTE, "for the figures of interfaces")?),
            drivers: driver::Drivers::open().map_err(|source| KernelError::Socket { what: "for the figures of drivers", source })?,
            conntrack: Mutex::new(Some(Conntrack::open()?)),
            tables: tokio::sync::Mutex::new(store::Store::open(state_dir, "nft.json")?),
            sysctls: Mutex::new(former::FormerValues::open(state_dir)?),
            leaving: watch::Leaving::default(),
            flow_tables: OnceCell::new(),
        })
    }

    /// Reads all that Portway owns. Of the settings: those of our interfaces, those that we have changed, and those of `interest`.
    pub async fn observe(&self, interest: &BTreeSet<Sysctl>) -> Result<State, KernelError> {
        let mut state = State::default();
        {
            let mut netfilter = self.netfilter.lock().await;
            let known = self.tables.lock().await;
            for table in NftTable::ALL {
                if let Some(ruleset) = nft::observe(&known, &mut netfilter, table).await? {
                    state.tables.insert(table, ruleset);
                    let elements = element::list(&mut netfilter, table).map_err(|e| KernelError::read("nftables elements", e))?;
                    state.elements.extend(elements);
                    if table == NftTable::Inet {
                        state.flow_devices =
                            flow_table::devices(&mut netfilter, table).map_err(|e| KernelError::read("the flow table", e))?;
                    }
                }
            }
        }
        let mut netlink = lock(&self.lists);
        let links = link::list(&mut netlink).map_err(|e| KernelError::read("interfaces", e))?;
        let ours = |index: &u32| links.names.get(index).filter(|name| name.is_ours()).cloned();
        let addresses = address::list(&mut netlink).map_err(|e| KernelError::read("addresses", e))?;
        let owned = |standing: &address::Standing| {
            let name = links.names.get(&standing.index)?;
            (name.is_ours() || standing.ours).then(|| (name.clone(), standing.address))
        };
        state.addresses = addresses.iter().filter_map(owned).collect();
        let neighbours = neighbour::list(&mut netlink).map_err(|e| KernelError::read("neighbours", e))?;
        state.neighbours = neighbours.into_iter().filter_map(|(index, hop, outer)| Some(((ours(&index)?, hop), outer))).collect();
        let routes = route::list(&mut netlink, &links.names).map_err(|e| KernelError::read("routes", e))?;
        state.routes = routes.into_iter().map(|standing| (standing.key, standing.route)).collect();
        let rules = rule::list(&mut netlink).map_err(|e| KernelError::read("rules", e))?;
        state.rules = rules.into_iter().map(|(rule, _)| rule).collect();
        state.links = links.ours;
        self.observe_wireguard(&mut state)?;
        let mut settings: BTreeSet<Sysctl> = lock(&self.sysctls).iter().map(|former| former.sysctl.clone()).collect();
        settings.extend(interest.iter().cloned());
        settings.extend(state.links.keys().flat_map(|name| SysctlKey::OF_INTERFACE.map(|key| Sysctl { interface: name.clone(), key })));
        // Of two interfaces of one tunnel, what comes by the one that no route leads to.
        let beside = |name: &IfName| name.slot().is_some_and(|(slot, lane)| state.links.contains_key(&IfName::lane(slot, lane.other())));
        let pairs = state.links.keys().filter(|name| beside(name));
        settings.extend(pairs.map(|name| Sysctl { interface: name.clone(), key: SysctlKey::RpFilter }));
        for wanted in settings {
            if let Some(value) = sysctl::read(&wanted)? {
                state.sysctls.insert(wanted, value);
            }
        }
        Ok(state)
    }

    /// Fills in what rtnetlink does not tell of WireGuard interfaces. One that is not as we make it stays `Other`, and is made anew.
    fn observe_wireguard(&self, state: &mut State) -> Result<(), KernelError> {
        for (name, link) in
            state.links.iter_mut().filter(|(_, link)| matches!(&link.kind, LinkKind::Other(kind) if kind == link::WIREGUARD))
        {
            let Some(device) = lock(&self.wireguard).read(name).map_err(|e| KernelError::read("a WireGuard interface", e))? else {
                continue;
            };
            let Some(key) = device.key else { continue };
            link.kind = LinkKind::Wireguard { key, port: device.port };
            state.wireguard.extend(device.peers.into_iter().map(|(key, peer)| ((name.clone(), key), peer)));
        }
        Ok(())
    }

    /// Whether this kernel can send copies of packets to neighbours (CONFIG_NFT_DUP_IPV4).
    pub async fn can_copy(&self) -> Result<bool, KernelError> {
        nft::has_copies().await
    }

    /// Reads the world that is not ours: interfaces and their IPv4 addresses.
    pub async fn facts(&self) -> Result<Facts, KernelError> {
        let flow_tables = *self.flow_tables.get_or_try_init(nft::has_flow_tables).await?;
        Ok(Facts { flow_tables, ..survey::facts(&mut lock(&self.lists))? })
    }

    /// One interface, without its addresses.
    pub fn link(&self, name: &IfName) -> Result<Option<LinkFacts>, KernelError> {
        let found = link::find(&mut lock(&self.route), link::Which::Name(name)).map_err(|e| KernelError::read("an interface", e))?;
        Ok(found.map(|(_, link)| link))
    }

    /// The MAC of an interface, if it is there and Ethernet.
    pub fn mac(&self, name: &IfName) -> Result<Option<Mac>, KernelError> {
        let found = link::ethernet(&mut lock(&self.route), name).map_err(|e| KernelError::read("an interface", e))?;
        Ok(found.and_then(|(_, mac)| mac))
    }

    /// One interface by its index, without its addresses.
    pub fn link_at(&self, index: u32) -> Result<Option<LinkFacts>, KernelError> {
        let found = link::find(&mut lock(&self.route), link::Which::Index(index)).map_err(|e| KernelError::read("an interface", e))?;
        Ok(found.map(|(_, link)| link))
    }

    /// The networks that are on the link of an interface, as [`Facts::connected`] tells them.
    pub fn connected(&self, index: u32) -> Result<Vec<IpNet>, KernelError> {
        let standing = address::list_at(&mut lock(&self.route), index).map_err(|e| KernelError::read("an interface's addresses", e))?;
        Ok(on_link(standing.iter().filter(|standing| !standing.ours).map(|standing| &standing.address)).collect())
    }

    /// The number under which this namespace knows another one (rtnetlink's nsid), if it has one.
    pub fn namespace_number(&self, namespace: BorrowedFd<'_>) -> Result<Option<i32>, KernelError> {
        namespace::number(&mut lock(&self.route), namespace).map_err(|e| KernelError::read("a network namespace", e))
    }

    /// The named counters of our tables: (family, name, packets).
    pub fn counters(&self) -> Result<Vec<(&'static str, String, u64)>, KernelError> {
        let mut all = Vec::new();
        for table in NftTable::ALL {
            let listed = counter::list(&mut lock(&self.counters), table).map_err(|refused| KernelError::read("counters", refused))?;
            all.extend(listed.into_iter().map(|(name, packets)| (table.family(), name, packets)));
        }
        Ok(all)
    }

    /// What an interface has counted; none if there is no such interface.
    pub fn traffic(&self, name: &IfName) -> Result<Option<Counted>, KernelError> {
        traffic::read(&mut lock(&self.traffic), name).map_err(|refused| KernelError::read("the figures of an interface", refused))
    }

    /// What the driver of an interface counts under names of its own, as far as it is wanted (`ethtool -S`); none if there is no such interface. May take a
    /// millisecond, and longer where the device does not answer.
    pub fn driver_counters(&self, name: &IfName, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, u64)>, KernelError> {
        let what = "for the figures of drivers";
        self.drivers.counters(name, wanted).map_err(|source| KernelError::Socket { what, source })
    }

    /// How full the table of connections is, in the calling thread's network namespace; none if the kernel tracks none.
    pub fn conntrack_use(&self) -> Option<ConntrackUse> {
        sysctl::conntrack_use()
    }

    /// What went wrong with connections that were to begin.
    pub fn conntrack_failures(&self) -> Result<ConntrackFailures, KernelError> {
        conntrack::failures(&mut lock(&self.counters)).map_err(|refused| KernelError::read("failed connections", refused))
    }

    /// Carries out the steps in order, going on after a failure. What is done already counts as done.
    pub async fn apply(&self, steps: &[Step]) -> Vec<Failure> {
        let mut failures = Vec::new();
        for run in steps.chunk_by(same_kind) {
            let results = self.apply_run(run).await;
            let failed = run.iter().zip(results).filter_map(|(step, result)| Some((step, result.err()?)));
            failures.extend(failed.map(|(step, error)| Failure { step: step.clone(), error }));
        }
        failures
    }

    /// Removes one route, or finds it gone, without a look at the others.
    pub fn remove_route(&self, key: &RouteKey, route: &Route) -> Result<(), KernelError> {
        let mut netlink = lock(&self.route);
        let index = match route {
            Route::Unicast { interface, .. } => match Indices::default().or_zero(&mut netlink, interface)? {
                0 => return Ok(()),
                index => Some(index),
            },
            Route::Unreachable | Route::Throw => None,
        };
        Ok(route::remove_one(&mut netlink, key, route, index)?)
    }

    /// Whether this is the ruleset that was applied last.
    pub async fn has_ruleset(&self, table: NftTable, ruleset: &Ruleset) -> bool {
        nft::is_applied(&*self.tables.lock().await, table, ruleset)
    }

    /// What is changed through this socket is this process's doing.
    pub fn own(&self, port: u32) -> Own {
        Own::new(self.own.clone(), port)
    }

    /// Starts to watch. What changed before is not told: observe after this, not before.
    pub async fn watch(&self) -> Result<Watch, KernelError> {
        Watch::open(self.own.clone(), self.leaving.clone(), || link::list(&mut lock(&self.route)))
    }

    /// Whether this kernel has GRE devices.
    pub async fn has_gre(&self) -> bool {
        link::has_gre(&mut lock(&self.route))
    }

    /// The peers of a WireGuard interface, as they were set; none if it is not there.
    pub fn wireguard_standing(&self, name: &IfName) -> Result<BTreeMap<PublicKey, WireguardPeer>, KernelError> {
        let device = lock(&self.wireguard).read(name).map_err(|error| KernelError::read("a WireGuard interface", error))?;
        Ok(device.map(|device| device.peers).unwrap_or_default())
    }

    /// The peers of a WireGuard interface, as far as they have done something.
    pub fn wireguard_peers(&self, name: &IfName) -> Result<Vec<PeerSeen>, KernelError> {
        lock(&self.wireguard).peers(name).map_err(|error| KernelError::read("the peers of a WireGuard interface", error))
    }

    /// Whether this kernel has WireGuard.
    pub fn has_wireguard(&self) -> bool {
        lock(&self.wireguard).is_there()
    }
}

/// A message of rtnetlink; none if it is of a kind, or says something, that the crate cannot read.
fn route_message(kind: u16, payload: &[u8]) -> Option<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    RouteNetlinkMessage::deserialize(&header, payload)
        .inspect_err(|error| tracing::debug!(kind, %error, "a netlink message that cannot be read"))
        .ok()
}

/// Nothing is left half-done under these locks that a panic could spoil.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
