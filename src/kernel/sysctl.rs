//! Settings of interfaces and of the namespace, and what they were before us.

use super::KernelError;
use super::former::{Former, FormerValues};
use crate::model::FlowTimeouts;
use crate::plan::Sysctl;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The value that a setting has; none if there is no such interface.
pub fn read(sysctl: &Sysctl) -> Result<Option<String>, KernelError> {
    let path = path(sysctl);
    match fs::read_to_string(&path) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(error) if error.kind() == NotFound => Ok(None),
        Err(source) => Err(KernelError::File { path, source }),
    }
}

/// How full the namespace's table of connections is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConntrackUse {
    /// `nf_conntrack_count`: those of this namespace.
    pub entries: u64,
    /// `nf_conntrack_max`. None: as many as there is memory for (0).
    pub limit: Option<u64>,
}

/// None: the kernel tracks no connections here.
pub fn conntrack_use() -> Option<ConntrackUse> {
    let number = |name| fs::read_to_string(Path::new("/proc/sys/net/netfilter").join(name)).ok()?.trim().parse().ok();
    Some(ConntrackUse { entries: number("nf_conntrack_count")?, limit: number("nf_conntrack_max").filter(|limit| *limit > 0) })
}

/// Those of this namespace; the kernel's own where one cannot be read.
pub fn flow_timeouts() -> FlowTimeouts {
    let kernel = FlowTimeouts::default();
    let seconds = |name: &str, otherwise| {
        let path = Path::new("/proc/sys/net/netfilter").join(format!("nf_conntrack_{name}"));
        fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(otherwise)
    };
    FlowTimeouts {
        tcp_syn_sent: seconds("tcp_timeout_syn_sent", kernel.tcp_syn_sent),
        tcp_time_wait: seconds("tcp_timeout_time_wait", kernel.tcp_time_wait),
        tcp_close: seconds("tcp_timeout_close", kernel.tcp_close),
        udp: seconds("udp_timeout", kernel.udp),
        udp_stream: seconds("udp_timeout_stream", kernel.udp_stream),
        icmp: seconds("icmp_timeout", kernel.icmp),
    }
}

/// Changes a setting; `index` is that of its interface now.
pub fn set(former: &mut FormerValues, sysctl: &Sysctl, index: u32, value: &str) -> Result<(), KernelError> {
    if !sysctl.interface.is_ours() {
        let missing = || KernelError::File { path: path(sysctl), source: io::Error::from(NotFound) };
        let present = read(sysctl)?.ok_or_else(missing)?;
        let remembered = former.get(sysctl).is_some_and(|f| f.index == index);
        if present != value && !remembered {
            former.remember(Former { sysctl: sysctl.clone(), index, value: present })?;
        } else if !remembered {
            former.forget(sysctl)?;
        }
    }
    write(sysctl, value)
}

/// Gives a setting its former value back, if the interface is still the same one, and forgets it.
pub fn restore(former: &mut FormerValues, sysctl: &Sysctl, index: u32) -> Result<(), KernelError> {
    if let Some(saved) = former.get(sysctl).filter(|f| f.index == index) {
        match write(sysctl, &saved.value) {
            Err(KernelError::File { source, .. }) if source.kind() == NotFound => {}
            other => other?,
        }
    }
    former.forget(sysctl)
}

fn write(sysctl: &Sysctl, value: &str) -> Result<(), KernelError> {
    let path = path(sysctl);
    fs::write(&path, value).map_err(|source| KernelError::File { path, source })
}

fn path(sysctl: &Sysctl) -> PathBuf {
    Path::new("/proc/sys").join(sysctl.path())
}
