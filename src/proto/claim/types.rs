//! What is claimed of a cloud, what there is to say to it, and what becomes of that.

use crate::model::{AllocationId, EniId, Failure, RouteTableId, TenantShard};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Something that leads to this node while a shard is here, and to nobody else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// An address of an ENI's subnet, as a secondary one of it.
    Address { eni: EniId, address: IpAddr },
    /// An address of no subnet, as a destination in a route table.
    Route { table: RouteTableId, address: IpAddr, eni: EniId },
    /// An elastic address, as the public one of an address of an ENI.
    Public { allocation: AllocationId, eni: EniId, address: IpAddr },
}

/// Claims by how it is found out whether they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// By instance metadata, which cost no call.
    Address,
    Route,
    Public,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Address, Kind::Route, Kind::Public];

    /// From one look to the next: a call of each node in a region counts against the same limit, and metadata do not.
    pub(super) fn every(self) -> Duration {
        match self {
            Kind::Address => Duration::from_secs(5),
            Kind::Route | Kind::Public => Duration::from_secs(60),
        }
    }
}

impl Claim {
    pub fn kind(&self) -> Kind {
        match self {
            Claim::Address { .. } => Kind::Address,
            Claim::Route { .. } => Kind::Route,
            Claim::Public { .. } => Kind::Public,
        }
    }

    /// What must hold before it can.
    pub(super) fn needs(&self) -> Option<Claim> {
        match self {
            Claim::Public { eni, address, .. } => Some(Claim::Address { eni: eni.clone(), address: *address }),
            Claim::Address { .. } | Claim::Route { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say this to the cloud.
    Call { number: u64, call: Call },
    /// The answer is of no use any more.
    Drop(u64),
    /// For the log: everything of this shard leads here, after so long.
    Claimed { of: TenantShard, took: Duration },
    /// For the log: this was here, and is not.
    Lost { of: TenantShard, claim: Claim },
    /// For the log; `row`: so many in a row, 1 the first.
    Failed { of: TenantShard, claim: Claim, failure: Failure, row: u32 },
    /// For the log: nothing could be claimed just now, if something came. `row` as above.
    Unready { failure: Failure, row: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// From whoever has them.
    Assign {
        eni: EniId,
        addresses: Vec<IpAddr>,
    },
    Route {
        table: RouteTableId,
        address: IpAddr,
        eni: EniId,
    },
    Associate {
        allocation: AllocationId,
        eni: EniId,
        address: IpAddr,
    },
    /// Which of these hold. All are of this kind.
    Look {
        kind: Kind,
        claims: BTreeSet<Claim>,
    },
    /// What is known of this interface, for the connection's sake. Those that are made together want one each.
    Ready {
        eni: EniId,
    },
}

/// What a good call comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Taken,
    /// Of those that were looked for, these lead here.
    Holds(BTreeSet<Claim>),
}

impl Call {
    /// Whether it has something led here; the others ask.
    pub(super) fn is_claim(&self) -> bool {
        match self {
            Call::Assign { .. } | Call::Route { .. } | Call::Associate { .. } => true,
            Call::Look { .. } | Call::Ready { .. } => false,
        }
    }

    /// A metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Call::Assign { .. } => "assign",
            Call::Route { .. } => "route",
            Call::Associate { .. } => "associate",
            Call::Look { kind: Kind::Address, .. } => "look_addresses",
            Call::Look { kind: Kind::Route, .. } => "look_routes",
            Call::Look { kind: Kind::Public, .. } => "look_public",
            Call::Ready { .. } => "ready",
        }
    }
}
