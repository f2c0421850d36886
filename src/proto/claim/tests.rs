use super::*;

const MS: Duration = Duration::from_millis(1);

fn eni(number: u32) -> EniId {
    format!("eni-{number:08x}").parse().unwrap()
}

fn shard(name: &str) -> TenantShard {
    name.parse().unwrap()
}

fn at(eni_number: u32, last: u8) -> Claim {
    Claim::Address { eni: eni(eni_number), address: [10, 0, 0, last].into() }
}

fn failure(why: Why) -> Failure {
    Failure { why, text: why.as_str().into(), after: None }
}

/// The machine, and what it says as text.
struct Bench {
    now: Instant,
    claims: Claims,
    numbers: Vec<u64>,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { now, claims: Claims::new(now, 50), numbers: vec![] }
    }

    fn want(&mut self, wanted: &[(&str, &[Claim])]) -> String {
        self.resume(wanted, &[])
    }

    fn resume(&mut self, wanted: &[(&str, &[Claim])], resumed: &[&str]) -> String {
        let wanted = wanted.iter().map(|(of, claims)| (shard(of), claims.iter().cloned().collect())).collect();
        self.claims.want(self.now, &wanted, &resumed.iter().map(|of| shard(of)).collect());
        self.said()
    }

    fn stand_by(&mut self, all: &[(&str, &[Claim])]) -> String {
        let all = all.iter().map(|(of, claims)| (shard(of), claims.iter().cloned().collect())).collect();
        self.claims.stand_by(self.now, &all);
        self.said()
    }

    /// The oldest call that is under way ends so.
    fn ended(&mut self, outcome: Result<Answer, Failure>) -> String {
        let number = self.numbers.remove(0);
        self.claims.ended(self.now, number, outcome, 1.0);
        self.said()
    }

    fn after(&mut self, time: Duration) -> String {
        self.now += time;
        self.claims.tick(self.now, 1.0);
        self.said()
    }

    fn said(&mut self) -> String {
        let mut said = vec![];
        while let Some(effect) = self.claims.next_effect() {
            said.push(match effect {
                Effect::Call { number, call } => {
                    self.numbers.push(number);
                    match call {
                        Call::Assign { eni, addresses } => {
                            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                            format!("assign {} to {eni}", addresses.join(" "))
                        }
                        Call::Route { table, address, .. } => format!("route {address} in {table}"),
                        Call::Associate { allocation, .. } => format!("associate {allocation}"),
                        Call::Look { kind, claims } => format!("look {kind:?} {}", claims.len()),
                        Call::Ready { eni } => format!("ready {eni}"),
                    }
                }
                Effect::Drop(number) => {
                    self.numbers.retain(|known| *known != number);
                    "drop".into()
                }
                Effect::Claimed { of, took } => format!("{of} claimed after {took:?}"),
                Effect::Lost { of, .. } => format!("{of} lost"),
                Effect::Failed { of, failure, row, .. } => format!("{of} {} x{row}", failure.text),
                Effect::Unready { failure, row } => format!("not ready: {} x{row}", failure.text),
            });
        }
        said.join("; ")
    }
}

#[test]
fn a_shard_that_comes_is_claimed_at_once_on_both_sides() {
    let mut bench = Bench::new();
    let both = [at(1, 50), at(2, 10)];
    assert_eq!(bench.want(&[("acme/0", &both)]), "assign 10.0.0.50 to eni-00000001; assign 10.0.0.10 to eni-00000002");
    bench.now += 50 * MS;
    assert_eq!(bench.ended(Ok(Answer::Taken)), "");
    assert_eq!(bench.ended(Ok(Answer::Taken)), "acme/0 claimed after 50ms");
    // Not before metadata may know of it.
    assert_eq!(bench.after(2900 * MS), "");
    assert_eq!(bench.after(100 * MS), "look Address 2");
    assert_eq!(bench.ended(Ok(Answer::Holds(both.into()))), "");
    assert_eq!(bench.want(&[]), "", "what goes is left where it is");
    assert_eq!(bench.claims.timeout(), None);
}

#[test]
fn claims_of_one_interface_are_one_call_and_one_that_is_refused_costs_the_others_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.want(&[("acme/0", &[at(1, 50)]), ("blue/0", &[at(1, 51)])]), "assign 10.0.0.50 10.0.0.51 to eni-00000001");
    assert_eq!(bench.ended(Err(failure(Why::Refused))), "assign 10.0.0.50 to eni-00000001; assign 10.0.0.51 to eni-00000001");
    assert_eq!(bench.ended(Ok(Answer::Taken)), "acme/0 claimed after 0ns");
    assert_eq!(bench.ended(Err(failure(Why::Refused))), "blue/0 refused x1");
    assert_eq!(bench.after(999 * MS), "");
    assert_eq!(bench.after(MS), "assign 10.0.0.51 to eni-00000001");
    let status = bench.claims.status(bench.now);
    assert_eq!((status[&shard("acme/0")].claimed, status[&shard("blue/0")].missing), (true, 1));
    let blue = &status[&shard("blue/0")];
    assert_eq!((blue.failure.as_deref(), blue.for_s), (Some("refused"), 1.0));
}

#[test]
fn an_elastic_address_waits_for_the_address_that_it_leads_to() {
    let mut bench = Bench::new();
    let public = Claim::Public { allocation: "eipalloc-0000000a".parse().unwrap(), eni: eni(1), address: [10, 0, 0, 50].into() };
    assert_eq!(bench.want(&[("acme/0", &[at(1, 50), public])]), "assign 10.0.0.50 to eni-00000001");
    assert_eq!(bench.ended(Ok(Answer::Taken)), "associate eipalloc-0000000a");
    assert_eq!(bench.ended(Ok(Answer::Taken)), "acme/0 claimed after 0ns");
}

#[test]
fn what_goes_while_it_is_claimed_is_dropped_and_its_late_answer_is_nobodys() {
    let mut bench = Bench::new();
    bench.want(&[("acme/0", &[at(1, 50)])]);
    let late = bench.numbers[0];
    assert_eq!(bench.want(&[]), "drop");
    assert_eq!(bench.want(&[("acme/0", &[at(1, 50)])]), "assign 10.0.0.50 to eni-00000001");
    bench.claims.ended(bench.now, late, Ok(Answer::Taken), 0.0);
    assert_eq!(bench.said(), "");
    assert!(!bench.claims.status(bench.now)[&shard("acme/0")].claimed, "it waits for its own call");
}

#[test]
fn a_call_without_an_answer_is_made_again() {
    let mut bench = Bench::new();
    bench.want(&[("acme/0", &[at(1, 50)])]);
    let said = bench.after(PATIENCE);
    assert!(said.starts_with("drop; acme/0 no answer within 3s"), "{said}");
    assert_eq!(bench.after(99 * MS), "");
    assert_eq!(bench.after(MS), "assign 10.0.0.50 to eni-00000001");
}

/// The first time at once; who loses it again and again has a rival, and two that claim in turns would use up everybody's calls.
#[test]
fn what_is_lost_is_claimed_again_and_less_and_less_often() {
    let mut bench = Bench::new();
    assert_eq!(bench.resume(&[("acme/0", &[at(1, 50)])], &["acme/0"]), "look Address 1");
    assert_eq!(bench.ended(Ok(Answer::Holds([].into()))), "acme/0 lost; assign 10.0.0.50 to eni-00000001");
    assert_eq!(bench.ended(Ok(Answer::Taken)), "acme/0 claimed after 0ns");
    assert_eq!(bench.after(GRACE), "look Address 1");
    assert_eq!(bench.ended(Ok(Answer::Holds([].into()))), "acme/0 lost");
    assert_eq!(bench.after(999 * MS), "");
    assert_eq!(bench.after(MS), "assign 10.0.0.50 to eni-00000001");
    assert_eq!(bench.claims.counters().lost, 2);
}

#[test]
fn what_a_process_before_had_is_looked_at_and_not_claimed() {
    let mut bench = Bench::new();
    assert_eq!(bench.resume(&[("acme/0", &[at(1, 50)])], &["acme/0"]), "look Address 1");
    assert_eq!(bench.ended(Ok(Answer::Holds([at(1, 50)].into()))), "");
    assert!(bench.claims.status(bench.now)[&shard("acme/0")].claimed);
}

#[test]
fn whoever_hears_a_rival_claims_again_but_not_for_each_word() {
    let mut bench = Bench::new();
    bench.want(&[("acme/0", &[at(1, 50)])]);
    bench.ended(Ok(Answer::Taken));
    for _ in 0..3 {
        bench.now += 100 * MS;
        bench.claims.contested(bench.now, &shard("acme/0"));
        assert_eq!(bench.said(), "");
    }
    assert_eq!(bench.after(700 * MS), "assign 10.0.0.50 to eni-00000001");
}

#[test]
fn too_many_calls_become_fewer_and_more_again() {
    let mut bench = Bench::new();
    let all: Vec<(String, [Claim; 1])> = (1..=40).map(|number| (format!("t{number}/0"), [at(number, 50)])).collect();
    let wanted: Vec<(&str, &[Claim])> = all.iter().map(|(of, claim)| (of.as_str(), claim.as_slice())).collect();
    assert_eq!(bench.want(&wanted).split("; ").count(), TOGETHER);
    for _ in 0..TOGETHER {
        bench.ended(Err(failure(Why::Throttled)));
    }
    // One call at a time now, 40 a second.
    bench.after(10 * Duration::from_secs(1));
    let before = bench.numbers.len();
    bench.after(26 * MS);
    assert_eq!((before, bench.numbers.len()), (1, 2));
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut bench = Bench::new();
    bench.now += Duration::from_secs(10);
    bench.want(&[("acme/0", &[at(1, 50)])]);
    bench.now -= Duration::from_secs(5);
    assert_eq!(bench.ended(Ok(Answer::Taken)), "acme/0 claimed after 0ns");
}

/// As many connections as calls at once, and each used again before a server would close it.
#[test]
fn whoever_may_get_a_shard_keeps_connections_ready_until_it_has_it() {
    let mut bench = Bench::new();
    let both = [at(1, 50), at(2, 10)];
    let two = "ready eni-00000001; ready eni-00000001";
    assert_eq!(bench.stand_by(&[("acme/0", &both)]), two);
    assert_eq!((bench.ended(Ok(Answer::Taken)), bench.ended(Ok(Answer::Taken))), (String::new(), String::new()));
    assert_eq!(bench.after(19_999 * MS), "");
    assert_eq!(bench.after(MS), two);
    assert_eq!(bench.want(&[("acme/0", &both)]), "assign 10.0.0.50 to eni-00000001; assign 10.0.0.10 to eni-00000002");
    bench.stand_by(&[("acme/0", &both)]);
    for _ in 0..3 {
        bench.ended(Ok(Answer::Taken));
    }
    assert_eq!(bench.ended(Ok(Answer::Taken)), "acme/0 claimed after 0ns");
    assert_eq!(bench.after(Duration::from_secs(60)), "look Address 2", "whoever has everything needs none");
}

#[test]
fn of_many_that_may_come_a_few_connections_are_kept() {
    let mut bench = Bench::new();
    let table = |last: u8| Claim::Route { table: format!("rtb-{last:08x}").parse().unwrap(), address: [198, 18, 0, 1].into(), eni: eni(1) };
    assert_eq!(bench.stand_by(&[("acme/0", &[table(1)])]), "ready eni-00000001");
    bench.ended(Ok(Answer::Taken));
    bench.stand_by(&[("acme/0", &[table(1), table(2), at(1, 50)]), ("blue/0", &[at(1, 51), at(2, 10), table(3)])]);
    assert_eq!(bench.after(Duration::from_secs(20)).split("; ").count(), 4);
}

#[test]
fn what_cannot_be_kept_ready_is_told_and_tried_soon_and_then_more_rarely() {
    let mut bench = Bench::new();
    let ready = |said: &str| said.split("; ").filter(|said| said.starts_with("ready ")).count();
    let all = [("acme/0", &[at(1, 50), at(2, 10)][..])];
    assert_eq!(ready(&bench.stand_by(&all)), 2);
    // One of a round is enough, whichever answer comes last.
    for (row, wait, outcomes) in [
        (1, 2_000, [Err(failure(Why::Unavailable)), Ok(Answer::Taken)]),
        (2, 4_000, [Ok(Answer::Taken), Err(failure(Why::Unavailable))]),
        // Where calls are too many already, not so soon.
        (3, 60_000, [Err(failure(Why::Throttled)), Ok(Answer::Taken)]),
    ] {
        let [first, last] = outcomes;
        assert_eq!(bench.ended(first), "");
        let said = bench.ended(last);
        assert!(said.starts_with("not ready: ") && said.ends_with(&format!("x{row}")), "{said}");
        assert_eq!(bench.after(wait * MS - MS), "");
        assert_eq!(ready(&bench.after(MS)), 2);
    }
    // No answer at all.
    let said = bench.after(PATIENCE);
    assert!(said.starts_with("drop; drop; not ready: no answer within 3s") && said.ends_with("x4"), "{said}");
    // It says nothing of claims.
    assert_eq!(bench.want(&all).split("; ").count(), 2);
}

/// They would take each other's connections.
#[test]
fn nothing_is_made_ready_beside_claims() {
    let mut bench = Bench::new();
    let (acme, blue) = ([at(1, 50)], [at(1, 51)]);
    let all = [("acme/0", &acme[..]), ("blue/0", &blue[..])];
    bench.stand_by(&all);
    bench.ended(Ok(Answer::Taken));
    bench.now += Duration::from_secs(20);
    assert_eq!(bench.want(&[("acme/0", &acme)]), "assign 10.0.0.50 to eni-00000001");
    assert_eq!(bench.stand_by(&all), "");
    assert_eq!(bench.ended(Ok(Answer::Taken)), "acme/0 claimed after 0ns; ready eni-00000001");
}

/// Who was told long ago that calls are too many claims at once all the same.
#[test]
fn a_throttle_of_long_ago_is_forgotten() {
    let mut bench = Bench::new();
    let both = [at(1, 50), at(2, 10)];
    assert_eq!(bench.want(&[("acme/0", &both)]).split("; ").count(), 2);
    bench.ended(Err(failure(Why::Throttled)));
    bench.want(&[]);
    bench.now += Duration::from_secs(31);
    assert_eq!(bench.want(&[("acme/0", &both)]).split("; ").count(), 2);
}

#[test]
fn a_cloud_that_throttles_claims_is_asked_for_nothing_else() {
    let mut bench = Bench::new();
    bench.want(&[("acme/0", &[at(1, 50)])]);
    assert_eq!(bench.ended(Err(failure(Why::Throttled))), "acme/0 throttled x1");
    assert_eq!(bench.stand_by(&[("acme/0", &[at(1, 50)]), ("blue/0", &[at(1, 51)])]), "");
    assert_eq!(bench.after(100 * MS), "assign 10.0.0.50 to eni-00000001");
    assert_eq!(bench.ended(Ok(Answer::Taken)), "acme/0 claimed after 100ms");
    bench.after(Duration::from_secs(29));
    let said = bench.after(Duration::from_secs(21));
    assert!(said.contains("ready eni-00000001"), "{said}");
}
