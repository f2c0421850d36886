//! `terraform/`: that its modules do what they say, refuse what cannot be, and make configurations that Portway takes; and that the first example can be
//! applied, to a simulated AWS, twice with nothing left to do the second time, and destroyed.

mod aws;
mod boot;
mod cycle;
mod documents;
mod modules;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn folder() -> PathBuf {
    Path::new(ROOT).join("terraform")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Those of a kind, `modules` or `examples`, by name.
fn all(kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder().join(kind)).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    all.sort();
    assert!(all.len() >= 3, "{all:?}");
    all
}

/// A copy of `terraform/` in which Terraform may leave what it leaves; gone with the test.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let scratch = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        for file in tracked("terraform") {
            let to = scratch.0.path().join(&file);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(Path::new(ROOT).join(&file), to).unwrap();
        }
        scratch
    }

    /// Of `modules/NAME` or `examples/NAME`, ready for any command.
    fn initialised(&self, what: &str) -> Folder {
        let folder = Folder(self.0.path().join("terraform").join(what));
        folder.init();
        folder
    }
}

/// Files that are, or are to be, committed: nothing that Terraform left when somebody ran it by hand.
fn tracked(under: &str) -> Vec<PathBuf> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard", "--", under];
    let output = Command::new("git").args(arguments).current_dir(ROOT).output().expect("git");
    assert!(output.status.success(), "{}", told(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// Where Terraform runs.
struct Folder(PathBuf);

impl Folder {
    fn terraform(&self, arguments: &[&str], variables: &[(&str, String)]) -> Output {
        let mut command = Command::new("terraform");
        command.args(arguments).current_dir(&self.0);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TF_") || name.starts_with("AWS_")) {
            command.env_remove(name);
        }
        // It asks nobody whether there is a newer one.
        command.env("CHECKPOINT_DISABLE", "1").env("TF_IN_AUTOMATION", "1").envs(variables.iter().map(|(name, value)| (name, value)));
        command.output().unwrap_or_else(|error| {
            panic!("terraform: {error}; it is needed from 1.11 on: https://developer.hashicorp.com/terraform/install")
        })
    }

    /// What must be well.
    fn done(&self, arguments: &[&str], variables: &[(&str, String)]) -> String {
        let output = self.terraform(arguments, variables);
        assert!(output.status.success(), "terraform {} in {}: {}", arguments.join(" "), self.0.display(), told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn init(&self) {
        let mut arguments = vec!["init".to_owned(), "-backend=false".to_owned(), "-input=false".to_owned(), "-no-color".to_owned()];
        let mut variables = vec![];
        match plugins() {
            Some(folder) => arguments.push(format!("-plugin-dir={}", folder.display())),
            // Fetched once for all.
            None => {
                let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("terraform-plugins");
                std::fs::create_dir_all(&cache).unwrap();
                variables.push(("TF_PLUGIN_CACHE_DIR", cache.display().to_string()));
            }
        }
        self.done(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &variables);
    }

    /// All its tests pass. Returns the outputs of each of their runs.
    fn tested(&self, filters: &[&str]) -> Vec<Value> {
        let filters: Vec<String> = filters.iter().map(|file| format!("-filter=tests/{file}.tftest.hcl")).collect();
        let mut arguments = vec!["test", "-json", "-verbose"];
        arguments.extend(filters.iter().map(String::as_str));
        let output = self.terraform(&arguments, &[]);
        let lines: Vec<Value> =
            String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let said = || lines.iter().filter(|line| line["@level"] == "error").map(|line| line.to_string()).collect::<Vec<_>>().join("\n");
        assert!(output.status.success(), "terraform test in {}: {}\n{}", self.0.display(), said(), String::from_utf8_lossy(&output.stderr));
        let summary = lines.iter().find(|line| line["type"] == "test_summary").expect("a summary");
        assert!(summary["test_summary"]["passed"].as_u64() > Some(0) && summary["test_summary"]["skipped"] == 0, "{summary}");
        lines.iter().filter_map(outputs).collect()
    }
}

/// By name: of a run that made something, or planned to.
fn outputs(line: &Value) -> Option<Value> {
    let of = |outputs: &Value, what: &str| -> Option<Value> {
        Some(
            outputs
                .as_object()?
                .iter()
                .map(|(name, output)| (name.clone(), output[what].clone()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        )
    };
    of(&line["test_state"]["outputs"], "value").or_else(|| of(&line["test_plan"]["output_changes"], "after"))
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A folder that holds providers, as `terraform init -plugin-dir` takes it: near the root of the file system, in no home.
fn plugins() -> Option<PathBuf> {
    let folders = |of: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.is_dir() && !path.is_symlink()).collect()
    };
    let not_of_programs =
        |path: &PathBuf| !["/dev", "/home", "/proc", "/root", "/run", "/sys", "/tmp"].iter().any(|other| path == Path::new(other));
    let near: Vec<PathBuf> = folders(Path::new("/")).into_iter().filter(not_of_programs).collect();
    let below = near.iter().flat_map(|folder| folders(folder)).collect::<Vec<_>>();
    near.into_iter().chain(below).find(|folder| folder.join("registry.terraform.io").is_dir())
}
