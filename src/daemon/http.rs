//! Connections of a server: over TLS, over plain HTTP, over the local socket. How many there are, how long somebody may take to say what it wants, and
//! what it may cost before it has shown who it is, is bounded.

mod strangers;
mod tls;

pub use strangers::{Stranger, Strangers};
pub use tls::Certificate;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// For the head of each request, idle time between two included.
const PATIENCE: Duration = Duration::from_secs(90);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What a stranger has asked by then is still answered, if it takes the answer within this time.
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// Bytes of a request's head that are kept before it is understood: an identity token has a few thousand.
const LONGEST_HEAD: usize = 32 * 1024;
/// What is in hand when the daemon ends may take this long.
const FAREWELL: Duration = Duration::from_secs(2);
/// When there are no descriptors left, new ones are looked for after this long.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection over which nothing good has come yet is not kept for longer, so that strangers cannot take all the places.
const STRANGER: Duration = Duration::from_secs(10);
/// At the listener that is for everybody, if there are descriptors for as many.
const MOST: u32 = 20_000;
/// At a listener that is for this machine.
pub const LOCAL: u32 = 200;
/// Descriptors for those, the database and what else there is.
const RESERVED: u32 = 512;

/// Connections at a time and listener; beyond, the next one gets the place of a stranger, and where there is none it waits.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    pub everybody: u32,
    pub local: u32,
}

impl Places {
    /// As many as a process can have that may have so many descriptors: those at the door must not take the database's.
    pub fn within(descriptors: u64) -> Self {
        let descriptors = u32::try_from(descriptors).unwrap_or(u32::MAX);
        Self { everybody: descriptors.saturating_sub(RESERVED).clamp(1, MOST), local: LOCAL.min(descriptors / 8).max(1) }
    }
}

#[derive(Clone, Copy)]
struct Limits {
    places: u32,
    stranger: Duration,
    farewell: Duration,
}

pub enum Listener {
    Tcp(TcpListener, Option<Arc<Certificate>>),
    Unix(UnixListener),
}

/// Whether somebody has shown over this connection that it may call: a good token, a right signature.
#[derive(Debug, Clone)]
pub struct Known(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    trusted: AtomicBool,
    as_yet: Stranger,
}

impl Known {
    fn not_yet(stranger: Stranger) -> Self {
        Self(Arc::new(Shown { trusted: AtomicBool::new(false), as_yet: stranger }))
    }

    pub fn trust(&self) {
        self.0.trusted.store(true, Relaxed);
        self.0.as_yet.known();
    }

    fn is_trusted(&self) -> bool {
        self.0.trusted.load(Relaxed)
    }
}

/// Serves so many at a time until `end`, and then what is in hand.
pub async fn serve(listener: Listener, places: u32, router: Router, end: CancellationToken) {
    serve_within(Limits { places, stranger: STRANGER, farewell: FAREWELL }, listener, router, end).await;
}

async fn serve_within(limits: Limits, listener: Listener, router: Router, end: CancellationToken) {
    let room = Arc::new(Semaphore::new(limits.places.try_into().unwrap_or(usize::MAX)));
    let (strangers, cut_off) = (Strangers::default(), CancellationToken::new());
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            // It was gone before it was taken.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => continue,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let place = match room.clone().try_acquire_owned() {
            Ok(place) => Ok(place),
            Err(_) => {
                strangers.push_out();
                tokio::select! {
                    () = end.cancelled() => break,
                    place = room.clone().acquire_owned() => place,
                }
            }
        };
        let (router, end, cut_off) = (router.clone(), end.clone(), cut_off.clone());
        let known = Known::not_yet(strangers.enter());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, router, known.clone(), limits.stranger, end) => {}
                () = known.0.as_yet.pushed_out() => tracing::debug!("a stranger's place is given to whoever came last"),
                () = cut_off.cancelled() => {}
            }
            drop(place);
        });
    }
    // When every place is free again, nothing is in hand.
    if tokio::time::timeout(limits.farewell, room.acquire_many(limits.places)).await.is_err() {
        tracing::warn!("calls were still open and are cut off");
        cut_off.cancel();
        // Each ends as soon as it is looked at: what it would have answered is answered no more.
        let _ = tokio::time::timeout(limits.farewell, room.acquire_many(limits.places)).await;
    }
}

async fn connection(stream: Stream, router: Router, known: Known, stranger: Duration, end: CancellationToken) {
    match stream {
        Stream::Plain(stream) => http(stream, router, known, stranger, end).await,
        Stream::Unix(stream) => {
            known.trust();
            http(stream, router, known, stranger, end).await;
        }
        Stream::Tls(stream, certificate) => {
            let handshake = tokio::time::timeout(HANDSHAKE, certificate.acceptor().accept(stream));
            let shaken = tokio::select! {
                () = end.cancelled() => return,
                shaken = handshake => shaken,
            };
            match shaken {
                Ok(Ok(stream)) => http(stream, router, known, stranger, end).await,
                Ok(Err(error)) => tracing::debug!("no TLS: {error}"),
                Err(_) => tracing::debug!("no TLS within {HANDSHAKE:?}"),
            }
        }
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

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    known: Known,
    stranger: Duration,
    end: CancellationToken,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(LONGEST_HEAD);
    let (service, shown) = (TowerToHyperService::new(router), known.clone());
    let marked = service_fn(move |mut request: hyper::Request<_>| {
        request.extensions_mut().insert(shown.clone());
        service.call(request)
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), marked));
    let mut deadline = pin!(tokio::time::sleep(stranger));
    let (mut trusted, mut ending) = (false, false);
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!("a connection broke: {error}");
                }
                return;
            }
            () = end.cancelled(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = deadline.as_mut(), if !trusted => match (known.is_trusted(), ending) {
                (true, _) => trusted = true,
                (false, true) => return tracing::debug!("a stranger that takes no answer is left"),
                (false, false) => {
                    ending = true;
                    deadline.as_mut().reset(Instant::now() + LAST_ANSWER);
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
