use super::*;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use std::path::Path;
use std::sync::mpsc::sync_channel;

fn writer(file: &Path, told: &Arc<Told>) -> Writer {
    let config = config::FlowLog { file: file.into(), max_size: 1 << 30, keep: 1, rate: 1, burst: 1 };
    Writer::new(&config, Author { node: "gw-1".parse().unwrap(), role: "gateway" }, told.clone())
}

fn lines(count: u64) -> Lines {
    let line = format!("{{\"time\":\"x\",\"event\":\"start\",\"pad\":\"{}\"}}\n", "x".repeat(460));
    Lines { text: line.repeat(usize::try_from(count).unwrap()), count }
}

fn read(file: &Path) -> Vec<Value> {
    std::fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_was_lost_on_the_way_is_said_before_what_follows() {
    let place = tempfile::tempdir().unwrap();
    let (file, told) = (place.path().join("flows.jsonl"), Arc::new(Told::default()));
    told.lost(Where::Queue).store(5, Relaxed);
    let writer = writer(&file, &told);
    let (sender, jobs) = sync_channel(9);
    sender.send(Job::Lines(lines(2))).unwrap();
    told.lost(Where::Queue).fetch_add(3, Relaxed);
    sender.send(Job::Reopen).unwrap();
    sender.send(Job::Lines(lines(1))).unwrap();
    drop(sender);
    writer.run(&jobs);
    let found: Vec<String> = read(&file).iter().map(|line| format!("{} {} {}", line["event"], line["count"], line["place"])).collect();
    let start = "\"start\" null null";
    assert_eq!(found, ["\"lost\" 3 \"queue\"", start, start, start]);
    assert_eq!(told.written.load(Relaxed), 4);
}

/// On a file system of 256 KiB, in a mount namespace of this thread's own.
#[test]
fn a_full_disk_is_an_alarm_and_loses_lines_until_there_is_room_again() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().to_owned();
    let test = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests make namespaces: run them as root");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=256k")).unwrap();
        let (file, told) = (folder.join("flows.jsonl"), Arc::new(Told::default()));
        std::fs::write(folder.join("large"), vec![7; 128 << 10]).unwrap();
        let mut writer = writer(&file, &told);
        let numbers = |told: &Told| (told.written.load(Relaxed), told.lost(Where::Disk).load(Relaxed), told.failure().clone());
        writer.write(&lines(100));
        assert_eq!(numbers(&told), (100, 0, None));
        writer.write(&lines(300));
        writer.write(&lines(50));
        let (written, lost, failure) = numbers(&told);
        assert!(written + lost == 450 && (100..400).contains(&written), "{written} and {lost}");
        assert!(
            failure.as_ref().is_some_and(|why| why.contains("flows.jsonl cannot be written") && why.contains("is there room?")),
            "{failure:?}"
        );
        assert!(told.errors.load(Relaxed) >= 2);
        assert_eq!(read(&file).len() as u64, written, "what is there is whole");

        std::fs::remove_file(folder.join("large")).unwrap();
        writer.write(&lines(7));
        assert_eq!(numbers(&told), (written + 8, lost, None));
        let found = read(&file);
        let said = &found[usize::try_from(written).unwrap()];
        assert_eq!((&said["event"], &said["place"], said["count"].as_u64()), (&"lost".into(), &"disk".into(), Some(lost)));
        assert_eq!(found.len() as u64, written + 8);
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}
