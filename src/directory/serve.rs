//! Connections: over TLS, over plain HTTP, over the local socket. How many there are, and how long somebody may take to say what it wants, is bounded.

use super::tls::Certificate;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections at a time and listener; beyond, the next wait in the kernel.
const CONNECTIONS: usize = 20_000;
/// For the TLS handshake, and for the head of each request, idle time between two included.
const PATIENCE: Duration = Duration::from_secs(90);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What is in hand when the daemon ends may take this long.
const FAREWELL: Duration = Duration::from_secs(2);
/// When there are no descriptors left, new ones are looked for after this long.
const PAUSE: Duration = Duration::from_millis(50);

pub enum Listener {
    Tcp(TcpListener, Option<Arc<Certificate>>),
    Unix(UnixListener),
}

/// Serves until `end`, and then what is in hand.
pub async fn serve(listener: Listener, router: Router, end: CancellationToken) {
    let (room, graceful) = (Arc::new(Semaphore::new(CONNECTIONS)), GracefulShutdown::new());
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = end.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (router, watcher, end) = (router.clone(), graceful.watcher(), end.clone());
        tokio::spawn(async move {
            match stream {
                Stream::Plain(stream) => http(stream, router, watcher).await,
                Stream::Unix(stream) => http(stream, router, watcher).await,
                Stream::Tls(stream, certificate) => {
                    let handshake = tokio::time::timeout(HANDSHAKE, certificate.acceptor().accept(stream));
                    let shaken = tokio::select! {
                        () = end.cancelled() => return,
                        shaken = handshake => shaken,
                    };
                    match shaken {
                        Ok(Ok(stream)) => http(stream, router, watcher).await,
                        Ok(Err(error)) => tracing::debug!("no TLS: {error}"),
                        Err(_) => tracing::debug!("no TLS within {HANDSHAKE:?}"),
                    }
                }
            }
            drop(place);
        });
    }
    if tokio::time::timeout(FAREWELL, graceful.shutdown()).await.is_err() {
        tracing::warn!("calls were still open and are cut off");
    }
}

enum Stream {
    Plain(tokio::net::TcpStream),
    Tls(tokio::net::TcpStream, Arc<Certificate>),
    Unix(tokio::net::UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
            Listener::Tcp(listener, certificate) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(match certificate {
                    None => Stream::Plain(stream),
                    Some(certificate) => Stream::Tls(stream, certificate.clone()),
                })
            }
        }
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, watcher: Watcher) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("a connection broke: {error}");
    }
}
