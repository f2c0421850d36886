use super::{Snapshot, Tunnel};
use crate::model::IfName;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
pub struct Descriptors;
impl Descriptors {
    pub fn take(_: &mut BTreeMap<String, OwnedFd>) -> Self {
        Self
    }
}
#[derive(Debug)]
pub struct Dataplane;
impl Dataplane {
    pub fn open(_: IpAddr, _: Descriptors) -> std::io::Result<Self> {
        Ok(Self)
    }
    pub fn inherited(&self, _: &IfName) -> bool {
        false
    }
    pub fn add_tunnel(&mut self, _: Tunnel) -> anyhow::Result<()> {
        Ok(())
    }
    pub fn remove_tunnel(&mut self, _: &IfName) {}
    pub fn set_peer(&mut self, _: &IfName, _: IpAddr, _: &[IpNet]) -> anyhow::Result<()> {
        Ok(())
    }
    pub fn remove_peer(&mut self, _: &IfName, _: IpAddr) -> anyhow::Result<()> {
        Ok(())
    }
    pub fn counters(&self) -> Snapshot {
        Snapshot::default()
    }
    pub fn descriptors(&self) -> anyhow::Result<Vec<(String, OwnedFd)>> {
        Ok(vec![])
    }
    pub fn stop(self) {}
}
pub mod handover {
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    pub fn send(_: &UnixStream, _: &[(String, BorrowedFd<'_>)]) -> std::io::Result<()> {
        Ok(())
    }
    pub fn receive(_: &UnixStream) -> std::io::Result<Vec<(String, OwnedFd)>> {
        Ok(vec![])
    }
}
