//! The tenant's side of the flows, and what both sides of a connection do alike.

use super::state::{Board, CLIENT, Fault, Flow, Kind, MESSAGE, ROUNDS, SERVER, base, message};
use crate::lab::pattern;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, MissedTickBehavior};

/// Bytes of a block of a transfer.
pub const BLOCK: usize = 512;

/// Serves until the runtime ends.
pub fn start(listener: std::net::TcpListener, datagrams: std::net::UdpSocket, board: &Arc<Board>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let datagrams = UdpSocket::from_std(datagrams)?;
    let board = board.clone();
    tokio::spawn(async move {
        loop {
            // A connection that was gone before it was taken is the client's to report.
            let Ok((stream, from)) = listener.accept().await else { continue };
            tokio::spawn(serve(stream, from, board.clone()));
        }
    });
    tokio::spawn(answer(datagrams));
    Ok(())
}

async fn serve(mut stream: TcpStream, from: SocketAddr, board: Arc<Board>) {
    let _ = stream.set_nodelay(true);
    let Ok(id) = stream.read_u32().await else { return };
    // Somebody else's connection.
    let Some(flow) = board.flow(id) else { return };
    flow.set_seen(from);
    if let Err(fault) = converse(&mut stream, flow, &board).await {
        board.fail(flow, Fault { what: format!("at the server: {}", fault.what), ..fault });
    }
}

async fn converse(stream: &mut TcpStream, flow: &Flow, board: &Board) -> Result<(), Fault> {
    stream.write_all(&message(flow.id, 0, SERVER)).await?;
    match flow.kind {
        Kind::ClientFirst | Kind::Idle | Kind::Udp => follow(stream, flow, SERVER).await,
        Kind::ServerPush => {
            board.begun().await;
            lead(stream, flow, SERVER).await?;
            board.survive(flow);
            Ok(())
        }
        Kind::MidTransfer => transfer(stream, flow, board, SERVER).await,
    }
}

/// Speaks first in every round, and checks the answer.
pub async fn lead(stream: &mut TcpStream, flow: &Flow, side: usize) -> Result<(), Fault> {
    for round in 1..=ROUNDS {
        stream.write_all(&message(flow.id, round, side)).await?;
        expect(stream, flow.id, round, 1 - side).await?;
    }
    Ok(())
}

/// Answers what the other side says, until it leaves after the last round.
pub async fn follow(stream: &mut TcpStream, flow: &Flow, side: usize) -> Result<(), Fault> {
    for round in 1..=ROUNDS {
        expect(stream, flow.id, round, 1 - side).await?;
        stream.write_all(&message(flow.id, round, side)).await?;
    }
    Ok(())
}

pub async fn expect(stream: &mut TcpStream, id: u32, round: u32, side: usize) -> Result<(), Fault> {
    let mut bytes = [0; MESSAGE];
    stream.read_exact(&mut bytes).await?;
    let right = bytes == message(id, round, side);
    if right { Ok(()) } else { Err(Fault::corrupt(format!("another message arrived in round {round}"))) }
}

/// Sends at the board's pace and receives, for ever. After [`Board::begin`], the client finds that the flow has survived
/// when blocks sent since then have arrived at both ends.
pub async fn transfer(stream: &mut TcpStream, flow: &Flow, board: &Board, side: usize) -> Result<(), Fault> {
    let (reader, writer) = stream.split();
    tokio::try_join!(receive(reader, flow, 1 - side), send(writer, flow, board, side), prove(flow, board, side)).map(drop)
}

async fn send(mut writer: impl AsyncWrite + Unpin, flow: &Flow, board: &Board, side: usize) -> Result<(), Fault> {
    let mut tick = ticks(flow, board);
    let mut block = [0; BLOCK];
    loop {
        tick.tick().await;
        let sent = flow.sent[side].load(Ordering::Relaxed);
        pattern::fill(base(flow.id, side) + sent, &mut block);
        writer.write_all(&block).await?;
        flow.sent[side].store(sent + BLOCK as u64, Ordering::Release);
    }
}

/// Checks what `sender` sends.
async fn receive(mut reader: impl AsyncRead + Unpin, flow: &Flow, sender: usize) -> Result<(), Fault> {
    let mut bytes = [0; 4 * BLOCK];
    let mut received = 0;
    loop {
        let length = reader.read(&mut bytes).await?;
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if let Some(position) = pattern::first_difference(base(flow.id, sender) + received, &bytes[..length]) {
            let position = position - base(flow.id, sender);
            return Err(Fault::corrupt(format!("byte {position} of the transfer arrived changed")));
        }
        received += length as u64;
        flow.received[sender].store(received, Ordering::Release);
    }
}

async fn prove(flow: &Flow, board: &Board, side: usize) -> Result<(), Fault> {
    if side == SERVER {
        return Ok(());
    }
    board.begun().await;
    let wanted = [CLIENT, SERVER].map(|s| flow.sent[s].load(Ordering::Acquire) + 2 * BLOCK as u64);
    let mut tick = ticks(flow, board);
    while [CLIENT, SERVER].iter().any(|s| flow.received[*s].load(Ordering::Acquire) < wanted[*s]) {
        tick.tick().await;
    }
    board.survive(flow);
    Ok(())
}

/// At the board's pace, each flow at a time of its own: all at once would be a burst that others wait behind.
fn ticks(flow: &Flow, board: &Board) -> tokio::time::Interval {
    let mut tick = tokio::time::interval_at(Instant::now() + flow.share(board.pace), board.pace);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

/// Bytes of a datagram's question: the flow and the round.
pub const QUESTION: usize = 8;
/// And of its answer: the question, and the IPv4 address and port that it came from.
pub const ANSWER: usize = QUESTION + 6;

async fn answer(socket: UdpSocket) {
    let mut bytes = [0; ANSWER];
    loop {
        // An ICMP error about an answer surfaces here; it is not about this socket.
        let Ok((QUESTION, from)) = socket.recv_from(&mut bytes[..QUESTION]).await else { continue };
        let IpAddr::V4(address) = from.ip() else { continue };
        bytes[QUESTION..QUESTION + 4].copy_from_slice(&address.octets());
        bytes[QUESTION + 4..].copy_from_slice(&from.port().to_be_bytes());
        let _ = socket.send_to(&bytes, from).await;
    }
}
