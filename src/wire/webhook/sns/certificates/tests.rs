use super::*;
use crate::wire::webhook::sns::tests::support::{NOW, TOPIC, at, pem};
use proptest::prelude::*;
use rcgen::{KeyPair, date_time_ymd};
use std::collections::BTreeSet;
use std::sync::LazyLock;

static PEM: LazyLock<Vec<u8>> = LazyLock::new(|| pem(&KeyPair::generate().unwrap(), &["sns.amazonaws.com"], |_| {}));

fn url(n: u64) -> CertificateUrl {
    let text = format!("https://sns.us-west-2.amazonaws.com/SimpleNotificationService-{n:032x}.pem");
    CertificateUrl::parse(&text, &TOPIC.parse().unwrap()).unwrap()
}

fn certificate(n: u64) -> Certificate {
    Certificate::parse(&url(n), &PEM).unwrap()
}

/// A machine, its clock, and the clock on the wall.
struct Desk {
    certificates: Certificates,
    now: Instant,
    wall: SystemTime,
}

impl Desk {
    fn new() -> Self {
        Self { certificates: Certificates::new(), now: Instant::now(), wall: at(NOW) }
    }

    fn want(&mut self, n: u64, waiter: u64) -> Vec<Effect> {
        self.certificates.want(self.now, self.wall, &url(n), Waiter(waiter));
        self.effects()
    }

    fn fetched(&mut self, n: u64, answer: Result<&[u8], &str>) -> Vec<Effect> {
        self.certificates.fetched(self.now, self.wall, &url(n), answer);
        self.effects()
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.certificates.next_effect()).collect()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.wall += Duration::from_secs(seconds);
    }
}

fn known(n: u64, waiter: u64) -> Effect {
    Effect::Known(Waiter(waiter), certificate(n))
}

/// Who was refused, and by which status.
fn refused(effects: &[Effect]) -> Vec<(u64, u16)> {
    let refused = effects.iter().map(|effect| match effect {
        Effect::Refused(Waiter(waiter), refusal) => (*waiter, refusal.status()),
        Effect::Fetch(_) | Effect::Known(..) => panic!("{effect:?} is no refusal"),
    });
    refused.collect()
}

#[test]
fn one_fetch_is_for_all_that_wait_and_then_it_is_known() {
    let mut desk = Desk::new();
    assert_eq!(desk.want(1, 10), [Effect::Fetch(url(1))]);
    assert_eq!(desk.want(1, 11), []);
    assert_eq!(desk.want(2, 12), [Effect::Fetch(url(2))]);
    assert_eq!(desk.fetched(1, Ok(&PEM)), [known(1, 10), known(1, 11)]);
    assert_eq!(desk.want(1, 13), [known(1, 13)]);
    assert_eq!(desk.fetched(1, Ok(&PEM)), [], "nobody has asked");
    assert_eq!(desk.certificates.counters, Counters { fetches: 2, ..Counters::default() });
}

#[test]
fn what_could_not_be_fetched_is_not_tried_again_for_a_minute() {
    let mut desk = Desk::new();
    desk.want(1, 10);
    desk.want(1, 11);
    let effects = desk.fetched(1, Err("connection\nrefused"));
    assert_eq!(refused(&effects), [(10, 503), (11, 503)]);
    let Effect::Refused(_, refusal) = &effects[0] else { panic!("it is a refusal") };
    assert!(refusal.to_string().contains("connection\\nrefused"), "{refusal}");
    desk.pass(59);
    assert_eq!(refused(&desk.want(1, 12)), [(12, 503)]);
    desk.pass(1);
    assert_eq!(desk.want(1, 13), [Effect::Fetch(url(1))]);
    assert_eq!(desk.certificates.counters, Counters { fetches: 2, failed: 1, full: 0 });
}

#[test]
fn what_is_no_certificate_is_refused_for_good() {
    let mut desk = Desk::new();
    desk.want(1, 10);
    assert_eq!(refused(&desk.fetched(1, Ok(b"<html>"))), [(10, 403)]);
    assert_eq!(refused(&desk.want(1, 11)), [(11, 403)]);
}

#[test]
fn a_fetch_without_an_answer_fails_in_time() {
    let mut desk = Desk::new();
    desk.want(1, 10);
    assert_eq!(desk.certificates.next(), Some(desk.now + Certificates::PATIENCE));
    desk.pass(9);
    desk.certificates.tick(desk.now);
    assert_eq!(desk.effects(), []);
    desk.pass(1);
    desk.certificates.tick(desk.now);
    assert_eq!(refused(&desk.effects()), [(10, 503)]);
    assert_eq!((desk.fetched(1, Ok(&PEM)), desk.certificates.next()), (vec![], None), "it comes too late");
    assert_eq!(refused(&desk.want(1, 11)), [(11, 503)]);
}

#[test]
fn only_so_many_are_fetched_in_a_minute_and_those_that_are_known_count() {
    let mut desk = Desk::new();
    desk.want(0, 0);
    desk.fetched(0, Ok(&PEM));
    for n in 1..Certificates::PER_MINUTE as u64 {
        desk.pass(1);
        assert_eq!(desk.want(n, n), [Effect::Fetch(url(n))]);
        assert_eq!(refused(&desk.fetched(n, Err("404"))), [(n, 503)]);
    }
    assert_eq!(refused(&desk.want(99, 99)), [(99, 503)]);
    assert_eq!(desk.want(0, 100), [known(0, 100)]);
    assert_eq!(desk.certificates.counters.full, 1);
    desk.pass(50);
    assert_eq!(refused(&desk.want(99, 99)), [(99, 503)], "59 s after the first");
    desk.pass(1);
    assert_eq!(desk.want(99, 99), [Effect::Fetch(url(99))]);
    assert_eq!(refused(&desk.want(98, 98)), [(98, 503)], "one has become free, and no more");
}

#[test]
fn only_so_many_wait() {
    let mut desk = Desk::new();
    for waiter in 0..Certificates::WAITERS as u64 {
        desk.want(1, waiter);
    }
    assert_eq!(refused(&desk.want(1, 1000)), [(1000, 503)]);
    assert_eq!(refused(&desk.want(2, 1001)), [(1001, 503)]);
    assert_eq!(desk.fetched(1, Ok(&PEM)).len(), Certificates::WAITERS);
    assert_eq!(desk.want(2, 1002), [Effect::Fetch(url(2))]);
}

#[test]
fn one_that_is_not_valid_any_more_is_fetched_again() {
    let mut desk = Desk::new();
    let until =
        |year, month| pem(&KeyPair::generate().unwrap(), &["sns.amazonaws.com"], |params| params.not_after = date_time_ymd(year, month, 2));
    desk.want(1, 10);
    desk.fetched(1, Ok(&until(2027, 6)));
    assert!(matches!(desk.want(1, 11)[..], [Effect::Known(Waiter(11), _)]));
    desk.pass(200 * 86_400);
    assert_eq!(desk.want(1, 12), [Effect::Fetch(url(1))]);
    assert_eq!(refused(&desk.fetched(1, Ok(&until(2027, 6)))), [(12, 403)]);
}

#[test]
fn a_full_store_lets_go_of_what_ends_first() {
    let mut desk = Desk::new();
    let early = pem(&KeyPair::generate().unwrap(), &["sns.amazonaws.com"], |params| params.not_after = date_time_ymd(2027, 12, 2));
    for n in 0..=Certificates::KEPT as u64 {
        desk.want(n, n);
        desk.fetched(n, Ok(if n == 3 { early.as_slice() } else { PEM.as_slice() }));
        desk.pass(6);
    }
    assert_eq!(desk.want(0, 100), [known(0, 100)]);
    assert_eq!(desk.want(3, 101), [Effect::Fetch(url(3))]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each is answered once, and no more is fetched, or fetched twice, than may be.
    #[test]
    fn each_waiter_is_answered_once(steps in proptest::collection::vec((0u64..15, 0u64..8, 0u8..8), 0..200)) {
        let mut desk = Desk::new();
        let (mut waiting, mut begun) = (BTreeSet::new(), vec![]);
        for (waiter, (n, seconds, what)) in steps.into_iter().enumerate() {
            desk.pass(seconds);
            let waiter = waiter as u64;
            let effects = match what {
                0 => desk.fetched(n, Ok(&PEM)),
                1 => desk.fetched(n, Err("404")),
                _ => {
                    waiting.insert(Waiter(waiter));
                    desk.want(n, waiter)
                }
            };
            for effect in effects {
                match effect {
                    Effect::Known(waiter, _) | Effect::Refused(waiter, _) => prop_assert!(waiting.remove(&waiter)),
                    Effect::Fetch(_) => begun.push(desk.now),
                }
            }
            let minute = begun.iter().filter(|begun| desk.now.duration_since(**begun) < Duration::from_secs(60)).count();
            prop_assert!(minute <= Certificates::PER_MINUTE);
        }
        desk.pass(10);
        desk.certificates.tick(desk.now);
        for effect in desk.effects() {
            if let Effect::Refused(waiter, _) = effect {
                prop_assert!(waiting.remove(&waiter));
            }
        }
        prop_assert_eq!(waiting.len(), 0);
    }
}
