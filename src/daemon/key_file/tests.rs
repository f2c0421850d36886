use super::*;
use crate::model::KeyId;
use std::fs::Permissions;

const DIGITS_OF_A_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

/// What comes of a file with this text and mode; `PATH` stands for its path.
fn written(text: &str, mode: u32) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ha.key");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    of(&file)
}

fn of(file: &Path) -> Result<Vec<u8>, String> {
    let key = KeyFile { id: KeyId::try_from(1).unwrap(), file: file.into() };
    let failure = |error: anyhow::Error| format!("{error:#}").replace(&file.display().to_string(), "PATH");
    super::key(&key).map(|secret| secret.expose().to_vec()).map_err(failure)
}

#[test]
fn a_key_is_read_as_openssl_writes_it() {
    let bytes: Vec<u8> = (0..32).collect();
    for behind in ["", "\n", " \r\n\t\n"] {
        assert_eq!(written(&format!("{DIGITS_OF_A_KEY}{behind}"), 0o600), Ok(bytes.clone()), "{behind:?}");
    }
    assert_eq!(written(&DIGITS_OF_A_KEY.repeat(2), 0o400), Ok(bytes.repeat(2)));
}

#[test]
fn a_key_that_others_may_use_is_refused_with_what_mends_it() {
    for mode in [0o640, 0o604, 0o620, 0o601, 0o777] {
        let expected = format!("cannot use PATH as key 1: others than its owner may use it (mode {mode:04o}): `chmod 600 PATH`");
        assert_eq!(written(DIGITS_OF_A_KEY, mode), Err(expected));
    }
}

#[test]
fn what_is_no_key_is_refused_without_being_shown() {
    let wrong = |why: &str| Err(format!("PATH does not hold key 1: write one there with `openssl rand -hex 32 > PATH`: {why}"));
    let digits = "a key has 64 to 128 hexadecimal digits, and there are";
    assert_eq!(written("", 0o600), wrong(&format!("{digits} 0")));
    assert_eq!(written(&"d".repeat(62), 0o600), wrong(&format!("{digits} 62")));
    assert_eq!(written(&"d".repeat(130), 0o600), wrong(&format!("{digits} 130")));
    assert_eq!(written(&"d".repeat(65), 0o600), wrong("65 hexadecimal digits are no whole bytes"));
    assert_eq!(written(&format!("{}hunter2", "d".repeat(64)), 0o600), wrong("character 65 is no hexadecimal digit"));
    assert_eq!(written(&format!("\n{DIGITS_OF_A_KEY}"), 0o600), wrong("character 1 is no hexadecimal digit"));
    assert_eq!(written(&" ".repeat(5000), 0o600), Err("cannot use PATH as key 1: it is larger than 4096 bytes, no key".into()));
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (none, pipe) = (folder.path().join("none"), folder.path().join("pipe"));
    assert_eq!(of(&none), Err("cannot use PATH as key 1: No such file or directory (os error 2)".into()));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert_eq!(of(&pipe), Err("cannot use PATH as key 1: it is not a file".into()));
    assert_eq!(of(folder.path()), Err("cannot use PATH as key 1: it is not a file".into()));
}

#[test]
fn a_token_is_read_as_openssl_writes_it_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("functions.token");
    let of = |text: &str, mode: u32| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        token(&file).map(|token| token.expose().to_vec()).map_err(|error| format!("{error:#}").replace(&file.display().to_string(), "PATH"))
    };
    let good = "0a".repeat(32);
    assert_eq!(of(&format!("{good}\n"), 0o600), Ok(good.clone().into_bytes()));
    assert!(of(&good, 0o640).unwrap_err().contains("chmod 600 PATH"));
    let why = |says: &str| Err(format!("PATH does not hold a token: write one there with `openssl rand -hex 32 > PATH`: {says}"));
    assert_eq!(of("short", 0o600), why("a token has 32 to 64 characters, and there are 5"));
    assert_eq!(of(&format!("{good} {good}"), 0o600), why("character 65 cannot stand in a header"));
}

fn private(text: &str, mode: u32) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wg.key");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    let shown = |error: anyhow::Error| format!("{error:#}").replace(&file.display().to_string(), "PATH");
    private_key(&file).map(|key| key.public().to_string()).map_err(shown)
}

#[test]
fn a_private_key_is_read_as_wg_writes_it() {
    let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    for behind in ["", "\n", " \r\n"] {
        assert_eq!(private(&format!("{key}{behind}"), 0o600).as_deref(), Ok("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="));
    }
    let refused = private(key, 0o644).unwrap_err();
    assert!(refused.contains("chmod 600 PATH"), "{refused}");
}

#[test]
fn what_is_no_private_key_is_refused_without_being_shown() {
    for text in ["", "secret", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo", "\u{fffd}"] {
        let refused = private(text, 0o600).unwrap_err();
        assert!(refused.contains("PATH does not hold a private key") && (text.is_empty() || !refused.contains(text)), "{refused}");
    }
}
