use super::*;
use crate::config::{Config, parse};
use proptest::prelude::*;

const NODES: u8 = 4;

fn name(n: u8) -> NodeName {
    format!("gw-{n}").parse().unwrap()
}

fn all() -> BTreeSet<TenantShard> {
    ["acme/0", "acme/1"].map(|of| of.parse().unwrap()).into()
}

fn gateway(n: u8) -> Gateway {
    let text = format!(
        "gateway:
  node: gw-{n}
  platform: {{ interface: plat0, address: 10.9.0.{n} }}
  tunnel: wireguard
  directory: {{ url: https://directory.example:9473, token_file: /etc/portway/token }}
  ha: {{ nodes: directory, keys: [{{ id: 1, file: /etc/portway/ha.key }}] }}
  tenants:
    - name: acme
      interface: eni0
      allow: [{{ to: 172.16.0.0/16, tcp: all }}]
      inner: 10.64.0.0/16
      shards:
        - {{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10, wireguard: {{ private_key: /k }} }}
        - {{ shard: 1, vrid: 52, platform: 10.9.0.51, tenant: 172.16.101.11, wireguard: {{ private_key: /k }} }}
"
    );
    match parse(&text, "f") {
        Ok(Config::Gateway(gateway)) => gateway,
        other => panic!("{other:?}"),
    }
}

fn member(n: u8, since: u64, heeds: u64) -> Member {
    Member { name: name(n), address: [10, 9, 0, n].into(), leaving: false, since, heeds, shards: all() }
}

/// Of the first of them.
fn members(known: Option<(Known, Duration)>, now: Instant) -> Members {
    Members::new(name(1), known, now)
}

fn heard(members: &mut Members, list: Vec<Member>, now: Instant) {
    members.offer(list);
    members.take(&gateway(1), now);
}

/// The candidates of the first shard, as a node's lists in force say.
fn candidates(members: &Members) -> Vec<String> {
    let ha = members.applied(&gateway(1).ha.unwrap());
    ha.candidates(&"acme/0".parse().unwrap()).into_iter().map(ToString::to_string).collect()
}

#[test]
fn nobody_is_a_candidate_until_the_directory_has_said_who_there_is() {
    let now = Instant::now();
    let mut members = members(None, now);
    assert_eq!((candidates(&members), members.part(), members.due()), (vec![], "unknown", None));
    let mut ha = members.applied(&gateway(1).ha.unwrap());
    ha.retain(&name(1), all());
    assert!(ha.retained.is_empty(), "what stands is somebody else's by now");
    heard(&mut members, vec![member(1, 5, 0)], now);
    assert_eq!((candidates(&members), members.part(), members.heeds()), (vec!["gw-1".to_owned()], "member", 5), "alone");
}

#[test]
fn who_comes_has_no_part_until_the_others_know() {
    let now = Instant::now();
    let mut members = members(None, now);
    heard(&mut members, vec![member(1, 7, 0), member(2, 5, 5), member(3, 6, 7)], now);
    assert!(!candidates(&members).contains(&"gw-1".to_owned()));
    assert_eq!((members.part(), members.due()), ("coming", Some(now + PATIENCE)));
    let ha = members.applied(&gateway(1).ha.unwrap());
    assert_eq!((ha.nodes.len(), ha.leaving.len()), (3, 0), "it hears the others");
    heard(&mut members, vec![member(1, 7, 0), member(2, 5, 7), member(3, 6, 7)], now + PATIENCE / 2);
    assert_eq!((members.part(), members.due()), ("member", None));
}

#[test]
fn who_is_dead_is_not_waited_for_for_ever() {
    let now = Instant::now();
    let mut members = members(None, now);
    let list = || vec![member(1, 7, 0), member(2, 5, 5)];
    heard(&mut members, list(), now);
    // To hear of it again is no reason to wait longer.
    heard(&mut members, list(), now + PATIENCE - Duration::from_millis(1));
    assert_eq!(members.part(), "coming");
    members.take(&gateway(1), now + PATIENCE);
    assert_eq!(members.part(), "member");
}

#[test]
fn who_leaves_is_told_last_and_a_shard_that_it_may_not_serve_any_more_too() {
    let now = Instant::now();
    let mut members = members(None, now);
    heard(&mut members, vec![member(1, 5, 5), member(2, 6, 6)], now);
    let leaving = |heeds| vec![Member { leaving: true, ..member(1, 8, 6) }, member(2, 6, heeds)];
    heard(&mut members, leaving(6), now);
    assert_eq!((members.part(), members.leaves(), candidates(&members).len()), ("about to leave", true, 2));
    heard(&mut members, leaving(8), now);
    assert_eq!((members.part(), candidates(&members)), ("leaving", vec!["gw-2".to_owned()]));
    // It stays after all.
    heard(&mut members, vec![member(1, 9, 8), member(2, 6, 8)], now);
    assert_eq!((members.part(), candidates(&members).len()), ("leaving", 1));
    heard(&mut members, vec![member(1, 9, 8), member(2, 6, 9)], now);
    assert_eq!((members.part(), candidates(&members).len()), ("member", 2));

    let fewer = |heeds| vec![Member { shards: ["acme/1".parse().unwrap()].into(), ..member(1, 12, 9) }, member(2, 6, heeds)];
    heard(&mut members, fewer(9), now);
    assert_eq!(candidates(&members).len(), 2);
    heard(&mut members, fewer(12), now);
    assert_eq!(candidates(&members), ["gw-2"]);
}

#[test]
fn a_restart_goes_on_with_what_was_in_force() {
    let now = Instant::now();
    let own = Some(Own { leaving: false, shards: all() });
    let known = Known { members: vec![member(1, 5, 6), member(2, 6, 5)], own };
    let part_of = |age: u64, later: Duration| {
        let mut members = members(Some((known.clone(), Duration::from_secs(age))), now);
        members.take(&gateway(1), now + later);
        (members.part(), members.due())
    };
    assert_eq!(part_of(0, Duration::ZERO), ("member", None));
    // A machine that was off for a while asks first.
    assert_eq!(part_of(3600, Duration::ZERO), ("unknown", Some(now + FIRST)));
    assert_eq!(part_of(3600, FIRST), ("member", None));
    assert_eq!(part_of(LONGEST.as_secs() + 1, FIRST), ("unknown", None));
    let mut members = members(Some((known.clone(), Duration::from_secs(3600))), now);
    heard(&mut members, vec![member(1, 9, 0), member(3, 8, 8)], now);
    assert_eq!((members.part(), members.due()), ("coming", Some(now + PATIENCE)), "it had been taken off the list");
    // One that had no part yet, as the others did not know it, has none after a restart.
    let without = Known { own: None, members: vec![member(1, 5, 6), member(2, 6, 4)] };
    assert_eq!(self::members(Some((without, Duration::ZERO)), now).part(), "coming");
}

#[test]
fn a_list_that_cannot_be_a_group_is_refused_and_the_former_one_stays() {
    let now = Instant::now();
    let at = |n: u8, address: &str| Member { address: address.parse().unwrap(), ..member(n, 5, 5) };
    let lists: [(Vec<Member>, &str); 8] = [
        (vec![member(2, 5, 5)], "not_listed"),
        (vec![at(1, "10.9.0.9")], "elsewhere"),
        (vec![member(1, 5, 5), at(2, "10.9.0.1")], "twice"),
        (vec![member(1, 5, 5), at(2, "fd00::2")], "family"),
        (vec![member(1, 5, 5), at(2, "10.9.0.51")], "havip"),
        (vec![member(1, 5, 5), at(2, "172.16.0.9")], "routed"),
        (vec![member(1, 5, 5), at(2, "10.64.0.9")], "routed"),
        ((1..=65).map(|n| member(n, 5, 5)).collect(), "too_many"),
    ];
    for (list, label) in lists {
        let mut members = members(None, now);
        heard(&mut members, vec![member(1, 4, 4), member(2, 3, 4)], now);
        heard(&mut members, list, now);
        let refused = members.refused().unwrap_or_else(|| panic!("{label}"));
        assert_eq!(Refused::LABELS[refused.place()], label, "{refused}");
        assert_eq!((candidates(&members).len(), members.heeds()), (2, 4));
        heard(&mut members, vec![member(1, 4, 4)], now);
        assert_eq!((members.refused(), candidates(&members).len()), (None, 1));
    }
    let mut members = members(None, now);
    members.refuse(Refused::Keys("no key".into()));
    assert_eq!(members.refused().map(Refused::place), Some(Refused::LABELS.len() - 1));
}

/// As `directory/store/group.rs` keeps it.
#[derive(Debug, Default)]
struct Directory {
    revision: u64,
    members: BTreeMap<u8, Member>,
}

impl Directory {
    fn say(&mut self, n: u8, leaving: Option<bool>, heeds: u64) {
        self.revision += 1;
        let present = self.members.get(&n);
        let leaving = leaving.unwrap_or(present.is_some_and(|present| present.leaving));
        let since = present.filter(|present| present.leaving == leaving).map_or(self.revision, |present| present.since);
        self.members.insert(n, Member { leaving, ..member(n, since, heeds) });
    }
}

proptest! {
    /// Whatever is said and heard in whatever order, as long as nobody is given up.
    #[test]
    fn when_a_node_comes_or_leaves_all_others_know(steps in prop::collection::vec((1..=NODES, 0u8..5), 1..250)) {
        let (now, mut directory) = (Instant::now(), Directory::default());
        let configs: Vec<Gateway> = (1..=NODES).map(gateway).collect();
        let mut nodes: Vec<Members> = (1..=NODES).map(|n| Members::new(name(n), None, now)).collect();
        for (n, step) in steps {
            let place = usize::from(n - 1);
            let heeds = nodes[place].heeds();
            match step {
                0 => directory.say(n, None, heeds),
                1 => directory.say(n, Some(true), heeds),
                2 => directory.say(n, Some(false), heeds),
                _ => nodes[place].offer(directory.members.values().cloned().collect()),
            }
            let before = nodes[place].own.clone();
            nodes[place].take(&configs[place], now);
            let Some(own) = nodes[place].own.as_ref().filter(|own| before.as_ref() != Some(*own)) else { continue };
            for other in nodes.iter().filter(|other| other.own.is_some() && other.node != name(n)) {
                let known = other.members.iter().find(|member| member.name == name(n)).map(|member| member.leaving);
                prop_assert_eq!(known, Some(own.leaving), "{} of gw-{}", other.node, n);
            }
        }
    }
}
