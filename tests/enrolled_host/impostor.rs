//! Somebody at the directory's address, with its certificate, who does not do its work: what was known before goes on.

use super::*;
use rstest::rstest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const AT: &str = "10.9.0.101:9473";
/// What a caller that says nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Each is what the next caller hears; what follows is nothing that a directory would say.
const NONSENSE: &[&[u8]] = &[
    b"\x00\xff\x00 whatever",
    // Of another host.
    b"HTTP/1.1 200 OK\r\ncontent-length: 75\r\n\r\n{\"host\":{\"name\":\"host-2\",\"keys\":[],\"inner\":{},\"revision\":9},\"shards\":[]}   ",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"host\":",
    b"HTTP/1.1 404 Not Found\r\ncontent-length: 6\r\n\r\n<html>",
];

const NOTHING: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"];

/// Ends when it is dropped.
struct Impostor {
    answered: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
    node: Netns,
    taking: Option<thread::JoinHandle<()>>,
}

impl Impostor {
    /// It gives these answers one after the other, over and over, each after this time or when the caller hangs up.
    fn up(stage: &Stage, answers: &'static [&'static [u8]], after: Duration) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let certificate = CertificateDer::from_pem_file(stage.file("directory.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(stage.file("directory.key")).unwrap();
        let tls = Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
        let node = stage.node().clone();
        let listener = node.run(|| TcpListener::bind(AT)).unwrap();
        let (answered, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (answered.clone(), done.clone());
        let taking = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let (tls, count) = (tls.clone(), count.clone());
                thread::spawn(move || answer(stream, tls, answers, after, &count));
            }
        });
        Self { answered, done, node, taking: Some(taking) }
    }

    /// Waits until each answer was somebody's.
    fn has_said(&self, answers: usize) {
        poll_until("all answers", SOON, || Ok(self.answered.load(Ordering::Relaxed) >= answers)).unwrap();
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        // It looks when somebody comes.
        let _ = self.node.run(|| TcpStream::connect(AT));
        self.taking.take().map(thread::JoinHandle::join);
    }
}

/// One call, of whose end of the connection nothing is expected.
fn answer(stream: TcpStream, tls: Arc<ServerConfig>, answers: &[&[u8]], after: Duration, count: &AtomicUsize) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream);
    let (mut head, mut room) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        match stream.read(&mut room) {
            Ok(read) if read > 0 => head.extend_from_slice(&room[..read]),
            _ => return,
        }
    }
    if !after.is_zero() {
        stream.sock.set_read_timeout(Some(after)).unwrap();
        let _ = stream.read(&mut room);
    }
    let number = count.fetch_add(1, Ordering::Relaxed);
    let _ = stream.write_all(answers[number % answers.len()]);
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

#[rstest]
#[case::answers_nonsense(NONSENSE, Duration::ZERO, "answers with something else than a directory would")]
#[case::takes_ten_seconds(NOTHING, Duration::from_secs(10), "does not answer")]
fn serial_a_host_that_enrolled_goes_on_while_its_directory(
    #[case] answers: &'static [&'static [u8]],
    #[case] after: Duration,
    #[case] told: &str,
) {
    let mut stage = Stage::set();
    stage.start();
    stage.attach("fn-1a");
    stage.is_served("fn-1a");
    let probe = Probe::start(stage.lab.node("fn-1a").unwrap(), SERVER, Duration::from_millis(5)).unwrap();
    stage.directory_down();
    let impostor = Impostor::up(&stage, answers, after);
    let says = || stage.status()["directory"]["failed"].as_str().is_some_and(|why| why.contains(told));
    poll_until("a word about it", SOON, || Ok(says())).unwrap();
    assert_eq!(stage.status()["directory"]["reachable"], false);
    impostor.has_said(answers.len());
    // The next process has it from the one before.
    stage.lab.daemon("host-1").unwrap().restart().unwrap();
    stage.is_served("fn-1a");
    let probed = probe.stop();
    assert_eq!(probed.lost, 0, "{probed:?}");
    // And one that begins has it from the disk, and waits for nobody.
    stage.lab.daemon("host-1").unwrap().kill().unwrap();
    let begun = Instant::now();
    stage.lab.daemon("host-1").unwrap().start_again().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "ready after {:?}", begun.elapsed());
    stage.is_served("fn-1a");
    assert_eq!(stage.tunnels(), ["acme=10.9.0.1"]);
    let config = stage.lab.dir().config("host-1");
    assert_eq!(stage.portway(&["plan", "--config", config.to_str().unwrap()]), "nothing to do\n");
    // The directory itself, with something new.
    drop(impostor);
    stage.directory_up();
    stage.runtime.block_on(stage.operator.put_host(&name("host-1"), &host_of(&["acme", "blue"]))).unwrap();
    poll_until("the other tenant", SOON, || Ok(stage.tunnels() == ["acme=10.9.0.1", "blue=10.9.0.2"])).unwrap();
    assert!(stage.fetches("fn-1a"));
}
