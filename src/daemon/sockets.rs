//! The sockets of a daemon: made anew, or taken over from the process before.

use super::http::{self, Listener};
use super::reconcile::Role;
use super::serve::{Shared, read_only};
use super::succession::Heir;
use anyhow::Context;
use axum::Router;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Names under which a predecessor leaves its listeners; systemd takes no colon in them.
const API: &str = "listener-api";
const ADMIN: &str = "listener-admin";

/// Bound and listening, not yet served.
#[derive(Debug)]
pub struct Sockets {
    api: UnixListener,
    admin: TcpListener,
    takeover: UnixListener,
}

/// The HTTP servers at work.
#[derive(Debug)]
pub struct Serving {
    end: CancellationToken,
    tasks: JoinSet<std::io::Result<()>>,
}

impl Serving {
    /// Accepts nothing more and waits for the calls in hand, but not forever.
    pub async fn finish(mut self) {
        self.end.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("a call over the API was still open and is cut off");
        }
    }
}

/// How long calls in hand may take when the daemon ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// `RUNTIME_DIR/ROLE.sock`: the API.
pub fn api_path(runtime_dir: &Path, role: &str) -> PathBuf {
    runtime_dir.join(format!("{role}.sock"))
}

/// `RUNTIME_DIR/ROLE.takeover`: where a successor asks for what the running process holds.
pub fn takeover_path(runtime_dir: &Path, role: &str) -> PathBuf {
    runtime_dir.join(format!("{role}.takeover"))
}

/// `what`: the setting that says where.
pub async fn bind_tcp(what: &str, address: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    let bound = tokio::net::TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address}: set `{what}:` to a free address and port"))
}

impl Sockets {
    /// Takes the listeners found among `inherited` out of it and binds the others.
    pub fn open(runtime_dir: &Path, role: &str, admin: SocketAddr, inherited: &mut BTreeMap<String, OwnedFd>) -> anyhow::Result<Self> {
        let api = match inherited.remove(API) {
            Some(descriptor) => descriptor.into(),
            None => bind_unix(&api_path(runtime_dir, role), 0o660)?,
        };
        let inherited_admin = inherited.remove(ADMIN).map(TcpListener::from).filter(|old| old.local_addr().is_ok_and(|at| at == admin));
        let admin = match inherited_admin {
            Some(listener) => listener,
            None => TcpListener::bind(admin)
                .with_context(|| format!("cannot listen on the admin address {admin}: set `admin:` to a free one"))?,
        };
        let takeover = bind_unix(&takeover_path(runtime_dir, role), 0o600)?;
        for nonblocking in [api.set_nonblocking(true), admin.set_nonblocking(true), takeover.set_nonblocking(true)] {
            nonblocking?;
        }
        Ok(Self { api, admin, takeover })
    }

    /// Serves API and admin from now on; `own` is what only this role offers, over the API socket alone.
    pub fn serve<R: Role>(&self, shared: Arc<Shared<R>>, own: Router) -> anyhow::Result<Serving> {
        let admin = tokio::net::TcpListener::from_std(self.admin.try_clone()?)?;
        let api = tokio::net::UnixListener::from_std(self.api.try_clone()?)?;
        let (names, read) = (shared.names.clone(), read_only(shared));
        let (end, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(axum::serve(api, own.merge(read.clone())).with_graceful_shutdown(end.clone().cancelled_owned()).into_future());
        // Strangers may reach it: what they can take is bounded.
        let seen = http::serve(Listener::Tcp(admin, None), http::LOCAL, names.guard(read), end.clone());
        tasks.spawn(async move {
            seen.await;
            Ok(())
        });
        Ok(Serving { end, tasks })
    }

    /// Successors that ask from now on.
    pub fn heirs(&self) -> anyhow::Result<mpsc::Receiver<Heir>> {
        super::succession::listen(self.takeover.try_clone()?)
    }

    /// The listeners that a successor goes on with.
    pub fn descriptors(&self) -> std::io::Result<BTreeMap<String, OwnedFd>> {
        Ok([(API.into(), self.api.as_fd().try_clone_to_owned()?), (ADMIN.into(), self.admin.as_fd().try_clone_to_owned()?)].into())
    }
}

/// Binds beside the path and moves into place, so that a client finds either the old socket or the new one.
pub fn bind_unix(path: &Path, mode: u32) -> anyhow::Result<UnixListener> {
    let attempt = || -> std::io::Result<UnixListener> {
        let unfinished = path.with_extension("new");
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&unfinished)?;
        std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&unfinished, path)?;
        Ok(listener)
    };
    attempt().with_context(|| format!("cannot make the socket {}: is `runtime_dir` writable?", path.display()))
}
