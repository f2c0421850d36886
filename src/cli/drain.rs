//! `portway drain`.

use super::client::RuntimeDir;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// Hand all shards of this gateway to the others of its group, without a packet lost, and take over only as the last resort until
/// `--undo`, or a restart. Exit code 1 if nobody took some of them over.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long to wait at most.
    #[arg(long, default_value = "350s", value_parser = super::duration)]
    deadline: Duration,
    /// End the drain: take part as before.
    #[arg(long)]
    undo: bool,
    /// Leave the group (with `ha.nodes: directory`): shards move to two others in sync, and this node lets go of what it kept for them. Stop it
    /// then, and the directory takes it off the list.
    #[arg(long, conflicts_with = "undo")]
    leave: bool,
    #[command(flatten)]
    at: RuntimeDir,
}

impl Args {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.undo {
            super::block_on(self.at.ask("gateway", Method::DELETE, "/v1/drain", None))?;
            println!("takes part again");
            return Ok(ExitCode::SUCCESS);
        }
        let body = json!({ "deadline_s": self.deadline.as_secs_f64(), "leave": self.leave });
        let (_, drained) = super::block_on(self.at.ask("gateway", Method::POST, "/v1/drain", Some(&body)))?;
        let list = |name: &str| drained[name].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let (away, kept): (Vec<String>, Vec<String>) = (list("handed_over"), list("kept"));
        match away.as_slice() {
            [] => println!("no shard was here to hand over"),
            away => println!("handed over: {}", away.join(", ")),
        }
        if kept.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let why = if self.leave { "others do not have all connections yet" } else { "nobody took over" };
        eprintln!("{why}, and this node still serves: {}", kept.join(", "));
        Ok(ExitCode::FAILURE)
    }
}
