use super::*;
use crate::metrics::{Format, Page};

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

const TRAFFIC: Traffic = Traffic { received_packets: 10, sent_packets: 20, received_bytes: 3000, sent_bytes: 4000 };

fn figures(kind: TunnelKind, carrier: Carrier) -> Figures {
    let of: TenantShard = "acme/0".parse().unwrap();
    let watched = Watched { underlay: [name("plat0")].into(), tunnels: [(name("pw-1"), of)].into(), kind, carrier };
    let processor = Processor { number: 1, softirq: 200, idle: 1000, steal: 1, other: 50 };
    let slow = Slow {
        processors: [(1, processor)].into(),
        exceeded: [(name("plat0"), [Some(3), None, Some(0), None, None])].into(),
        clock: Some(Duration::from_secs(1)),
        tunnels: (carrier == Carrier::Kernel).then_some((name("pw-1"), TRAFFIC)).into_iter().collect(),
    };
    let conntrack = Some(ConntrackUse { entries: 5, limit: Some(262_144) });
    let failures = Some(ConntrackFailures { insert_failed: 2, drop: 3, early_drop: 0 });
    let moment = Moment { clock: Some(Duration::from_millis(1500)), underlay: vec![(name("plat0"), TRAFFIC)], conntrack, failures };
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    Figures { started, watched: Arc::new(watched), moment, slow: Some(Arc::new(slow)) }
}

fn page(figures: &Figures) -> Vec<String> {
    let mut page = Page::default();
    figures.metrics(&mut page);
    let text = page.encode(Format::OpenMetrics).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.replace("{}", "")).collect()
}

#[test]
fn what_is_known_is_shown_under_its_name() {
    let shown = page(&figures(TunnelKind::Gre, Carrier::Kernel));
    for line in [
        "process_start_time_seconds 1700000000.0",
        "portway_clock_seconds 1.5",
        "portway_conntrack_entries 5.0",
        "portway_conntrack_entries_limit 262144.0",
        "portway_conntrack_failures_total{counter=\"insert_failed\"} 2",
        "portway_conntrack_failures_total{counter=\"early_drop\"} 0",
        "portway_cpu_seconds_total{cpu=\"1\",mode=\"softirq\"} 2.0",
        "portway_cpu_seconds_total{cpu=\"1\",mode=\"idle\"} 10.0",
        "portway_allowance_exceeded_packets_total{interface=\"plat0\",counter=\"bw_in_allowance_exceeded\"} 3",
        "portway_allowance_exceeded_packets_total{interface=\"plat0\",counter=\"pps_allowance_exceeded\"} 0",
        "portway_interface_received_bytes_total{interface=\"plat0\"} 3000",
        "portway_interface_sent_packets_total{interface=\"plat0\"} 20",
        "portway_tunnel_info{tunnel=\"pw-1\",tenant=\"acme\",shard=\"0\"} 1.0",
        "portway_tunnel_received_bytes_total{tunnel=\"pw-1\"} 3000",
        "portway_tunnel_sent_packets_total{tunnel=\"pw-1\"} 20",
    ] {
        assert!(shown.iter().any(|shown| shown == line), "no {line} in {shown:#?}");
    }
}

#[test]
fn what_is_not_known_is_not_shown() {
    let mut figures = figures(TunnelKind::Gre, Carrier::Userspace);
    assert!(!page(&figures).iter().any(|line| line.contains("bw_out") || line.contains("tunnel_received")), "{:#?}", page(&figures));
    (figures.slow, figures.moment.conntrack, figures.moment.failures, figures.moment.clock) = (None, None, None, None);
    let shown = page(&figures);
    assert!(!shown.iter().any(|line| ["conntrack", "cpu", "allowance", "clock"].iter().any(|word| line.contains(word))), "{shown:#?}");
    assert_eq!(figures.status()["conntrack"], serde_json::Value::Null);
}

#[test]
fn messages_of_wireguard_are_no_inner_packets() {
    let shown = page(&figures(TunnelKind::Wireguard, Carrier::Kernel));
    assert!(shown.contains(&"portway_wireguard_received_bytes_total{tunnel=\"pw-1\"} 3000".to_owned()), "{shown:#?}");
    assert!(!shown.iter().any(|line| line.contains("tunnel_received")), "{shown:#?}");
}

#[test]
fn the_status_tells_how_full_the_table_is_and_what_the_cloud_held_back() {
    let status = figures(TunnelKind::Gre, Carrier::Kernel).status();
    assert_eq!(status["conntrack"], serde_json::json!({ "entries": 5, "limit": 262_144 }));
    assert_eq!(status["exceeded"], serde_json::json!({ "plat0": { "bw_in_allowance_exceeded": 3, "pps_allowance_exceeded": 0 } }));
}

#[test]
fn a_packet_of_a_vlan_counts_once() {
    let one = |index, lower| Counted { index, lower, traffic: TRAFFIC };
    let names = |all: Vec<(IfName, Counted)>| apart(all).into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    let [plat, vlan, eni] = [(name("plat0"), one(2, None)), (name("plat0.7"), one(5, Some(2))), (name("eni0"), one(3, Some(9)))];
    assert_eq!(names(vec![plat, vlan.clone(), eni]), ["plat0", "eni0"]);
    assert_eq!(names(vec![vlan]), ["plat0.7"], "nobody asks the one that it lies on");
}

#[test]
fn a_reading_is_kept_for_a_second_and_shown_for_some_more() {
    let meter = Meter::default();
    let age = |age| *meter.lock() = Some((Instant::now().checked_sub(age).unwrap(), Arc::default()));
    let known = || [KEPT, STALE].map(|time| meter.kept(time).is_some());
    assert_eq!(known(), [false, false]);
    age(KEPT / 10);
    assert_eq!(known(), [true, true]);
    age(KEPT);
    assert_eq!(known(), [false, true]);
    age(STALE);
    assert_eq!(known(), [false, false]);
}
