//! Whether the interfaces that a gateway attaches by itself are there to be taken, and whether it may take them.

use super::ask::{Question, arn};
use super::{Instance, Seen};
use crate::config::{Attach, Gateway, GatewayTenant};
use crate::doctor::Finding;
use crate::model::{IfName, InstanceId};
use crate::plan::facts::Facts as Links;
use crate::wire::ec2::{Attachment, Call, Interface};

pub fn attached(gateway: &Gateway) -> impl Iterator<Item = (&GatewayTenant, &Attach)> {
    gateway.tenants.iter().filter_map(|tenant| Some((tenant, gateway.attach(&tenant.name)?)))
}

/// Whether an interface that is not here is one that the gateway attaches: what there is to say of it, [`findings`] says.
pub fn awaits(seen: &Seen, gateway: &Gateway, links: &Links, interface: &IfName) -> bool {
    let is_attached = attached(gateway).any(|(tenant, _)| tenant.interface == *interface && seen.pools.contains_key(&tenant.name));
    is_attached && links.link(interface).is_none()
}

/// The index at which it is attached to this instance. The first is for what came with the machine.
fn here<'i>(one: &'i Interface, instance: &Instance) -> Option<&'i Attachment> {
    one.attachment.as_ref().filter(|at| at.instance_id == instance.id && at.device_index > 0 && at.status != "detached")
}

fn is_free(one: &Interface) -> bool {
    one.status == "available"
}

pub fn findings(seen: &Seen, instance: &Instance, gateway: &Gateway, links: &Links) -> Vec<Finding> {
    let known = attached(gateway).filter_map(|(tenant, attach)| Some((tenant, attach, seen.pools.get(&tenant.name)?.as_slice())));
    known.filter_map(|(tenant, attach, pool)| Look { seen, instance, tenant, attach, pool }.finding(links)).collect()
}

struct Look<'l> {
    seen: &'l Seen,
    instance: &'l Instance,
    tenant: &'l GatewayTenant,
    attach: &'l Attach,
    /// Those of the zone with the tags.
    pool: &'l [Interface],
}

impl Look<'_> {
    fn finding(&self, links: &Links) -> Option<Finding> {
        let GatewayTenant { name, interface, .. } = self.tenant;
        let Instance { region, zone, .. } = self.instance;
        let own = self.seen.own.get(interface).and_then(|own| own.as_ref().ok());
        let mut ours: Vec<_> = self.pool.iter().filter_map(|one| Some((one, here(one, self.instance)?))).collect();
        ours.sort_by_key(|(one, _)| own.is_none_or(|own| own.id != one.id));
        let ours = ours.first().copied();
        if let Some((one, at)) = ours.filter(|(_, at)| at.device_index != self.attach.device) {
            let (is, device) = (at.device_index, self.attach.device);
            let what = format!("{} of {name} is attached here at the index {is}, and `attach` has `device: {device}`", one.id);
            let detach = format!("aws ec2 detach-network-interface --region {region} --attachment-id {}", at.id);
            return Some(Finding::broken(what, format!("write `device: {is}`, or drain this node and {detach}")));
        }
        if let Some(own) = own {
            let count = self.pool.iter().filter(|one| is_free(one)).count();
            if ours.is_some_and(|(one, _)| one.id == own.id) {
                let tags = self.tags();
                return Some(Finding::ok(format!("{} is attached as {interface} for {name}; {count} more with {tags} are free", own.id)));
            }
            let what =
                format!("{interface} is {}, which is none with {} in {zone}: for {name} another would be attached", own.id, self.tags());
            let tags: Vec<String> = self.attach.tags.iter().map(|(key, value)| format!("'Key={key},Value={value}'")).collect();
            let tag = format!("aws ec2 create-tags --region {region} --resources {} --tags {}", own.id, tags.join(" "));
            return Some(Finding::broken(what, format!("{tag}; or remove `attach`, and the gateway uses what is there")));
        }
        if links.link(interface).is_some() {
            return None;
        }
        Some(match ours {
            Some((one, _)) => {
                let what = format!("{} is attached here for {name}, and the kernel has no interface {interface}", one.id);
                let remedy = format!(
                    "ip -brief link | grep -i {0} says what it is called: have udev name it {interface} by its MAC (docs/aws.md), or write that name",
                    one.mac_address
                );
                Finding::broken(what, remedy)
            }
            None => self.to_come(),
        })
    }

    /// Nothing is attached, as before the gateway starts and after it has left.
    fn to_come(&self) -> Finding {
        let GatewayTenant { name, interface, .. } = self.tenant;
        let (all, free) = (self.pool.len(), self.pool.iter().filter(|one| is_free(one)).count());
        let (zone, tags) = (&self.instance.zone, self.tags());
        if free > 0 {
            let what = format!(
                "{interface} of {name} is not attached: of {all} with {tags} in {zone}, {free} are free, and the gateway takes one"
            );
            return Finding::note(what);
        }
        let what = format!("no network interface with {tags} is free in {zone} for {interface} of {name}: {all} there have them");
        let filters = self.attach.tags.iter().map(|(key, value)| format!(" 'Name=tag:{key},Values={value}'")).collect::<String>();
        let list = format!(
            "aws ec2 describe-network-interfaces --region {} --filters Name=availability-zone,Values={zone}{filters} --query 'NetworkInterfaces[].[NetworkInterfaceId,Status,Attachment.InstanceId]' --output text",
            self.instance.region
        );
        Finding::broken(what, format!("make more (in Terraform `autoscaling.spare_interfaces`); who has them: {list}"))
    }

    fn tags(&self) -> String {
        let all: Vec<String> = self.attach.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        format!("the tags {}", all.join(", "))
    }
}

/// Attaching is tried with one that is free, if there is, and letting go with the one that is here.
pub fn trials(seen: &Seen, gateway: &Gateway, instance: &Instance) -> Vec<Question> {
    let Ok(id) = instance.id.parse::<InstanceId>() else { return vec![] };
    // Whichever is free, and whichever instance of the group this is.
    let about = || ["network-interface", "instance"].map(|kind| arn(&instance.region, kind, "*"));
    let mut all = vec![];
    for (tenant, attach) in attached(gateway) {
        let Some(pool) = seen.pools.get(&tenant.name) else { continue };
        let ours = || pool.iter().filter_map(|one| Some((one, here(one, instance)?)));
        let free = pool.iter().find(|one| is_free(one));
        if let Some(Interface { id: eni, .. }) = free.or_else(|| ours().map(|(one, _)| one).next()).or_else(|| pool.first()) {
            all.push(Question::dry(Call::AttachNetworkInterface { eni, instance: &id, device: attach.device }, about()));
        }
        if let Some((_, at)) = ours().next() {
            all.push(Question::dry(Call::DetachNetworkInterface { attachment: &at.id }, about()));
        }
    }
    all
}
