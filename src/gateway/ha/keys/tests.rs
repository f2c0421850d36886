use super::*;
use crate::model::KeyId;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const DIGITS_OF_A_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

/// What comes of a file with this text and mode; `PATH` stands for its path.
fn read(text: &str, mode: u32) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ha.key");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    of(&file)
}

fn of(file: &Path) -> Result<Vec<u8>, String> {
    let key = HaKey { id: KeyId::try_from(1).unwrap(), file: file.into() };
    let failure = |error: anyhow::Error| format!("{error:#}").replace(&file.display().to_string(), "PATH");
    read_key(&key).map(|secret| secret.expose().to_vec()).map_err(failure)
}

#[test]
fn a_key_is_read_as_openssl_writes_it() {
    let bytes: Vec<u8> = (0..32).collect();
    for behind in ["", "\n", " \r\n\t\n"] {
        assert_eq!(read(&format!("{DIGITS_OF_A_KEY}{behind}"), 0o600), Ok(bytes.clone()), "{behind:?}");
    }
    assert_eq!(read(&DIGITS_OF_A_KEY.repeat(2), 0o400), Ok(bytes.repeat(2)));
}

#[test]
fn a_key_that_others_may_use_is_refused_with_what_mends_it() {
    for mode in [0o640, 0o604, 0o620, 0o601, 0o777] {
        let expected = format!("cannot use PATH as key 1: others than its owner may use it (mode {mode:04o}): `chmod 600 PATH`");
        assert_eq!(read(DIGITS_OF_A_KEY, mode), Err(expected));
    }
}

#[test]
fn what_is_no_key_is_refused_without_being_shown() {
    let wrong = |why: &str| Err(format!("PATH does not hold key 1: write one there with `openssl rand -hex 32 > PATH`: {why}"));
    let digits = "a key has 64 to 128 hexadecimal digits, and there are";
    assert_eq!(read("", 0o600), wrong(&format!("{digits} 0")));
    assert_eq!(read(&"d".repeat(62), 0o600), wrong(&format!("{digits} 62")));
    assert_eq!(read(&"d".repeat(130), 0o600), wrong(&format!("{digits} 130")));
    assert_eq!(read(&"d".repeat(65), 0o600), wrong("65 hexadecimal digits are no whole bytes"));
    assert_eq!(read(&format!("{}hunter2", "d".repeat(64)), 0o600), wrong("character 65 is no hexadecimal digit"));
    assert_eq!(read(&format!("\n{DIGITS_OF_A_KEY}"), 0o600), wrong("character 1 is no hexadecimal digit"));
    assert_eq!(read(&" ".repeat(5000), 0o600), Err("cannot use PATH as key 1: it is larger than 4096 bytes, no key".into()));
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
