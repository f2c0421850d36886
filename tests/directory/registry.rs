//! Tenants, shards, gateways, hosts, inner prefixes.

use super::support::*;
use portway::directory::client::Watched;
use portway::directory::types::*;
use portway::model::{NodeName, Pools};
use std::time::Duration;

fn names(tenants: &[Tenant]) -> Vec<String> {
    tenants.iter().map(|tenant| format!("{} {} {:?} {}", tenant.name, tenant.inner, tenant.shards, tenant.hosts)).collect()
}

pub async fn tenants_come_change_and_go(bed: Bed) {
    let operator = bed.operator();
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    bed.tenant("acme", "10.64.0.0/16", &[0, 1]).await;
    assert_eq!(
        names(&operator.tenants().await.unwrap()),
        ["acme 10.64.0.0/16 {ShardId(0), ShardId(1)} 0", "globex 10.64.0.0/16 {ShardId(0)} 0"]
    );
    // The same again changes nothing.
    let before = operator.hosts(None).await.unwrap().revision;
    bed.tenant("acme", "10.64.0.0/16", &[0, 1]).await;
    assert_eq!(operator.hosts(None).await.unwrap().revision, before);
    bed.tenant("acme", "10.70.0.0/16", &[0]).await;
    let host = operator.put_host(&node("host-1"), &host_spec(&["acme"], Some(1))).await.unwrap();
    assert_eq!(inner(&host), "acme/0=10.70.0.1/32");
    // From now on it is in use.
    assert_eq!(code(operator.put_tenant(&tenant("acme"), &tenant_spec("10.64.0.0/16", &[0])).await), "in_use");
    assert_eq!(code(operator.remove_tenant(&tenant("acme")).await), "in_use");
    for bad in ["10.64.0.1/16", "127.0.0.0/8", "fd00::/64", "10.64.0.0/31"] {
        assert_eq!(code(operator.put_tenant(&tenant("new"), &tenant_spec(bad, &[0])).await), "invalid", "{bad}");
    }
    assert_eq!(code(operator.put_tenant(&tenant("new"), &tenant_spec("10.64.0.0/16", &[])).await), "invalid");
    operator.remove_host(&node("host-1")).await.unwrap();
    operator.remove_tenant(&tenant("acme")).await.unwrap();
    assert_eq!(code(operator.remove_tenant(&tenant("acme")).await), "unknown");
    assert_eq!(operator.tenants().await.unwrap().len(), 1);
}

pub async fn inner_prefixes_are_stable_and_come_back_last(bed: Bed) {
    let operator = bed.operator();
    // Two that may be taken at a time: 14 places in all.
    operator.put_tenant(&tenant("acme"), &TenantSpec { host_prefix: 28, ..tenant_spec("10.64.0.0/24", &[0, 1]) }).await.unwrap();
    let add = async |name: &str| inner(&operator.put_host(&node(name), &host_spec(&["acme"], None)).await.unwrap());
    assert_eq!(add("host-1").await, "acme/0=10.64.0.16/28 acme/1=10.64.0.32/28");
    assert_eq!(add("host-2").await, "acme/0=10.64.0.48/28 acme/1=10.64.0.64/28");
    assert_eq!(add("host-1").await, "acme/0=10.64.0.16/28 acme/1=10.64.0.32/28");
    operator.remove_host(&node("host-1")).await.unwrap();
    operator.remove_host(&node("host-2")).await.unwrap();
    // New ones first, then the longest unused.
    assert_eq!(add("host-3").await, "acme/0=10.64.0.80/28 acme/1=10.64.0.96/28");
    for name in ["host-4", "host-5", "host-6"] {
        add(name).await;
    }
    assert_eq!(add("host-7").await, "acme/0=10.64.0.208/28 acme/1=10.64.0.224/28");
    assert_eq!(add("host-8").await, "acme/0=10.64.0.16/28 acme/1=10.64.0.32/28");
    // Another tenant has the same addresses, and another tenant's host has none of these.
    bed.tenant("globex", "10.64.0.0/24", &[0]).await;
    assert_eq!(inner(&operator.put_host(&node("host-3"), &host_spec(&["globex"], None)).await.unwrap()), "globex/0=10.64.0.1/32");
    assert_eq!(add("host-9").await, "acme/0=10.64.0.48/28 acme/1=10.64.0.64/28");
    let bed = bed.restarted(|_| {}).await;
    assert_eq!(inner(&bed.operator().host(&node("host-8")).await.unwrap()), "acme/0=10.64.0.16/28 acme/1=10.64.0.32/28");
}

pub async fn pools_are_names_for_shards_of_the_tenant(bed: Bed) {
    let operator = bed.operator();
    let with = |shards: &[u16], egress: Option<Pools>| TenantSpec { egress, ..tenant_spec("10.64.0.0/16", shards) };
    let put = async |shards: &[u16], egress: Option<&[(&str, &[u16])]>| {
        operator.put_tenant(&tenant("acme"), &with(shards, egress.map(pools))).await
    };
    for wrong in [&[("partners", &[2][..])][..], &[("partners", &[])], &[("partners", &[0, 1]), ("default", &[1])]] {
        assert_eq!(code(put(&[0, 1], Some(wrong)).await), "invalid", "{wrong:?}");
    }
    let wanted = pools(&[("crawlers", &[1]), ("partners", &[0, 1])]);
    assert_eq!(operator.put_tenant(&tenant("acme"), &with(&[0, 1], Some(wanted.clone()))).await.unwrap().egress, wanted);
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    let (host, enrolled) = bed.host("host-1", &key(1), &["acme", "globex"]).await;
    let (other, _) = bed.host("host-2", &key(2), &["globex"]).await;
    let all = Some([(tenant("acme"), wanted.clone())].into());
    assert_eq!((&enrolled.membership.egress, &other.membership().await.unwrap().egress), (&all, &Some([].into())));
    // Who says nothing of them leaves them; but not without their shards.
    assert_eq!(put(&[0, 1, 2], None).await.unwrap().egress, wanted);
    assert_eq!(code(put(&[0], None).await), "invalid");
    let revision = host.membership().await.unwrap().host.revision;
    let bed = bed.restarted(|_| {}).await;
    let (operator, host) = (bed.operator(), bed.with(enrolled.credential.token.clone()));
    assert_eq!(operator.tenants().await.unwrap()[0].egress, wanted);
    assert_eq!(host.membership().await.unwrap().egress, all);
    // A host hears of it.
    operator.put_tenant(&tenant("acme"), &with(&[0, 1, 2], Some(Pools::default()))).await.unwrap();
    let Watched::Changes(changes) = host.watch(Some(revision), Duration::from_secs(10)).await.unwrap() else { panic!("start again") };
    assert!(changes.changes.iter().any(|change| (change.kind, change.name.as_str()) == (ChangeKind::Tenant, "acme")), "{changes:?}");
    assert_eq!(host.membership().await.unwrap().egress, Some([].into()));
}

pub async fn a_new_shard_has_a_prefix_for_every_host(bed: Bed) {
    let operator = bed.operator();
    bed.tenant("acme", "10.64.0.0/29", &[0]).await;
    for name in ["host-1", "host-2"] {
        operator.put_host(&node(name), &host_spec(&["acme"], None)).await.unwrap();
    }
    bed.tenant("acme", "10.64.0.0/29", &[0, 1]).await;
    let of = async |name: &str| inner(&operator.host(&node(name)).await.unwrap());
    assert_eq!(
        (of("host-1").await, of("host-2").await),
        ("acme/0=10.64.0.1/32 acme/1=10.64.0.3/32".into(), "acme/0=10.64.0.2/32 acme/1=10.64.0.4/32".into())
    );
    // Six in all: two more fit, one by one where some were given back.
    bed.tenant("acme", "10.64.0.0/29", &[1]).await;
    bed.tenant("acme", "10.64.0.0/29", &[1, 2]).await;
    assert_eq!(
        (of("host-1").await, of("host-2").await),
        ("acme/1=10.64.0.3/32 acme/2=10.64.0.5/32".into(), "acme/1=10.64.0.4/32 acme/2=10.64.0.6/32".into())
    );
    bed.tenant("acme", "10.64.0.0/29", &[1, 2, 3]).await;
    assert_eq!(of("host-1").await, "acme/1=10.64.0.3/32 acme/2=10.64.0.5/32 acme/3=10.64.0.1/32");
    assert_eq!(code(operator.put_tenant(&tenant("acme"), &tenant_spec("10.64.0.0/29", &[1, 2, 3, 4])).await), "full");
    assert_eq!(of("host-2").await, "acme/1=10.64.0.4/32 acme/2=10.64.0.6/32 acme/3=10.64.0.2/32");
}

pub async fn a_range_that_is_full_says_so(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/30", &[0]).await;
    let add = async |name: &str| bed.operator().put_host(&node(name), &host_spec(&["acme"], None)).await;
    add("host-1").await.unwrap();
    add("host-2").await.unwrap();
    assert_eq!(code(add("host-3").await), "full");
    // Nothing is left of it.
    assert_eq!(code(bed.operator().host(&node("host-3")).await), "unknown");
    bed.operator().remove_host(&node("host-1")).await.unwrap();
    assert_eq!(inner(&add("host-3").await.unwrap()), "acme/0=10.64.0.1/32");
}

pub fn shard_spec(endpoint: &str, present: u8, next: Option<u8>) -> ShardSpec {
    let next_key = next.map(|next| key(next).public());
    ShardSpec { endpoint: endpoint.parse().unwrap(), public_key: key(present).public(), next_key, next_port: next.map(|_| 7_777) }
}

pub async fn a_shard_has_a_present_and_a_next_key(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0, 1]).await;
    let gateway = bed.gateway("gw-1", &["acme/0"]).await;
    let (host, enrolled) = bed.host("host-1", &key(1), &["acme"]).await;
    assert_eq!(enrolled.membership.shards[0].endpoint, None);
    gateway.put_shard(&shard("acme/0"), &shard_spec("10.9.0.50:51820", 100, None)).await.unwrap();
    gateway.put_shard(&shard("acme/0"), &shard_spec("10.9.0.50:51820", 100, Some(101))).await.unwrap();
    let seen = &host.membership().await.unwrap().shards[0];
    assert_eq!((seen.public_key, seen.next_key, seen.next_port), (Some(key(100).public()), Some(key(101).public()), Some(7_777)));
    assert_eq!((seen.endpoint, seen.gateways.len()), (Some("10.9.0.50:51820".parse().unwrap()), 1));
    gateway.put_shard(&shard("acme/0"), &shard_spec("10.9.0.50:51820", 101, None)).await.unwrap();
    assert_eq!(gateway.assignment().await.unwrap().shards[0].public_key, Some(key(101).public()));
    // Not of a shard that it does not serve, even of a tenant that it does.
    assert_eq!(code(gateway.put_shard(&shard("acme/1"), &shard_spec("10.9.0.51:51820", 102, None)).await), "unknown");
    for bad in ["10.9.0.50:0", "0.0.0.0:51820"] {
        assert_eq!(code(gateway.put_shard(&shard("acme/0"), &shard_spec(bad, 101, None)).await), "invalid", "{bad}");
    }
    assert_eq!(code(gateway.put_shard(&shard("acme/0"), &shard_spec("10.9.0.50:1", 101, Some(101))).await), "invalid");
    for (next_key, next_port) in [(None, Some(7_000)), (Some(key(103).public()), Some(0)), (Some(key(103).public()), Some(51_820))] {
        let bad = ShardSpec { next_key, next_port, ..shard_spec("10.9.0.50:51820", 101, None) };
        assert_eq!(code(gateway.put_shard(&shard("acme/0"), &bad).await), "invalid", "{bad:?}");
    }
    // It stays, with the hosts' prefixes, while its gateways change; and cannot be removed under them.
    assert_eq!(code(bed.operator().put_tenant(&tenant("acme"), &tenant_spec("10.64.0.0/16", &[1])).await), "in_use");
    let epoch = bed.operator().gateways().await.unwrap()[0].epoch;
    let again = bed.operator().put_gateway(&node("gw-1"), &GatewaySpec { shards: [shard("acme/0")].into() }).await.unwrap();
    assert_eq!(again.epoch, epoch);
    let moved = bed.operator().put_gateway(&node("gw-1"), &GatewaySpec { shards: [shard("acme/1")].into() }).await.unwrap();
    assert!(moved.epoch > epoch);
    assert_eq!(gateway.assignment().await.unwrap().gateway.shards, [shard("acme/1")].into());
    assert_eq!(host.membership().await.unwrap().shards[0].public_key, Some(key(101).public()));
}

pub async fn a_key_is_one_hosts_or_one_shards(bed: Bed) {
    let operator = bed.operator();
    bed.tenant("acme", "10.64.0.0/16", &[0, 1]).await;
    operator.put_host(&node("host-1"), &host_spec(&["acme"], Some(1))).await.unwrap();
    operator.put_shard(&shard("acme/0"), &shard_spec("10.9.0.50:51820", 100, Some(101))).await.unwrap();
    for taken in [1, 100, 101] {
        assert_eq!(code(operator.put_host(&node("host-2"), &host_spec(&["acme"], Some(taken))).await), "key_taken", "{taken}");
        assert_eq!(
            code(operator.put_shard(&shard("acme/1"), &shard_spec("10.9.0.51:51820", 102, Some(taken))).await),
            "key_taken",
            "{taken}"
        );
        assert_eq!(code(operator.put_shard(&shard("acme/1"), &shard_spec("10.9.0.51:51820", taken, None)).await), "key_taken", "{taken}");
    }
    assert_eq!(operator.peer(&key(1).public()).await.unwrap().unwrap().name, node("host-1"));
    operator.put_host(&node("host-1"), &host_spec(&["acme"], Some(2))).await.unwrap();
    assert_eq!(operator.peer(&key(1).public()).await.unwrap(), None);
    operator.put_host(&node("host-2"), &host_spec(&["acme"], Some(1))).await.unwrap();
}

pub async fn long_lists_come_in_pages(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    let operator = bed.operator();
    // Capitals stand before small letters, whatever the database's locale would have.
    let all = ["Z-1", "a-1", "b-1", "b.1", "b_1"];
    for (number, name) in all.iter().enumerate() {
        let tenants: &[&str] = if number % 2 == 0 { &["acme"] } else { &["globex", "acme"] };
        operator.put_host(&node(name), &host_spec(tenants, None)).await.unwrap();
    }
    for (client, expected) in [(operator.clone(), &all[..]), (bed.operator_of(&["globex"]).await, &["a-1", "b.1"])] {
        let (mut seen, mut after): (Vec<NodeName>, Option<NodeName>) = (vec![], None);
        loop {
            let query = after.map(|after| format!("&after={after}")).unwrap_or_default();
            let path = format!("/v1/hosts?limit=2{query}");
            let (_, bytes) = client.call(reqwest::Method::GET, &path, None::<&()>, std::time::Duration::from_secs(5)).await.unwrap();
            let page: Hosts = serde_json::from_slice(&bytes).unwrap();
            assert!(page.hosts.len() <= 2);
            seen.extend(page.hosts.into_iter().map(|host| host.name));
            after = page.after;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected.iter().map(|name| node(name)).collect::<Vec<_>>());
    }
}
