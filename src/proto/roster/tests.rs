use super::*;
use proptest::prelude::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn name(number: usize) -> NodeName {
    format!("gw-{number}").parse().unwrap()
}

fn at(number: usize) -> AdminAt {
    format!("10.9.0.{number}:9470").parse().unwrap()
}

/// Heard just now.
fn heard(number: usize) -> (NodeName, Listed) {
    (name(number), Listed { heard: Some(s(1)), at: Some(at(number)) })
}

fn silent(number: usize) -> (NodeName, Listed) {
    (name(number), Listed::default())
}

fn list(numbers: impl IntoIterator<Item = usize>) -> BTreeMap<NodeName, Listed> {
    numbers.into_iter().map(heard).collect()
}

/// A roster, and a directory that is asked every five seconds.
struct Bench {
    now: Instant,
    roster: Roster,
    ordered: Option<u32>,
    read: BTreeMap<NodeName, Instant>,
}

impl Bench {
    fn empty() -> Self {
        Self { now: Instant::now() + s(1_000_000), roster: Roster::default(), ordered: None, read: BTreeMap::new() }
    }

    fn new(numbers: impl IntoIterator<Item = usize>) -> Self {
        let mut bench = Self::empty();
        bench.hear(&list(numbers));
        bench
    }

    fn hear(&mut self, list: &BTreeMap<NodeName, Listed>) -> bool {
        self.now += s(5);
        self.roster.hear(self.now, list, &self.read, self.ordered)
    }

    /// The same, again and again.
    fn hear_for(&mut self, time: Duration, list: &BTreeMap<NodeName, Listed>) {
        let end = self.now + time;
        while self.now < end {
            self.hear(list);
        }
    }

    fn names(&self) -> String {
        self.roster.members().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn who_comes_is_asked_and_who_was_never_heard_is_none_yet() {
    let mut bench = Bench::new([1, 2]);
    assert!(bench.roster.is_known());
    let mut more = list([1, 2, 3]);
    more.extend([silent(4)]);
    assert!(bench.hear(&more));
    assert_eq!(bench.names(), "gw-1 gw-2 gw-3");
    assert_eq!(bench.roster.status(bench.now).registered, [name(4)].into());
    assert!(!bench.hear(&more), "nothing is new");
    assert_eq!(bench.roster.members().nth(2).unwrap().1, Place::At(at(3)));
}

#[test]
fn a_directory_that_has_just_been_started_is_given_time() {
    let mut first = list([1]);
    first.extend([silent(2), silent(3)]);
    let mut bench = Bench::empty();
    bench.hear(&first);
    assert!(!bench.roster.is_known() && bench.names() == "gw-1");
    // All have been heard: no need to wait.
    bench.hear(&list([1, 2, 3]));
    assert!(bench.roster.is_known());
    // Who never comes is waited for no longer than that.
    let mut bench = Bench::empty();
    bench.hear_for(FIRST, &first);
    assert!(!bench.roster.is_known());
    bench.hear(&first);
    assert!(bench.roster.is_known());
    let mut nobody = Bench::empty();
    nobody.hear_for(s(3600), &[silent(1)].into());
    assert!(!nobody.roster.is_known(), "a fleet of nobody");
}

#[test]
fn a_directory_that_was_started_anew_takes_nothing_back() {
    let mut bench = Bench::new([1, 2]);
    assert!(!bench.hear(&[silent(1), silent(2)].into()));
    assert_eq!(bench.roster.members().map(|(_, place)| place).collect::<Vec<_>>(), [Place::At(at(1)), Place::At(at(2))]);
}

#[test]
fn who_is_removed_on_purpose_is_gone() {
    let mut bench = Bench::new([1, 2, 3]);
    bench.ordered = Some(3);
    assert!(bench.hear(&list([1, 2])));
    assert_eq!(bench.names(), "gw-1 gw-2");
}

#[test]
fn a_list_that_shrinks_too_much_is_believed_after_a_while_only() {
    for (before, left) in [(3, 1), (10, 4), (2, 0), (1, 0), (10, 0)] {
        let mut bench = Bench::new(1..=before);
        bench.ordered = Some(10);
        let after = list(1..=left);
        bench.hear_for(DOUBT, &after);
        assert_eq!(bench.roster.known.len(), before, "{before} to {left}");
        let status = bench.roster.status(bench.now);
        assert!(status.doubted.len() == before - left && status.believed_in.is_some(), "{status:?}");
        bench.hear(&after);
        assert_eq!(bench.roster.known.len(), left, "{before} to {left}");
        assert!(bench.roster.status(bench.now).doubted.is_empty());
    }
}

#[test]
fn nor_is_one_that_does_so_step_by_step() {
    let mut bench = Bench::new(1..=8);
    bench.ordered = Some(8);
    bench.hear(&list(1..=6));
    bench.hear(&list(1..=4));
    assert_eq!(bench.roster.known.len(), 4);
    bench.hear_for(s(120), &list(1..=2));
    assert_eq!(bench.roster.known.len(), 4, "a quarter of what there was");
    // It was an error, and all is back.
    bench.hear(&list(1..=8));
    assert_eq!((bench.roster.known.len(), bench.roster.doubt.is_none()), (8, true));
}

#[test]
fn what_was_ordered_is_believed_at_once_and_so_is_a_fleet_that_is_exchanged() {
    let mut bench = Bench::new(1..=9);
    bench.ordered = Some(2);
    bench.hear(&list(1..=2));
    assert_eq!(bench.names(), "gw-1 gw-2");
    bench.ordered = Some(3);
    bench.hear(&list(3..=4));
    assert_eq!(bench.names(), "gw-3 gw-4");
}

#[test]
fn the_silent_stay_as_long_as_anybody_is_missing() {
    let mut bench = Bench::new([1, 2, 3]);
    bench.ordered = Some(3);
    let mut two = list([1, 2]);
    two.extend([silent(3)]);
    bench.hear_for(s(24 * 3600), &two);
    assert_eq!(bench.names(), "gw-1 gw-2 gw-3");
    // Another has taken its place.
    two.extend([heard(4)]);
    bench.hear(&two);
    assert_eq!(bench.names(), "gw-1 gw-2 gw-4");
    assert_eq!(bench.roster.status(bench.now).registered, [name(3)].into());
    // It was cut off, and is back.
    two.extend([heard(3)]);
    bench.hear(&two);
    assert_eq!(bench.names(), "gw-1 gw-2 gw-3 gw-4");
}

#[test]
fn who_was_ordered_away_is_gone_once_it_is_silent() {
    let mut bench = Bench::new([1, 2, 3]);
    bench.ordered = Some(2);
    let mut two = list([1, 2]);
    two.extend([(name(3), Listed { heard: Some(s(240)), at: Some(at(3)) })]);
    bench.hear(&two);
    assert_eq!(bench.names(), "gw-1 gw-2 gw-3");
    two.extend([(name(3), Listed { heard: Some(SILENT), at: Some(at(3)) })]);
    bench.hear_for(s(30), &two);
    assert_eq!(bench.names(), "gw-1 gw-2 gw-3", "it was heard later than that");
    bench.hear_for(SILENT, &two);
    assert_eq!(bench.names(), "gw-1 gw-2");
}

#[test]
fn a_reading_is_a_sign_of_life() {
    let mut bench = Bench::new([1, 2, 3]);
    bench.ordered = Some(2);
    let mut two = list([1, 2]);
    two.extend([silent(3)]);
    for _ in 0..100 {
        bench.read.insert(name(3), bench.now);
        bench.hear(&two);
    }
    assert_eq!(bench.names(), "gw-1 gw-2 gw-3");
    bench.hear_for(SILENT, &two);
    assert_eq!(bench.names(), "gw-1 gw-2");
}

#[test]
fn an_address_is_one_gateways() {
    let mut bench = Bench::new([1, 2]);
    bench.ordered = Some(3);
    let mut both = list([2]);
    both.extend([silent(1), (name(7), Listed { heard: Some(s(0)), at: Some(at(1)) })]);
    assert!(bench.hear(&both));
    let places: Vec<_> = bench.roster.members().map(|(_, place)| place).collect();
    assert_eq!(places, [Place::Taken(name(7)), Place::At(at(2)), Place::At(at(1))]);
    // It is at the same place no more, and says so.
    bench.hear(&[(name(7), Listed { heard: Some(s(0)), at: None }), heard(2), silent(1)].into());
    assert_eq!(bench.roster.members().nth(2).unwrap(), (&name(7), Place::Unsaid));
}

#[test]
fn a_restart_goes_on_with_the_last_list() {
    let mut bench = Bench::new([1, 2, 3]);
    let saved: Saved = serde_json::from_str(&serde_json::to_string(&bench.roster.saved()).unwrap()).unwrap();
    bench.roster = Roster::restore(bench.now, saved.clone());
    assert!(bench.roster.is_known() && bench.roster.saved() == saved && bench.roster.status(bench.now).age.is_none());
    bench.ordered = Some(3);
    bench.hear(&BTreeMap::new());
    assert_eq!(bench.names(), "gw-1 gw-2 gw-3", "a list of nobody is doubted");
    assert!(!Roster::restore(bench.now, Saved::default()).is_known());
    assert!(serde_json::from_str::<Saved>(r#"{"gateways": {"gw-1": "169.254.169.254:80"}}"#).is_err());
}

/// What a directory may say of a gateway, and whether a reading of it is believed.
fn listing() -> impl Strategy<Value = (Option<Listed>, bool)> {
    let ago = prop_oneof![Just(None), (0_u64..900).prop_map(|ago| Some(s(ago)))];
    let listed = (ago, prop::option::of(1_usize..5)).prop_map(|(heard, of)| Listed { heard, at: heard.and(of.map(at)) });
    (prop::option::weighted(0.7, listed), prop::bool::weighted(0.2))
}

proptest! {
    /// Whoever is known stays, unless the directory has removed it or it is silent and replaced; more than half go only as ordered or after a while.
    #[test]
    fn nobody_is_forgotten_without_a_reason(
        steps in prop::collection::vec((prop::collection::vec(listing(), 8), 1_u64..120, prop::option::of(0_u32..8)), 1..60)
    ) {
        let (mut now, mut roster) = (Instant::now() + s(1_000_000), Roster::default());
        let (mut heard, mut read): (BTreeMap<NodeName, Instant>, BTreeMap<NodeName, Instant>) = Default::default();
        let mut full: Option<Instant> = None;
        for (all, seconds, ordered) in steps {
            now += s(seconds);
            let mut list = BTreeMap::new();
            for (number, (listed, is_read)) in all.into_iter().enumerate() {
                if is_read {
                    read.insert(name(number), now);
                }
                if let Some(listed) = listed {
                    if let Some(ago) = listed.heard {
                        let last = heard.entry(name(number)).or_insert(now - ago);
                        *last = (*last).max(now - ago);
                    }
                    list.insert(name(number), listed);
                }
            }
            let before: BTreeSet<NodeName> = roster.known.keys().cloned().collect();
            roster.hear(now, &list, &read, ordered);
            let after: BTreeSet<NodeName> = roster.known.keys().cloned().collect();
            let sign = |name: &NodeName| heard.get(name).max(read.get(name)).copied();
            let alive = after.iter().filter(|name| sign(name).is_some_and(|at| now - at <= ALIVE)).count();
            let replaced = ordered.is_some_and(|ordered| alive >= ordered as usize);
            let is_forgotten = |name: &NodeName| replaced && sign(name).is_none_or(|at| now - at >= SILENT);
            let removed = before.difference(&after).filter(|name| !list.contains_key(*name) && !is_forgotten(name)).count();
            for name in before.difference(&after).filter(|name| list.contains_key(*name)) {
                prop_assert!(is_forgotten(name), "{name} is alive, or not replaced");
            }
            let listed = after.iter().filter(|name| list.contains_key(*name)).count();
            let shrunk = listed == 0 || listed * 2 < before.len();
            if removed > 0 && shrunk && ordered.is_none_or(|ordered| listed < ordered as usize) {
                prop_assert!(full.is_some_and(|since| now - since >= DOUBT), "{before:?} to {after:?} at once");
            }
            heard.retain(|name, _| after.contains(name));
            full = if roster.doubt.is_some() { full.or(Some(now)) } else { None };
            // All that are known and heard have a place, and no two the same.
            let places: Vec<AdminAt> = roster.members().filter_map(|(_, place)| if let Place::At(at) = place { Some(at) } else { None }).collect();
            prop_assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), places.len());
        }
    }
}
