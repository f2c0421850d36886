//! The kernel's WireGuard signs handshakes with its clock, and a host takes none that bears an earlier time than the last: what that costs where the
//! next gateway's clock is behind. All nodes of the lab are one machine with one clock, which is set back between the last word of the one and the
//! first of the other.

use super::failover::{EMULATED_MS, INTERVAL, SERVER, pair};
use super::stranger_support::{Kind, Stranger, TENANT, bound_ms};
use super::vm_support::{inside, wait};
use nix::time::{ClockId, clock_settime};
use portway::lab::{Kill, Lab, Probe, unix};
use serde_json::Value;
use std::time::{Duration, Instant};

/// By how much the clock is behind when the next gateway calls.
const BEHIND: Duration = Duration::from_secs(3);
/// From one call to the next (`proto::wake`).
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at what was answered, and what a machine that is slow adds.
const LOOK: Duration = Duration::from_millis(200);

fn ha(lab: &Lab, node: &str) -> Value {
    let answer = unix(&lab.socket(node).unwrap(), "GET", "/v1/status", None).unwrap();
    serde_json::from_str::<Value>(&answer.body).unwrap()["ha"].take()
}

/// When the peer's last session began, in whole seconds: it was its gateway that called.
fn called(stranger: &Stranger) -> Duration {
    let line = stranger.wg(&format!("show {} latest-handshakes", stranger.device));
    let seconds = line.split_whitespace().last().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or_else(|| panic!("no handshake: {line}")))
}

/// How long the peer has no answer when this gateway dies, and `then` happens. The kernel stamps answers with the clock that is set back, so they
/// are only counted.
fn outage(lab: &mut Lab, stranger: &Stranger, dies: &str, next: &str, then: impl FnOnce()) -> Duration {
    let probe = Probe::start(&stranger.netns, SERVER, Duration::from_millis(10)).unwrap();
    wait("answers", || probe.answered() >= 100);
    lab.await_in_sync().unwrap();
    lab.fail(dies, Kill::Node).unwrap();
    let begun = Instant::now();
    then();
    // What was on its way has come long before another takes over.
    wait("the last answer", || begun.elapsed() > INTERVAL);
    let last = probe.answered();
    wait("answers", || probe.answered() > last);
    let took = begun.elapsed();
    lab.await_active(next, TENANT, 0).unwrap();
    wait("answers", || probe.answered() >= last + 100);
    took
}

#[test]
fn a_clock_that_is_behind_costs_what_it_is_behind() {
    inside("clock::a_clock_that_is_behind_costs_what_it_is_behind", || {
        let mut lab = pair();
        let stranger = Stranger::come(&mut lab, Kind::Kernel);
        let clock = || ha(&lab, "gw-2")["clocks"]["gw-1"].clone();
        wait("a clock to be known", || !clock().is_null());
        // They are one clock, and advertisements take what they take: never less than nothing.
        println!("gw-1's clock, as gw-2 has it: {}", clock());
        assert!(clock()["ahead_ms"].as_f64().unwrap() > -0.1 && clock()["behind"] == false, "{}", clock());

        let right = outage(&mut lab, &stranger, "gw-1", "gw-2", || ());
        let called = called(&stranger);
        lab.heal("gw-1").unwrap();
        lab.await_active("gw-1", TENANT, 0).unwrap();
        let takeover = Duration::from_secs_f64(bound_ms(INTERVAL) / 1e3);
        wait("gw-1's call", || self::called(&stranger) > called);
        let behind = outage(&mut lab, &stranger, "gw-1", "gw-2", || {
            // When gw-2 takes over, the last call that the peer has answered is so long in the future.
            clock_settime(ClockId::CLOCK_REALTIME, (self::called(&stranger) - takeover - BEHIND).into()).unwrap();
        });
        println!("with clocks that agree {right:?}; {BEHIND:?} behind {behind:?}");
        let bound = Duration::from_secs_f64((bound_ms(INTERVAL) + EMULATED_MS) / 1e3) + LOOK;
        assert!(right <= bound, "{right:?}");
        assert!(behind >= right + BEHIND / 2, "nobody was refused: {behind:?}");
        // The second that was cut off may be a whole one.
        assert!(behind <= bound + BEHIND + Duration::from_secs(1) + AGAIN, "{behind:?}");
    });
}
