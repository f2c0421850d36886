use super::*;
use crate::model::{FlowCount, FlowKey, FlowStatus, Mark};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

const RATE: Rate = Rate { per_second: 1000, burst: 1000 };

struct World {
    begun: Instant,
    log: FlowLog,
}

/// 2026-11-22T14:00:00Z, in seconds since 1970.
const EPOCH: u64 = 1_795_356_000;

fn wall(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(EPOCH * 1000 + ms)
}

/// In the kernel's unit.
fn ns(ms: u64) -> Option<u64> {
    Some((EPOCH * 1000 + ms) * 1_000_000)
}

impl World {
    fn new(rate: Rate) -> Self {
        let begun = Instant::now();
        let author = Author { node: "gw-1".parse().unwrap(), role: "gateway" };
        Self { begun, log: FlowLog::new(Stamp { now: begun, wall: wall(0) }, author, rate) }
    }

    fn at(&self, ms: u64) -> Stamp {
        Stamp { now: self.begun + Duration::from_millis(ms), wall: wall(ms) }
    }

    fn life(&mut self, ms: u64, life: &FlowLife, of: &TenantShard) {
        let host = "host-1".parse().unwrap();
        self.log.life(self.at(ms), life, Place { of, from: From::Host(Some(&host)) });
    }

    fn lines(&mut self) -> Vec<Value> {
        let Some(lines) = self.log.take() else { return Vec::new() };
        assert!(lines.text.ends_with('\n'));
        let values: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(values.len() as u64, lines.count);
        values
    }
}

fn acme() -> TenantShard {
    "acme/1".parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tcp() -> FlowLife {
    let protocol = |source, destination| FlowProtocol::Tcp { source, destination };
    FlowLife {
        id: 0x2b,
        key: FlowKey { zone: 0x2001, source: ip("10.64.0.9"), destination: ip("172.16.0.5"), protocol: protocol(40000, 5432) },
        reply: FlowKey { zone: 0x2001, source: ip("172.16.0.5"), destination: ip("172.16.0.4"), protocol: protocol(5432, 2000) },
        tcp: Some(TcpState::SynSent),
        status: FlowStatus::default(),
        mark: Mark(0x2001),
        end: None,
        by: 0,
    }
}

/// The same, closed, after it had carried something.
fn closed() -> FlowLife {
    let counted = [FlowCount { packets: 6, bytes: 812 }, FlowCount { packets: 5, bytes: 4096 }];
    let end = FlowEnd { left: 0, began: ns(10), ended: ns(125_510), counted: Some(counted) };
    let status = FlowStatus { seen_reply: true, assured: true };
    FlowLife { tcp: Some(TcpState::TimeWait), status, end: Some(end), ..tcp() }
}

#[test]
fn a_connection_has_a_line_at_its_beginning_and_one_at_its_end() {
    let mut world = World::new(RATE);
    world.life(10, &tcp(), &acme());
    world.life(125_700, &closed(), &acme());
    let text = world.log.take().unwrap().text;
    // The kernel kept it for two minutes after its last packet.
    let expected = [
        r#"{"time":"2026-11-22T14:00:00.010Z","event":"start","node":"gw-1","role":"gateway","tenant":"acme","shard":1,"host":"host-1","#,
        r#""flow":"0000002b","protocol":"tcp","source":"10.64.0.9","destination":"172.16.0.5","#,
        r#""nat_source":"172.16.0.4","nat_destination":"172.16.0.5","#,
        r#""source_port":40000,"destination_port":5432,"nat_source_port":2000,"nat_destination_port":5432}"#,
        "\n",
        r#"{"time":"2026-11-22T14:02:05.700Z","event":"end","node":"gw-1","role":"gateway","tenant":"acme","shard":1,"host":"host-1","#,
        r#""flow":"0000002b","protocol":"tcp","source":"10.64.0.9","destination":"172.16.0.5","#,
        r#""nat_source":"172.16.0.4","nat_destination":"172.16.0.5","#,
        r#""source_port":40000,"destination_port":5432,"nat_source_port":2000,"nat_destination_port":5432,"#,
        r#""start":"2026-11-22T14:00:00.010Z","end":"2026-11-22T14:00:05.510Z","duration_ms":5500,"#,
        r#""packets_sent":6,"bytes_sent":812,"packets_received":5,"bytes_received":4096,"reason":"closed","taken_over":false}"#,
        "\n",
    ];
    assert_eq!(text, expected.concat());
}

#[test]
fn what_is_not_known_is_null_and_what_does_not_apply_is_left_out() {
    let mut world = World::new(RATE);
    let query = |id| FlowProtocol::Icmp { id, kind: 8, code: 0 };
    let (key, reply) = (FlowKey { protocol: query(7), ..tcp().key }, FlowKey { protocol: query(9), ..tcp().reply });
    let ping = FlowLife { key, reply, tcp: None, end: Some(FlowEnd::default()), ..tcp() };
    world.log.life(world.at(500_000), &ping, Place { of: &acme(), from: From::Attachment(None) });
    let line = &world.lines()[0];
    for unknown in ["attachment", "start", "duration_ms", "packets_sent", "bytes_sent", "packets_received", "bytes_received"] {
        assert_eq!(line.get(unknown), Some(&Value::Null), "{unknown}: {line}");
    }
    for strange in ["host", "source_port", "nat_source_port"] {
        assert_eq!(line.get(strange), None, "{strange}: {line}");
    }
    let told = ["protocol", "icmp_type", "icmp_id", "nat_icmp_id", "reason", "end"].map(|name| line[name].to_string());
    assert_eq!(told, ["\"icmp\"", "8", "7", "9", "\"unanswered\"", "\"2026-11-22T14:07:50.000Z\""]);
}

#[test]
fn why_a_connection_is_no_more() {
    let answered = FlowStatus { seen_reply: true, assured: true };
    let told = |tcp: Option<TcpState>, status: FlowStatus, left: u32| {
        let end = FlowEnd { left, ..FlowEnd::default() };
        reason(&FlowLife { tcp, status, end: Some(end), ..super::tests::tcp() }, &end)
    };
    assert_eq!(told(Some(TcpState::TimeWait), answered, 0), Reason::Closed);
    assert_eq!(told(Some(TcpState::TimeWait), answered, 80), Reason::Closed, "its ports were taken again");
    assert_eq!(told(Some(TcpState::Close), answered, 0), Reason::Reset);
    assert_eq!(told(Some(TcpState::Established), answered, 0), Reason::Expired);
    assert_eq!(told(Some(TcpState::Established), answered, 400_000), Reason::Removed);
    assert_eq!(told(Some(TcpState::SynSent), FlowStatus::default(), 0), Reason::Unanswered);
    assert_eq!(told(None, answered, 0), Reason::Expired);
    assert_eq!(told(None, FlowStatus::default(), 12), Reason::Removed);
}

/// The kernel forgets a connection some time after its last packet; never does the log say that it ended before it began.
#[test]
fn the_end_is_the_time_of_the_last_packet_where_that_can_be_told() {
    let mut world = World::new(RATE);
    world.log.set_timeouts(FlowTimeouts { tcp_time_wait: 60, udp: 20, ..FlowTimeouts::default() });
    let mut ended = |life: FlowLife, left: u32, began: u64, forgotten: u64| {
        let end = FlowEnd { left, began: ns(began), ended: ns(forgotten), counted: None };
        world.life(forgotten, &FlowLife { end: Some(end), ..life }, &acme());
        let line = world.lines().remove(0);
        (line["end"].as_str().unwrap()[14..].to_owned(), line["duration_ms"].as_u64().unwrap())
    };
    assert_eq!(ended(closed(), 0, 1000, 71_000), ("00:11.000Z".into(), 10_000));
    assert_eq!(ended(closed(), 50, 1000, 71_000), ("01:01.000Z".into(), 60_000), "deleted 10 s after its last packet");
    assert_eq!(ended(closed(), 0, 70_000, 71_000), ("01:10.000Z".into(), 0));
    assert_eq!(ended(FlowLife { tcp: Some(TcpState::Established), ..closed() }, 0, 1000, 71_000), ("01:11.000Z".into(), 70_000));
    let ports = FlowProtocol::Udp { source: 1, destination: 2 };
    let udp = |assured| FlowLife {
        key: FlowKey { protocol: ports, ..tcp().key },
        tcp: None,
        status: FlowStatus { seen_reply: true, assured },
        ..closed()
    };
    assert_eq!(ended(udp(false), 0, 1000, 71_000), ("00:51.000Z".into(), 50_000));
    assert_eq!(ended(udp(true), 0, 1000, 171_000), ("00:51.000Z".into(), 50_000));
}

fn held(shards: &[(&str, Option<u64>)]) -> Held {
    shards.iter().map(|(of, since)| (of.parse().unwrap(), since.map(wall))).collect()
}

fn events(lines: &[Value]) -> Vec<String> {
    lines.iter().map(|line| format!("{} {}", line["event"].as_str().unwrap(), line["taken_over"])).collect()
}

/// Copied from another node, or deleted by this one.
fn by(port: u32, life: FlowLife) -> FlowLife {
    FlowLife { by: port, ..life }
}

#[test]
fn only_whoever_has_the_shard_tells_of_its_connections() {
    let mut world = World::new(RATE);
    world.log.hold(world.at(0), held(&[]));
    // A copy comes, and is replaced; one expires, as traffic is elsewhere.
    for life in [by(77, tcp()), by(77, closed()), tcp(), closed()] {
        world.life(20, &life, &acme());
    }
    assert_eq!(world.lines(), Vec::<Value>::new());

    // It comes here: what it had until then began elsewhere.
    world.log.hold(world.at(1000), held(&[("acme/1", Some(900))]));
    world.life(1000, &by(77, tcp()), &acme());
    world.life(1001, &tcp(), &acme());
    world.life(2000, &closed(), &acme());
    let since = |ms| FlowLife { end: Some(FlowEnd { began: ns(ms), ended: ns(ms + 200), ..FlowEnd::default() }), ..closed() };
    world.life(2100, &since(1001), &acme());
    world.life(2100, &FlowLife { end: Some(FlowEnd::default()), ..closed() }, &acme());
    let lines = world.lines();
    assert_eq!(lines[0]["time"], "2026-11-22T14:00:00.900Z");
    assert_eq!(events(&lines), ["taken_over null", "start null", "end true", "end false", "end null"]);
    // Somebody deletes one that is ours: that is its end.
    world.life(2200, &by(12, since(1100)), &acme());
    assert_eq!(events(&world.lines()), ["end false"]);

    // It goes: what had ended by then is told, what is deleted because of it is not.
    world.log.hold(world.at(3000), held(&[]));
    world.life(3000, &since(1200), &acme());
    world.life(3000, &by(12, since(1300)), &acme());
    assert_eq!(events(&world.lines()), ["let_go null", "end false"]);
    world.log.drained();
    world.life(3001, &since(1400), &acme());
    assert_eq!(world.lines(), Vec::<Value>::new());
}

#[test]
fn after_a_restart_nobody_knows_which_of_the_older_ones_were_taken_over() {
    let mut world = World::new(RATE);
    world.log.hold(world.at(0), held(&[("acme/1", None)]));
    assert_eq!(world.lines(), Vec::<Value>::new(), "it was here before");
    let since = |ms| FlowLife { end: Some(FlowEnd { began: Some(ms), ended: ns(900), ..FlowEnd::default() }), ..closed() };
    world.life(900, &since(ns(0).unwrap() - 1), &acme());
    world.life(900, &since(ns(5).unwrap()), &acme());
    assert_eq!(events(&world.lines()), ["end null", "end false"]);
}

#[test]
fn what_is_suppressed_is_said_once_a_second_and_at_the_end() {
    let mut world = World::new(Rate { per_second: 1, burst: 2 });
    let (acme, blue): (TenantShard, TenantShard) = (acme(), "blue/0".parse().unwrap());
    for n in 0..5 {
        world.life(n, &tcp(), &acme);
    }
    world.life(5, &closed(), &acme);
    assert_eq!(world.lines().len(), 2);
    // Another tenant has lines of its own.
    world.life(6, &tcp(), &blue);
    assert_eq!(world.lines().len(), 1);
    assert_eq!(world.log.next_timeout(), Some(world.at(1002).now));
    world.log.handle_timeout(world.at(1001));
    assert_eq!(world.lines(), Vec::<Value>::new());
    world.log.handle_timeout(world.at(1002));
    let lines = world.lines();
    let expected = serde_json::json!({
        "time": "2026-11-22T14:00:01.002Z", "event": "suppressed", "node": "gw-1", "role": "gateway", "tenant": "acme",
        "since": "2026-11-22T14:00:00.002Z", "count": 4, "starts": 3, "ends": 1,
    });
    assert_eq!(lines, [expected]);
    assert_eq!((world.log.next_timeout(), world.log.counters), (None, Counters { suppressed: 4, missed: 0 }));
    for n in 0..2 {
        world.life(1100 + n, &tcp(), &acme);
    }
    world.log.missed(world.at(1200));
    world.log.missed(world.at(1300));
    world.log.finish(world.at(1400));
    let lines = world.lines();
    let told: Vec<_> = lines.iter().map(|line| (line["event"].as_str().unwrap(), line["times"].as_u64(), line["count"].as_u64())).collect();
    assert_eq!(told, [("start", None, None), ("missed", Some(2), None), ("suppressed", None, Some(1)), ("closed", None, None)]);
    assert_eq!(world.log.counters, Counters { suppressed: 5, missed: 2 });
}

/// So a hole shows: what ended without `closed`, and what began anew without a beginning.
#[test]
fn where_a_log_begins_and_ends_is_said() {
    for gapless in [true, false] {
        let mut world = World::new(RATE);
        world.log.open(world.at(0), gapless);
        world.log.finish(world.at(9));
        let head = |event: &str, ms: u64| serde_json::json!({ "time": format!("2026-11-22T14:00:00.00{ms}Z"), "event": event, "node": "gw-1", "role": "gateway" });
        let mut opened = head("opened", 0);
        opened["gapless"] = gapless.into();
        assert_eq!(world.lines(), [opened, head("closed", 9)]);
    }
}

#[test]
fn what_was_lost_is_said() {
    let author = Author { node: "host-1".parse().unwrap(), role: "host" };
    let lines = lost(&author, wall(7), 12, Where::Disk);
    let expected =
        r#"{"time":"2026-11-22T14:00:00.007Z","event":"lost","node":"host-1","role":"host","count":12,"place":"disk"}"#.to_owned() + "\n";
    assert_eq!(lines, Lines { text: expected, count: 1 });
}

#[test]
fn times_are_written_as_rfc_3339_has_them() {
    let at = |seconds: u64, ms: u64| line::time(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + ms));
    assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
    assert_eq!(at(951_782_400, 9), "2000-02-29T00:00:00.009Z");
    assert_eq!(at(253_402_300_799, 999), "9999-12-31T23:59:59.999Z");
    assert_eq!(line::time(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), at(0, 0), "a clock before all clocks");
}

/// What docs/flow-log.md has a row for.
fn documented() -> BTreeSet<&'static str> {
    let text = include_str!("../../../docs/flow-log.md");
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `")).flat_map(|line| line.split(" |").next());
    cells.flat_map(|cell| cell.split("`, `")).map(|name| name.trim_matches('`')).collect()
}

fn protocols() -> impl Strategy<Value = FlowProtocol> {
    prop_oneof![
        any::<(u16, u16)>().prop_map(|(source, destination)| FlowProtocol::Tcp { source, destination }),
        any::<(u16, u16)>().prop_map(|(source, destination)| FlowProtocol::Udp { source, destination }),
        any::<(u16, u8, u8)>().prop_map(|(id, kind, code)| FlowProtocol::Icmp { id, kind, code }),
    ]
}

fn ends() -> impl Strategy<Value = Option<FlowEnd>> {
    let counts = proptest::option::of(any::<[u64; 4]>());
    let end = (any::<u32>(), any::<Option<u64>>(), any::<Option<u64>>(), counts).prop_map(|(left, began, ended, counted)| {
        let count = |packets, bytes| FlowCount { packets, bytes };
        FlowEnd { left, began, ended, counted: counted.map(|[a, b, c, d]| [count(a, b), count(c, d)]) }
    });
    proptest::option::of(end)
}

/// Whatever a kernel may say.
fn lives() -> impl Strategy<Value = FlowLife> {
    let state = proptest::option::of((0u8..12).prop_map(|n| TcpState::from_number(n).unwrap_or(TcpState::Close)));
    let addresses = any::<[IpAddr; 4]>();
    (any::<u32>(), protocols(), protocols(), addresses, state, any::<(bool, bool)>(), ends(), 0u32..3).prop_map(
        |(id, protocol, answered, [a, b, c, d], tcp, (seen_reply, assured), end, by)| FlowLife {
            id,
            key: FlowKey { zone: 1, source: a, destination: b, protocol },
            reply: FlowKey { zone: 1, source: c, destination: d, protocol: answered },
            tcp,
            status: FlowStatus { seen_reply, assured },
            mark: Mark(0x2001),
            end,
            by,
        },
    )
}

proptest! {
    #[test]
    fn every_line_is_json_with_documented_fields_and_all_that_happened_is_accounted_for(
        steps in proptest::collection::vec((lives(), 0u64..400, 0usize..3, 0u8..20), 1..120),
        per_second in 1u32..50,
        burst in 1u32..10,
    ) {
        let mut world = World::new(Rate { per_second, burst });
        let shards: Vec<TenantShard> = ["acme/0", "acme/7", "blue/0"].iter().map(|of| of.parse().unwrap()).collect();
        let (mut ms, mut lines, documented) = (0, Vec::new(), documented());
        for (life, gap, shard, what) in &steps {
            ms += gap;
            match what {
                0 => world.log.missed(world.at(ms)),
                _ => world.life(ms, life, &shards[*shard]),
            }
            while world.log.next_timeout().is_some_and(|due| due <= world.at(ms).now) {
                world.log.handle_timeout(world.at(ms));
            }
            lines.extend(world.lines().into_iter().map(|line| (ms, line)));
        }
        world.log.finish(world.at(ms));
        lines.extend(world.lines().into_iter().map(|line| (ms, line)));
        let strange: Vec<_> = lines.iter().flat_map(|(_, line)| line.as_object().unwrap().keys()).filter(|name| !documented.contains(name.as_str())).collect();
        prop_assert!(strange.is_empty(), "in no document: {:?}", strange);

        let is_flow = |line: &Value| line["event"] == "start" || line["event"] == "end";
        let count = |event: &str, field: &str| lines.iter().filter(|(_, line)| line["event"] == event).map(|(_, line)| line[field].as_u64().unwrap()).sum::<u64>();
        let written = lines.iter().filter(|(_, line)| is_flow(line)).count() as u64;
        let misses = steps.iter().filter(|(.., what)| *what == 0).count() as u64;
        prop_assert_eq!(written + count("suppressed", "count"), steps.len() as u64 - misses);
        prop_assert_eq!(count("suppressed", "starts") + count("suppressed", "ends"), world.log.counters.suppressed);
        prop_assert_eq!((count("missed", "times"), world.log.counters.missed), (misses, misses));

        for tenant in ["acme", "blue"] {
            let times: Vec<u64> = lines.iter().filter(|(_, line)| is_flow(line) && line["tenant"] == tenant).map(|(ms, _)| *ms).collect();
            for (first, begun) in times.iter().enumerate() {
                for (last, ended) in times.iter().enumerate().skip(first) {
                    let allowed = u64::from(burst) + (ended - begun) * u64::from(per_second) / 1000 + 1;
                    prop_assert!((last - first + 1) as u64 <= allowed, "{} lines of {} in {} ms", last - first + 1, tenant, ended - begun);
                }
            }
        }
        let order: Vec<&str> = lines.iter().filter(|(_, line)| is_flow(line)).map(|(_, line)| line["time"].as_str().unwrap()).collect();
        prop_assert!(order.is_sorted(), "{:?}", order);
    }
}
