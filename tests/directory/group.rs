//! Gateways as nodes of a group: each says of itself where it is and whether it leaves, and all that share a tenant with it hear of that.

use super::support::*;
use portway::directory::types::*;
use std::net::IpAddr;
use std::time::{Duration, Instant};

pub fn at(address: &str) -> MemberSpec {
    MemberSpec { address: address.parse().unwrap(), leaving: None, heeds: 0 }
}

fn leaving(address: &str, leaving: bool) -> MemberSpec {
    MemberSpec { leaving: Some(leaving), ..at(address) }
}

fn names(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| member.name.as_str()).collect()
}

/// What a gateway would be told next, as `kind name gone`.
async fn told(client: &portway::directory::client::Client, since: u64) -> Vec<String> {
    match client.watch(Some(since), Duration::from_secs(20)).await.unwrap() {
        portway::directory::client::Watched::Changes(changes) => {
            changes.changes.iter().map(|change| format!("{:?} {} {}", change.kind, change.name, change.gone)).collect()
        }
        other => panic!("{other:?}"),
    }
}

pub async fn a_node_is_seen_by_those_that_share_a_tenant_with_it(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0, 1]).await;
    bed.tenant("globex", "10.65.0.0/16", &[0]).await;
    let one = bed.gateway("gw-1", &["acme/0", "acme/1"]).await;
    let two = bed.gateway("gw-2", &["acme/0", "globex/0"]).await;
    let three = bed.gateway("gw-3", &["globex/0"]).await;
    let silent = bed.gateway("gw-4", &["acme/0"]).await;
    let first = one.put_member(&at("10.9.0.1")).await.unwrap();
    assert_eq!(names(&first.members), ["gw-1"]);
    two.put_member(&at("10.9.0.2")).await.unwrap();
    three.put_member(&at("10.9.0.3")).await.unwrap();
    let seen = async |client: &portway::directory::client::Client| client.assignment().await.unwrap().members;
    assert_eq!(names(&seen(&one).await), ["gw-1", "gw-2"]);
    assert_eq!(names(&seen(&two).await), ["gw-1", "gw-2", "gw-3"]);
    assert_eq!(names(&seen(&three).await), ["gw-2", "gw-3"]);
    assert_eq!(names(&seen(&silent).await), ["gw-1", "gw-2"], "it has said nothing of itself");
    // Of the other tenant nothing.
    let of_two = seen(&one).await.remove(1);
    assert_eq!(of_two.shards, [shard("acme/0")].into());
    assert_eq!((of_two.address, of_two.leaving), ("10.9.0.2".parse::<IpAddr>().unwrap(), false));

    let listed = bed.operator().gateways().await.unwrap();
    let listed: Vec<_> = listed.iter().map(|gateway| (gateway.name.as_str(), gateway.address.map(|at| at.to_string()))).collect();
    let expected = [("gw-1", Some("10.9.0.1")), ("gw-2", Some("10.9.0.2")), ("gw-3", Some("10.9.0.3")), ("gw-4", None)];
    assert_eq!(listed, expected.map(|(name, at)| (name, at.map(str::to_owned))));
}

pub async fn a_group_hears_of_what_changes_within_a_second(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.65.0.0/16", &[0]).await;
    let one = bed.gateway("gw-1", &["acme/0"]).await;
    let two = bed.gateway("gw-2", &["acme/0"]).await;
    let stranger = bed.gateway("gw-3", &["globex/0"]).await;
    one.put_member(&at("10.9.0.1")).await.unwrap();
    let since = two.put_member(&at("10.9.0.2")).await.unwrap().revision;
    // Nothing new costs nothing.
    assert_eq!(two.put_member(&at("10.9.0.2")).await.unwrap().revision, since);

    let watch = tokio::spawn({
        let one = one.clone();
        async move { (told(&one, since).await, Instant::now()) }
    });
    bed.has_watcher().await;
    let begun = Instant::now();
    two.put_member(&leaving("10.9.0.2", true)).await.unwrap();
    let (heard, at_last) = watch.await.unwrap();
    assert_eq!(heard, ["Member gw-2 false"]);
    assert!(at_last - begun < Duration::from_secs(1), "{:?}", at_last - begun);
    let none = stranger.watch(Some(since), Duration::ZERO).await.unwrap();
    assert!(matches!(&none, portway::directory::client::Watched::Changes(changes) if changes.changes.is_empty()), "{none:?}");

    // What others wait for.
    let since_of = async |name: &str| one.assignment().await.unwrap().members.into_iter().find(|m| m.name.as_str() == name).unwrap().since;
    let changed = since_of("gw-2").await;
    let heeds = MemberSpec { heeds: changed, ..at("10.9.0.1") };
    let group = one.put_member(&heeds).await.unwrap();
    assert_eq!((group.members[0].heeds, group.members[0].since), (changed, since_of("gw-1").await));
    assert_eq!(since_of("gw-2").await, changed, "that somebody goes by a list is no change of it");
    let ahead = one.put_member(&MemberSpec { heeds: changed + 1_000_000, ..at("10.9.0.1") }).await.unwrap();
    assert!(ahead.members[0].heeds <= ahead.revision, "what has not been cannot be heeded");
    // What it may serve is its own entry, too.
    bed.tenant("acme", "10.64.0.0/16", &[0, 1]).await;
    let spec = GatewaySpec { shards: [shard("acme/0"), shard("acme/1")].into() };
    bed.operator().put_gateway(&node("gw-2"), &spec).await.unwrap();
    assert!(since_of("gw-2").await > changed);
}

pub async fn a_node_that_does_not_fit_is_refused(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.65.0.0/16", &[0]).await;
    let one = bed.gateway("gw-1", &["acme/0"]).await;
    let two = bed.gateway("gw-2", &["acme/0"]).await;
    let elsewhere = bed.gateway("gw-3", &["globex/0"]).await;
    one.put_member(&at("10.9.0.1")).await.unwrap();
    assert_eq!(code(two.put_member(&at("10.9.0.1")).await), "address_taken");
    elsewhere.put_member(&at("10.9.0.1")).await.expect("another network perhaps");
    for address in ["fd00::2", "127.0.0.1", "0.0.0.0", "224.0.0.18", "169.254.1.1", "::", "::1", "ff02::12"] {
        assert_eq!(code(two.put_member(&at(address)).await), "invalid", "{address}");
    }
    let spec = super::registry::shard_spec("10.9.0.50:51820", 100, None);
    bed.operator().put_shard(&shard("acme/0"), &spec).await.unwrap();
    assert_eq!(code(two.put_member(&at("10.9.0.50")).await), "invalid", "a HaVip is nobody's own");
    assert_eq!(names(&one.assignment().await.unwrap().members), ["gw-1"], "nothing has changed");

    // Somebody must stay.
    assert_eq!(code(one.put_member(&leaving("10.9.0.1", true)).await), "in_use");
    two.put_member(&at("10.9.0.2")).await.unwrap();
    one.put_member(&leaving("10.9.0.1", true)).await.unwrap();
    assert_eq!(code(two.put_member(&leaving("10.9.0.2", true)).await), "in_use");
    // A restart changes nothing about it, another word does.
    assert!(one.put_member(&at("10.9.0.1")).await.unwrap().members[0].leaving);
    assert!(!one.put_member(&leaving("10.9.0.1", false)).await.unwrap().members[0].leaving);

    let (host, _) = bed.host("host-1", &key(1), &["acme"]).await;
    for client in [bed.operator(), host] {
        assert_eq!(code(client.put_member(&at("10.9.0.9")).await), "forbidden");
        assert_eq!(code(client.remove_member().await), "forbidden");
    }
}

pub async fn who_has_left_or_is_dead_is_taken_off(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let one = bed.gateway("gw-1", &["acme/0"]).await;
    let two = bed.gateway("gw-2", &["acme/0"]).await;
    let three = bed.gateway("gw-3", &["acme/0"]).await;
    for (client, address) in [(&one, "10.9.0.1"), (&two, "10.9.0.2"), (&three, "10.9.0.3")] {
        client.put_member(&at(address)).await.unwrap();
    }
    assert_eq!(code(two.remove_member().await), "in_use", "it still serves");
    let since = two.put_member(&leaving("10.9.0.2", true)).await.unwrap().revision;
    two.remove_member().await.unwrap();
    assert_eq!(told(&one, since).await, ["Member gw-2 true"]);
    assert_eq!(names(&one.assignment().await.unwrap().members), ["gw-1", "gw-3"]);
    two.remove_member().await.expect("gone is gone");
    // Whoever comes again comes anew.
    let again = two.put_member(&at("10.9.0.2")).await.unwrap();
    assert!(!again.members[1].leaving && again.members[1].since > since);

    // One that says something is not dead.
    three.report(&GatewayReport::default()).await.unwrap();
    assert_eq!(code(bed.operator().remove_gateway(&node("gw-3")).await), "in_use");
    bed.operator().remove_gateway(&node("gw-2")).await.expect("silent");
    assert_eq!(names(&one.assignment().await.unwrap().members), ["gw-1", "gw-3"]);
    assert_eq!(code(two.put_member(&at("10.9.0.2")).await), "unauthenticated");
}
