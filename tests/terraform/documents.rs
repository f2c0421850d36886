//! Each module's README says what it takes and gives, in the manner of terraform-docs.

use super::{ROOT, all, folder, read};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

const BEGIN: &str = "<!-- BEGIN_TF_DOCS -->\n";
const END: &str = "\n<!-- END_TF_DOCS -->\n";

/// A `variable` or an `output`, as `terraform fmt` lays it out.
struct Block<'t> {
    name: &'t str,
    lines: Vec<&'t str>,
}

fn blocks<'t>(text: &'t str, kind: &str) -> Vec<Block<'t>> {
    let mut blocks: Vec<Block<'t>> = vec![];
    for part in text.split(&format!("\n{kind} \"")).skip(1) {
        let (name, body) = part.split_once("\" {\n").expect(part);
        blocks.push(Block { name, lines: body.lines().take_while(|line| *line != "}").collect() });
    }
    blocks.sort_by_key(|block| block.name);
    blocks
}

/// How much deeper brackets are at the end of a line than at its beginning.
fn deeper(line: &str) -> i32 {
    line.chars().map(|c| i32::from("([{".contains(c)) - i32::from(")]}".contains(c))).sum()
}

impl Block<'_> {
    /// The lines of an argument's value.
    fn value(&self, argument: &str) -> Option<Vec<&str>> {
        let is_it = |line: &str| {
            line.strip_prefix("  ").and_then(|line| line.strip_prefix(argument)).is_some_and(|rest| rest.trim_start().starts_with("= "))
        };
        let at = self.lines.iter().position(|line| is_it(line))?;
        let first = self.lines[at].split_once("= ").unwrap().1;
        if first == "<<-EOT" {
            return Some(self.lines[at + 1..].iter().copied().take_while(|line| line.trim() != "EOT").map(str::trim).collect());
        }
        let (mut lines, mut depth) = (vec![first], deeper(first));
        for line in &self.lines[at + 1..] {
            if depth == 0 {
                break;
            }
            depth += deeper(line);
            lines.push(line);
        }
        Some(lines)
    }

    fn description(&self) -> String {
        let lines = self.value("description").unwrap_or_else(|| panic!("{} has no description", self.name));
        let text = match lines[..] {
            [line] if line.starts_with('"') => line.trim_matches('"').replace("\\\"", "\""),
            _ => lines.iter().fold(String::new(), |text, line| {
                let between = if line.starts_with("- ") {
                    "<br/>"
                } else if text.is_empty() {
                    ""
                } else {
                    " "
                };
                format!("{text}{between}{line}")
            }),
        };
        text.replace('|', "\\|")
    }

    fn code(&self, argument: &str) -> Option<String> {
        let lines = self.value(argument)?;
        let code = match &lines[..] {
            [line] => format!("`{line}`"),
            [first, rest @ ..] => {
                format!("<pre>{first}<br/>{}</pre>", rest.iter().map(|line| &line[2..]).collect::<Vec<_>>().join("<br/>"))
            }
            [] => unreachable!("an argument has a value"),
        };
        Some(code.replace('|', "\\|"))
    }
}

fn table(module: &Path) -> String {
    let versions = read(&module.join("versions.tf"));
    let quoted = |key: &str| versions.split(&format!("{key} ")).nth(1).and_then(|rest| rest.split('"').nth(1));
    let mut text = "## Requirements\n\n| Name | Version |\n| --- | --- |\n".to_owned();
    writeln!(text, "| terraform | {} |", quoted("required_version").expect("a version")).unwrap();
    if let Some(provider) = versions.split_once("required_providers").and_then(|(_, rest)| rest.split("version = \"").nth(1)) {
        writeln!(text, "| aws | {} |", provider.split('"').next().unwrap()).unwrap();
    }
    text += "\n## Inputs\n\n| Name | Description | Type | Default | Required |\n| --- | --- | --- | --- | :---: |\n";
    for block in blocks(&format!("\n{}", read(&module.join("variables.tf"))), "variable") {
        let (default, required) = block.code("default").map_or(("n/a".to_owned(), "yes"), |default| (default, "no"));
        let (kind, description) = (block.code("type").expect("a type"), block.description());
        writeln!(text, "| {} | {description} | {kind} | {default} | {required} |", block.name).unwrap();
    }
    text += "\n## Outputs\n\n| Name | Description |\n| --- | --- |\n";
    for block in blocks(&format!("\n{}", read(&module.join("outputs.tf"))), "output") {
        writeln!(text, "| {} | {} |", block.name, block.description()).unwrap();
    }
    text.trim_end().to_owned()
}

/// With PORTWAY_WRITE_TABLES=1 it writes them instead.
#[test]
fn what_a_module_takes_and_gives_stands_in_its_readme() {
    for module in all("modules") {
        let file = module.join("README.md");
        let readme = read(&file);
        let (before, rest) = readme.split_once(BEGIN).unwrap_or_else(|| panic!("{}: no {BEGIN}", file.display()));
        let (written, after) = rest.split_once(END).expect(END);
        let table = table(&module);
        if std::env::var_os("PORTWAY_WRITE_TABLES").is_some() {
            std::fs::write(&file, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        } else {
            let name = file.display();
            assert_eq!(written, table, "{name} is not true: run PORTWAY_WRITE_TABLES=1 cargo nextest run --test terraform what_a_module");
        }
    }
}

#[test]
fn every_input_and_output_says_what_it_is() {
    for folder in all("modules").into_iter().chain(all("examples")) {
        for (file, kind) in [("variables.tf", "variable"), ("outputs.tf", "output")] {
            let text = format!("\n{}", read(&folder.join(file)));
            let blocks = blocks(&text, kind);
            assert!(!blocks.is_empty());
            for block in &blocks {
                let description = block.description();
                assert!(description.ends_with(['.', '`', ')', ']', ';']), "{}: {description}", block.name);
            }
        }
    }
}

/// Least privilege: nobody is let do what nothing of ours does, and what is needed is there.
#[test]
fn gateways_may_do_at_ec2_what_they_do_and_nothing_else() {
    let ours = |file: &str| read(&Path::new(ROOT).join(file));
    let (calls, boot) = (ours("src/wire/ec2.rs"), ours("terraform/modules/boot/files/portway-configure"));
    let of_gateways = calls.lines().filter_map(|line| line.trim().strip_prefix("Call::")?.split_once("=> \"")?.1.strip_suffix("\","));
    let of_boot = boot.split("Action=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let called: BTreeSet<&str> = of_gateways.chain(of_boot).collect();
    let policy = ours("terraform/modules/appliance/iam.tf");
    let actions = policy.lines().filter_map(|line| line.trim().strip_prefix("Action")?.trim().strip_prefix("= ["));
    let allowed: BTreeSet<&str> = actions.flat_map(|list| list.split('"')).filter_map(|word| word.strip_prefix("ec2:")).collect();
    assert_eq!(allowed, called);
    let guide = ours("docs/aws.md");
    let role = guide.split_once("## The gateways' role").unwrap().1.split_once("\n## ").unwrap().0;
    let words = role.lines().filter_map(|line| line.split('|').nth(2)).flat_map(|cell| cell.split(','));
    let explained: BTreeSet<&str> = words.filter_map(|word| word.split_whitespace().next()).filter(|word| !word.contains(':')).collect();
    assert_eq!(explained.intersection(&called).copied().collect::<BTreeSet<_>>(), called, "docs/aws.md");
    let strange = |word: &&str| word.starts_with(char::is_uppercase) && !called.contains(word);
    assert_eq!(explained.iter().copied().filter(strange).collect::<Vec<_>>(), Vec::<&str>::new(), "docs/aws.md");
}

/// What docs/aws.md says of statements and rules is about those that there are.
#[test]
fn the_guide_explains_each_statement_of_the_policy() {
    let guide = read(&Path::new(ROOT).join("docs/aws.md"));
    for file in ["appliance/iam.tf", "appliance/group.tf", "function-host/main.tf"] {
        let text = read(&folder().join("modules").join(file));
        let statements = text.split_once("statements = {").map_or("", |(_, rest)| rest);
        let names = statements.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(" = ")).map(|(name, _)| name.trim());
        let names: Vec<&str> = names.take_while(|name| *name != "Version").filter(|name| name.starts_with(char::is_uppercase)).collect();
        assert!(file == "appliance/group.tf" || names.len() >= 4, "{file}: {names:?}");
        for name in names.into_iter().filter(|name| !["Action", "Resource", "Condition", "Effect"].contains(name)) {
            assert!(guide.contains(&format!("`{name}`")), "docs/aws.md does not explain {name} of {file}");
        }
    }
}
