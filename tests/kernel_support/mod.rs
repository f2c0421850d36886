//! A network namespace for each test, and other people's tools to look into it.
#![allow(dead_code)]

use portway::kernel::{Failure, Kernel, KernelError};
use portway::plan::{State, Step};
use std::collections::BTreeSet;
use std::future::Future;
use std::process::Command;

/// Runs a test in a network namespace of its own, which goes when the test ends.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
        run("ip link set lo up");
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command line in the namespace of the calling thread: what it printed.
pub fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

pub struct World {
    pub kernel: Kernel,
    pub directory: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { kernel: Kernel::open(directory.path()).await.expect("a kernel"), directory }
    }

    /// As after a restart of the process.
    pub async fn restarted(self) -> Self {
        Self { kernel: Kernel::open(self.directory.path()).await.expect("a kernel"), directory: self.directory }
    }

    pub async fn observe(&self) -> State {
        self.kernel.observe(&BTreeSet::new()).await.expect("to observe")
    }

    pub async fn apply(&self, steps: &[Step]) {
        let failures = self.kernel.apply(steps).await;
        assert!(failures.is_empty(), "{}", explain(&failures));
    }

    /// One step, and what the kernel says to it.
    pub async fn attempt(&self, step: Step) -> Result<(), KernelError> {
        self.kernel.apply(&[step]).await.pop().map_or(Ok(()), |failure| Err(failure.error))
    }
}

pub fn explain(failures: &[Failure]) -> String {
    failures.iter().take(5).map(|f| format!("{f}: {}: {:?}\n", f.error, f.error)).collect()
}

pub fn name<T: std::str::FromStr<Err = portway::model::Invalid>>(text: &str) -> T {
    text.parse().expect("a good name")
}
