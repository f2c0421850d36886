//! Connections of a server: over TLS, over plain HTTP, over the local socket. How many there are, how long somebody may take to say what it wants, and
//! what it may cost before it has shown who it is, is bounded.

mod tls;

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

/// Connections at a time and listener; beyond, the next wait in the kernel.
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
}

pub enum Listener {
    Tcp(TcpListener, Option<Arc<Certificate>>),
    Unix(UnixListener),
}

/// Whether somebody has shown over this connection that it may call: a good token, a right signature.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<AtomicBool>);

impl Known {
    pub fn trust(&self) {
        self.0.store(true, Relaxed);
    }
}

/// Serves so many at a time until `end`, and then what is in hand.
pub async fn serve(listener: Listener, places: u32, router: Router, end: CancellationToken) {
    serve_within(Limits { places, stranger: STRANGER }, listener, router, end).await;
}

async fn serve_within(limits: Limits, listener: Listener, router: Router, end: CancellationToken) {
    let room = Arc::new(Semaphore::new(limits.places.try_into().unwrap_or(usize::MAX)));
    loop {
        let next = async { (room.clone().acquire_owned().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            () = end.cancelled() => break,
            next = next => next,
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
        let (router, end) = (router.clone(), end.clone());
        tokio::spawn(async move {
            match stream {
                Stream::Plain(stream) => http(stream, router, Known::default(), limits.stranger, end).await,
                Stream::Unix(stream) => {
                    let operator = Known::default();
                    operator.trust();
                    http(stream, router, operator, limits.stranger, end).await;
                }
                Stream::Tls(stream, certificate) => {
                    let handshake = tokio::time::timeout(HANDSHAKE, certificate.acceptor().accept(stream));
                    let shaken = tokio::select! {
                        () = end.cancelled() => return,
                        shaken = handshake => shaken,
                    };
                    match shaken {
                        Ok(Ok(stream)) => http(stream, router, Known::default(), limits.stranger, end).await,
                        Ok(Err(error)) => tracing::debug!("no TLS: {error}"),
                        Err(_) => tracing::debug!("no TLS within {HANDSHAKE:?}"),
                    }
                }
            }
            drop(place);
        });
    }
    // When every place is free again, nothing is in hand.
    if tokio::time::timeout(FAREWELL, room.acquire_many(limits.places)).await.is_err() {
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
            () = deadline.as_mut(), if !trusted => match (known.0.load(Relaxed), ending) {
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
mod tests {
    use super::*;
    use axum::Extension;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    const SOON: Duration = Duration::from_secs(20);

    async fn start(places: u32) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, end) = (listener.local_addr().unwrap(), CancellationToken::new());
        let limits = Limits { places, stranger: Duration::from_secs(1) };
        let recognise = |Extension(known): Extension<Known>| async move { known.trust() };
        let router = Router::new().route("/", get(|| async {})).route("/known", get(recognise));
        (at, end.clone(), tokio::spawn(serve_within(limits, Listener::Tcp(listener, None), router, end)))
    }

    async fn ask(stream: &mut TcpStream, path: &str, header: &str) -> String {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nx: {header}\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 1000];
        let length = tokio::time::timeout(SOON, stream.read(&mut answer)).await.expect("no answer").unwrap();
        String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn it_ends_though_every_place_is_taken() {
        let (at, end, served) = start(1).await;
        let mut first = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut first, "/known", "").await, "HTTP/1.1 200 OK");
        let _second = TcpStream::connect(at).await.unwrap();
        end.cancel();
        tokio::time::timeout(SOON, served).await.expect("it waits for a free place").unwrap();
    }

    #[tokio::test]
    async fn strangers_give_their_places_back() {
        let (at, _end, _served) = start(3).await;
        let mut known = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut known, "/known", "").await, "HTTP/1.1 200 OK");
        let (mut asked, mut slow) = (TcpStream::connect(at).await.unwrap(), TcpStream::connect(at).await.unwrap());
        assert_eq!(ask(&mut asked, "/", "").await, "HTTP/1.1 200 OK");
        slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        // There is no place for this one until the strangers are gone.
        let mut last = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut last, "/", "").await, "HTTP/1.1 200 OK");
        assert_eq!((asked.read(&mut [0]).await.unwrap(), slow.read(&mut [0]).await.unwrap()), (0, 0));
        assert_eq!(ask(&mut known, "/", "").await, "HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn a_head_without_end_is_not_kept() {
        let (at, _end, _served) = start(1).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut stream, "/", &"x".repeat(LONGEST_HEAD / 2)).await, "HTTP/1.1 200 OK");
        assert_eq!(ask(&mut stream, "/", &"x".repeat(2 * LONGEST_HEAD)).await, "HTTP/1.1 431 Request Header Fields Too Large");
    }
}
