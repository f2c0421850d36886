use super::*;
use proptest::prelude::*;

#[test]
fn what_is_no_configuration_at_all_is_refused_clearly() {
    let both = format!("{GATEWAY}{HOST}");
    let wide = (0..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| text + &format!("a{}: &a{} [*a{n}, *a{n}]\n", n + 1, n + 1));
    let deep = format!("gateway: {}", "[".repeat(5_000));
    let chain = (0..50).fold("a0: &a0 [x]\n".to_owned(), |text, n| text + &format!("a{}: &a{} [*a{n}]\n", n + 1, n + 1));
    let texts = [
        "",
        "# nothing\n",
        "hello",
        "[gateway]",
        "peers: { static: [] }",
        "gatway: {}",
        "gateway:",
        "gateway: {}",
        &both,
        "gateway:\n\tnode: x",
        "gateway: { node: x",
        "gateway: \"x",
        "host: {}\n---\nhost: {}",
        "host: !!map {}",
        "host: *missing",
        "host: &a [*a]",
        "host: { <<: { node: x } }",
        "? [a, b]\n: c",
        &wide,
        &deep,
        &chain,
    ];
    insta::assert_snapshot!(texts.map(faults).join("\n"), @r#"
    f:1:1: the file is empty; begin with `gateway:`, `host:`, `directory:` or `autoscaler:`
    f:1:1: the file is empty; begin with `gateway:`, `host:`, `directory:` or `autoscaler:`
    f:1:1: the configuration must be a map, not "hello"; write keys and values: `gateway: { node: gw-a1, ... }`
    f:1:1: the configuration must be a map, not a list; write keys and values: `gateway: { node: gw-a1, ... }`
    f:1:1: the file has no role; begin with `gateway:`, `host:`, `directory:` or `autoscaler:`
    f:1:1: unknown key `gatway` in the configuration; did you mean `gateway`?
    f:1:1: `gateway` has no value; write `gateway: { node: gw-a1, ... }` or remove the line
    f:1:1: `gateway` lacks `node`; add `node: gw-a1`
    f:1:1: `gateway` lacks `platform`; add `platform: { interface: eth0, address: 10.9.0.1 }`
    f:1:1: `gateway` lacks `tenants`; add `tenants: [{ name: acme, ... }]`
    f:21:1: `gateway` and `host` stand in one file; give each role its own file: they are two daemons
    f:2:2: this is not YAML: tabs disallowed within this context (block indentation); mend the syntax here or just above: indent with spaces, close every bracket and quote
    f:1:10: this is not YAML: unclosed bracket '{'; mend the syntax here or just above: indent with spaces, close every bracket and quote
    f:1:10: this is not YAML: unclosed quote; mend the syntax here or just above: indent with spaces, close every bracket and quote
    f:2:1: a second YAML document begins here; keep one document to a file
    f:1:13: the tag !!map is not understood; remove it: types follow from the keys
    f:1:7: this is not YAML: while parsing node, found unknown anchor; define it further up with `&NAME`, or put the text in quotes
    f:1:11: this alias stands inside its own anchor; write the value out here
    f:1:1: `host` lacks `node`; add `node: host-1`
    f:1:1: `host` lacks `platform`; add `platform: { interface: eth0, address: 10.9.0.11 }`
    f:1:1: `host` lacks `tenants`; add `tenants: [{ name: acme, ... }]`, or a `directory` that knows them
    f:1:9: merge keys (`<<`) are not understood; use an alias for a whole value, or write the keys out
    f:1:3: a key cannot be a list; write a name such as `node:`; a value with brackets needs quotes
    f:23:11: aliases unfold this to more than 10000000 values; use fewer aliases in each other
    f:1:42: this is not YAML: recursion limit exceeded; mend the syntax here or just above: indent with spaces, close every bracket and quote
    f:32:12: lists and maps stand more than 32 deep in each other here; the deepest that a configuration needs is 6
    "#);
}

#[test]
fn anchors_stand_for_what_they_name() {
    let text = with(GATEWAY, &[("allow:\n", "allow: &open\n"), ("allow: [{ to: 172.16.0.0/16, tcp: all }]", "allow: *open")]);
    let Ok(Config::Gateway(gateway)) = parse(&text, "f") else { panic!("{}", faults(&text)) };
    assert_eq!(gateway.tenants[0].allow, gateway.tenants[1].allow);
    // A fault in it is one fault, at the place where it can be mended.
    let text = with(&text, &[("to: 172.16.0.0/16", "to: 172.16.0.1/16")]);
    assert_eq!(
        faults(&text),
        "f:13:17: `to` 172.16.0.1/16 is not a network: it has bits behind its prefix; write 172.16.0.0/16, or 172.16.0.1/32 for the address alone"
    );
}

#[test]
fn columns_count_characters_and_snippets_survive_wide_ones() {
    let faults = parse("gateway: { \"größe\": 1, node: gw }", "f").unwrap_err();
    assert_eq!(faults.iter().next().map(|fault| (fault.line, fault.column)), Some((1, 1)));
    assert!(faults.to_string().contains("f:1:12: unknown key `größe`"), "{faults}");
    assert!(faults.render(false).contains("größe"));
}

#[test]
fn files_that_cannot_be_read_are_faults_too() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no.yaml");
    assert!(load(&missing).unwrap_err().to_string().contains("no.yaml:1:1: the file cannot be read: No such file"));
    let binary = dir.path().join("binary.yaml");
    std::fs::write(&binary, b"gateway:\n  \xff\xfe").unwrap();
    assert!(load(&binary).unwrap_err().to_string().contains("binary.yaml:2:3: this is not UTF-8 text"));
}

/// Whatever is wrong, it has a place that exists, and can be shown.
fn sound(text: &str) -> Result<(), TestCaseError> {
    if let Err(faults) = parse(text, "f") {
        prop_assert!(faults.count() > 0);
        for fault in &faults {
            prop_assert!(fault.line >= 1 && fault.column >= 1 && !fault.what.is_empty() && !fault.remedy.is_empty(), "{fault}");
            prop_assert!(fault.line <= text.split('\n').count().max(1) + 1, "{fault}");
        }
        faults.render(false);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        sound(&text)?;
    }

    #[test]
    fn any_text_of_yaml_signs_is_answered(text in "[-:{}\\[\\]&*a0.!|>?#\"' \n\t]{0,60}") {
        sound(&text)?;
    }

    #[test]
    fn a_configuration_with_any_piece_replaced_is_answered(
        host in any::<bool>(), at in 0usize..1200, length in 0usize..30,
        new in prop_oneof![any::<String>(), "[-:{}\\[\\]&*a0.,/ \n]{0,12}", Just("&a [*a]".to_owned()), Just("0.0.0.0/0".to_owned())],
    ) {
        let base = if host { HOST } else { GATEWAY };
        let (start, end) = (at.min(base.len()), (at + length).min(base.len()));
        sound(&format!("{}{new}{}", &base[..start], &base[end..]))?;
    }
}
