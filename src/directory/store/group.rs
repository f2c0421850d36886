//! Gateways as nodes of a group: those that share a tenant. Which of them may serve what, the operator says (`gateways.rs`); where they are, and
//! whether they are about to go, each says of itself.

use super::super::refusal::{Code, Refusal};
use super::super::types::{ChangeKind, Member, MemberSpec, Members};
use super::changes::Told;
use super::gateways::{find, members_of};
use super::{Done, Scope, Store, Writer, revision, stored, tenants, unsigned};
use crate::config::UNUSABLE;
use crate::model::{NodeName, TenantShard};
use sqlx::AnyConnection;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Nodes by their gateways' numbers.
type Nodes = BTreeMap<i64, Member>;

/// Those of these tenants, with their shards there.
async fn nodes_of(connection: &mut AnyConnection, tenants: &BTreeSet<i64>) -> Done<Nodes> {
    const OF_TENANT: &str = "SELECT gateways.id, gateways.name, address, leaving, since, heeds, tenants.name, shard FROM members
         JOIN gateways ON gateways.id = gateway JOIN tenants ON tenants.id = tenant WHERE tenant = $1 AND address IS NOT NULL";
    type Row = (i64, String, String, i64, i64, i64, String, i64);
    let mut nodes = Nodes::new();
    for tenant in tenants {
        let rows: Vec<Row> = sqlx::query_as(OF_TENANT).bind(*tenant).fetch_all(&mut *connection).await?;
        for (id, name, address, leaving, since, heeds, tenant, shard) in rows {
            let of = TenantShard { tenant: stored(tenant.parse())?, shard: tenants::shard_id(shard)? };
            if let Some(known) = nodes.get_mut(&id) {
                known.shards.insert(of);
                continue;
            }
            let (name, address) = (stored(name.parse())?, stored(address.parse())?);
            let member =
                Member { name, address, leaving: leaving != 0, since: unsigned(since), heeds: unsigned(heeds), shards: [of].into() };
            nodes.insert(id, member);
        }
    }
    Ok(nodes)
}

/// The group of a gateway that serves these shards, as it may see it.
pub(super) async fn group_of(connection: &mut AnyConnection, shards: &BTreeMap<TenantShard, i64>) -> Done<Vec<Member>> {
    let nodes = nodes_of(connection, &shards.values().copied().collect()).await?;
    Ok(by_name(nodes))
}

fn by_name(nodes: Nodes) -> Vec<Member> {
    let mut members: Vec<Member> = nodes.into_values().collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    members
}

impl Store {
    /// What a gateway says of itself; its group, with that.
    pub async fn put_member(&self, now: i64, scope: &Scope, name: &NodeName, spec: &MemberSpec) -> Done<Members> {
        usable(spec.address)?;
        let mut writer = self.writer("change a node of a group", now).await?;
        let row = find(writer.connection(), name).await?.ok_or_else(|| Refusal::unknown("gateway", name))?;
        let mut shards = members_of(writer.connection(), row.id).await?;
        shards.retain(|_, tenant| scope.has(*tenant));
        let mut nodes = nodes_of(writer.connection(), &shards.values().copied().collect()).await?;
        nodes.remove(&row.id);
        let leaving = spec.leaving.unwrap_or(row.address.is_some() && row.leaving);
        let same = row.address == Some(spec.address) && row.leaving == leaving;
        if !same {
            writer.fits(&nodes, &shards, spec.address).await?;
            if leaving {
                others_stay(&nodes, &shards)?;
            }
        }
        // That nothing became different costs no revision. Of a database that was put back, more may have been heeded than there is.
        let heeds = spec.heeds.min(unsigned(writer.revision));
        if same && row.heeds >= heeds {
            drop(writer);
            let mut view = self.view("read a group").await?;
            let members = group_of(&mut view, &shards).await?;
            return Ok(Members { members, revision: revision(&mut view).await? });
        }
        let since = if same { row.since } else { writer.revision };
        sqlx::query("UPDATE gateways SET address = $2, leaving = $3, since = $4, heeds = $5 WHERE id = $1")
            .bind(row.id)
            .bind(spec.address.to_string())
            .bind(i64::from(leaving))
            .bind(since)
            .bind(super::signed(heeds))
            .execute(writer.connection())
            .await?;
        writer.tell_group(row.id, name, &nodes, false).await?;
        let members = group_of(writer.connection(), &shards).await?;
        Ok(Members { members, revision: writer.commit().await? })
    }

    /// A gateway is in no group any more. Only after it has said that it leaves: by then others have what it had.
    pub async fn remove_member(&self, now: i64, name: &NodeName) -> Done<()> {
        let mut writer = self.writer("take a node off its group", now).await?;
        let row = find(writer.connection(), name).await?.ok_or_else(|| Refusal::unknown("gateway", name))?;
        if row.address.is_none() {
            return Ok(());
        }
        if !row.leaving {
            return Err(Refusal::new(Code::InUse, format!("gateway {name} has not said that it leaves"), "say `leaving` first").into());
        }
        let shards = members_of(writer.connection(), row.id).await?;
        let nodes = nodes_of(writer.connection(), &shards.values().copied().collect()).await?;
        sqlx::query("UPDATE gateways SET address = NULL, leaving = 0, since = $2, heeds = 0 WHERE id = $1")
            .bind(row.id)
            .bind(writer.revision)
            .execute(writer.connection())
            .await?;
        writer.tell_group(row.id, name, &nodes, true).await?;
        writer.commit().await?;
        Ok(())
    }
}

impl Writer {
    /// The node itself is told, too; and whoever operates everything.
    async fn tell_group(&mut self, id: i64, name: &NodeName, nodes: &Nodes, gone: bool) -> Done<()> {
        for gateway in nodes.keys().copied().filter(|other| *other != id).chain([id]) {
            self.tell(Told { gateway: Some(gateway), gone, ..Told::of(ChangeKind::Member, name.as_str()) }).await?;
        }
        Ok(())
    }

    /// `others`: of the group.
    async fn fits(&mut self, others: &Nodes, shards: &BTreeMap<TenantShard, i64>, address: IpAddr) -> Done<()> {
        if let Some(other) = others.values().find(|other| other.address == address) {
            let remedy =
                format!("give every node its own `platform.address`; if {} is no more, `portway directory gateway rm` it", other.name);
            return Err(Refusal::new(Code::AddressTaken, format!("{address} is the address of gateway {}", other.name), remedy).into());
        }
        let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
        if let Some(other) = others.values().find(|other| family(other.address) != family(address)) {
            let what = format!("{address} is {}, and gateway {} of the same group has {}", family(address), other.name, other.address);
            return Err(Refusal::invalid(what, "give all nodes of a group addresses of one family").into());
        }
        for (of, tenant) in shards {
            let endpoint: Option<(Option<String>,)> = sqlx::query_as("SELECT endpoint FROM shards WHERE tenant = $1 AND shard = $2")
                .bind(*tenant)
                .bind(i64::from(of.shard.0))
                .fetch_optional(self.connection())
                .await?;
            let Some(endpoint) = endpoint.and_then(|(endpoint,)| endpoint) else { continue };
            let havip = stored(endpoint.parse::<SocketAddr>())?.ip();
            if havip == address {
                let remedy = "say the node's own address, which stays with it; or, if it was this node's own alone, give the shard another";
                return Err(Refusal::invalid(format!("{address} is where the tunnels of {of} end"), remedy).into());
            }
            if family(havip) != family(address) {
                let what = format!("{address} is {}, and the tunnels of {of} end at {havip}", family(address));
                return Err(Refusal::invalid(what, "give a node an address of the family that its tunnels have").into());
            }
        }
        Ok(())
    }
}

fn usable(address: IpAddr) -> Result<(), Refusal> {
    let kind = UNUSABLE.iter().find(|(net, _)| net.contains(&address)).map(|(_, kind)| *kind);
    let kind = kind.or((address.is_unspecified() || address.is_loopback() || address.is_multicast()).then_some("no machine's"));
    let Some(kind) = kind else { return Ok(()) };
    Err(Refusal::invalid(
        format!("the address {address} is {kind}"),
        "say the node's platform address, where the others of its group reach it",
    ))
}

/// Whether somebody who stays may serve each of these shards.
fn others_stay(others: &Nodes, shards: &BTreeMap<TenantShard, i64>) -> Result<(), Refusal> {
    let nobody = shards.keys().find(|of| !others.values().any(|other| !other.leaving && other.shards.contains(*of)));
    let Some(of) = nobody else { return Ok(()) };
    let remedy = "start another gateway that may serve it first; or stop this one, if the shard is to be served by nobody";
    Err(Refusal::new(Code::InUse, format!("if this gateway leaves, nobody stays who may serve {of}"), remedy))
}
