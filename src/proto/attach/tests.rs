use super::*;

struct Bed {
    machine: Attach,
    start: Instant,
    now: Instant,
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn eni(number: u8, stand: Stand) -> Eni {
    Eni { id: id(&format!("eni-000000{number:02x}")), mac: [2, 0, 0, 0, 0, number], stand }
}

fn ours() -> Stand {
    Stand::Ours("eni-attach-1".into())
}

fn attached() -> Result<Answer, Failure> {
    Ok(Answer::Attached("eni-attach-1".into()))
}

fn leaving() -> Stand {
    Stand::Leaving("eni-attach-1".into())
}

fn refused() -> Result<Answer, Failure> {
    Err(Failure { why: Why::Refused, text: "no".into(), after: None })
}

impl Bed {
    fn new(wanted: bool) -> Self {
        let start = Instant::now();
        Self { machine: Attach::new(start, id("i-0a1b2c3d"), wanted), start, now: start }
    }

    /// What there is to do now, or at the next time at which there is something; and the number of the call.
    fn effects(&mut self) -> (Vec<Effect>, u64) {
        let mut all: Vec<Effect> = std::iter::from_fn(|| self.machine.next_effect()).collect();
        if all.is_empty() {
            self.now = self.now.max(self.machine.timeout().expect("something to wait for"));
            self.machine.tick(self.now, 1.0);
            all.extend(std::iter::from_fn(|| self.machine.next_effect()));
        }
        let number = all.iter().rev().find_map(|effect| if let Effect::Call { number, .. } = effect { Some(*number) } else { None });
        (all, number.unwrap_or_default())
    }

    /// The next call, with whatever is told before.
    fn call(&mut self) -> (Call, u64) {
        for _ in 0..4 {
            let (effects, number) = self.effects();
            let call = effects.into_iter().find_map(|effect| if let Effect::Call { call, .. } = effect { Some(call) } else { None });
            if let Some(call) = call {
                return (call, number);
            }
        }
        panic!("no call: {:?}", self.machine)
    }

    fn answer(&mut self, expected: &Call, outcome: Result<Answer, Failure>) {
        let (call, number) = self.call();
        assert_eq!(call, *expected, "after {:?}", self.now - self.start);
        self.machine.ended(self.now, number, outcome, 1.0);
    }

    fn look(&mut self, enis: &[Eni]) {
        self.answer(&Call::Look, Ok(Answer::Seen(enis.to_vec())));
    }

    fn seconds(&self) -> f64 {
        (self.now - self.start).as_secs_f64()
    }
}

#[test]
fn one_that_is_free_is_attached_and_awaited_in_the_kernel() {
    let mut bed = Bed::new(true);
    bed.look(&[eni(1, Stand::Elsewhere), eni(2, Stand::Free)]);
    bed.answer(&Call::Attach(eni(2, Stand::Free).id), attached());
    // A look that is behind.
    bed.look(&[eni(1, Stand::Elsewhere), eni(2, Stand::Free)]);
    assert_eq!((bed.machine.status().state, bed.machine.mac()), ("wanted", None));
    bed.look(&[eni(1, Stand::Elsewhere), eni(2, ours())]);
    assert_eq!((bed.machine.status().state, bed.machine.mac()), ("coming", Some([2, 0, 0, 0, 0, 2])));
    bed.now += Duration::from_secs(1);
    bed.machine.stands(bed.now, false);
    bed.machine.stands(bed.now, true);
    assert_eq!(bed.effects().0, [Effect::Here { eni: eni(2, ours()).id, took: Duration::from_secs(1) }]);
    assert!(bed.machine.is_here() && bed.machine.timeout().is_none(), "nothing more is called");
}

#[test]
fn one_of_ours_is_kept() {
    let mut bed = Bed::new(true);
    bed.look(&[eni(1, Stand::Free), eni(2, ours())]);
    bed.machine.stands(bed.now, true);
    assert!(bed.machine.is_here());
    assert_eq!(bed.machine.status().eni, Some(eni(2, ours()).id));
}

/// Another is tried, and not the same one again at once, though it is still called free.
#[test]
fn whoever_was_faster_has_it() {
    let mut bed = Bed::new(true);
    let both = [eni(1, Stand::Free), eni(2, Stand::Free)];
    bed.look(&both);
    let (Call::Attach(first), number) = bed.call() else { panic!("{:?}", bed.machine) };
    bed.machine.ended(bed.now, number, Ok(Answer::Taken), 1.0);
    bed.look(&both);
    let (Call::Attach(second), number) = bed.call() else { panic!("{:?}", bed.machine) };
    assert_ne!(first, second);
    bed.machine.ended(bed.now, number, Ok(Answer::Taken), 1.0);
    bed.look(&both);
    let (effects, _) = bed.effects();
    // It is told, though it is not the first that went wrong.
    assert_eq!(effects, [Effect::None { all: 2, row: 1 }]);
    assert_eq!(bed.machine.status().failure.as_deref(), Some("none of 2 is free"));
}

#[test]
fn none_free_is_told_and_looked_for_ever_more_seldom() {
    let mut bed = Bed::new(true);
    for _ in 0..10 {
        bed.look(&[eni(1, Stand::Elsewhere)]);
    }
    // 1 + 2 + 4 + 8 and then 15 each.
    assert!((89.0..91.0).contains(&bed.seconds()), "{}", bed.seconds());
    assert_eq!((bed.machine.counters().none, bed.machine.status().state), (10, "wanted"));
    bed.look(&[eni(1, Stand::Free)]);
    assert!(matches!(bed.call().0, Call::Attach(_)));
}

#[test]
fn what_the_kernel_loses_is_looked_for_again() {
    let mut bed = Bed::new(true);
    bed.look(&[eni(1, ours())]);
    bed.machine.stands(bed.now, true);
    bed.effects();
    bed.machine.stands(bed.now, false);
    assert_eq!(bed.effects().0, [Effect::Lost { eni: eni(1, ours()).id }]);
    bed.look(&[eni(1, leaving()), eni(2, Stand::Free)]);
    // A look that is behind: what has ended does not come back.
    bed.look(&[eni(1, ours()), eni(2, Stand::Free)]);
    bed.look(&[eni(1, Stand::Elsewhere), eni(2, Stand::Free)]);
    assert!(matches!(bed.call().0, Call::Attach(_)));
    assert_eq!(bed.machine.counters().lost, 1);
}

#[test]
fn one_that_the_kernel_never_shows_is_told_of() {
    let mut bed = Bed::new(true);
    let mut told = vec![];
    while bed.seconds() < 60.0 {
        let (effects, number) = bed.effects();
        told.extend(effects.into_iter().filter(|effect| !matches!(effect, Effect::Call { .. })));
        bed.machine.ended(bed.now, number, Ok(Answer::Seen(vec![eni(1, ours())])), 1.0);
    }
    assert_eq!(told, [Effect::Late { eni: eni(1, ours()).id, mac: [2, 0, 0, 0, 0, 1] }]);
}

#[test]
fn what_is_let_go_is_free_before_it_counts_as_gone() {
    let mut bed = Bed::new(true);
    bed.look(&[eni(1, ours())]);
    bed.machine.stands(bed.now, true);
    bed.effects();
    bed.now += BEHIND;
    bed.machine.want(bed.now, false);
    assert!(!bed.machine.is_gone() && !bed.machine.is_here());
    bed.look(&[eni(1, ours())]);
    bed.answer(&Call::Detach("eni-attach-1".into()), Ok(Answer::Detached));
    bed.look(&[eni(1, ours())]);
    bed.look(&[eni(1, leaving())]);
    assert!(!bed.machine.is_free());
    bed.look(&[eni(1, Stand::Free)]);
    assert!(bed.machine.is_free());
    while !bed.machine.is_gone() {
        bed.look(&[eni(1, Stand::Free)]);
    }
    assert_eq!(bed.machine.next_effect(), Some(Effect::Gone));
    assert!(bed.machine.is_gone());
    // Whoever stays after all takes one again.
    bed.machine.want(bed.now, true);
    bed.look(&[eni(1, Stand::Free)]);
    assert!(matches!(bed.call().0, Call::Attach(_)));
}

/// A call that nobody answered may have been heard: what it attached is found and let go.
#[test]
fn an_attachment_that_comes_late_is_let_go_too() {
    let mut bed = Bed::new(true);
    bed.look(&[eni(1, Stand::Free)]);
    let (_, number) = bed.call();
    bed.machine.want(bed.now, false);
    bed.now += PATIENCE;
    bed.machine.tick(bed.now, 1.0);
    assert_eq!(bed.machine.next_effect(), Some(Effect::Drop(number)));
    bed.look(&[eni(1, Stand::Free)]);
    assert!(!bed.machine.is_gone() && !bed.machine.is_free());
    bed.look(&[eni(1, ours())]);
    bed.answer(&Call::Detach("eni-attach-1".into()), Ok(Answer::Detached));
    bed.machine.ended(bed.now, number, attached(), 1.0);
    while !bed.machine.is_gone() {
        bed.look(&[eni(1, Stand::Free)]);
    }
    assert!(bed.seconds() >= BEHIND.as_secs_f64());
}

#[test]
fn what_is_refused_is_told_and_another_is_tried() {
    let mut bed = Bed::new(true);
    let both = [eni(1, Stand::Free), eni(2, Stand::Free)];
    bed.look(&both);
    let (Call::Attach(first), number) = bed.call() else { panic!("{:?}", bed.machine) };
    bed.machine.ended(bed.now, number, refused(), 1.0);
    assert_eq!(bed.machine.status().failure.as_deref(), Some("no"));
    bed.look(&both);
    let (Call::Attach(second), number) = bed.call() else { panic!("{:?}", bed.machine) };
    assert_ne!(first, second);
    bed.machine.ended(bed.now, number, refused(), 1.0);
    bed.look(&both);
    // That there are some is no comfort: why there is none here is what is told.
    assert!(matches!(bed.call().0, Call::Attach(_)));
    assert_eq!((bed.machine.counters().none, bed.machine.status().failure.as_deref()), (0, Some("no")));
}

/// Looks that are behind call it free still.
#[test]
fn what_was_attached_is_not_free_before_it_was_seen() {
    let mut bed = Bed::new(true);
    bed.look(&[eni(1, Stand::Free)]);
    let (_, number) = bed.call();
    bed.machine.want(bed.now, false);
    bed.machine.ended(bed.now, number, attached(), 1.0);
    bed.look(&[eni(1, Stand::Free)]);
    assert!(!bed.machine.is_free());
    bed.look(&[eni(1, ours())]);
    bed.answer(&Call::Detach("eni-attach-1".into()), Ok(Answer::Detached));
    // This may have been so before it was attached.
    bed.look(&[eni(1, Stand::Free)]);
    assert!(!bed.machine.is_free());
    bed.now += BEHIND;
    bed.look(&[eni(1, Stand::Free)]);
    assert!(bed.machine.is_free());
}

#[test]
fn one_at_another_index_is_told_of_and_left_alone() {
    let mut bed = Bed::new(true);
    bed.look(&[eni(1, Stand::Misplaced(2)), eni(2, Stand::Free)]);
    let (effects, _) = bed.effects();
    let [Effect::Failed { failure, row: 1 }] = &effects[..] else { panic!("{effects:?}") };
    assert!(failure.text.starts_with("eni-00000001 is attached at the device index 2"), "{}", failure.text);
    bed.machine.want(bed.now, false);
    while !bed.machine.is_gone() {
        bed.look(&[eni(1, Stand::Misplaced(2)), eni(2, Stand::Free)]);
    }
}

/// Another ENI would be refused as well: the same is tried when the index is free.
#[test]
fn an_index_that_is_not_free_is_no_fault_of_the_interface() {
    let mut bed = Bed::new(true);
    let both = [eni(1, Stand::Free), eni(2, Stand::Free)];
    bed.look(&both);
    let (first, number) = bed.call();
    bed.machine.ended(bed.now, number, Ok(Answer::Occupied("index 1".into())), 1.0);
    assert_eq!(bed.effects().0, [Effect::Failed { failure: refusal("index 1".into()), row: 1 }]);
    bed.look(&both);
    assert_eq!(bed.call().0, first);
}
