use super::*;
use axum::Extension;
use axum::routing::get;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(20);

async fn start(places: u32) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    start_within(places, Duration::from_secs(1)).await
}

async fn start_within(places: u32, stranger: Duration) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, end) = (listener.local_addr().unwrap(), CancellationToken::new());
    let limits = Limits { places, stranger, farewell: Duration::from_millis(200) };
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
    // There is no place for this one until a stranger is gone.
    let mut last = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut last, "/", "").await, "HTTP/1.1 200 OK");
    assert_eq!((asked.read(&mut [0]).await.unwrap(), slow.read(&mut [0]).await.unwrap()), (0, 0));
    assert_eq!(ask(&mut known, "/", "").await, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn whoever_comes_last_gets_the_place_of_the_stranger_who_came_first() {
    let (at, _end, _served) = start_within(3, Duration::from_secs(3600)).await;
    let (mut known, mut silent) = (TcpStream::connect(at).await.unwrap(), TcpStream::connect(at).await.unwrap());
    assert_eq!(ask(&mut known, "/known", "").await, "HTTP/1.1 200 OK");
    let mut second = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut second, "/", "").await, "HTTP/1.1 200 OK");
    let mut last = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut last, "/", "").await, "HTTP/1.1 200 OK", "three are there already");
    assert_eq!(tokio::time::timeout(SOON, silent.read(&mut [0])).await.expect("it has its place still").unwrap(), 0);
    for stays in [&mut known, &mut second, &mut last] {
        assert_eq!(ask(stays, "/", "").await, "HTTP/1.1 200 OK");
    }
}

#[tokio::test]
async fn what_does_not_end_is_cut_off_before_the_rest_ends() {
    struct Noted(Arc<AtomicBool>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, end) = (listener.local_addr().unwrap(), CancellationToken::new());
    let (gone, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Notify::new()));
    let (note, begins) = (gone.clone(), begun.clone());
    let endless = move || {
        let noted = Noted(note.clone());
        begins.notify_one();
        async move {
            std::future::pending::<()>().await;
            drop(noted);
        }
    };
    let limits = Limits { places: 2, stranger: SOON, farewell: Duration::from_millis(200) };
    let router = Router::new().route("/", get(endless));
    let served = tokio::spawn(serve_within(limits, Listener::Tcp(listener, None), router, end.clone()));
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    begun.notified().await;
    end.cancel();
    served.await.unwrap();
    assert!(gone.load(Relaxed), "its call goes on");
}

#[tokio::test]
async fn a_head_without_end_is_not_kept() {
    let (at, _end, _served) = start(1).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut stream, "/", &"x".repeat(LONGEST_HEAD / 2)).await, "HTTP/1.1 200 OK");
    assert_eq!(ask(&mut stream, "/", &"x".repeat(2 * LONGEST_HEAD)).await, "HTTP/1.1 431 Request Header Fields Too Large");
}
