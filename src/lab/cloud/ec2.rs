//! Of EC2 what a gateway calls: ENIs and their addresses, route tables, elastic addresses. An address is one ENI's of its subnet and no other's, as it is not with moto.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/>

pub mod described;

use super::{Account, Cloud, Refusal};
use crate::model::{AllocationId, EniId, RouteTableId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

mod attach;
mod dry;
pub mod network;
mod pages;

pub use attach::Plug;

/// Everything of it that the account has.
#[derive(Debug, Default)]
pub(super) struct Ec2 {
    enis: BTreeMap<EniId, Eni>,
    pool: attach::Pool,
    tables: BTreeMap<RouteTableId, BTreeMap<IpNet, EniId>>,
    elastics: BTreeMap<AllocationId, Option<(EniId, IpAddr)>>,
    limit: Option<Limit>,
    described: described::Described,
    tracked: network::Tracked,
    /// Interfaces of a page.
    page: Option<usize>,
    /// One way.
    latency: Duration,
    /// What comes before the first answer of a connection.
    handshake: Duration,
    /// Who had what, since when: what the account says of itself may be checked against it.
    history: Vec<Moved>,
}

#[derive(Debug)]
struct Eni {
    /// Empty: none has it.
    instance: String,
    mac: String,
    subnet: IpNet,
    primary: IpAddr,
    addresses: BTreeSet<IpAddr>,
}

/// Something leads somewhere else from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub what: String,
    pub to: EniId,
    pub at: Instant,
}

/// A token bucket.
#[derive(Debug)]
struct Limit {
    per_second: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl Limit {
    fn lets(&mut self) -> bool {
        let now = Instant::now();
        self.left = (self.left + (now - self.at).as_secs_f64() * self.per_second).min(self.burst);
        self.at = now;
        let lets = self.left >= 1.0;
        self.left -= f64::from(u8::from(lets));
        lets
    }
}

impl Cloud {
    /// An interface of an instance, with its primary address.
    pub fn eni(&self, id: &EniId, instance: &str, mac: &str, subnet: IpNet, primary: IpAddr) {
        let eni = Eni { instance: instance.to_owned(), mac: mac.to_owned(), subnet, primary, addresses: [primary].into() };
        self.account().ec2.enis.insert(id.clone(), eni);
    }

    pub fn route_table(&self, id: &RouteTableId) {
        self.account().ec2.tables.entry(id.clone()).or_default();
    }

    pub fn elastic(&self, id: &AllocationId) {
        self.account().ec2.elastics.entry(id.clone()).or_default();
    }

    /// As somebody else than a gateway has it: it leads to the interface's primary address.
    pub fn associate(&self, id: &AllocationId, eni: &EniId) {
        let mut account = self.account();
        let primary = account.ec2.enis[eni].primary;
        account.ec2.elastics.insert(id.clone(), Some((eni.clone(), primary)));
    }

    /// So many calls a second, and so many at once.
    pub fn throttle(&self, per_second: u32, burst: u32) {
        let (per_second, burst) = (f64::from(per_second), f64::from(burst));
        self.account().ec2.limit = Some(Limit { per_second, burst, left: burst, at: Instant::now() });
    }

    /// From a call to its answer.
    pub fn latency(&self, latency: Duration) {
        self.account().ec2.latency = latency / 2;
    }

    /// From the first call of a connection to its answer, beside the rest: what TCP and TLS take on a way as long as that of calls.
    pub fn handshake(&self, handshake: Duration) {
        self.account().ec2.handshake = handshake;
    }

    /// Who has this address in its subnet.
    pub fn owner(&self, address: IpAddr) -> Option<EniId> {
        self.account().ec2.owner(address).cloned()
    }

    pub fn route(&self, table: &RouteTableId, to: IpNet) -> Option<EniId> {
        self.account().ec2.tables.get(table)?.get(&to).cloned()
    }

    pub fn association(&self, id: &AllocationId) -> Option<(EniId, IpAddr)> {
        self.account().ec2.elastics.get(id)?.clone()
    }

    /// Somebody else than a gateway gives an address to an interface.
    pub fn assign(&self, address: IpAddr, to: &EniId) {
        self.account().ec2.give(address, to);
    }

    /// All that ever moved, the latest last.
    pub fn moved(&self) -> Vec<Moved> {
        self.account().ec2.history.clone()
    }
}

impl Account {
    pub(super) fn ec2_latency(&self) -> Duration {
        self.ec2.latency
    }

    pub(super) fn ec2_handshake(&self) -> Duration {
        self.ec2.handshake
    }

    pub(super) fn answer_ec2(&mut self, form: &BTreeMap<String, String>) -> Result<String, Refusal> {
        if self.ec2.limit.as_mut().is_some_and(|limit| !limit.lets()) {
            return Err((503, "RequestLimitExceeded", "Request limit exceeded.".into()));
        }
        self.ec2.settle();
        self.ec2.answer(form)
    }

    /// Whether calls of this action go unanswered.
    pub(super) fn is_silent(&self, action: &str) -> bool {
        self.ec2.described.is_silent(action)
    }

    /// What an instance's metadata say of its interfaces.
    pub(super) fn interface_item(&self, instance: &str, item: &str) -> Option<String> {
        let (mac, item) = item.split_once('/')?;
        let (id, eni) = self.ec2.enis.iter().find(|(_, eni)| eni.instance == instance && eni.mac == mac)?;
        match item {
            "interface-id" => Some(id.to_string()),
            "subnet-ipv4-cidr-block" => Some(eni.subnet.to_string()),
            "local-ipv4s" => {
                // The primary first.
                let others = eni.addresses.iter().filter(|address| **address != eni.primary);
                Some([eni.primary].iter().chain(others).map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
            _ => None,
        }
    }
}

impl Ec2 {
    fn owner(&self, address: IpAddr) -> Option<&EniId> {
        self.enis.iter().find(|(_, eni)| eni.addresses.contains(&address)).map(|(id, _)| id)
    }

    fn give(&mut self, address: IpAddr, to: &EniId) {
        let subnet = self.enis[to].subnet;
        for (_, eni) in self.enis.iter_mut().filter(|(id, eni)| *id != to && eni.subnet == subnet) {
            eni.addresses.remove(&address);
        }
        self.enis.get_mut(to).expect("it was looked up").addresses.insert(address);
        self.moved(address.to_string(), to);
    }

    fn moved(&mut self, what: String, to: &EniId) {
        self.history.push(Moved { what, to: to.clone(), at: Instant::now() });
    }

    fn answer(&mut self, form: &BTreeMap<String, String>) -> Result<String, Refusal> {
        let get = |name: &str| form.get(name).map(String::as_str).ok_or_else(|| missing(name));
        let numbered = |name: &str| -> Vec<String> { (1..).map_while(|number| form.get(&format!("{name}.{number}")).cloned()).collect() };
        if let Some(refusal) = self.described.refusal(form) {
            return Err(refusal);
        }
        if form.get("DryRun").is_some_and(|dry| dry == "true") {
            return Err(self.tried(form));
        }
        match get("Action")? {
            "DescribeNetworkInterfaces" if described::is_by_id_or_address(form) => {
                self.describe_interfaces(form, &numbered("NetworkInterfaceId"))
            }
            "DescribeSecurityGroups" => self.described.security_groups(&numbered("GroupId")),
            "AssignPrivateIpAddresses" => self.assign(form),
            action @ ("ReplaceRoute" | "CreateRoute") => {
                let (table, to, eni) = self.route_in(form)?;
                let routes = self.tables.entry(table.clone()).or_default();
                match (action, routes.contains_key(&to)) {
                    ("ReplaceRoute", false) => {
                        Err(invalid(format!("There is no route defined for '{to}' in the route table. Use CreateRoute instead.")))
                    }
                    ("CreateRoute", true) => Err((400, "RouteAlreadyExists", format!("The route identified by {to} already exists."))),
                    _ => {
                        routes.insert(to, eni.clone());
                        self.moved(format!("{to} in {table}"), &eni);
                        Ok("<return>true</return>".into())
                    }
                }
            }
            "AssociateAddress" => {
                let (allocation, eni, address) = self.association_in(form)?;
                if !self.enis[&eni].addresses.contains(&address) {
                    return Err(invalid(format!("{address} is not assigned to {eni}")));
                }
                self.moved(allocation.to_string(), &eni);
                self.elastics.insert(allocation, Some((eni, address)));
                Ok("<return>true</return><associationId>eipassoc-0123456789abcdef0</associationId>".into())
            }
            "DescribeNetworkInterfaces" if form.contains_key("Filter.1.Name") => self.describe_tagged(form),
            "AttachNetworkInterface" => self.attach(form),
            "DetachNetworkInterface" => self.detach(form),
            "DescribeRouteTables" => {
                let mut items = String::new();
                for id in numbered("RouteTableId") {
                    let routes = id.parse().ok().and_then(|id: RouteTableId| self.tables.get(&id));
                    let routes = routes.ok_or((400, "InvalidRouteTableID.NotFound", format!("The routeTable ID '{id}' does not exist")))?;
                    let [about, local] = self.described.table(&id);
                    let _ = write!(items, "<item><routeTableId>{id}</routeTableId>{about}<routeSet>{local}");
                    for (to, eni) in routes {
                        let route =
                            format!("<destinationCidrBlock>{to}</destinationCidrBlock><networkInterfaceId>{eni}</networkInterfaceId>");
                        let _ = write!(items, "<item>{route}<state>active</state><origin>CreateRoute</origin></item>");
                    }
                    items += "</routeSet></item>";
                }
                Ok(format!("<routeTableSet>{items}</routeTableSet>"))
            }
            "DescribeAddresses" => {
                let mut items = String::new();
                let of = form.get("Filter.1.Name").filter(|name| *name == "network-interface-id").map(|_| numbered("Filter.1.Value"));
                let leads = |enis: &Vec<String>, led: &Option<(EniId, IpAddr)>| {
                    led.as_ref().is_some_and(|(eni, _)| enis.iter().any(|wanted| *wanted == eni.as_str()))
                };
                let known = |enis| self.elastics.iter().filter(move |(_, led)| leads(enis, led)).map(|(id, _)| id.to_string());
                let wanted = of.as_ref().map_or_else(|| numbered("AllocationId"), |enis| known(enis).collect());
                for id in wanted {
                    let elastic = id.parse().ok().and_then(|id: AllocationId| self.elastics.get(&id));
                    let elastic =
                        elastic.ok_or((400, "InvalidAllocationID.NotFound", format!("The allocation ID '{id}' does not exist")))?;
                    let led = elastic.as_ref().map(|(eni, address)| {
                        let instance = &self.enis[eni].instance;
                        let instance = if instance.is_empty() { String::new() } else { format!("<instanceId>{instance}</instanceId>") };
                        format!(
                            "{instance}<associationId>eipassoc-0123456789abcdef0</associationId><networkInterfaceId>{eni}</networkInterfaceId><privateIpAddress>{address}</privateIpAddress>"
                        )
                    });
                    let led = led.unwrap_or_default();
                    let _ = write!(
                        items,
                        "<item><publicIp>192.0.2.1</publicIp><allocationId>{id}</allocationId><domain>vpc</domain>{led}</item>"
                    );
                }
                Ok(format!("<addressesSet>{items}</addressesSet>"))
            }
            other => Err((400, "InvalidAction", format!("The action {other} is not valid for this web service."))),
        }
    }

    fn assign(&mut self, form: &BTreeMap<String, String>) -> Result<String, Refusal> {
        let (eni, all, reassign) = self.assignment_in(form)?;
        for address in &all {
            let other = self.owner(*address).filter(|owner| **owner != eni);
            let is_primary = other.is_some_and(|owner| self.enis[owner].primary == *address);
            if is_primary || (other.is_some() && !reassign) {
                let text = format!("[{address}] assigned, but move is not allowed.");
                return Err((400, "InvalidParameterValue", text));
            }
        }
        all.iter().for_each(|address| self.give(*address, &eni));
        let items: String = all.iter().map(|address| format!("<item><privateIpAddress>{address}</privateIpAddress></item>")).collect();
        Ok(format!(
            "<networkInterfaceId>{eni}</networkInterfaceId><assignedPrivateIpAddressesSet>{items}</assignedPrivateIpAddressesSet><return>true</return>"
        ))
    }

    fn known(&self, id: &str) -> Result<EniId, Refusal> {
        let known = id.parse().ok().filter(|id| self.enis.contains_key(id));
        known.ok_or((400, "InvalidNetworkInterfaceID.NotFound", format!("The networkInterface ID '{id}' does not exist")))
    }
}

fn missing(name: &str) -> Refusal {
    (400, "MissingParameter", format!("The request must contain the parameter {name}"))
}

fn invalid(message: String) -> Refusal {
    (400, "InvalidParameterValue", message)
}
