//! ENIs that are no instance's: found by tag and zone, attached at a device index, detached, and free again after their instance's end.

use super::{Cloud, Ec2, Eni, Refusal, invalid, missing};
use crate::lab::cloud::metadata::REGION;
use crate::model::EniId;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::mpsc;

/// Those that were made as such.
#[derive(Debug, Default)]
pub(super) struct Pool {
    enis: BTreeMap<EniId, Pooled>,
    /// Attachments that were made.
    attached: u32,
    plugs: Vec<mpsc::Sender<Plug>>,
}

#[derive(Debug)]
struct Pooled {
    zone: String,
    tags: BTreeMap<String, String>,
    attachment: Option<Attachment>,
}

#[derive(Debug)]
struct Attachment {
    id: String,
    device: u8,
}

/// What happens to the machine of an instance: an interface comes, or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plug {
    pub eni: EniId,
    pub instance: String,
    pub comes: bool,
}

impl Cloud {
    /// An interface that waits for an instance of its zone (`a`, `b` of the region).
    pub fn spare(&self, id: &EniId, mac: &str, (zone, subnet): (&str, IpNet), primary: IpAddr, tags: &[(&str, &str)]) {
        self.eni(id, "", mac, subnet, primary);
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let pooled = Pooled { zone: format!("{REGION}{zone}"), tags, attachment: None };
        self.account().ec2.pool.enis.insert(id.clone(), pooled);
    }

    /// The instance that has it.
    pub fn holder(&self, id: &EniId) -> Option<String> {
        self.account().ec2.enis.get(id).map(|eni| eni.instance.clone()).filter(|instance| !instance.is_empty())
    }

    /// From now on: whoever receives them moves the interfaces.
    pub fn plugs(&self) -> mpsc::Receiver<Plug> {
        let (sender, receiver) = mpsc::channel();
        self.account().ec2.pool.plugs.push(sender);
        receiver
    }

    /// By hand, whoever needs it.
    pub fn take_away(&self, id: &EniId) {
        self.account().ec2.unplug(id);
    }

    /// It ends, as the console has it. What was attached to it after its launch stays: its DeleteOnTermination is false unless somebody says otherwise.
    pub fn terminate(&self, instance: &str) {
        let mut account = self.account();
        let of = |(id, eni): (&EniId, &Eni)| (eni.instance == instance).then(|| id.clone());
        let attached: Vec<EniId> = account.ec2.enis.iter().filter_map(of).filter(|id| account.ec2.pool.enis.contains_key(id)).collect();
        attached.iter().for_each(|id| account.ec2.unplug(id));
    }
}

impl Ec2 {
    /// With filters; by id it is another's.
    pub(super) fn describe_tagged(&self, form: &BTreeMap<String, String>) -> Result<String, Refusal> {
        let filters: Vec<(&str, &str)> = (1..)
            .map_while(|number| Some((form.get(&format!("Filter.{number}.Name"))?, form.get(&format!("Filter.{number}.Value.1"))?)))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let mut items = String::new();
        for (id, pooled) in &self.pool.enis {
            let status = if pooled.attachment.is_some() { "in-use" } else { "available" };
            let passes = |(name, value): &(&str, &str)| match (*name, name.strip_prefix("tag:")) {
                (_, Some(key)) => Ok(pooled.tags.get(key).is_some_and(|tag| tag == value)),
                ("availability-zone", _) => Ok(pooled.zone == *value),
                ("status", _) => Ok(status == *value),
                (other, _) => Err(invalid(format!("The filter '{other}' is invalid"))),
            };
            if filters.iter().map(passes).collect::<Result<Vec<_>, _>>()?.contains(&false) {
                continue;
            }
            let eni = &self.enis[id];
            let attachment = pooled.attachment.as_ref().map_or_else(String::new, |Attachment { id, device }| {
                format!(
                    "<attachment><attachmentId>{id}</attachmentId><instanceId>{}</instanceId><deviceIndex>{device}</deviceIndex>\
                     <status>attached</status><deleteOnTermination>false</deleteOnTermination></attachment>",
                    eni.instance
                )
            });
            let addresses: String = eni
                .addresses
                .iter()
                .map(|address| {
                    format!("<item><privateIpAddress>{address}</privateIpAddress><primary>{}</primary></item>", *address == eni.primary)
                })
                .collect();
            let (mac, zone) = (&eni.mac, &pooled.zone);
            let _ = write!(
                items,
                "<item><networkInterfaceId>{id}</networkInterfaceId><availabilityZone>{zone}</availabilityZone><status>{status}</status>\
                 <macAddress>{mac}</macAddress><sourceDestCheck>false</sourceDestCheck>{attachment}\
                 <privateIpAddressesSet>{addresses}</privateIpAddressesSet></item>"
            );
        }
        Ok(format!("<networkInterfaceSet>{items}</networkInterfaceSet>"))
    }

    pub(super) fn attach(&mut self, form: &BTreeMap<String, String>) -> Result<String, Refusal> {
        let get = |name: &str| form.get(name).map(String::as_str).ok_or_else(|| missing(name));
        let (id, instance, device) = (self.known(get("NetworkInterfaceId")?)?, get("InstanceId")?.to_owned(), get("DeviceIndex")?);
        let device: u8 = device.parse().map_err(|_| invalid(format!("Value ({device}) for parameter deviceIndex is invalid.")))?;
        let in_use = || (400, "InvalidNetworkInterface.InUse", format!("Interface: [{id}] in use."));
        let pooled = self.pool.enis.get(&id).filter(|pooled| pooled.attachment.is_none()).ok_or_else(in_use)?;
        if pooled.zone != format!("{REGION}a") {
            let text = "You may not attach a network interface to an instance if they are not in the same availability zone";
            return Err((400, "InvalidParameterCombination", text.into()));
        }
        let is_at = |(id, pooled): (&EniId, &Pooled)| {
            self.enis[id].instance == instance && pooled.attachment.as_ref().is_some_and(|attachment| attachment.device == device)
        };
        if device == 0 || self.pool.enis.iter().any(is_at) {
            return Err(invalid(format!("Instance '{instance}' already has an interface attached at device index '{device}'.")));
        }
        self.pool.attached += 1;
        let attachment = format!("eni-attach-{:017x}", self.pool.attached);
        if let (Some(eni), Some(pooled)) = (self.enis.get_mut(&id), self.pool.enis.get_mut(&id)) {
            eni.instance.clone_from(&instance);
            pooled.attachment = Some(Attachment { id: attachment.clone(), device });
        }
        self.plug(Plug { eni: id, instance, comes: true });
        Ok(format!("<attachmentId>{attachment}</attachmentId>"))
    }

    pub(super) fn detach(&mut self, form: &BTreeMap<String, String>) -> Result<String, Refusal> {
        let id = form.get("AttachmentId").ok_or_else(|| missing("AttachmentId"))?;
        let has = |pooled: &Pooled| pooled.attachment.as_ref().is_some_and(|attachment| attachment.id == *id);
        let eni = self.pool.enis.iter().find(|(_, pooled)| has(pooled)).map(|(eni, _)| eni.clone());
        let unknown = || (400, "InvalidAttachmentID.NotFound", format!("The networkInterface attachment ID '{id}' does not exist"));
        self.unplug(&eni.ok_or_else(unknown)?);
        Ok("<return>true</return>".into())
    }

    /// Its addresses stay with it, those of HaVips too, until somebody takes them.
    fn unplug(&mut self, id: &EniId) {
        if let (Some(eni), Some(pooled)) = (self.enis.get_mut(id), self.pool.enis.get_mut(id)) {
            pooled.attachment = None;
            let instance = std::mem::take(&mut eni.instance);
            self.plug(Plug { eni: id.clone(), instance, comes: false });
        }
    }

    fn plug(&mut self, plug: Plug) {
        self.pool.plugs.retain(|sender| sender.send(plug.clone()).is_ok());
    }
}
