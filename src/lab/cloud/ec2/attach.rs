//! ENIs that are no instance's: found by tag and zone, attached at a device index, detached, and free again after their instance's end.

use super::{Cloud, Ec2, Eni, Refusal, invalid, missing};
use crate::lab::cloud::metadata::REGION;
use crate::model::{EniId, InstanceId};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// From a call to `attached`, and from another to `available`. A machine sees what is plugged in or out of it at once.
const TAKES: Duration = Duration::from_secs(1);

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
    since: Instant,
    /// From then on it is on its way out.
    ends: Option<Instant>,
}

impl Attachment {
    fn status(&self) -> &'static str {
        match self.ends {
            Some(_) => "detaching",
            None if self.since.elapsed() < TAKES => "attaching",
            None => "attached",
        }
    }
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

    /// The instance that has it, or has not let it go altogether.
    pub fn holder(&self, id: &EniId) -> Option<String> {
        let mut account = self.account();
        account.ec2.settle();
        account.ec2.enis.get(id).map(|eni| eni.instance.clone()).filter(|instance| !instance.is_empty())
    }

    /// At which index of it.
    pub fn device(&self, id: &EniId) -> Option<u8> {
        self.account().ec2.pool.enis.get(id)?.attachment.as_ref().map(|attachment| attachment.device)
    }

    /// From now on: whoever receives them moves the interfaces.
    pub fn plugs(&self) -> mpsc::Receiver<Plug> {
        let (sender, receiver) = mpsc::channel();
        self.account().ec2.pool.plugs.push(sender);
        receiver
    }

    /// By hand, as somebody in the console does it.
    pub fn plug_in(&self, id: &EniId, instance: &str, device: u8) {
        let [id, device] = [id.to_string(), device.to_string()];
        let form = [("NetworkInterfaceId", id.as_str()), ("InstanceId", instance), ("DeviceIndex", &device)];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        self.account().ec2.attach(&form).expect("a spare one, and a free index");
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
        let mut items = vec![];
        for (id, pooled) in &self.pool.enis {
            let status = match pooled.attachment.as_ref().map(Attachment::status) {
                None => "available",
                Some("attached") => "in-use",
                Some(other) => other,
            };
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
            let attachment = pooled.attachment.as_ref().map_or_else(String::new, |attachment| {
                let Attachment { id, device, .. } = attachment;
                format!(
                    "<attachment><attachmentId>{id}</attachmentId><instanceId>{}</instanceId><deviceIndex>{device}</deviceIndex>\
                     <status>{}</status><deleteOnTermination>false</deleteOnTermination></attachment>",
                    eni.instance,
                    attachment.status()
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
            items.push(format!(
                "<item><networkInterfaceId>{id}</networkInterfaceId><availabilityZone>{zone}</availabilityZone><status>{status}</status>\
                 <macAddress>{mac}</macAddress><sourceDestCheck>false</sourceDestCheck>{attachment}\
                 <privateIpAddressesSet>{addresses}</privateIpAddressesSet></item>"
            ));
        }
        self.paged(form, &items)
    }

    /// What has come about by itself.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        let is_over = |attachment: &mut Attachment| attachment.ends.is_some_and(|ends| ends + TAKES <= now);
        for (id, pooled) in &mut self.pool.enis {
            if pooled.attachment.take_if(is_over).is_some()
                && let Some(eni) = self.enis.get_mut(id)
            {
                eni.instance.clear();
            }
        }
    }

    pub(super) fn attach(&mut self, form: &BTreeMap<String, String>) -> Result<String, Refusal> {
        let (id, instance, device) = self.place_in(form)?;
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
            pooled.attachment = Some(Attachment { id: attachment.clone(), device, since: Instant::now(), ends: None });
        }
        self.plug(Plug { eni: id, instance, comes: true });
        Ok(format!("<attachmentId>{attachment}</attachmentId>"))
    }

    pub(super) fn detach(&mut self, form: &BTreeMap<String, String>) -> Result<String, Refusal> {
        let eni = self.attachment_in(form)?;
        self.unplug(&eni);
        Ok("<return>true</return>".into())
    }

    /// Whose the attachment is that a form names.
    pub(super) fn attachment_in(&self, form: &BTreeMap<String, String>) -> Result<EniId, Refusal> {
        let id = form.get("AttachmentId").ok_or_else(|| missing("AttachmentId"))?;
        let has = |pooled: &Pooled| pooled.attachment.as_ref().is_some_and(|attachment| attachment.id == *id);
        let eni = self.pool.enis.iter().find(|(_, pooled)| has(pooled)).map(|(eni, _)| eni.clone());
        eni.ok_or_else(|| (400, "InvalidAttachmentID.NotFound", format!("The networkInterface attachment ID '{id}' does not exist")))
    }

    /// Interface, instance and index that a form names.
    pub(super) fn place_in(&self, form: &BTreeMap<String, String>) -> Result<(EniId, String, u8), Refusal> {
        let get = |name: &str| form.get(name).map(String::as_str).ok_or_else(|| missing(name));
        let (id, instance, device) = (self.known(get("NetworkInterfaceId")?)?, get("InstanceId")?, get("DeviceIndex")?);
        if instance.parse::<InstanceId>().is_err() {
            return Err((400, "InvalidInstanceID.Malformed", format!("Invalid id: \"{instance}\"")));
        }
        let device = device.parse().map_err(|_| invalid(format!("Value ({device}) for parameter deviceIndex is invalid.")))?;
        Ok((id, instance.to_owned(), device))
    }

    /// Its addresses stay with it, those of HaVips too, until somebody takes them.
    fn unplug(&mut self, id: &EniId) {
        let attachment =
            self.pool.enis.get_mut(id).and_then(|pooled| pooled.attachment.as_mut()).filter(|attachment| attachment.ends.is_none());
        if let (Some(eni), Some(attachment)) = (self.enis.get(id), attachment) {
            attachment.ends = Some(Instant::now());
            let instance = eni.instance.clone();
            self.plug(Plug { eni: id.clone(), instance, comes: false });
        }
    }

    fn plug(&mut self, plug: Plug) {
        self.pool.plugs.retain(|sender| sender.send(plug.clone()).is_ok());
    }
}
