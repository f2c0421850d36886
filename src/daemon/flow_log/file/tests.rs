use super::*;
use proptest::prelude::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn log(folder: &Path, max_size: u64, keep: u32) -> LogFile {
    let config = config::FlowLog { file: folder.join("new/flows.jsonl"), max_size, keep, rate: 1, burst: 1 };
    LogFile::new(&config)
}

fn put(log: &mut LogFile, text: &str) -> u64 {
    let (written, result) = log.append(text);
    result.unwrap();
    written
}

fn content(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn it_is_made_for_its_owner_and_group_and_goes_on_where_it_ended() {
    let place = tempfile::tempdir().unwrap();
    let mut log = log(place.path(), 1000, 3);
    assert_eq!(put(&mut log, "one\ntwo\n"), 2);
    let path = log.path.clone();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o750);
    log.close();
    put(&mut log, "three\n");
    assert_eq!(content(&path), "one\ntwo\nthree\n");
}

#[test]
fn half_a_line_is_cut_off_and_what_is_no_log_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let mut log = log(place.path(), 1000, 3);
    put(&mut log, "{\"time\":\"1\"}\n");
    let path = log.path.clone();
    for torn in ["{\"time\":\"2026-11", "{\"ti", "{\"time\":\"20\0\0\0", "\0\0"] {
        log.close();
        fs::write(&path, format!("{{\"time\":\"1\"}}\n{torn}")).unwrap();
        put(&mut log, "{\"time\":\"2\"}\n");
        assert_eq!(content(&path), "{\"time\":\"1\"}\n{\"time\":\"2\"}\n", "{torn:?}");
    }
    for strange in ["an image", "a list\nand more"] {
        log.close();
        fs::write(&path, strange).unwrap();
        let (written, result) = log.append("line\n");
        assert!(written == 0 && result.unwrap_err().to_string().contains("none of a flow log"), "{strange}");
        assert_eq!(content(&path), strange);
    }
}

#[test]
fn it_follows_no_link_and_waits_for_no_pipe() {
    let place = tempfile::tempdir().unwrap();
    let mut log = log(place.path(), 1000, 3);
    let path = log.path.clone();
    fs::create_dir(path.parent().unwrap()).unwrap();
    let target = place.path().join("passwd");
    fs::write(&target, "root\n").unwrap();
    symlink(&target, &path).unwrap();
    let (written, result) = log.append("line\n");
    assert!(written == 0 && result.unwrap_err().to_string().contains("no symbolic link"));
    assert_eq!(content(&target), "root\n");
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(log.append("line\n").1.is_err());
}

#[test]
fn at_its_size_it_is_put_aside_and_the_oldest_goes() {
    let place = tempfile::tempdir().unwrap();
    let mut log = log(place.path(), 10, 2);
    let path = log.path.clone();
    // Two lines to a file, over the pieces in which they come.
    assert_eq!(put(&mut log, "a..1\nb..2\nc..3\n") + put(&mut log, "d..4\ne..5\n") + put(&mut log, "f..6\ng..7\n"), 7);
    let all: Vec<String> = [path.clone(), aside(&path, 1), aside(&path, 2), aside(&path, 3)].iter().map(|path| content(path)).collect();
    assert_eq!(all, ["g..7\n", "e..5\nf..6\n", "c..3\nd..4\n", ""]);
    // One that is full when it is found, and a line that is longer than a file.
    log.close();
    put(&mut log, "longer than the whole file\nh..8\n");
    assert_eq!(
        [content(&path), content(&aside(&path, 1)), content(&aside(&path, 2))],
        ["h..8\n", "longer than the whole file\n", "g..7\n"]
    );
}

#[test]
fn none_may_be_kept() {
    let place = tempfile::tempdir().unwrap();
    let mut log = log(place.path(), 10, 0);
    put(&mut log, "a..1\nb..2\nc..3\n");
    assert_eq!(content(&log.path), "c..3\n");
    assert_eq!(fs::read_dir(log.path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn somebody_else_may_put_it_aside() {
    let place = tempfile::tempdir().unwrap();
    let mut log = log(place.path(), 1000, 2);
    let path = log.path.clone();
    put(&mut log, "one\n");
    fs::rename(&path, aside(&path, 1)).unwrap();
    put(&mut log, "two\n");
    log.close();
    put(&mut log, "three\n");
    assert_eq!([content(&aside(&path, 1)), content(&path)], ["one\ntwo\n", "three\n"]);
}

proptest! {
    #[test]
    fn nothing_is_torn_or_lost_and_no_file_too_large(
        pieces in proptest::collection::vec(proptest::collection::vec(1usize..40, 1..12), 1..12),
        max_size in 40u64..200,
    ) {
        let place = tempfile::tempdir().unwrap();
        let mut log = log(place.path(), max_size, 1000);
        let (mut all, mut number) = (String::new(), 0);
        for (place, piece) in pieces.iter().enumerate() {
            let text: String = piece.iter().map(|length| { number += 1; format!("{number:0length$}\n") }).collect();
            prop_assert_eq!(put(&mut log, &text), piece.len() as u64);
            all += &text;
            if place % 3 == 0 {
                log.close();
            }
        }
        let mut files: Vec<PathBuf> = (1..1000).map(|n| aside(&log.path, n)).take_while(|path| path.exists()).collect();
        files.reverse();
        files.push(log.path.clone());
        let sizes: Vec<u64> = files.iter().map(|path| fs::metadata(path).unwrap().size()).collect();
        prop_assert!(sizes.iter().all(|size| *size <= max_size), "{:?}", sizes);
        let found: Vec<String> = files.iter().map(|path| content(path)).collect();
        prop_assert!(found.iter().all(|text| text.ends_with('\n')));
        prop_assert_eq!(found.concat(), all);
    }
}
