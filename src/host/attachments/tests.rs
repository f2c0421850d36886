use super::*;
use crate::config::{Backend, HostShard, HostTenant, HostTunnel, Platform, TunnelKind};
use crate::model::{GreKey, Pools};

fn host(shards: u16) -> Host {
    let shard = |n| HostShard {
        shard: ShardId(n),
        gateway: [10, 9, 0, 1].into(),
        tunnel: HostTunnel::Gre { key: GreKey(7) },
        inner: [10, 64, 0, 9].into(),
    };
    let acme = HostTenant {
        name: "acme".parse().unwrap(),
        cidrs: vec!["172.16.0.0/16".parse().unwrap()],
        shards: (0..shards).map(shard).collect(),
        egress: None,
        left_out: Default::default(),
    };
    Host {
        node: "host-1".parse().unwrap(),
        platform: Platform { interface: "plat0".parse().unwrap(), address: [10, 9, 0, 11].into(), mtu: None, tunnel: TunnelKind::Gre },
        backend: Backend::Auto,
        runtime_dir: "/run/portway".into(),
        admin: "127.0.0.1:9471".parse().unwrap(),
        admin_names: Default::default(),
        wireguard: None,
        directory: None,
        tenants: vec![acme],
        flow_log: None,
    }
}

fn spec(tenant: &str, source: Option<&str>) -> Spec {
    let source = source.map(|text| parse_source(text).unwrap());
    Spec { tenant: tenant.parse().unwrap(), interface: Some("veth7".parse().unwrap()), netns: None, source, shard: None, egress: None }
}

fn veth7() -> Found {
    Found { interface: "veth7".parse().unwrap(), index: 17, port: false }
}

fn name(text: &str) -> AttachmentName {
    text.parse().unwrap()
}

fn attach(all: &mut Attachments, named: &str, spec: &Spec) -> Result<Attachment, Refusal> {
    match all.decide(&host(1), &name(named), spec, &veth7())? {
        Attach::New(attachment) => {
            all.insert(attachment.clone());
            Ok(attachment)
        }
        Attach::Stands(attachment) => Ok(attachment),
    }
}

#[test]
fn the_same_call_twice_is_one_attachment() {
    let mut all = Attachments::default();
    let first = attach(&mut all, "a", &spec("acme", None)).unwrap();
    assert_eq!(all.decide(&host(1), &name("a"), &spec("acme", None), &veth7()), Ok(Attach::Stands(first)));
    assert_eq!(all.len(), 1);
}

#[test]
fn the_same_name_with_other_values_is_refused() {
    let mut all = Attachments::default();
    attach(&mut all, "a", &spec("acme", None)).unwrap();
    assert!(matches!(attach(&mut all, "a", &spec("acme", Some("10.88.0.7"))), Err(Refusal::Different { .. })));
}

#[test]
fn two_attachments_cannot_claim_the_same_packets() {
    let mut all = Attachments::default();
    attach(&mut all, "a", &spec("acme", Some("10.88.0.7"))).unwrap();
    assert_eq!(attach(&mut all, "b", &spec("acme", Some("10.88.0.7"))), Err(Refusal::Taken(name("a"))));
    assert!(attach(&mut all, "b", &spec("acme", Some("10.88.0.8"))).is_ok());
}

#[test]
fn networks_on_one_interface_do_not_overlap_but_an_address_may_lie_in_one() {
    let mut all = Attachments::default();
    attach(&mut all, "a", &spec("acme", Some("10.88.0.0/28"))).unwrap();
    assert_eq!(attach(&mut all, "b", &spec("acme", Some("10.88.0.0/24"))), Err(Refusal::Taken(name("a"))));
    assert_eq!(attach(&mut all, "b", &spec("acme", Some("10.88.0.8/29"))), Err(Refusal::Taken(name("a"))));
    assert!(attach(&mut all, "b", &spec("acme", Some("10.88.0.16/28"))).is_ok());
    assert!(attach(&mut all, "c", &spec("acme", Some("10.88.0.7"))).is_ok());
}

#[test]
fn an_unknown_tenant_is_named() {
    let refusal = attach(&mut Attachments::default(), "a", &spec("blue", None)).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownTenant("blue".parse().unwrap()));
}

#[test]
fn a_number_rests_before_it_serves_again() {
    let mut all = Attachments::default();
    let first = attach(&mut all, "a", &spec("acme", None)).unwrap();
    all.remove(&name("a"));
    let second = attach(&mut all, "b", &spec("acme", None)).unwrap();
    assert_ne!(first.attached.who, second.attached.who);
}

#[test]
fn a_new_shard_only_takes_attachments_and_never_shuffles_the_others() {
    let place = |shards, n: u32| shard_for(&host(shards), &name(&format!("fn-{n}")), &spec("acme", None)).unwrap().shard;
    let moved: Vec<_> = (0..1000).map(|n| (place(3, n), place(4, n))).filter(|(old, new)| old != new).collect();
    assert!(moved.iter().all(|(_, new)| *new == ShardId(3)));
    assert!((150..350).contains(&moved.len()), "{} of 1000 moved to the fourth shard", moved.len());
}

#[test]
fn a_source_is_an_address_or_a_network() {
    assert_eq!(parse_source("10.88.0.7").unwrap().to_string(), "10.88.0.7/32");
    assert_eq!(parse_source("10.88.0.0/28").unwrap().to_string(), "10.88.0.0/28");
    for wrong in ["10.88.0.7/28", "fd00::1", "ten", ""] {
        assert!(parse_source(wrong).is_err(), "{wrong}");
    }
}

/// acme with shards 0 to 3.
fn pooled(pools: &[(&str, &[u16])]) -> Host {
    let mut host = host(4);
    let shards = |all: &[u16]| all.iter().copied().map(ShardId).collect();
    host.tenants[0].egress = Some(Pools::new(pools.iter().map(|(name, all)| (name.parse().unwrap(), shards(all))).collect()));
    host
}

fn goes_through(host: &Host, named: &str, egress: Option<&str>, shard: Option<u16>) -> Result<u16, Refusal> {
    let spec = Spec { egress: egress.map(|pool| pool.parse().unwrap()), shard: shard.map(ShardId), ..spec("acme", None) };
    match Attachments::default().decide(host, &name(named), &spec, &veth7())? {
        Attach::New(attachment) => Ok(attachment.attached.to.shard.0),
        Attach::Stands(stands) => panic!("{stands:?}"),
    }
}

#[test]
fn a_pool_gives_its_shards_to_those_who_name_it_and_to_nobody_else() {
    let host = pooled(&[("partners", &[1]), ("crawlers", &[2, 3])]);
    let all = |egress: Option<&str>| -> std::collections::BTreeSet<u16> {
        (0..50).map(|n| goes_through(&host, &format!("fn-{n}"), egress, None).unwrap()).collect()
    };
    assert_eq!([all(Some("partners")), all(Some("crawlers")), all(None)], [[1].into(), [2, 3].into(), [0].into()]);
    assert_eq!(goes_through(&host, "a", None, Some(1)), Ok(1), "who names a shard is taken at its word");
    assert_eq!(goes_through(&host, "a", Some("crawlers"), Some(3)), Ok(3));
}

#[test]
fn a_pool_that_cannot_be_had_is_refused_with_what_there_is() {
    let host = pooled(&[("partners", &[1, 7]), ("rest", &[0, 2, 3]), ("away", &[9])]);
    let refused = |egress, shard| goes_through(&host, "a", egress, shard).unwrap_err().to_string();
    assert_eq!(refused(Some("crawlers"), None), "tenant acme has no pool crawlers: it has away, partners, rest");
    assert_eq!(goes_through(&host, "a", Some("partners"), None), Ok(1), "as far as it is served");
    assert!(refused(Some("away"), None).contains("none of the shards of acme's pool away is served here"));
    assert!(refused(Some("rest"), Some(1)).contains("shard acme/1 is not in the pool rest"));
    assert!(
        refused(None, None)
            .contains("all shards of tenant acme are in pools of outbound addresses: name one with `egress` (away, partners, rest)")
    );
    let bare = goes_through(&pooled(&[]), "a", Some("partners"), None).unwrap_err().to_string();
    assert!(bare.contains("give it pools with `egress`"), "{bare}");
}

#[test]
fn what_is_away_for_now_is_told_from_what_never_was() {
    let away = Refusal::Away("acme".parse().unwrap());
    let mut host = pooled(&[("partners", &[0, 1, 2, 3])]);
    host.tenants[0].left_out = [ShardId(9)].into();
    assert_eq!(goes_through(&host, "a", None, None), Err(away), "there is one in no pool, and it is not here");
    let host = pooled(&[("partners", &[0, 1, 2, 3]), ("default", &[9])]);
    let default = Refusal::PoolAway { tenant: "acme".parse().unwrap(), pool: "default".parse().unwrap() };
    assert_eq!(goes_through(&host, "a", None, None), Err(default), "and nobody is told to take another's pool");
}

#[test]
fn what_stands_stays_whatever_becomes_of_the_pools() {
    let mut all = Attachments::default();
    let named = Spec { egress: Some("partners".parse().unwrap()), ..spec("acme", None) };
    for (attachment, asked) in [("fn-1", spec("acme", None)), ("fn-2", named.clone())] {
        let found = Found { index: if attachment == "fn-1" { 17 } else { 18 }, ..veth7() };
        let Ok(Attach::New(made)) = all.decide(&pooled(&[("partners", &[1])]), &name(attachment), &asked, &found) else { panic!() };
        all.insert(made);
    }
    let decide = |host: &Host, attachment: &str, asked: &Spec| {
        let found = Found { index: if attachment == "fn-1" { 17 } else { 18 }, ..veth7() };
        all.decide(host, &name(attachment), asked, &found)
    };
    // All shards are others' by now; the pool is gone; its shards are away.
    for later in [pooled(&[("others", &[0, 1, 2, 3])]), pooled(&[]), pooled(&[("partners", &[9])])] {
        assert!(matches!(decide(&later, "fn-1", &spec("acme", None)), Ok(Attach::Stands(_))), "{later:?}");
        assert!(matches!(decide(&later, "fn-2", &named), Ok(Attach::Stands(_))), "{later:?}");
    }
    let same = pooled(&[("partners", &[1])]);
    let Err(Refusal::Different { stands, .. }) = decide(&same, "fn-2", &spec("acme", None)) else { panic!("it is another pool") };
    assert!(stands.ends_with("egress partners"), "{stands}");
}

#[test]
fn a_program_of_before_there_were_pools_reads_what_is_stored() {
    let named = Spec { egress: Some("partners".parse().unwrap()), ..spec("acme", None) };
    let Ok(Attach::New(made)) = Attachments::default().decide(&pooled(&[("partners", &[1])]), &name("a"), &named, &veth7()) else {
        panic!()
    };
    let stored = serde_json::to_value(&made).unwrap();
    assert_eq!((&stored["egress"], stored["spec"].get("egress")), (&"partners".into(), None), "it refuses a specification with more");
    assert_eq!(serde_json::from_value::<Attachment>(stored).unwrap(), made);
}
