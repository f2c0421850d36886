//! A check that is somebody's program: 0 is good.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{self, PipeReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

/// Bytes of the output that are kept, of which the first line is shown.
const KEPT: usize = 200;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot be run: {0}")]
    Run(#[source] io::Error),
    #[error("killed after {0:?}{1}")]
    Late(Duration, Said),
    #[error("{0}{1}")]
    Ended(std::process::ExitStatus, Said),
}

/// The first line of the output.
#[derive(Debug)]
pub struct Said(String);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// Runs it in a process group of its own, with nothing but `PATH` in its environment. All of the group is killed at the timeout, or when this is dropped.
pub async fn run(file: &Path, args: &[String], timeout: Duration) -> Result<(), Failure> {
    let (reader, writer) = io::pipe().map_err(Failure::Run)?;
    let spawn = || -> io::Result<Group> {
        let mut command = Command::new(file);
        command.args(args).env_clear().env("PATH", PATH).current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        Ok(Group(command.spawn()?))
    };
    let mut group = spawn().map_err(Failure::Run)?;
    let mut output = Output::new(reader).map_err(Failure::Run)?;
    let ended = tokio::time::timeout(timeout, async {
        let child = &mut group.0;
        tokio::select! {
            // What it has written before it ended is read first.
            biased;
            never = output.read() => never,
            ended = child.wait() => ended,
        }
    });
    match ended.await {
        Err(_) => Err(Failure::Late(timeout, output.said())),
        Ok(Err(error)) => Err(Failure::Run(error)),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => {
            output.rest();
            Err(Failure::Ended(status, output.said()))
        }
    }
}

/// Kills all that is left, as long as the number is its own: until the leader has been waited for.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(leader) = leader {
            // It may just have ended.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

struct Output {
    pipe: Receiver,
    kept: Vec<u8>,
}

impl Output {
    fn new(pipe: PipeReader) -> io::Result<Self> {
        Ok(Self { pipe: Receiver::from_owned_fd(pipe.into())?, kept: Vec::new() })
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = KEPT - self.kept.len();
        self.kept.extend(&bytes[..bytes.len().min(room)]);
    }

    /// Reads on, so that nobody waits who writes; does not return.
    async fn read(&mut self) -> io::Result<std::process::ExitStatus> {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.pipe.read(&mut buffer).await {
            self.keep(&buffer[..length]);
        }
        std::future::pending().await
    }

    /// What waits.
    fn rest(&mut self) {
        let mut buffer = [0; KEPT];
        if let Ok(length) = self.pipe.try_read(&mut buffer) {
            self.keep(&buffer[..length]);
        }
    }

    fn said(&self) -> Said {
        let text = String::from_utf8_lossy(&self.kept);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        Said(line.chars().filter(|c| !c.is_control()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    async fn sh(script: &str, timeout: Duration) -> Result<(), String> {
        run(Path::new("/bin/sh"), &["-c".into(), script.into()], timeout).await.map_err(|failure| failure.to_string())
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_status_decides_and_the_first_line_says_why() {
        assert_eq!(sh("echo fine", LONG).await, Ok(()));
        assert_eq!(sh("exit 3", LONG).await, Err("exit status: 3".into()));
        assert_eq!(sh("echo; echo no disk >&2; echo more; exit 1", LONG).await, Err("exit status: 1: no disk".into()));
        assert_eq!(sh("kill -9 $$", LONG).await, Err("signal: 9 (SIGKILL)".into()));
        assert_eq!(sh("head -c 1000000 /dev/zero | tr '\\0' x", LONG).await, Ok(()));
        assert_eq!(sh("test -z \"$HOME$NOTIFY_SOCKET\"", LONG).await, Ok(()));
        let missing = run(Path::new("/nonexistent/check"), &[], LONG).await.map_err(|failure| failure.to_string());
        assert_eq!(missing, Err("cannot be run: No such file or directory (os error 2)".into()));
    }

    #[tokio::test]
    async fn who_takes_too_long_is_killed_with_all_that_it_has_started() {
        let begun = Instant::now();
        let said = sh("sleep 600 & echo $!; wait", Duration::from_millis(300)).await.expect_err("it is late");
        assert!(begun.elapsed() < LONG);
        let child = said.strip_prefix("killed after 300ms: ").expect(&said);
        let gone = || match std::fs::read_to_string(format!("/proc/{child}/stat")) {
            Err(_) => true,
            // Nobody has waited for it yet.
            Ok(stat) => stat.contains(") Z "),
        };
        while !gone() {
            assert!(begun.elapsed() < LONG, "{child} lives");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_child_that_goes_on_holds_nobody_up() {
        let begun = Instant::now();
        assert_eq!(sh("sleep 5 & exit 0", LONG).await, Ok(()));
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
}
