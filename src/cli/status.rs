//! `portway status`.

mod autoscaler;
mod cloud;
mod fleet;
mod ha;
mod rates;
mod strangers;
mod watch;

use super::client::RuntimeDir;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

const AUTOSCALER: &str = "autoscaler";
const DIRECTORY: &str = "directory";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// As JSON, a line for each daemon.
    #[arg(long)]
    json: bool,
    /// Again every second, with rates, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    at: RuntimeDir,
}

/// A daemon that has not answered by then hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A role, and what its daemon says.
type Look = (&'static str, anyhow::Result<Seen>);

/// A daemon's answer.
struct Seen {
    role: &'static str,
    status: Value,
    /// Connections by shard; null where nobody can count them.
    flows: Value,
}

impl Args {
    /// Exit code 0 when every daemon here is ready, else 1; watching ends with 0.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.watch {
            return super::block_on(watch::run(&self)).map(|()| ExitCode::SUCCESS);
        }
        let mut looks = super::block_on(self.look())?;
        if looks.iter().all(|(_, seen)| seen.is_err()) {
            looks.swap_remove(0).1?;
        }
        for (role, seen) in &looks {
            print!("{}", self.tell(role, seen));
        }
        let ready = |(_, seen): &Look| seen.as_ref().is_ok_and(|seen| seen.status["ready"] == true);
        Ok(if looks.iter().all(ready) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// What every daemon here says. One that does not answer keeps nobody from hearing the others.
    async fn look(&self) -> anyhow::Result<Vec<Look>> {
        let mut roles = self.at.roles();
        roles.extend(self.at.has(AUTOSCALER).then_some(AUTOSCALER));
        // Its socket is its operator's alone: others see the rest.
        roles.extend((self.at.has(DIRECTORY) && (roles.is_empty() || self.at.may_ask(DIRECTORY))).then_some(DIRECTORY));
        anyhow::ensure!(!roles.is_empty(), "no daemon of Portway has its socket in {}: is one running?", self.at.runtime_dir.display());
        let mut looks = Vec::new();
        for role in roles {
            let seen = tokio::time::timeout(PATIENCE, self.ask(role)).await;
            looks.push((role, seen.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not answer within {} s", PATIENCE.as_secs())))));
        }
        Ok(looks)
    }

    async fn ask(&self, role: &'static str) -> anyhow::Result<Seen> {
        let (_, status) = self.at.ask(role, Method::GET, "/v1/status", None).await?;
        // A daemon that cannot count them has all the rest to show.
        let flows = match &status["ha"] {
            Value::Null => Value::Null,
            _ => self.at.ask(role, Method::GET, "/v1/flows", None).await.map_or(Value::Null, |(_, flows)| flows),
        };
        Ok(Seen { role, status, flows })
    }

    fn tell(&self, role: &str, seen: &anyhow::Result<Seen>) -> String {
        match seen {
            Ok(seen) => self.show(seen),
            Err(error) if self.json => format!("{}\n", json!({ "role": role, "ready": false, "error": format!("{error:#}") })),
            Err(error) => printable(&format!("{role}: NO ANSWER\n  ! {error:#}\n")),
        }
    }

    fn show(&self, Seen { role, status, flows }: &Seen) -> String {
        if self.json {
            let mut status = status.clone();
            for shard in status["ha"]["shards"].as_array_mut().into_iter().flatten() {
                shard["flows"] = flows[ha::name(shard)].clone();
            }
            return format!("{status}\n");
        }
        printable(&match *role {
            AUTOSCALER => autoscaler::table(status),
            DIRECTORY => fleet::table(status),
            _ => table(status) + &ha::nodes(&status["ha"]) + &ha::table(&text(&status["node"]), &status["ha"], flows),
        })
    }
}

/// What comes from elsewhere is not to move the cursor or recolour the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn table(status: &Value) -> String {
    let state = if status["ready"] == true { "ready" } else { "NOT READY" };
    let mut out = format!(
        "{} {}: {state}, {} tunnels, platform address {}, tunnel MTU {}\n",
        text(&status["role"]),
        text(&status["node"]),
        text(&status["backend"]),
        text(&status["platform_address"]),
        status["tunnel_mtu"]
    );
    for failure in status["failures"].as_array().into_iter().flatten() {
        out += &format!("  ! {}\n", text(failure));
    }
    if let Some(why) = status["configuration"]["refused"]["why"].as_str() {
        out += &format!("  ! the configuration on disk is not in force: {}\n", why.trim_end().replace('\n', "\n    "));
    }
    out += &lacks(status);
    for warning in status["flow_log"]["warnings"].as_array().into_iter().flatten() {
        out += &format!("  ! flow log: {}\n", text(warning));
    }
    let jit = &status["jit"];
    out += &directory([&jit["directory"], &status["directory"]].into_iter().find(|told| !told.is_null()).unwrap_or(&Value::Null));
    out += &strangers::lines(&jit["peers"]);
    for left_out in status["left_out"].as_array().into_iter().flatten() {
        out += &format!("  ! {}\n", text(left_out));
    }
    let columns: &[&str] = if status["role"] == "gateway" {
        &["name", "shard", "tunnel", "key", "interface", "peers", "snat"]
    } else {
        &["name", "shard", "tunnel", "key", "gateway", "inner", "attachments"]
    };
    let tenants = status["tenants"].as_array().map_or(&[][..], Vec::as_slice);
    out + &rows(columns, tenants.iter().map(|tenant| columns.iter().map(|column| text(&tenant[*column])).collect()).collect())
}

/// What the machine has too little of.
fn lacks(status: &Value) -> String {
    let mut out = String::new();
    let conntrack = &status["conntrack"];
    if let (Some(entries), Some(limit)) = (conntrack["entries"].as_u64(), conntrack["limit"].as_u64())
        && entries.saturating_mul(5) >= limit.saturating_mul(4)
    {
        out += &format!("  ! {entries} of {limit} connections are tracked: raise net.netfilter.nf_conntrack_max, or add a node\n");
    }
    for (interface, counters) in status["exceeded"].as_object().into_iter().flatten() {
        let held_back = counters.as_object().into_iter().flatten().filter(|(_, packets)| packets.as_u64() > Some(0));
        let held_back: Vec<String> = held_back.map(|(counter, packets)| format!("{packets} {counter}")).collect();
        if !held_back.is_empty() {
            out += &format!(
                "  ! the cloud has held back packets of {interface}, which is more than the instance may: {}\n",
                held_back.join(", ")
            );
        }
    }
    out
}

/// What is known of the directory, where one is asked.
fn directory(status: &Value) -> String {
    if status.is_null() {
        return String::new();
    }
    let why = [&status["failed"], &status["error"]].into_iter().find(|why| why.is_string());
    let state = match (why, &status["reachable"]) {
        (Some(why), _) => text(why),
        (None, Value::Bool(true)) => format!("answers, revision {}", status["revision"]),
        (None, _) => "was not asked yet".into(),
    };
    let mark = if why.is_some() { "!" } else { "-" };
    let untold = status["shards"].as_object().into_iter().flatten().filter(|(_, state)| *state != "told");
    let untold: String = untold.map(|(of, state)| format!("  ! the directory does not know {of} as it is: {}\n", text(state))).collect();
    let member = status["member"].as_str().filter(|member| member.starts_with("refused"));
    let member = member.map(|why| format!("  ! the directory does not take this node for one of the group, {why}\n")).unwrap_or_default();
    format!("  {mark} directory {}: {state}\n{untold}{member}", text(&status["url"]))
}

/// A table for people: as wide as it needs to be.
pub(super) fn rows(columns: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut cells = vec![columns.iter().map(|column| column.to_uppercase()).collect::<Vec<_>>()];
    cells.extend(rows);
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>().join("  ");
    cells.iter().map(|row| format!("  {}\n", line(row).trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    fn gateway(jit: &Value) -> Value {
        json!({
            "role": "gateway", "node": "gw-1", "ready": true, "backend": "userspace", "platform_address": "10.9.0.1", "tunnel_mtu": 1440,
            "failures": [], "peers": 1002, "jit": jit,
            "tenants": [{
                "name": "acme", "shard": 0, "tunnel": "pw-1", "key": "hSDw", "interface": "eni0", "peers": 1002, "configured": 2,
                "admitted": 1000, "snat": "172.16.101.10:1024-65535",
            }],
        })
    }

    #[test]
    fn a_gateway_tells_of_its_directory_and_of_peers_just_in_time() {
        let jit = json!({
            "directory": {
                "url": "https://d.example:9473/", "reachable": true, "error": null, "failed": null, "revision": 12,
                "shards": { "acme/0": "told" },
            },
            "peers": {
                "known": 1000, "live": 998, "installing": 2,
                "refused": { "unknown": 31, "mac1": 7, "replayed": 7, "forged": 2, "source_rate": 900, "full": 1 },
            },
        });
        let expected = "\
gateway gw-1: ready, userspace tunnels, platform address 10.9.0.1, tunnel MTU 1440
  - directory https://d.example:9473/: answers, revision 12
  - peers just in time: 1000 known, 998 live, 2 installing; refused: 900 source_rate, 31 unknown, 7 mac1, 7 replayed, 3 for 2 other reasons
  NAME  SHARD  TUNNEL  KEY   INTERFACE  PEERS  SNAT
  acme  0      pw-1    hSDw  eni0       1002   172.16.101.10:1024-65535
";
        assert_eq!(table(&gateway(&jit)), expected);
    }

    #[test]
    fn what_the_machine_lacks_is_marked() {
        let lines = |conntrack: Value, exceeded: Value| lacks(&json!({ "conntrack": conntrack, "exceeded": exceeded }));
        assert_eq!(lines(json!({ "entries": 79, "limit": 100 }), json!({ "eni0": { "pps_allowance_exceeded": 0 } })), "");
        assert_eq!(lines(json!({ "entries": 79, "limit": null }), json!({})) + &lines(Value::Null, json!({})), "");
        let expected = [
            "  ! 80 of 100 connections are tracked: raise net.netfilter.nf_conntrack_max, or add a node\n",
            "  ! the cloud has held back packets of eni0, which is more than the instance may: 3 bw_in_allowance_exceeded, 12 pps_allowance_exceeded\n",
        ];
        let exceeded = json!({ "eni0": { "bw_in_allowance_exceeded": 3, "bw_out_allowance_exceeded": 0, "pps_allowance_exceeded": 12 } });
        assert_eq!(lines(json!({ "entries": 80, "limit": 100 }), exceeded), expected.concat());
    }

    #[test]
    fn a_directory_that_is_away_and_shards_that_it_does_not_know_are_marked() {
        let jit = json!({
            "directory": {
                "url": "https://d.example:9473/", "reachable": false, "error": null, "failed": "connection refused", "revision": null,
                "shards": { "acme/0": "told", "blue/0": "it does not answer" },
            },
            "peers": { "known": 0, "live": 0, "installing": 0, "refused": {} },
        });
        let shown = table(&gateway(&jit));
        let expected = "
  ! directory https://d.example:9473/: connection refused
  ! the directory does not know blue/0 as it is: it does not answer
  - peers just in time: 0 known, 0 live, 0 installing; none refused
";
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn a_terminal_is_sent_no_sequence_of_somebody_elses() {
        assert_eq!(printable("down: \u{1b}[2J\u{7}\u{9b}31m\nµ"), "down: \u{fffd}[2J\u{fffd}\u{fffd}31m\nµ");
    }

    fn args(runtime_dir: &Path, json: bool) -> Args {
        Args { json, watch: false, at: RuntimeDir { runtime_dir: runtime_dir.to_owned() } }
    }

    /// Its socket outlives a daemon.
    #[tokio::test]
    async fn a_daemon_that_has_gone_does_not_hide_the_others() {
        let folder = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(folder.path().join("gateway.sock")).unwrap());
        let listener = tokio::net::UnixListener::bind(folder.path().join("host.sock")).unwrap();
        let status =
            axum::Router::new().route("/v1/status", axum::routing::get(async || axum::Json(json!({ "role": "host", "node": "host-1" }))));
        tokio::spawn(async move { axum::serve(listener, status).await });
        let told = async |json| -> String {
            let args = args(folder.path(), json);
            args.look().await.unwrap().iter().map(|(role, seen)| args.tell(role, seen)).collect()
        };
        let shown = told(false).await;
        assert!(
            shown.starts_with("gateway: NO ANSWER\n  ! no `portway gateway` answers on ") && shown.contains("\nhost host-1: NOT READY"),
            "{shown}"
        );
        let lines: Vec<Value> = told(true).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["role"], &lines[0]["ready"], &lines[1]["node"]), (&"gateway".into(), &false.into(), &"host-1".into()));
    }

    #[test]
    fn who_asks_no_directory_has_no_line_of_one() {
        let shown = table(&gateway(&Value::Null));
        assert_eq!(shown.lines().count(), 3, "{shown}");
    }

    #[test]
    fn a_host_tells_of_its_directory_and_of_what_it_leaves_out() {
        let status = json!({
            "role": "host", "node": "host-1", "ready": false, "backend": "kernel", "platform_address": "10.9.0.11", "tunnel_mtu": 1440,
            "failures": ["cannot make pw-1: busy"], "left_out": ["acme/1: no gateway has told of it yet"],
            "configuration": { "times": 2, "refused": { "why": "host.yaml:3:1: no\nhost.yaml:4:1: yes\n", "at_start": false } },
            "directory": { "url": "https://d.example:9473/", "reachable": null, "error": null, "failed": null, "revision": null },
            "tenants": [{ "name": "acme", "shard": 0, "tunnel": "pw-1", "key": "hSDw", "gateway": "10.9.0.50", "inner": "10.64.0.9", "attachments": 3 }],
        });
        let expected = "\
host host-1: NOT READY, kernel tunnels, platform address 10.9.0.11, tunnel MTU 1440
  ! cannot make pw-1: busy
  ! the configuration on disk is not in force: host.yaml:3:1: no
    host.yaml:4:1: yes
  - directory https://d.example:9473/: was not asked yet
  ! acme/1: no gateway has told of it yet
  NAME  SHARD  TUNNEL  KEY   GATEWAY    INNER      ATTACHMENTS
  acme  0      pw-1    hSDw  10.9.0.50  10.64.0.9  3
";
        assert_eq!(table(&status), expected);
    }
}
