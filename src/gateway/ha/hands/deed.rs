//! What the virtual routers decide, to be done in their order.

use super::Addresses;
use crate::model::TenantShard;
use crate::proto::vrrp::{Announced, LastHeard, State, Warning, Why};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

#[derive(Debug)]
pub enum Deed {
    /// The shards and their addresses, from now on.
    Know(Addresses),
    Take {
        of: TenantShard,
        until: Instant,
        /// The node that had it until now and goes on forwarding.
        former: Option<IpAddr>,
    },
    Lease {
        of: TenantShard,
        until: Instant,
    },
    StopAnswering {
        of: TenantShard,
    },
    Release {
        of: TenantShard,
        /// Somebody else is known to have taken them over.
        taken: bool,
    },
    Announce {
        of: TenantShard,
        burst: u8,
        why: Announced,
    },
    Changed {
        of: TenantShard,
        from: State,
        to: State,
        why: Why,
        /// The last advertisement from somebody else.
        heard: Option<LastHeard>,
    },
    Warned {
        of: TenantShard,
        warning: Warning,
    },
    Complain(String),
    /// Leases were lost by somebody else's doing: anew, with the time that they should have.
    Renew,
    /// End, and leave everything as it stands.
    Stop,
}

impl Deed {
    /// The shard that it is about, if it is about one.
    pub fn of(&self) -> Option<&TenantShard> {
        match self {
            Self::Take { of, .. }
            | Self::Lease { of, .. }
            | Self::StopAnswering { of }
            | Self::Release { of, .. }
            | Self::Announce { of, .. }
            | Self::Changed { of, .. }
            | Self::Warned { of, .. } => Some(of),
            Self::Know(_) | Self::Complain(_) | Self::Renew | Self::Stop => None,
        }
    }
}

/// Shards that come or go by these deeds: only when that is done their leases are what they are to be.
pub fn turning(deeds: &[Deed]) -> BTreeSet<TenantShard> {
    let turns = |deed: &&Deed| matches!(deed, Deed::Take { .. } | Deed::Release { .. });
    deeds.iter().filter(turns).filter_map(|deed| deed.of().cloned()).collect()
}

/// Until when the leases of those are to last that stand: the latest word counts.
pub fn leases(deeds: &[Deed], stands: impl Fn(&TenantShard) -> bool) -> BTreeMap<TenantShard, Instant> {
    let lease = |deed: &Deed| match deed {
        Deed::Lease { of, until } if stands(of) => Some((of.clone(), *until)),
        _ => None,
    };
    deeds.iter().filter_map(lease).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_latest_word_counts_for_those_that_stay_as_they_are() {
        let (now, of) = (Instant::now(), |name: &str| name.parse::<TenantShard>().unwrap());
        let after = |ms| now + Duration::from_millis(ms);
        let lease = |name, ms| Deed::Lease { of: of(name), until: after(ms) };
        let take = Deed::Take { of: of("acme/2"), until: after(1), former: None };
        let release = Deed::Release { of: of("acme/3"), taken: true };
        let deeds = [lease("acme/1", 5), lease("acme/3", 5), take, lease("acme/2", 7), lease("acme/1", 9), release];
        let turning = turning(&deeds);
        assert_eq!(turning, BTreeSet::from([of("acme/2"), of("acme/3")]));
        assert_eq!(leases(&deeds, |of| !turning.contains(of)), BTreeMap::from([(of("acme/1"), after(9))]));
    }
}
