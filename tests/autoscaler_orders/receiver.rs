//! Whoever runs the nodes.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Response, header};
use axum::routing::post;
use axum::serve::Listener;
use portway::lab::secret;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How it answers a post. Without any, it takes it.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// With Retry-After.
    Status(u16, Option<&'static str>),
    Said(u16, &'static str),
    Redirect,
    Hang,
    /// Takes it, and goes on talking.
    Endless,
}

/// A post as it came.
#[derive(Debug)]
pub struct Got {
    pub head: Parts,
    pub body: Vec<u8>,
    pub at: Instant,
}

pub struct Receiver {
    pub url: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    got: mpsc::UnboundedReceiver<Got>,
}

#[derive(Clone)]
struct Place {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    got: mpsc::UnboundedSender<Got>,
}

impl Receiver {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/scale?pool=a", listener.local_addr().unwrap());
        Self::at(url, listener)
    }

    pub async fn over_tls(certificate: &Certificate) -> Self {
        let chain = CertificateDer::pem_file_iter(&certificate.leaf).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/scale?pool=a", listener.local_addr().unwrap().port());
        Self::at(url, Tls { listener, acceptor: Arc::new(config).into() })
    }

    fn at<L: Listener<Addr = SocketAddr>>(url: String, listener: L) -> Self {
        let answers = Arc::new(Mutex::new(VecDeque::new()));
        let (tell, got) = mpsc::unbounded_channel();
        let routes = Router::new().route("/scale", post(take)).route("/elsewhere", post(take));
        let routes = routes.with_state(Place { answers: answers.clone(), got: tell });
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, answers, got }
    }

    /// To the next posts, in this order.
    pub fn answers(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap().extend(answers);
    }

    pub async fn next(&mut self) -> Got {
        tokio::time::timeout(Duration::from_secs(30), self.got.recv()).await.expect("a post").unwrap()
    }

    /// Posts that came and were not looked at.
    pub fn so_far(&self) -> usize {
        self.got.len()
    }
}

async fn take(State(place): State<Place>, head: Parts, body: Bytes) -> Response<Body> {
    let answer = place.answers.lock().unwrap().pop_front();
    // The test may be over.
    let _ = place.got.send(Got { head, body: body.to_vec(), at: Instant::now() });
    let response = Response::builder();
    let response = match answer {
        None => response.status(204).body(Body::empty()),
        Some(Answer::Status(status, None)) => response.status(status).body(Body::empty()),
        Some(Answer::Status(status, Some(after))) => response.status(status).header(header::RETRY_AFTER, after).body(Body::empty()),
        Some(Answer::Said(status, text)) => response.status(status).body(Body::from(text)),
        Some(Answer::Redirect) => response.status(307).header(header::LOCATION, "/elsewhere").body(Body::empty()),
        Some(Answer::Hang) => std::future::pending().await,
        Some(Answer::Endless) => {
            let chunks = futures::stream::repeat_with(|| Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b' '; 4096])));
            response.status(200).body(Body::from_stream(chunks))
        }
    };
    response.unwrap()
}

/// For this machine's loopback, and who certifies it.
pub struct Certificate {
    pub ca: PathBuf,
    leaf: PathBuf,
    key: PathBuf,
}

pub fn certificate(dir: &Path, name: &str) -> Certificate {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    let path = |what: &str| dir.join(format!("{name}-{what}.pem"));
    std::fs::write(path("ca"), ca.pem()).unwrap();
    std::fs::write(path("leaf"), leaf.pem()).unwrap();
    secret(&path("key"), &key.serialize_pem()).unwrap();
    Certificate { ca: path("ca"), leaf: path("leaf"), key: path("key") }
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.unwrap();
            // Who does not like the certificate hangs up.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
