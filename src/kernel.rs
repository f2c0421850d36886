//! The kernel's side of the reconciler, for the network namespace in which [`Kernel::open`] was called: reads what stands,
//! carries out the steps of a plan, and tells what changed.
//!
//! The netlink calls are made in place: the kernel answers within the call, most within microseconds.

mod address;
mod attr;
pub mod conntrack;
mod element;
mod flow_table;
mod former;
mod link;
mod namespace;
mod neighbour;
mod netlink;
mod nft;
mod route;
mod rule;
mod store;
mod survey;
mod sysctl;
pub mod tun;
mod watch;

pub use netlink::Refused;
pub use survey::Survey;
pub use watch::{Change, Watch};

use crate::model::{FlowKey, IfName, Mark, NatSource};
use crate::plan::facts::{Facts, LinkFacts, on_link};
use crate::plan::{Element, NftTable, Route, RouteKey, Ruleset, SetName, State, Step, Sysctl, SysctlKey};
use conntrack::Conntrack;
use ipnet::IpNet;
use netlink::{Answer, Netlink, Request};
use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{io, mem};
use tokio::sync::OnceCell;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("cannot use a netlink socket {what}")]
    Open { what: &'static str, source: io::Error },
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
    /// For connections that end. None after a failure, which may have left a list half read.
    conntrack: Mutex<Option<Conntrack>>,
    tables: tokio::sync::Mutex<nft::KnownTables>,
    sysctls: Mutex<former::FormerValues>,
    /// Neighbours that we take away (interface, address): the notices of that have no sender (`neigh_cleanup_and_release`).
    leaving: watch::Leaving,
    /// Whether the kernel has them, asked once.
    flow_tables: OnceCell<bool>,
}

impl Kernel {
    /// Opens the calling thread's network namespace. The directory must exist, and outlive this process but not the
    /// machine's uptime (`/run/portway`): it holds what the kernel cannot be asked for.
    pub async fn open(state_dir: &Path) -> Result<Self, KernelError> {
        let open = |family, what| Netlink::open(family).map_err(|source| KernelError::Open { what, source });
        Ok(Self {
            route: Mutex::new(open(libc::NETLINK_ROUTE, "for routes")?),
            lists: Mutex::new(open(libc::NETLINK_ROUTE, "for routes")?),
            netfilter: tokio::sync::Mutex::new(open(libc::NETLINK_NETFILTER, "for nftables")?),
            elements: Mutex::new(open(libc::NETLINK_NETFILTER, "for nftables")?),
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
            for table in [NftTable::Inet, NftTable::Netdev] {
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
        let mut settings: BTreeSet<Sysctl> = lock(&self.sysctls).iter().map(|former| former.sysctl.clone()).collect();
        settings.extend(interest.iter().cloned());
        settings.extend(state.links.keys().flat_map(|name| SysctlKey::OF_INTERFACE.map(|key| Sysctl { interface: name.clone(), key })));
        for wanted in settings {
            if let Some(value) = sysctl::read(&wanted)? {
                state.sysctls.insert(wanted, value);
            }
        }
        Ok(state)
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
    pub async fn counters(&self) -> Result<Vec<(&'static str, String, u64)>, KernelError> {
        nft::counters().await
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

    /// Adds one element, or replaces its value. When this returns, the kernel acts on it.
    pub fn set_element(&self, set: &SetName, element: &Element, value: Option<Mark>) -> Result<(), KernelError> {
        Ok(element::set(&mut lock(&self.elements), set, element, value)?)
    }

    /// Removes one element, or finds it gone.
    pub fn remove_element(&self, set: &SetName, element: &Element) -> Result<(), KernelError> {
        Ok(element::remove(&mut lock(&self.elements), set, element)?)
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

    /// Deletes every connection tracking entry whose mark has these bits under this mask.
    pub async fn delete_conntrack_by_mark(&self, mark: Mark, mask: u32) -> Result<(), KernelError> {
        self.empty_flow_table().await?;
        Ok(conntrack::delete_by_mark(&mut lock(&self.elements), mark.0, mask)?)
    }

    /// Deletes the connections of these zones that `ends` names, and says how many there were.
    pub async fn end_flows(&self, zones: &BTreeSet<u16>, ends: impl Fn(&FlowKey, Option<NatSource>) -> bool) -> Result<usize, KernelError> {
        self.empty_flow_table().await?;
        self.delete_flows(zones, ends)
    }

    /// Kernels before 6.4 do not delete a connection that is in a flow table (ctnetlink_del_conntrack, ctnetlink_flush_iterate):
    /// there all of them are taken out before.
    async fn empty_flow_table(&self) -> Result<(), KernelError> {
        let flow_tables = *self.flow_tables.get_or_try_init(nft::has_flow_tables).await?;
        if flow_tables && !flow_table::entries_can_be_deleted() {
            nft::renew(&mut *self.netfilter.lock().await, NftTable::Inet).await?;
        }
        Ok(())
    }

    /// Whether this is the ruleset that was applied last.
    pub async fn has_ruleset(&self, table: NftTable, ruleset: &Ruleset) -> bool {
        nft::is_applied(&*self.tables.lock().await, table, ruleset)
    }

    /// Starts to watch. What changed before is not told: observe after this, not before.
    pub async fn watch(&self) -> Result<Watch, KernelError> {
        let own: HashSet<u32> = [lock(&self.route).port(), lock(&self.elements).port()].into();
        Watch::open(own, self.leaving.clone(), || link::list(&mut lock(&self.route)))
    }

    /// Whether this kernel has GRE devices.
    pub async fn has_gre(&self) -> bool {
        link::has_gre(&mut lock(&self.route))
    }

    /// One result for each step of a run of one kind.
    async fn apply_run(&self, run: &[Step]) -> Vec<Result<(), KernelError>> {
        match &run[0] {
            Step::ReplaceTable(..) | Step::RemoveTable(_) => {
                let mut results = Vec::new();
                for step in run {
                    let (mut netfilter, mut known) = (self.netfilter.lock().await, self.tables.lock().await);
                    results.push(match step {
                        Step::ReplaceTable(table, ruleset) => nft::replace(&mut known, &mut netfilter, *table, ruleset).await,
                        Step::RemoveTable(table) => nft::remove(&mut known, *table).await,
                        _ => Ok(()),
                    });
                }
                results
            }
            Step::SetElement(..) | Step::RemoveElement(..) => self.apply_elements(run),
            Step::AddFlowDevice(_) | Step::RemoveFlowDevice(_) => run.iter().map(|step| self.apply_flow_device(step)).collect(),
            _ => self.apply_route(run),
        }
    }

    fn apply_elements(&self, run: &[Step]) -> Vec<Result<(), KernelError>> {
        let mut results = Vec::with_capacity(run.len());
        // In pieces, so that a change on the hot path does not wait for all of them.
        for piece in run.chunk_by(same_set).flat_map(|piece| piece.chunks(1000)) {
            let mut netlink = lock(&self.elements);
            let entries: Vec<_> = piece.iter().filter_map(entry).collect();
            let answers = match &piece[0] {
                Step::SetElement(set, ..) => element::set_all(&mut netlink, set, &entries),
                Step::RemoveElement(set, _) => element::remove_all(&mut netlink, set, &entries),
                _ => Vec::new(),
            };
            results.extend(answers.into_iter().map(|answer| answer.map_err(KernelError::from)));
        }
        results
    }

    fn apply_flow_device(&self, step: &Step) -> Result<(), KernelError> {
        let mut netlink = lock(&self.elements);
        match step {
            Step::AddFlowDevice(name) => flow_table::add(&mut netlink, NftTable::Inet, name)?,
            Step::RemoveFlowDevice(name) => flow_table::remove(&mut netlink, NftTable::Inet, name)?,
            _ => {}
        }
        Ok(())
    }

    /// Everything that goes over rtnetlink, and settings, which want to know interfaces.
    fn apply_route(&self, run: &[Step]) -> Vec<Result<(), KernelError>> {
        let mut netlink = lock(&self.route);
        match &run[0] {
            Step::RemoveRoute(_) => {
                let keys = run.iter().filter_map(|step| if let Step::RemoveRoute(key) = step { Some(key) } else { None });
                let answers = match link::list(&mut netlink) {
                    Ok(links) => route::remove(&mut netlink, &links.names, keys),
                    Err(refused) => vec![Err(refused); run.len()],
                };
                return answers.into_iter().map(|answer| answer.map_err(KernelError::from)).collect();
            }
            Step::RemoveRule(_) => {
                let rules = run.iter().filter_map(|step| if let Step::RemoveRule(rule) = step { Some(rule) } else { None });
                return rule::remove(&mut netlink, rules).into_iter().map(|answer| answer.map_err(KernelError::from)).collect();
            }
            _ => {}
        }
        let mut indices = Indices::default();
        let mut results: Vec<Result<(), KernelError>> = Vec::with_capacity(run.len());
        let (mut places, mut requests) = (Vec::new(), Vec::new());
        for (place, step) in run.iter().enumerate() {
            results.push(match self.prepare(&mut netlink, &mut indices, step) {
                Ok(Some(request)) => {
                    places.push(place);
                    requests.push(request);
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            });
        }
        for (place, answer) in places.into_iter().zip(netlink.execute(requests)) {
            results[place] = judge(&run[place], answer).map_err(KernelError::from);
        }
        results
    }

    /// Carries a step out at once, or gives the request that does.
    fn prepare(&self, netlink: &mut Netlink, indices: &mut Indices, step: &Step) -> Result<Option<Request>, KernelError> {
        let request = match step {
            Step::SetSysctl(wanted, value) => {
                let index = indices.or_zero(netlink, &wanted.interface)?;
                sysctl::set(&mut lock(&self.sysctls), wanted, index, value)?;
                return Ok(None);
            }
            Step::RestoreSysctl(wanted) => {
                let index = indices.or_zero(netlink, &wanted.interface)?;
                sysctl::restore(&mut lock(&self.sysctls), wanted, index)?;
                return Ok(None);
            }
            Step::AddLink(name, link) => return Ok(link::add(netlink, name, link).map(|()| None)?),
            Step::ChangeLink(name, link) => return Ok(link::change(netlink, name, link).map(|()| None)?),
            Step::RemoveLink(name) => return Ok(link::remove(netlink, name).map(|()| None)?),
            Step::AddAddress(name, address) => address::add(indices.get(netlink, name)?, *address),
            Step::SetNeighbour(name, hop, outer) => neighbour::set(indices.get(netlink, name)?, *hop, *outer),
            // What hung on an interface went with it.
            Step::RemoveAddress(name, _) | Step::RemoveNeighbour(name, _) if indices.or_zero(netlink, name)? == 0 => return Ok(None),
            Step::RemoveAddress(name, address) => address::remove(indices.get(netlink, name)?, *address),
            Step::RemoveNeighbour(name, hop) => {
                let index = indices.get(netlink, name)?;
                lock(&self.leaving).insert((index, *hop));
                neighbour::remove(index, *hop)
            }
            Step::SetRoute(key, route) => {
                let index = match route {
                    Route::Unicast { interface, .. } => Some(indices.get(netlink, interface)?),
                    Route::Unreachable | Route::Throw => None,
                };
                route::set(key, route, index)
            }
            Step::AddRule(rule) => rule::add(rule),
            Step::ReplaceTable(..)
            | Step::RemoveTable(_)
            | Step::RemoveRoute(_)
            | Step::RemoveRule(_)
            | Step::SetElement(..)
            | Step::RemoveElement(..)
            | Step::AddFlowDevice(_)
            | Step::RemoveFlowDevice(_) => return Ok(None),
        };
        Ok(Some(request))
    }
}

/// What an answer means for a step, where "already so" is as good as done.
fn judge(step: &Step, answer: Answer) -> Answer {
    match step {
        Step::RemoveAddress(..) => address::removed(answer),
        Step::RemoveNeighbour(..) => neighbour::removed(answer),
        Step::AddRule(_) => rule::added(answer),
        _ => answer,
    }
}

/// Interface indices, asked for once in a run.
#[derive(Default)]
struct Indices(HashMap<IfName, u32>);

impl Indices {
    fn or_zero(&mut self, netlink: &mut Netlink, name: &IfName) -> Result<u32, KernelError> {
        if let Some(index) = self.0.get(name) {
            return Ok(*index);
        }
        let index = link::index(netlink, name).map_err(|refused| KernelError::read("an interface", refused))?.unwrap_or(0);
        self.0.insert(name.clone(), index);
        Ok(index)
    }

    fn get(&mut self, netlink: &mut Netlink, name: &IfName) -> Result<u32, KernelError> {
        match self.or_zero(netlink, name)? {
            0 => Err(KernelError::NoInterface(name.clone())),
            index => Ok(index),
        }
    }
}

fn same_kind(a: &Step, b: &Step) -> bool {
    mem::discriminant(a) == mem::discriminant(b)
}

fn same_set(a: &Step, b: &Step) -> bool {
    match (a, b) {
        (Step::SetElement(a, ..) | Step::RemoveElement(a, _), Step::SetElement(b, ..) | Step::RemoveElement(b, _)) => a == b,
        _ => false,
    }
}

fn entry(step: &Step) -> Option<(&Element, Option<Mark>)> {
    match step {
        Step::SetElement(_, element, value) => Some((element, *value)),
        Step::RemoveElement(_, element) => Some((element, None)),
        _ => None,
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
