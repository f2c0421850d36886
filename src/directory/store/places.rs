//! Places in a tenant's range: which prefix a place is, and who gets which.
//!
//! Taking one costs a step of a counter, whatever the number of hosts. Places that were given back are taken only when the counter is
//! at its end, the longest unused first: a gateway that has not heard yet whose it was will have by then.

use super::super::refusal::{Code, Refusal};
use super::{Done, Writer, stored, unsigned};
use crate::model::{Invalid, TenantName};
use ipnet::{IpNet, Ipv4Net};
use std::net::Ipv4Addr;

/// A tenant's inner addresses: a range, cut into prefixes of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    net: Ipv4Net,
    length: u8,
}

impl Range {
    /// The first place that is taken: the prefix with the range's own address is left out, as is the last one, with its broadcast address.
    pub const FIRST: i64 = 1;

    pub fn new(net: IpNet, length: u8) -> Result<Self, Invalid> {
        let IpNet::V4(net) = net else {
            return Err(Invalid(format!("the inner range {net} is IPv6, which is not supported yet: write an IPv4 network")));
        };
        if net != net.trunc() {
            return Err(Invalid(format!("the inner range {net} has bits behind its prefix: write {}", net.trunc())));
        }
        let touches = |other: &IpNet| other.contains(&IpNet::V4(net)) || IpNet::V4(net).contains(other);
        if let Some((other, what)) = crate::config::UNUSABLE.iter().find(|(other, _)| touches(other)) {
            return Err(Invalid(format!("the inner range {net} touches {other}, which is {what}: take one such as 10.64.0.0/16")));
        }
        if length > 32 || length < net.prefix_len() + 2 {
            let least = net.prefix_len() + 2;
            return Err(Invalid(match least {
                33.. => format!("the inner range {net} has no room for two hosts: write a wider one"),
                _ => format!("a host's prefix of {length} bits does not fit into {net}: write {least} to 32"),
            }));
        }
        Ok(Self { net, length })
    }

    /// How many can be taken: 2 and more.
    pub fn size(&self) -> u64 {
        (1 << (self.length - self.net.prefix_len())) - 2
    }

    /// What a place stands for.
    pub fn prefix(&self, place: i64) -> Option<IpNet> {
        let place = u64::try_from(place).ok().filter(|place| (1..=self.size()).contains(place))?;
        let address = u64::from(self.net.network().to_bits()) + (place << (32 - self.length));
        Ipv4Net::new(Ipv4Addr::from_bits(u32::try_from(address).ok()?), self.length).ok().map(IpNet::V4)
    }

    pub fn net(&self) -> IpNet {
        IpNet::V4(self.net)
    }

    pub fn length(&self) -> u8 {
        self.length
    }
}

/// As it stands in the database.
pub(super) fn read(net: &str, length: i64) -> Done<Range> {
    let net: IpNet = stored(net.parse())?;
    stored(Range::new(net, stored(u8::try_from(length))?))
}

impl Writer {
    /// A place that nobody has.
    pub(super) async fn take_place(&mut self, tenant: i64, name: &TenantName, range: &Range) -> Done<i64> {
        let (next,): (i64,) = sqlx::query_as("SELECT next FROM tenants WHERE id = $1").bind(tenant).fetch_one(self.connection()).await?;
        if unsigned(next) <= range.size() {
            sqlx::query("UPDATE tenants SET next = next + 1 WHERE id = $1").bind(tenant).execute(self.connection()).await?;
            return Ok(next);
        }
        let oldest: Option<(i64, i64)> =
            sqlx::query_as("SELECT freed, place FROM free_places WHERE tenant = $1 ORDER BY freed, place LIMIT 1")
                .bind(tenant)
                .fetch_optional(self.connection())
                .await?;
        let Some((freed, place)) = oldest else {
            let message = format!("tenant {name} has no inner prefix left: all {} of {} are taken", range.size(), range.net());
            return Err(Refusal::new(Code::Full, message, "remove hosts that are no more, or give the tenant a wider range").into());
        };
        sqlx::query("DELETE FROM free_places WHERE tenant = $1 AND freed = $2 AND place = $3")
            .bind(tenant)
            .bind(freed)
            .bind(place)
            .execute(self.connection())
            .await?;
        Ok(place)
    }

    /// A place for a host in a shard.
    pub(super) async fn give_place(&mut self, host: i64, tenant: i64, shard: i64, name: &TenantName, range: &Range) -> Done<()> {
        let place = self.take_place(tenant, name, range).await?;
        sqlx::query("INSERT INTO prefixes (host, tenant, shard, place) VALUES ($1, $2, $3, $4)")
            .bind(host)
            .bind(tenant)
            .bind(shard)
            .bind(place)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Places of all hosts in a new shard. Most come in one statement.
    pub(super) async fn give_places(&mut self, tenant: i64, shard: i64, name: &TenantName, range: &Range) -> Done<()> {
        let (next,): (i64,) = sqlx::query_as("SELECT next FROM tenants WHERE id = $1").bind(tenant).fetch_one(self.connection()).await?;
        let (hosts,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM host_tenants WHERE tenant = $1").bind(tenant).fetch_one(self.connection()).await?;
        if unsigned(next + hosts - 1) <= range.size() {
            sqlx::query(
                "INSERT INTO prefixes (host, tenant, shard, place)
                 SELECT host, tenant, $2, $3 + ROW_NUMBER() OVER (ORDER BY host) - 1 FROM host_tenants WHERE tenant = $1",
            )
            .bind(tenant)
            .bind(shard)
            .bind(next)
            .execute(self.connection())
            .await?;
            sqlx::query("UPDATE tenants SET next = next + $2 WHERE id = $1").bind(tenant).bind(hosts).execute(self.connection()).await?;
            return Ok(());
        }
        let hosts: Vec<(i64,)> = sqlx::query_as("SELECT host FROM host_tenants WHERE tenant = $1 ORDER BY host")
            .bind(tenant)
            .fetch_all(self.connection())
            .await?;
        for (host,) in hosts {
            self.give_place(host, tenant, shard, name, range).await?;
        }
        Ok(())
    }

    /// Gives back what a host has of a tenant.
    pub(super) async fn free_places_of_host(&mut self, host: i64, tenant: i64) -> Done<()> {
        let revision = self.revision;
        sqlx::query(
            "INSERT INTO free_places (tenant, freed, place) SELECT tenant, $3, place FROM prefixes WHERE host = $1 AND tenant = $2",
        )
        .bind(host)
        .bind(tenant)
        .bind(revision)
        .execute(self.connection())
        .await?;
        sqlx::query("DELETE FROM prefixes WHERE host = $1 AND tenant = $2").bind(host).bind(tenant).execute(self.connection()).await?;
        Ok(())
    }

    /// Gives back what all hosts have in a shard.
    pub(super) async fn free_places_of_shard(&mut self, tenant: i64, shard: i64) -> Done<()> {
        let revision = self.revision;
        sqlx::query(
            "INSERT INTO free_places (tenant, freed, place) SELECT tenant, $3, place FROM prefixes WHERE tenant = $1 AND shard = $2",
        )
        .bind(tenant)
        .bind(shard)
        .bind(revision)
        .execute(self.connection())
        .await?;
        sqlx::query("DELETE FROM prefixes WHERE tenant = $1 AND shard = $2").bind(tenant).bind(shard).execute(self.connection()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(net: &str, length: u8) -> Result<Range, Invalid> {
        Range::new(net.parse().unwrap(), length)
    }

    #[test]
    fn the_first_and_the_last_prefix_are_left_out() {
        let range = range("10.64.0.0/24", 28).unwrap();
        assert_eq!(range.size(), 14);
        assert_eq!(range.prefix(1).unwrap().to_string(), "10.64.0.16/28");
        assert_eq!(range.prefix(14).unwrap().to_string(), "10.64.0.224/28");
        assert_eq!((range.prefix(0), range.prefix(15), range.prefix(-1), range.prefix(i64::MAX)), (None, None, None, None));
    }

    #[test]
    fn a_range_without_room_is_refused() {
        for (net, length) in [("10.64.0.0/31", 32), ("10.64.0.0/24", 25), ("10.64.0.0/24", 33), ("10.64.0.1/24", 32), ("fd00::/64", 128)] {
            assert!(range(net, length).is_err(), "{net} {length}");
        }
        for net in ["169.254.0.0/16", "127.0.0.0/8", "0.0.0.0/0", "224.0.0.0/8"] {
            assert!(range(net, 32).is_err(), "{net}");
        }
        assert_eq!(range("10.64.0.0/30", 32).unwrap().size(), 2);
    }

    proptest! {
        #[test]
        fn no_two_places_overlap_and_all_lie_within(prefix in 8u8..=30, more in 2u8..=16, bits in any::<u32>(), a in 1i64..70_000, b in 1i64..70_000) {
            let net = Ipv4Net::new(Ipv4Addr::from_bits(bits & 0x00ff_ffff | 0x0a00_0000), prefix).unwrap().trunc();
            let range = Range::new(IpNet::V4(net), (prefix + more).min(32)).unwrap();
            if let (Some(one), Some(other)) = (range.prefix(a), range.prefix(b)) {
                prop_assert!(range.net().contains(&one) && one.prefix_len() == range.length());
                prop_assert_eq!(a == b, one.contains(&other) || other.contains(&one));
            }
        }
    }
}
