//! What the machine wants said, in EC2's words, and what EC2 and metadata say to it.

use super::identity::Identity;
use crate::cloud::aws::{Caller, Refusal};
use crate::cloud::metadata::Metadata;
use crate::model::{EniId, Failure, Why};
use crate::proto::claim::{Answer, Call, Claim, Kind};
use crate::wire::ec2;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::SystemTime;

/// That a table has no route to a destination.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>; ReplaceRoute itself says the first.
const NO_ROUTE: [&str; 2] = ["InvalidParameterValue", "InvalidRoute.NotFound"];

pub async fn carry_out(call: &Call, caller: &Caller, metadata: &Metadata, identity: &Identity) -> Result<Answer, Failure> {
    let done = match call {
        Call::Assign { eni, addresses } => said(caller, ec2::Call::AssignPrivateIpAddresses { eni, addresses }).await.map(drop),
        Call::Route { table, address, eni } => {
            let to = IpNet::from(*address);
            match said(caller, ec2::Call::ReplaceRoute { table, to, eni }).await {
                Err(refusal) if NO_ROUTE.contains(&refusal.code.as_str()) => {
                    said(caller, ec2::Call::CreateRoute { table, to, eni }).await.map(drop)
                }
                other => other.map(drop),
            }
        }
        Call::Associate { allocation, eni, address } => {
            said(caller, ec2::Call::AssociateAddress { allocation, eni, address: *address }).await.map(drop)
        }
        Call::Ready { eni } => said(caller, ec2::Call::DescribeAddressesOf { eni }).await.map(drop),
        Call::Look { kind, claims } => {
            return match kind {
                Kind::Address => addresses(claims, metadata, identity).await,
                Kind::Route => routes(claims, caller).await,
                Kind::Public => public(claims, caller).await,
            }
            .map(Answer::Holds);
        }
    };
    done.map(|()| Answer::Taken).map_err(|refusal| refusal.failure)
}

async fn said(caller: &Caller, call: ec2::Call<'_>) -> Result<String, Refusal> {
    caller.call(SystemTime::now(), call.action(), call.form(false)).await
}

type Held = Result<BTreeSet<Claim>, Failure>;

async fn addresses(claims: &BTreeSet<Claim>, metadata: &Metadata, identity: &Identity) -> Held {
    let mut known: BTreeMap<&EniId, BTreeSet<IpAddr>> = BTreeMap::new();
    for claim in claims {
        let Claim::Address { eni, .. } = claim else { continue };
        let Some(mac) = identity.mac(eni).filter(|_| !known.contains_key(eni)) else { continue };
        let item = format!("network/interfaces/macs/{mac}/local-ipv4s");
        let text = metadata.get(&item).await.map_err(|failure| {
            let text = failure.to_string();
            Failure { why: Why::Unavailable, text, after: None }
        })?;
        known.insert(eni, text.unwrap_or_default().split_whitespace().filter_map(|address| address.parse().ok()).collect());
    }
    let holds =
        |claim: &&Claim| matches!(claim, Claim::Address { eni, address } if known.get(eni).is_some_and(|all| all.contains(address)));
    Ok(claims.iter().filter(holds).cloned().collect())
}

async fn routes(claims: &BTreeSet<Claim>, caller: &Caller) -> Held {
    let tables = claims.iter().filter_map(|claim| if let Claim::Route { table, .. } = claim { Some(table.clone()) } else { None });
    let tables: Vec<_> = tables.collect::<BTreeSet<_>>().into_iter().collect();
    let xml = said(caller, ec2::Call::DescribeRouteTables { tables: &tables }).await.map_err(|refusal| refusal.failure)?;
    let routes = ec2::routes(&xml).map_err(unreadable)?;
    let leads = |claim: &Claim| match claim {
        Claim::Route { table, address, eni } => {
            let wanted = ec2::Route { table: table.clone(), to: IpNet::from(*address), eni: eni.clone() };
            routes.contains(&wanted)
        }
        Claim::Address { .. } | Claim::Public { .. } => false,
    };
    Ok(claims.iter().filter(|claim| leads(claim)).cloned().collect())
}

async fn public(claims: &BTreeSet<Claim>, caller: &Caller) -> Held {
    let of = claims.iter().filter_map(|claim| if let Claim::Public { allocation, .. } = claim { Some(allocation.clone()) } else { None });
    let allocations: Vec<_> = of.collect::<BTreeSet<_>>().into_iter().collect();
    let xml = said(caller, ec2::Call::DescribeAddresses { allocations: &allocations }).await.map_err(|refusal| refusal.failure)?;
    let elastics = ec2::elastics(&xml).map_err(unreadable)?;
    let leads = |claim: &Claim| match claim {
        Claim::Public { allocation, eni, address } => elastics
            .iter()
            .any(|elastic| elastic.id == *allocation && elastic.eni.as_ref() == Some(eni) && elastic.address == Some(*address)),
        Claim::Address { .. } | Claim::Route { .. } => false,
    };
    Ok(claims.iter().filter(|claim| leads(claim)).cloned().collect())
}

fn unreadable(error: ec2::Unreadable) -> Failure {
    Failure { why: Why::Unavailable, text: error.to_string(), after: None }
}

/// For the log.
pub fn shown(claim: &Claim) -> String {
    match claim {
        Claim::Address { eni, address } => format!("{address} at {eni}"),
        Claim::Route { table, address, eni } => format!("{address} by {table} to {eni}"),
        Claim::Public { allocation, eni, address } => format!("{allocation} for {address} at {eni}"),
    }
}
