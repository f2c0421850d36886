//! What a gateway says of peers just in time, for people.

use super::text;
use serde_json::Value;
use std::cmp::Reverse;

/// Reasons that are named; `--json` has all of them.
const NAMED: usize = 4;

/// Empty where nobody is let in just in time. `peers` as `jit.peers` of `GET /v1/status`.
pub fn lines(peers: &Value) -> String {
    if peers.is_null() {
        return String::new();
    }
    let [known, live, installing] = ["known", "live", "installing"].map(|state| text(&peers[state]));
    format!("  - peers just in time: {known} known, {live} live, {installing} installing; {}\n", refused(&peers["refused"]))
}

/// The most frequent reasons first.
fn refused(refused: &Value) -> String {
    let mut reasons: Vec<(&str, u64)> =
        refused.as_object().into_iter().flatten().filter_map(|(why, count)| Some((why.as_str(), count.as_u64()?))).collect();
    reasons.sort_by_key(|(why, count)| (Reverse(*count), *why));
    let (named, others) = reasons.split_at(reasons.len().min(NAMED));
    let mut parts: Vec<String> = named.iter().map(|(why, count)| format!("{count} {why}")).collect();
    match others {
        [] => {}
        [(why, count)] => parts.push(format!("{count} {why}")),
        others => parts.push(format!("{} for {} other reasons", others.iter().map(|(_, count)| count).sum::<u64>(), others.len())),
    }
    if parts.is_empty() { "none refused".into() } else { format!("refused: {}", parts.join(", ")) }
}
