//! What outlives the process, in `STATE_DIR/autoscaler.json`: levels, the last change, the last order's serial, the gateways that a directory has told of; and,
//! once it has ended in order, what was taken of those who sign.
//!
//! What was taken is believed once: it is not in the file while a process runs. After a crash the next one knows the levels, and refuses whatever was signed before
//! its start.

use super::brain::Brain;
use super::webhooks::Door;
use crate::daemon::state_file;
use crate::proto::roster::{self, Roster};
use crate::proto::scale::{self, Policy, Scaler};
use crate::wire::webhook::auth::Limits;
use crate::wire::webhook::{self, Replay};
use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

/// Bytes: levels of 256 sources, and 4,096 marks of each of 1,024 would be 160 MB; of honest senders there are some kilobytes.
const LONGEST: u64 = 256 << 20;
/// What is left of a level is written this often.
const EVERY: Duration = Duration::from_secs(60);
/// Changes that come in a burst are written together after this long.
const SETTLE: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    scaler: scale::Saved,
    /// None: not ended in order, or nobody may post.
    taken: Option<webhook::Saved>,
    /// None: the configuration lists them, or nobody has told of any yet.
    #[serde(default)]
    roster: Option<roster::Saved>,
}

/// Where the process before has stopped.
#[derive(Debug)]
pub struct Former {
    pub scaler: Scaler,
    pub replay: Option<Replay>,
    pub roster: Option<Roster>,
}

#[derive(Debug)]
pub struct File {
    path: PathBuf,
    written: AtomicU64,
    failed: AtomicU64,
}

impl File {
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("autoscaler.json"), written: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }

    /// A file that cannot be used is named and put aside: then it begins anew. `alone`: nobody else orders nodes.
    pub fn load(&self, policy: Policy, alone: bool) -> Option<Former> {
        let path = self.path.display();
        self.read(policy, alone).unwrap_or_else(|error| {
            let aside = self.path.with_added_extension("broken");
            match std::fs::rename(&self.path, &aside) {
                Ok(()) => tracing::error!("cannot use {path}, beginning anew; it is {} now: {error:#}", aside.display()),
                Err(why) => tracing::error!("cannot use {path}, beginning anew, and it cannot be put aside ({why}): {error:#}"),
            }
            None
        })
    }

    fn read(&self, policy: Policy, alone: bool) -> anyhow::Result<Option<Former>> {
        let Some(bytes) = state_file::read(&self.path, LONGEST)? else { return Ok(None) };
        let Kept { scaler, taken, roster } = serde_json::from_slice(&bytes).context("it is not what an autoscaler writes")?;
        let mut scaler = Scaler::restore(Instant::now(), SystemTime::now(), policy, scaler).map_err(|error| anyhow!("{error}"))?;
        if alone {
            scaler.order_alone();
        }
        let replay = taken.map(|taken| Replay::restore(Limits::default().window, taken)).transpose().map_err(|error| anyhow!("{error}"))?;
        let roster = roster.map(|roster| Roster::restore(Instant::now(), roster));
        Ok(Some(Former { scaler, replay, roster }))
    }

    /// `door`: it has ended, and what it has taken goes with the rest. Whether it is on the disk.
    pub fn write(&self, brain: &Brain, door: Option<&Door>) -> bool {
        let kept = Kept { scaler: brain.saved(), taken: door.map(Door::saved), roster: brain.saved_roster() };
        let written = serde_json::to_vec(&kept).map_err(std::io::Error::other).and_then(|bytes| state_file::write(&self.path, &bytes));
        match &written {
            Ok(()) => self.written.fetch_add(1, Relaxed),
            Err(error) => {
                let path = self.path.display();
                if self.failed.fetch_add(1, Relaxed) == 0 {
                    tracing::error!(
                        "cannot write {path}: a restart would forget levels and cooldowns; may this user write there? ({error})"
                    );
                }
                0
            }
        };
        written.is_ok()
    }

    /// Times that it was written, and that it could not be.
    pub fn counts(&self) -> [(&'static str, u64); 2] {
        [("good", self.written.load(Relaxed)), ("failed", self.failed.load(Relaxed))]
    }
}

/// Writes what has changed, soon after it has.
pub async fn keep(file: Arc<File>, brain: Arc<Brain>, end: CancellationToken) {
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = brain.changed.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
        tokio::time::sleep(SETTLE).await;
        let (file, brain) = (file.clone(), brain.clone());
        if let Err(error) = tokio::task::spawn_blocking(move || file.write(&brain, None)).await {
            tracing::error!("writing what outlives the process was cut off: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const LEVEL: &str = r#"{"source": "demand/functions", "left": 600, "wanted": [{"nodes": 6}]}"#;

    fn file(text: &str) -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        let file = File::new(dir.path());
        std::fs::write(&file.path, text).unwrap();
        (dir, file)
    }

    fn kept(level: &str, taken: &str) -> String {
        format!(r#"{{"scaler": {{"time": 1, "serial": 7, "last_change": null, "levels": [{level}]}}, "taken": {taken}}}"#)
    }

    #[test]
    fn what_was_written_in_order_is_believed() {
        let (_dir, file) = file(&kept("", r#"{"floor": null, "latest": []}"#));
        let former = file.load(Policy::default(), false).unwrap();
        assert_eq!((former.scaler.status(Instant::now()).serial, former.replay.is_some()), (7, true));
        assert!(former.roster.is_none(), "written by one that knew of none");
        let roster = r#"{"gateways": {"gw-1": "10.9.0.1:9470", "gw-2": null}}"#;
        std::fs::write(&file.path, kept("", "null").replace("\"taken\"", &format!("\"roster\": {roster}, \"taken\""))).unwrap();
        let known = file.load(Policy::default(), false).unwrap().roster.unwrap();
        assert!(known.is_known() && serde_json::to_string(&known.saved()).unwrap() == roster.replace(": ", ":").replace(", ", ","));
        let (_dir, nothing) = (tempfile::tempdir().unwrap(), File::new(Path::new("/nowhere")));
        assert!(nothing.load(Policy::default(), false).is_none());
    }

    #[test]
    fn a_broken_file_is_put_aside() {
        let half = kept(LEVEL, "null");
        for text in ["", &half[..half.len() / 2], "{}", &kept("", "{}"), &kept(&LEVEL.replace("functions", "\\u0007"), "null"), "\u{0}"] {
            let (dir, file) = file(text);
            assert!(file.load(Policy::default(), false).is_none(), "{text}");
            assert_eq!(std::fs::read_to_string(dir.path().join("autoscaler.json.broken")).unwrap(), text);
            assert!(!file.path.exists());
            let brain = Brain::new(&crate::autoscaler::tests::config(), false, None).unwrap();
            assert!(file.write(&brain, None));
            assert_eq!(std::fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
            let former = file.load(Policy::default(), false).unwrap();
            assert!(former.replay.is_none(), "it was not stopped in order");
        }
    }
}
