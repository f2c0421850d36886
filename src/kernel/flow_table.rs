//! The interfaces of our flow table, straight over nfnetlink: they come and go with the tunnels, and the rules stay as they are.
//! Which packets enter it, the ruleset says (`flow add`).

use super::attr;
use super::element::{TABLE, commit, found, header, number};
use super::netlink::{Answer, Netlink, Refused, Request};
use crate::model::IfName;
use crate::plan::{FLOW_TABLE, NftTable};
use netlink_packet_core::NLM_F_CREATE;
use std::collections::BTreeSet;

/// include/uapi/linux/netfilter/nf_tables.h
mod nf {
    pub const NEWFLOWTABLE: u16 = 22;
    pub const GETFLOWTABLE: u16 = 23;
    pub const DELFLOWTABLE: u16 = 24;
    pub const TABLE: u16 = 1;
    pub const NAME: u16 = 2;
    pub const HOOK: u16 = 3;
    pub const HOOK_NUM: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
    pub const HOOK_DEVICES: u16 = 3;
    pub const DEVICE_NAME: u16 = 1;
    /// enum nf_dev_hooks
    pub const INGRESS: u32 = 0;
}

/// Whether ctnetlink deletes connections that are in a flow table: since Linux 6.4.
pub fn entries_can_be_deleted() -> bool {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(4))
}

/// Where packets are looked up; none if there is no such flow table.
pub fn devices(netlink: &mut Netlink, table: NftTable) -> Result<BTreeSet<IfName>, Refused> {
    let payload = naming(table);
    let answer = found(netlink.get(Request::new(number(nf::GETFLOWTABLE), 0, &payload)))?;
    let hook = answer.get(4..).and_then(|list| attr::find(list, nf::HOOK)).unwrap_or_default();
    let names = attr::each(attr::find(hook, nf::HOOK_DEVICES).unwrap_or_default());
    Ok(names.filter(|(kind, _)| *kind == nf::DEVICE_NAME).filter_map(|(_, name)| attr::name(name).parse().ok()).collect())
}

pub fn add(netlink: &mut Netlink, table: NftTable, device: &IfName) -> Answer {
    commit(netlink, vec![message(nf::NEWFLOWTABLE, NLM_F_CREATE, table, device)])
}

/// Removes an interface, or finds it gone; connections go on by the long way.
pub fn remove(netlink: &mut Netlink, table: NftTable, device: &IfName) -> Answer {
    match commit(netlink, vec![message(nf::DELFLOWTABLE, 0, table, device)]) {
        Err(Refused { errno: libc::ENOENT, .. }) => Ok(()),
        other => other,
    }
}

/// The flow table with its interfaces, in nft's language.
pub fn declaration(table: NftTable, devices: &BTreeSet<IfName>) -> String {
    let names: Vec<String> = devices.iter().map(|name| format!("\"{name}\"")).collect();
    if names.is_empty() {
        return String::new();
    }
    let (family, names) = (table.family(), names.join(", "));
    format!("add flowtable {family} {TABLE} {FLOW_TABLE} {{ hook ingress priority 0; devices = {{ {names} }}; counter; }}\n")
}

fn message(kind: u16, flags: u16, table: NftTable, device: &IfName) -> Request {
    let mut payload = naming(table);
    attr::nest(&mut payload, nf::HOOK, |hook| {
        attr::put(hook, nf::HOOK_NUM, &nf::INGRESS.to_be_bytes());
        attr::put(hook, nf::HOOK_PRIORITY, &0u32.to_be_bytes());
        attr::nest(hook, nf::HOOK_DEVICES, |devices| attr::put_name(devices, nf::DEVICE_NAME, device.as_str()));
    });
    Request::new(number(kind), flags, &payload)
}

fn naming(table: NftTable) -> Vec<u8> {
    let mut payload = header(table);
    attr::put_name(&mut payload, nf::TABLE, TABLE);
    attr::put_name(&mut payload, nf::NAME, FLOW_TABLE);
    payload
}
