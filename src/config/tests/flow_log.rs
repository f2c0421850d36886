use super::*;

const ON: (&str, &str) =
    ("  tenants:\n", "  flow_log: { file: /var/log/flows.jsonl, max_size: 1MiB, keep: 3, rate: 10, burst: 20 }\n  tenants:\n");

#[test]
fn it_is_off_unless_it_is_written_and_has_defaults() {
    let of = |base: &str, changes: &[(&str, &str)]| match parse(&with(base, changes), "f") {
        Ok(Config::Gateway(gateway)) => gateway.flow_log,
        Ok(Config::Host(host)) => host.flow_log,
        other => panic!("{other:?}"),
    };
    for base in [GATEWAY, HOST] {
        assert_eq!(of(base, &[]), None);
        let all = FlowLog { file: "/var/log/flows.jsonl".into(), max_size: 1 << 20, keep: 3, rate: 10, burst: 20 };
        assert_eq!(of(base, &[ON]), Some(all));
        let short = ("/var/log/flows.jsonl, max_size: 1MiB, keep: 3, rate: 10, burst: 20", "/var/log/flows.jsonl");
        let defaults = FlowLog { file: "/var/log/flows.jsonl".into(), max_size: 100 << 20, keep: 10, rate: 1000, burst: 5000 };
        assert_eq!(of(base, &[ON, short]), Some(defaults));
        assert_eq!(of(base, &[ON, ("1MiB", "4 KiB")]).unwrap().max_size, 4096);
    }
}

#[test]
fn what_is_wrong_with_it_is_told() {
    insta::assert_snapshot!([
        ("file: /var/log/flows.jsonl, ", ""),
        ("/var/log/flows.jsonl", "flows.jsonl"),
        ("/var/log/flows.jsonl", "/var/log/"),
        ("1MiB", "1MB"),
        ("1MiB", "1.5MiB"),
        ("1MiB", "1048576"),
        ("1MiB", "1KiB"),
        ("1MiB", "99999999999TiB"),
        ("keep: 3", "keep: 1001"),
        ("rate: 10,", "rate: 0,"),
        ("burst: 20", "burst: many"),
        ("keep: 3", "kep: 3"),
        ("{ file: /var/log/flows.jsonl, max_size: 1MiB, keep: 3, rate: 10, burst: 20 }", "/var/log/flows.jsonl"),
    ].map(|change| faults(&with(GATEWAY, &[ON, change]))).join("\n"), @r#"
    f:7:3: `flow_log` lacks `file`; add `file: /var/log/portway/flows.jsonl`
    f:7:21: `file` "flows.jsonl" is not an absolute path; write a path from the root, such as /var/log/portway/flows.jsonl
    f:7:21: `file` /var/log/ is a folder; write the name of a file, such as /var/log/portway/flows.jsonl
    f:7:53: `max_size` "1MB" is not a size; write a whole number and its unit (KiB, MiB, GiB or TiB), such as max_size: 100MiB
    f:7:53: `max_size` "1.5MiB" is not a size; write a whole number and its unit (KiB, MiB, GiB or TiB), such as max_size: 100MiB
    f:7:53: `max_size` "1048576" is not a size; write a whole number and its unit (KiB, MiB, GiB or TiB), such as max_size: 100MiB
    f:7:53: `max_size` 1KiB is out of range; write 4KiB to 1TiB
    f:7:53: `max_size` "99999999999TiB" is not a size; write a whole number and its unit (KiB, MiB, GiB or TiB), such as max_size: 100MiB
    f:7:65: `keep` 1001 is out of range; write 0 to 1000
    f:7:74: `rate` 0 is out of range; write 1 to 1000000
    f:7:85: `burst` "many" is not a number; write 1 to 10000000, in decimal
    f:7:59: unknown key `kep` in `flow_log`; did you mean `keep`?
    f:7:13: `flow_log` must be a map, not "/var/log/flows.jsonl"; write keys and values: `file: /var/log/portway/flows.jsonl`
    "#);
}
