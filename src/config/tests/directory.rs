use super::*;

const DIRECTORY: &str = "\
directory:
  listen: 10.9.0.5:9473
  tls: { certificate: /etc/portway/directory.pem, key: /etc/portway/directory.key }
  database: sqlite:///var/lib/portway/directory.db
  key_grace: 1h
  keep_changes: 100000
  oidc:
    - issuer: https://issuer.example
      audience: portway
      jwks: https://issuer.example/keys
      claims: { repository: acme/functions }
      host_claim: sub
      tenants: [acme]
";

fn directory(text: &str) -> Directory {
    match parse(text, "f") {
        Ok(Config::Directory(directory)) => directory,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    insta::assert_snapshot!([
        ("  tls: {", "  tsl: {"),
        ("  tls: { certificate: /etc/portway/directory.pem, key: /etc/portway/directory.key }\n", ""),
        ("certificate: /etc/portway/directory.pem", "certificate: directory.pem"),
        ("listen: 10.9.0.5:9473", "listen: 10.9.0.5"),
        ("listen: 10.9.0.5:9473", "listen: 127.0.0.1:9472"),
        ("sqlite:///var/lib/portway/directory.db", "sqlite://directory.db"),
        ("sqlite:///var/lib/portway/directory.db", "sqlite:///var/lib/portway/directory.db?mode=memory"),
        ("sqlite:///var/lib/portway/directory.db", "mysql://portway:hunter2@db/portway"),
        ("sqlite:///var/lib/portway/directory.db", "postgres://portway:hunter2@localhost/portway"),
        ("sqlite:///var/lib/portway/directory.db", "postgres://portway@localhost/portway?password=hunter2"),
        ("sqlite:///var/lib/portway/directory.db", "postgres://portway@db.example/portway"),
        ("sqlite:///var/lib/portway/directory.db", "postgres://portway@localhost/portway?host=db.example"),
        ("sqlite:///var/lib/portway/directory.db", "postgres://portway@db.example/portway?sslmode=verify-full&sslmode=disable"),
        ("sqlite:///var/lib/portway/directory.db", "postgres://portway@db.example/portway?sslmode=verify-full&ssl-mode=prefer"),
        ("key_grace: 1h", "key_grace: 0s"),
        ("key_grace: 1h", "key_grace: 721h"),
        ("keep_changes: 100000", "keep_changes: 99"),
        ("jwks: https", "jwks: http"),
        ("claims: { repository: acme/functions }", "claims: {}"),
        ("claims: { repository: acme/functions }", "claims: [repository]"),
        ("tenants: [acme]", "tenants: [a b]"),
        ("      tenants: [acme]\n", ""),
        ("directory:\n", "peers: { static: [] }\ndirectory:\n"),
        ("directory:\n", "host: {}\ndirectory:\n"),
    ].map(|change| faults(&with(DIRECTORY, &[change]))).join("\n"), @r#"
    f:3:3: unknown key `tsl` in `directory`; did you mean `tls`?
    f:2:3: `listen` 10.9.0.5:9473 would take tokens over plain HTTP; add `tls: { certificate: FILE, key: FILE }`, or listen on 127.0.0.1 behind a proxy that has TLS
    f:3:23: `certificate` "directory.pem" is not an absolute path; write a path from the root, such as /etc/portway/directory.pem
    f:2:11: `listen` "10.9.0.5" is not an address and port; write both, such as 127.0.0.1:9470 or [::1]:9470
    f:1:1: `admin` 127.0.0.1:9472 is `listen` too; give it a port of its own
    f:4:13: `database` "sqlite://directory.db" names no file; write a file's absolute path after sqlite://, such as sqlite:///var/lib/portway/directory.db
    f:4:13: `database` "sqlite:///var/lib/portway/directory.db?mode=memory" names no file; write a file's absolute path after sqlite://, such as sqlite:///var/lib/portway/directory.db
    f:4:13: `database` is neither a file for SQLite nor the URL of a PostgreSQL server; write sqlite:///var/lib/portway/directory.db, or postgres://portway@db.example/portway?sslmode=verify-full
    f:4:13: `database` holds a password, which whoever sees the configuration would know; remove it, and put it into PGPASSWORD or the file that PGPASSFILE names
    f:4:13: `database` holds a password, which whoever sees the configuration would know; remove it, and put it into PGPASSWORD or the file that PGPASSFILE names
    f:4:13: `database` is on another machine, and its certificate would not be verified; add `?sslmode=verify-full` (and `&sslrootcert=FILE` for a CA of your own)
    f:4:13: `database` is on another machine, and its certificate would not be verified; add `?sslmode=verify-full` (and `&sslrootcert=FILE` for a CA of your own)
    f:4:13: `database` is on another machine, and its certificate would not be verified; add `?sslmode=verify-full` (and `&sslrootcert=FILE` for a CA of your own)
    f:4:13: `database` is on another machine, and its certificate would not be verified; add `?sslmode=verify-full` (and `&sslrootcert=FILE` for a CA of your own)
    f:5:14: `key_grace` is out of range; write 1s to 720h
    f:5:14: `key_grace` is out of range; write 1s to 720h
    f:6:17: keep_changes 99 is out of range; write 100 to 10000000
    f:10:13: `jwks` "http://issuer.example/keys" is no place to take keys from; write an https:// URL: whoever could change these keys could enrol any host
    f:11:15: `claims` is empty: every token of this issuer and audience would be good; say what tells your machines apart from others', such as `claims: { repository: acme/functions }`
    f:11:15: `claims` must be a map, not a list; write `claims: { repository: acme/functions }`
    f:13:17: "a b" is not a tenant name; use 1 to 48 letters, digits, '-', '_' or '.', a letter or digit first
    f:8:7: this issuer lacks `tenants`; add `tenants: [acme]`
    f:1:1: `peers` goes with `gateway` only; remove it: a directory's hosts are added by `portway directory host add`, or enrol
    f:2:1: `directory` and `host` stand in one file; give each role its own file: they are two daemons
    "#);
    let twice = format!("{DIRECTORY}{}", DIRECTORY.split_once("oidc:\n").unwrap().1);
    assert_eq!(
        faults(&twice),
        "f:14:15: the issuer and audience https://issuer.example portway is already used in line 8; write all that is good for one issuer and audience in one entry"
    );
}

#[test]
fn a_password_is_not_repeated() {
    for url in ["mysql://u:hunter2@h/d", "postgres://u:hunter2@h/d", "postgres://u@h/d?password=hunter2", "postgres:u:hunter2@h"] {
        let text = with(DIRECTORY, &[("sqlite:///var/lib/portway/directory.db", url)]);
        assert!(!faults(&text).contains("hunter2") && faults(&text) != "no fault", "{}", faults(&text));
    }
}

#[test]
fn what_is_on_this_machine_needs_no_certificate() {
    for url in [
        "postgres://portway@localhost/portway",
        "postgres://portway@127.0.0.1:5433/portway",
        "postgres://portway@[::1]/portway",
        "postgresql:///portway?host=/run/postgresql",
        "postgres://portway@localhost/portway?host=/run/postgresql",
        "postgres://portway@%2Frun%2Fpostgresql/portway",
        "postgres://portway@db.example/portway?sslmode=verify-full&sslrootcert=/etc/ca.pem",
    ] {
        let text = with(DIRECTORY, &[("sqlite:///var/lib/portway/directory.db", url)]);
        assert!(matches!(directory(&text).database, Database::Postgres(of) if of.as_str() == url), "{url}");
    }
    let plain = with(
        DIRECTORY,
        &[("10.9.0.5:9473", "'[::1]:9473'"), ("  tls: { certificate: /etc/portway/directory.pem, key: /etc/portway/directory.key }\n", "")],
    );
    assert_eq!(directory(&plain).tls, None);
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let short = directory("directory: { listen: '127.0.0.1:9473' }");
    let long = directory(
        "directory: { listen: '127.0.0.1:9473', database: 'sqlite:///var/lib/portway/directory.db', runtime_dir: /run/portway, admin: '127.0.0.1:9472', key_grace: 1h, keep_changes: 100000 }",
    );
    assert_eq!(short, long);
    assert_eq!((short.oidc, short.tls), (vec![], None));
}
