//! The steps of a plan, carried out: those of one kind that stand together travel together.

use super::netlink::{Answer, Netlink, Request};
use super::{Kernel, KernelError, address, element, flow_table, link, lock, neighbour, nft, route, rule, sysctl};
use crate::model::{IfName, Mark};
use crate::plan::{Element, NftTable, Route, Step};
use std::collections::HashMap;
use std::mem;

impl Kernel {
    /// One result for each step of a run of one kind.
    pub(super) async fn apply_run(&self, run: &[Step]) -> Vec<Result<(), KernelError>> {
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
            Step::SetPeer(..) | Step::RemovePeer(..) => self.apply_peers(run),
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

    fn apply_peers(&self, run: &[Step]) -> Vec<Result<(), KernelError>> {
        let mut results = Vec::with_capacity(run.len());
        // In pieces, so that a peer that knocks does not wait for all of them.
        for piece in run.chunks(256) {
            let mut wireguard = lock(&self.wireguard);
            let answers = match &piece[0] {
                Step::SetPeer(..) => wireguard.set_peers(
                    piece.iter().filter_map(|step| if let Step::SetPeer(name, key, peer) = step { Some((name, key, peer)) } else { None }),
                ),
                _ => wireguard.remove_peers(
                    piece.iter().filter_map(|step| if let Step::RemovePeer(name, key) = step { Some((name, key)) } else { None }),
                ),
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
        let requests: Vec<_> = run.iter().map(|step| self.prepare(&mut netlink, &mut indices, step)).collect();
        execute(&mut netlink, requests, |place, answer| judge(&run[place], answer).map_err(KernelError::from))
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
            Step::AddLink(name, link) => return Ok(link::add(netlink, &self.wireguard, name, link).map(|()| None)?),
            Step::ChangeLink(name, link) => return Ok(link::change(netlink, &self.wireguard, name, link).map(|()| None)?),
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
            | Step::RemoveFlowDevice(_)
            | Step::SetPeer(..)
            | Step::RemovePeer(..) => return Ok(None),
        };
        Ok(Some(request))
    }
}

/// Sends the requests that there are, all together; of each place what came of it, as `judge` says of the kernel's answer.
pub fn execute(
    netlink: &mut Netlink,
    requests: Vec<Result<Option<Request>, KernelError>>,
    judge: impl Fn(usize, Answer) -> Result<(), KernelError>,
) -> Vec<Result<(), KernelError>> {
    let (mut results, mut places, mut sent) = (Vec::with_capacity(requests.len()), Vec::new(), Vec::new());
    for (place, request) in requests.into_iter().enumerate() {
        results.push(request.map(|request| {
            places.extend(request.is_some().then_some(place));
            sent.extend(request);
        }));
    }
    for (place, answer) in places.into_iter().zip(netlink.execute(sent)) {
        results[place] = judge(place, answer);
    }
    results
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
pub struct Indices(HashMap<IfName, u32>);

impl Indices {
    pub fn or_zero(&mut self, netlink: &mut Netlink, name: &IfName) -> Result<u32, KernelError> {
        if let Some(index) = self.0.get(name) {
            return Ok(*index);
        }
        let index = link::index(netlink, name).map_err(|refused| KernelError::read("an interface", refused))?.unwrap_or(0);
        self.0.insert(name.clone(), index);
        Ok(index)
    }

    pub fn get(&mut self, netlink: &mut Netlink, name: &IfName) -> Result<u32, KernelError> {
        match self.or_zero(netlink, name)? {
            0 => Err(KernelError::NoInterface(name.clone())),
            index => Ok(index),
        }
    }
}

pub fn same_kind(a: &Step, b: &Step) -> bool {
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
