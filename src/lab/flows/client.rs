//! The container's side of the flows.

use super::server::{ANSWER, QUESTION, expect, follow, lead, transfer};
use super::state::{Board, CLIENT, Fault, Flow, Kind, ROUNDS, SERVER};
use futures::stream::{StreamExt, TryStreamExt, iter};
use socket2::Socket;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, sleep_until, timeout};

/// Connections made at once.
const AT_ONCE: usize = 64;
/// For one to be made and answered.
const OPENS: Duration = Duration::from_secs(10);
/// A question by UDP is repeated after this long.
const AGAIN: Duration = Duration::from_millis(100);
/// A UDP flow lives in nobody's tables for ever: it says something this often.
const HEARTBEAT: Duration = Duration::from_secs(5);

enum Opened {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// Makes every flow and has it answered; then each waits, in a task of its own, for what is to come.
pub async fn open(sockets: Vec<Socket>, to: SocketAddr, idle: Duration, board: &Arc<Board>) -> io::Result<()> {
    let opening = iter(sockets.into_iter().zip(&board.flows)).map(|(socket, flow)| async move {
        let opened = timeout(OPENS, open_one(socket, to, flow)).await;
        let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        opened.map(|o| (flow.id, o)).map_err(|e| io::Error::new(e.kind(), format!("{} flow {}: {e}", flow.kind.name(), flow.id)))
    });
    let all: Vec<(u32, Opened)> = opening.buffer_unordered(AT_ONCE).try_collect().await?;
    let idle_until = Instant::now() + idle;
    for (id, opened) in all {
        let board = board.clone();
        tokio::spawn(async move {
            let flow = board.flow(id).expect("opened from the board");
            let lived = match opened {
                Opened::Tcp(mut stream) => live(&mut stream, flow, &board, idle_until).await,
                Opened::Udp(socket) => live_udp(&socket, flow, &board).await,
            };
            match lived {
                Ok(()) if flow.kind == Kind::ServerPush => {}
                Ok(()) => board.survive(flow),
                Err(fault) => board.fail(flow, fault),
            }
        });
    }
    Ok(())
}

async fn open_one(socket: Socket, to: SocketAddr, flow: &Flow) -> io::Result<Opened> {
    let lost = |fault: Fault| io::Error::other(fault.what);
    if flow.kind == Kind::Udp {
        let socket = UdpSocket::from_std(socket.into())?;
        socket.connect(to).await?;
        flow.set_seen(ask(&socket, flow.id, 0).await);
        return Ok(Opened::Udp(socket));
    }
    let mut stream = TcpSocket::from_std_stream(socket.into()).connect(to).await?;
    stream.set_nodelay(true)?;
    stream.write_u32(flow.id).await?;
    expect(&mut stream, flow.id, 0, SERVER).await.map_err(lost)?;
    Ok(Opened::Tcp(stream))
}

async fn live(stream: &mut TcpStream, flow: &Flow, board: &Board, idle_until: Instant) -> Result<(), Fault> {
    match flow.kind {
        Kind::ClientFirst | Kind::Udp => board.begun().await,
        Kind::Idle => {
            board.begun().await;
            sleep_until(idle_until).await;
        }
        Kind::ServerPush => return follow(stream, flow, CLIENT).await,
        Kind::MidTransfer => return transfer(stream, flow, board, CLIENT).await,
    }
    lead(stream, flow, CLIENT).await
}

async fn live_udp(socket: &UdpSocket, flow: &Flow, board: &Board) -> Result<(), Fault> {
    let before = flow.seen();
    let same = |now: SocketAddr| {
        let was = before.map(|b| b.to_string()).unwrap_or_default();
        let moved = || Fault { what: format!("the server saw it as {was}, and then as {now}"), reset: false, corrupt: false };
        (before == Some(now)).then_some(()).ok_or_else(moved)
    };
    let mut round = 1;
    let mut wait = HEARTBEAT / 2 + flow.share(HEARTBEAT / 2);
    while timeout(wait, board.begun()).await.is_err() {
        wait = HEARTBEAT;
        // Unanswered for now is no fault: that is what the verification is about.
        if let Ok(seen) = timeout(HEARTBEAT, ask(socket, flow.id, round)).await {
            same(seen)?;
        }
        round += 1;
    }
    for round in round..round + ROUNDS {
        same(ask(socket, flow.id, round).await)?;
    }
    Ok(())
}

/// Asks until there is an answer to this very question: whom the server saw.
async fn ask(socket: &UdpSocket, id: u32, round: u32) -> SocketAddr {
    let mut question = [0; QUESTION];
    question[..4].copy_from_slice(&id.to_be_bytes());
    question[4..].copy_from_slice(&round.to_be_bytes());
    loop {
        // A refusal is not an answer, and may be of a moment.
        let _ = socket.send(&question).await;
        let again = Instant::now() + AGAIN;
        let mut bytes = [0; ANSWER];
        while let Ok(received) = tokio::time::timeout_at(again, socket.recv(&mut bytes)).await {
            if matches!(received, Ok(ANSWER)) && bytes[..QUESTION] == question {
                let address = <[u8; 4]>::try_from(&bytes[QUESTION..QUESTION + 4]).expect("four bytes");
                let port = u16::from_be_bytes(bytes[QUESTION + 4..].try_into().expect("two bytes"));
                return SocketAddr::from((Ipv4Addr::from(address), port));
            }
        }
    }
}
