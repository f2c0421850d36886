//! Which part of the crate may use which. The pure parts know no shell, no kernel and no clock; this test reads every path in the
//! sources that begins at the crate's root, however it is written, and fails on one that the table does not allow.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// Each layer and what it may use beside itself. Whatever is in no layer is a shell and may use all; no layer may use a shell.
const LAYERS: [(&str, &[&str]); 9] = [
    ("model", &[]),
    ("wire", &["model"]),
    ("config", &["model"]),
    ("cni", &["model"]),
    ("proto", &["model", "wire"]),
    ("plan", &["model", "config"]),
    ("kernel", &["model", "wire", "plan"]),
    ("userspace", &["model", "wire", "plan"]),
    ("cloud", &["model", "wire", "plan"]),
];

/// The shells: tasks, sockets, clocks. Named, so that a new module takes its place here or among the layers.
const SHELLS: [&str; 13] =
    ["autoscaler", "cli", "daemon", "directory", "doctor", "gateway", "host", "lab", "lib", "main", "metrics", "report", "telemetry"];

#[derive(Debug, PartialEq, Eq)]
struct Breach {
    file: PathBuf,
    line: usize,
    uses: String,
    allowed: &'static [&'static str],
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = if self.allowed.is_empty() { "nothing of ours".into() } else { self.allowed.join(", ") };
        write!(f, "src/{}:{}: uses {}, may use {allowed}", self.file.display(), self.line, self.uses)
    }
}

/// The modules of a file below src: `plan/diff.rs` is `["plan", "diff"]`.
fn modules(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> = file.with_extension("").iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Every top-level module that a text names, with the line: `crate::a`, `crate::{a, b::c}`, `portway::a`, `super::super::a`.
fn named(text: &str, depth: usize) -> Vec<(String, usize)> {
    let tokens: TokenStream = text.parse().expect("a Rust source");
    let mut found = vec![];
    walk(tokens, depth, &mut found);
    found
}

fn walk(tokens: TokenStream, depth: usize, found: &mut Vec<(String, usize)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let ident = |i: usize| match tokens.get(i) {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    };
    let colons = |i: usize| matches!((tokens.get(i), tokens.get(i + 1)), (Some(TokenTree::Punct(a)), Some(TokenTree::Punct(b))) if a.as_char() == ':' && b.as_char() == ':');
    let mut i = 0;
    while i < tokens.len() {
        if let TokenTree::Group(group) = &tokens[i] {
            let in_module = group.delimiter() == Delimiter::Brace && i >= 2 && ident(i - 2).is_some_and(|word| word == "mod");
            walk(group.stream(), depth + usize::from(in_module), found);
        }
        let mut ups = 0;
        let mut at = i;
        while ident(at).is_some_and(|word| word == "super" || word == "self") && colons(at + 1) {
            ups += usize::from(ident(at).is_some_and(|word| word == "super"));
            at += 3;
        }
        let root = (at == i && colons(i + 1) && ident(i).is_some_and(|word| word == "crate" || word == "portway")).then(|| i + 3);
        if let Some(first) = root.or_else(|| (ups > 0 && ups == depth).then_some(at)) {
            heads(&tokens[first.min(tokens.len())..], found);
        }
        i = if root.is_some() { i + 3 } else { at.max(i + 1) };
    }
}

/// What stands first in a path, or in each branch of a braced `use`.
fn heads(rest: &[TokenTree], found: &mut Vec<(String, usize)>) {
    match rest.first() {
        Some(TokenTree::Ident(ident)) => found.push((ident.to_string(), ident.span().start().line)),
        Some(TokenTree::Punct(star)) if star.as_char() == '*' => found.push(("*".into(), star.span().start().line)),
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
            tokens.split(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == ',')).for_each(|branch| heads(branch, found));
        }
        _ => {}
    }
}

/// The breaches of one file, given by its path below src and its text.
fn breaches(file: &Path, text: &str) -> Vec<Breach> {
    let path = modules(file);
    let Some((own, allowed)) = LAYERS.into_iter().find(|(layer, _)| *layer == path[0]) else {
        assert!(SHELLS.contains(&path[0].as_str()), "src/{} is in no layer: give it a place in tests/layering.rs", file.display());
        return vec![];
    };
    let other = |uses: &String| uses != own && !allowed.contains(&uses.as_str());
    let breach = |(uses, line)| Breach { file: file.into(), line, uses, allowed };
    named(text, path.len()).into_iter().filter(|(uses, _)| other(uses)).map(breach).collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![src.clone()], vec![]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&entry).expect("a text");
                files.push((entry.strip_prefix(&src).expect("below src").into(), text));
            }
        }
    }
    files
}

#[test]
fn every_layer_uses_only_those_below_it() {
    let found: Vec<String> = sources().iter().flat_map(|(file, text)| breaches(file, text)).map(|breach| breach.to_string()).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// clippy.toml bans the clocks; src/lib.rs says where. A module is without a clock unless it is a shell.
#[test]
fn only_shells_may_look_at_a_clock() {
    let lib = include_str!("../src/lib.rs");
    assert!(lib.contains("#![cfg_attr(not(test), deny(clippy::disallowed_methods))]"), "src/lib.rs denies clocks to begin with");
    let lines: Vec<&str> = lib.lines().collect();
    let with_clock: BTreeSet<&str> = lines
        .windows(2)
        .filter(|pair| pair[0].contains("allow(clippy::disallowed_methods"))
        .filter_map(|pair| pair[1].trim().strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert!(!with_clock.is_empty() && with_clock.iter().all(|module| SHELLS.contains(module)), "with a clock: {with_clock:?}");
    for (file, text) in sources().iter().filter(|(file, _)| file.as_os_str() != "lib.rs") {
        let lifted = ["allow", "expect", "warn"].iter().any(|level| text.contains(&format!("{level}(clippy::disallowed_methods")));
        assert!(!lifted, "src/{} lifts the ban on clocks; only src/lib.rs may, for a shell", file.display());
    }
}

/// Processes of other programs are for the lab; the product speaks to the kernel itself, but for whole nftables tables. The scripts of `track:` are
/// the operator's.
#[test]
fn the_product_starts_nft_and_what_an_operator_names_and_nothing_else() {
    for (file, text) in sources() {
        let places = ["kernel/nft.rs", "gateway/ha/track/script.rs"];
        let may = modules(&file)[0] == "lab" || places.iter().any(|place| file == Path::new(place));
        let tests = file.iter().any(|part| part.to_string_lossy().contains("tests"));
        assert!(may || tests || !text.contains("Command::new("), "src/{} starts a process", file.display());
    }
}

#[test]
fn a_planted_breach_is_found_however_it_is_written() {
    let found = |file: &str, text: &str| breaches(Path::new(file), text).into_iter().map(|b| (b.uses, b.line)).collect::<Vec<_>>();
    let kernel = |line| vec![("kernel".to_owned(), line)];
    assert_eq!(found("plan/diff.rs", "use crate::model::Mark;\nuse crate::kernel::Kernel;"), kernel(2));
    assert_eq!(found("plan.rs", "use crate::{model::{Mark, Port}, kernel::{self, nft}};"), kernel(1));
    assert_eq!(found("plan.rs", "fn f() { let x = (crate::kernel::open)(); }"), kernel(1));
    assert_eq!(found("plan/diff.rs", "use super::super::kernel;"), kernel(1));
    assert_eq!(found("plan/diff.rs", "mod tests {\n use super::super::super::kernel;\n}"), kernel(2));
    assert_eq!(found("plan/diff.rs", "pub(crate) use self::super::super::kernel;"), kernel(1));
    assert_eq!(found("plan/diff.rs", "use portway::kernel;"), kernel(1));
    assert_eq!(found("model.rs", "use crate::wire;"), vec![("wire".to_owned(), 1)]);
    assert_eq!(found("kernel/nft.rs", "use crate::gateway;"), vec![("gateway".to_owned(), 1)]);
    assert_eq!(found("wire.rs", "use crate::*;"), vec![("*".to_owned(), 1)]);
}

#[test]
fn what_is_allowed_and_what_is_only_written_about_is_no_breach() {
    let clean = [
        ("plan/diff.rs", "use crate::plan::Step; use crate::{config, model::Mark}; use super::kernel; use super::super::model;"),
        ("model.rs", "//! See [`crate::kernel`].\n/* crate::kernel */ const A: &str = \"crate::kernel\"; // crate::lab"),
        ("plan.rs", "mod kernel { use super::Step; } use self::kernel::Part; use std::{fmt, io}; use ::kernel::x;"),
        ("lab.rs", "use crate::{kernel, gateway, cli};"),
        ("model/mod.rs", "pub(crate) fn f<T: Into<crate::model::Mark>>() {}"),
    ];
    for (file, text) in clean {
        assert_eq!(breaches(Path::new(file), text), [], "{file}: {text}");
    }
}

#[test]
#[should_panic(expected = "is in no layer")]
fn a_new_module_must_take_its_place() {
    breaches(Path::new("novelty.rs"), "");
}
