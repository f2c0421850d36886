//! The servers of a VPC: HTTP that tells who it is and whom it saw, TCP echo and UDP echo. The sockets are made in the
//! VPC's namespace and served by one background runtime.

use super::error::{During, Result};
use super::netns::Netns;
use super::pattern;
use super::topology::port;
use axum::extract::{ConnectInfo, Path};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// What `GET /` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub tenant: String,
    /// Source address and port of the request, as the server saw it.
    pub seen: SocketAddr,
}

/// The most that `GET /bytes/N` gives.
const MOST_BYTES: u64 = 64 << 20;

/// Runs the servers of any number of VPCs until dropped.
#[derive(Debug)]
pub struct Servers {
    runtime: Option<Runtime>,
}

struct Sockets {
    http: Vec<std::net::TcpListener>,
    tcp: std::net::TcpListener,
    udp: std::net::UdpSocket,
}

impl Servers {
    pub fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("lab-servers").enable_all().build();
        Ok(Self { runtime: Some(runtime.during("start the servers' runtime")?) })
    }

    /// Serves as `tenant` in a namespace, on all its addresses; when this returns, all ports are listening.
    pub fn start(&self, netns: &Netns, tenant: &str) -> Result<()> {
        let sockets = netns.run(bind).during(format!("listen in the VPC of {tenant}"))?;
        self.runtime.as_ref().expect("kept until drop").block_on(async { serve(sockets, tenant) }).during(format!("serve as {tenant}"))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn bind() -> io::Result<Sockets> {
    let tcp = |port: u16| {
        let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
        listener.set_nonblocking(true)?;
        Ok::<_, io::Error>(listener)
    };
    let udp = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port::ECHO))?;
    udp.set_nonblocking(true)?;
    Ok(Sockets { http: vec![tcp(port::HTTP)?, tcp(port::FORBIDDEN)?], tcp: tcp(port::ECHO)?, udp })
}

fn serve(sockets: Sockets, tenant: &str) -> io::Result<()> {
    let app = router(tenant.to_owned()).into_make_service_with_connect_info::<SocketAddr>();
    for http in sockets.http {
        let (http, app) = (tokio::net::TcpListener::from_std(http)?, app.clone());
        tokio::spawn(async move { axum::serve(http, app).await });
    }
    let tcp = tokio::net::TcpListener::from_std(sockets.tcp)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = tcp.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(echo(stream));
        }
    });
    let udp = tokio::net::UdpSocket::from_std(sockets.udp)?;
    tokio::spawn(async move {
        let mut packet = [0; 2048];
        loop {
            if let Ok((length, from)) = udp.recv_from(&mut packet).await {
                let _ = udp.send_to(&packet[..length], from).await;
            }
        }
    });
    Ok(())
}

fn router(tenant: String) -> Router {
    let whoami = move |ConnectInfo(seen): ConnectInfo<SocketAddr>| async move { Json(Seen { tenant, seen }) };
    Router::new().route("/", get(whoami)).route("/bytes/{count}", get(bytes))
}

async fn bytes(Path(count): Path<u64>) -> std::result::Result<Vec<u8>, (StatusCode, String)> {
    if count > MOST_BYTES {
        return Err((StatusCode::BAD_REQUEST, format!("at most {MOST_BYTES} bytes")));
    }
    let mut body = vec![0; usize::try_from(count).expect("checked above")];
    pattern::fill(0, &mut body);
    Ok(body)
}

async fn echo(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}
