//! Network namespaces held by an open descriptor: when the last descriptor, thread and process in one is gone, so is
//! the namespace with all its interfaces, rules and tables, however the lab ended.

use super::error::{During, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub struct Netns {
    file: Arc<File>,
}

impl Netns {
    /// A new, empty namespace, made by a thread that ends at once; the caller's thread stays where it is.
    pub fn create() -> Result<Self> {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().expect("the thread only makes two system calls").during("create a network namespace")?;
        Ok(Self { file: Arc::new(file) })
    }

    /// A namespace that `pin` or `ip netns` has given a path.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { file: Arc::new(File::open(path).during(format!("open the network namespace {}", path.display()))?) })
    }

    /// A path that any process of this machine can open as long as this process lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// Gives the namespace a path that outlives this process, by a bind mount on an empty file.
    pub fn pin(&self, path: &Path) -> Result<()> {
        File::create(path).during(format!("create {}", path.display()))?;
        mount(Some(&self.path()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .during(format!("pin a namespace to {}", path.display()))
    }

    pub fn unpin(path: &Path) -> Result<()> {
        umount2(path, MntFlags::MNT_DETACH).during(format!("unmount {}", path.display()))?;
        std::fs::remove_file(path).during(format!("remove {}", path.display()))
    }

    /// Runs `work` in a thread inside the namespace. A socket belongs to the namespace it was made in, so `work` may
    /// return one to be used from anywhere.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&*self.file, CloneFlags::CLONE_NEWNET).expect("a held namespace can be entered by whoever made it");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run inside the namespace, with a /sys that shows this namespace's interfaces.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let file = self.file.clone();
        let mut command = Command::new(program);
        // SAFETY: between fork and exec only system calls are made; nix copies these short paths to the stack, nothing allocates or locks.
        unsafe {
            command.pre_exec(move || {
                setns(&*file, CloneFlags::CLONE_NEWNET)?;
                unshare(CloneFlags::CLONE_NEWNS)?;
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)?;
                mount(Some("lab"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)?;
                Ok(())
            });
        }
        command
    }
}
