//! Of EC2 what a gateway calls: ENIs and their addresses, route tables, elastic addresses. An address is one ENI's of its subnet and no other's, as it is not with moto.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/>

use super::{Account, Cloud, Refusal};
use crate::model::{AllocationId, EniId, RouteTableId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Everything of it that the account has.
#[derive(Debug, Default)]
pub(super) struct Ec2 {
    enis: BTreeMap<EniId, Eni>,
    tables: BTreeMap<RouteTableId, BTreeMap<IpNet, EniId>>,
    elastics: BTreeMap<AllocationId, Option<(EniId, IpAddr)>>,
    limit: Option<Limit>,
    /// One way.
    latency: Duration,
    /// Who had what, since when: what the account says of itself may be checked against it.
    history: Vec<Moved>,
}

#[derive(Debug)]
struct Eni {
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

    /// So many calls a second, and so many at once.
    pub fn throttle(&self, per_second: u32, burst: u32) {
        let (per_second, burst) = (f64::from(per_second), f64::from(burst));
        self.account().ec2.limit = Some(Limit { per_second, burst, left: burst, at: Instant::now() });
    }

    /// From a call to its answer.
    pub fn latency(&self, latency: Duration) {
        self.account().ec2.latency = latency / 2;
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

    pub(super) fn answer_ec2(&mut self, form: &BTreeMap<String, String>) -> Result<String, Refusal> {
        if self.ec2.limit.as_mut().is_some_and(|limit| !limit.lets()) {
            return Err((503, "RequestLimitExceeded", "Request limit exceeded.".into()));
        }
        self.ec2.answer(form)
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
        match get("Action")? {
            "AssignPrivateIpAddresses" => {
                self.assign(get("NetworkInterfaceId")?, &numbered("PrivateIpAddress"), get("AllowReassignment")? == "true")
            }
            action @ ("ReplaceRoute" | "CreateRoute") => {
                let (table, to, eni) = (get("RouteTableId")?, get("DestinationCidrBlock")?, self.known(get("NetworkInterfaceId")?)?);
                let to: IpNet = to.parse().map_err(|_| invalid(format!("Value ({to}) for parameter destinationCidrBlock is invalid")))?;
                let routes = table.parse().ok().and_then(|id: RouteTableId| self.tables.get_mut(&id));
                let routes = routes.ok_or((400, "InvalidRouteTableID.NotFound", format!("The routeTable ID '{table}' does not exist")))?;
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
                let (id, eni, address) = (get("AllocationId")?, self.known(get("NetworkInterfaceId")?)?, get("PrivateIpAddress")?);
                let allocation: Option<AllocationId> = id.parse().ok().filter(|id| self.elastics.contains_key(id));
                let allocation =
                    allocation.ok_or((400, "InvalidAllocationID.NotFound", format!("The allocation ID '{id}' does not exist")))?;
                let has = |address: &IpAddr| self.enis[&eni].addresses.contains(address);
                let address: IpAddr =
                    address.parse().ok().filter(has).ok_or_else(|| invalid(format!("{address} is not assigned to {eni}")))?;
                self.elastics.insert(allocation, Some((eni.clone(), address)));
                self.moved(id.to_owned(), &eni);
                Ok("<return>true</return><associationId>eipassoc-0123456789abcdef0</associationId>".into())
            }
            "DescribeRouteTables" => {
                let mut items = String::new();
                for id in numbered("RouteTableId") {
                    let routes = id.parse().ok().and_then(|id: RouteTableId| self.tables.get(&id));
                    let routes = routes.ok_or((400, "InvalidRouteTableID.NotFound", format!("The routeTable ID '{id}' does not exist")))?;
                    let _ = write!(items, "<item><routeTableId>{id}</routeTableId><routeSet>");
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
                for id in numbered("AllocationId") {
                    let elastic = id.parse().ok().and_then(|id: AllocationId| self.elastics.get(&id));
                    let elastic =
                        elastic.ok_or((400, "InvalidAllocationID.NotFound", format!("The allocation ID '{id}' does not exist")))?;
                    let led = elastic.as_ref().map(|(eni, address)| {
                        format!("<networkInterfaceId>{eni}</networkInterfaceId><privateIpAddress>{address}</privateIpAddress>")
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

    fn assign(&mut self, eni: &str, addresses: &[String], reassign: bool) -> Result<String, Refusal> {
        let eni = self.known(eni)?;
        let subnet = self.enis[&eni].subnet;
        let mut all = vec![];
        for text in addresses {
            let address: Option<IpAddr> = text.parse().ok().filter(|address| subnet.contains(address));
            let address = address.ok_or_else(|| invalid(format!("Address {text} does not fall within the subnet's address range")))?;
            let other = self.owner(address).filter(|owner| **owner != eni);
            let is_primary = other.is_some_and(|owner| self.enis[owner].primary == address);
            if is_primary || (other.is_some() && !reassign) {
                let text = format!("[{address}] assigned, but move is not allowed.");
                return Err((400, "InvalidParameterValue", text));
            }
            all.push(address);
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
