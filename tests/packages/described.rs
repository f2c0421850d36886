//! Manual pages and completions, held against what `--help` says.

use crate::{PORTWAY, run, sh, text};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// A command with those that it has, and its options, as it tells itself.
struct Told {
    /// `portway directory token`
    words: Vec<String>,
    options: BTreeSet<String>,
}

impl Told {
    fn page(&self) -> String {
        format!("{}.1", self.words.join("-"))
    }
}

/// All commands that are shown to people.
fn all() -> Vec<Told> {
    let mut found = Vec::new();
    let mut open = vec![vec!["portway".to_owned()]];
    while let Some(words) = open.pop() {
        let help = text(Command::new(PORTWAY).args(&words[1..]).arg("--help"));
        let section = |name: &str| {
            let after = help.split_once(&format!("\n{name}:\n")).map_or("", |(_, after)| after);
            let lines: Vec<String> = after.split("\n\n").next().unwrap_or_default().lines().map(str::to_owned).collect();
            lines
        };
        // Two spaces and a name; what it means may go on in lines further in.
        let names = section("Commands").into_iter().filter_map(|line| Some(line.strip_prefix("  ")?.split(' ').next()?.to_owned()));
        for name in names.filter(|name| !name.is_empty() && name != "help") {
            open.push(words.iter().cloned().chain([name]).collect());
        }
        let words_of = |line: &str| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').map(str::to_owned).collect::<Vec<_>>();
        let options = help.lines().filter(|line| line.trim_start().starts_with('-')).flat_map(words_of);
        found.push(Told { words, options: options.filter(|word| word.starts_with("--") && word.len() > 2).collect() });
    }
    assert!(found.len() > 30, "only {} commands", found.len());
    found
}

fn made() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    text(Command::new(PORTWAY).arg("packaging").arg(folder.path()));
    folder
}

fn files(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_command_has_a_manual_page_with_all_its_options() {
    let folder = made();
    let pages = folder.path().join("man");
    let told = all();
    assert_eq!(files(&pages), told.iter().map(Told::page).collect());
    for command in &told {
        let page = std::fs::read_to_string(pages.join(command.page())).unwrap().replace("\\-", "-");
        for option in &command.options {
            assert!(page.contains(option.as_str()), "{} does not explain {option}", command.page());
        }
    }
}

#[test]
fn manual_pages_are_set_without_a_complaint() {
    let folder = made();
    let output = run(Command::new("sh").args(["-c", "groff -man -ww -z -Tutf8 ./*.1"]).current_dir(folder.path().join("man")));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn completions_know_every_command_and_every_option() {
    let folder = made();
    let completions = folder.path().join("completions");
    assert_eq!(files(&completions), ["_portway", "portway.bash", "portway.fish"].map(str::to_owned).into());
    let texts: BTreeMap<String, String> =
        files(&completions).into_iter().map(|name| (name.clone(), std::fs::read_to_string(completions.join(name)).unwrap())).collect();
    for command in all() {
        let name = command.words.last().unwrap();
        for (shell, text) in &texts {
            // Those for fish go no deeper than `portway directory token`: clap_complete knows no more of that shell.
            if shell.ends_with(".fish") && command.words.len() > 3 {
                continue;
            }
            assert!(text.contains(name.as_str()), "{shell}: {name}");
            for option in &command.options {
                // fish has them without the dashes.
                assert!(text.contains(&option[2..]), "{shell}: {} {option}", command.words.join(" "));
            }
        }
    }
}

#[test]
fn bash_completes_what_is_begun() {
    let folder = made();
    let complete = |words: &[&str]| {
        let script = format!(
            ". completions/portway.bash; COMP_WORDS=({words}); COMP_CWORD={last}; \
             _portway portway \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{before}]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            last = words.len() - 1,
            before = words.len() - 2,
        );
        let printed = text(Command::new("bash").args(["-ec", &script]).current_dir(folder.path()));
        printed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["portway", "gat"]), ["gateway"]);
    assert_eq!(complete(&["portway", "directory", "tok"]), ["token"]);
    assert_eq!(complete(&["portway", "directory", "token", "add", "--exp"]), ["--expires"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    sh(folder.path(), "echo > taken");
    let output = run(Command::new(PORTWAY).arg("packaging").arg(folder.path().join("taken")));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("taken/man"), "{output:?}");
}
