//! Between a client and a server: hands on what comes, and every answer twice.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// Counts the answers that came twice. It ends with the process.
pub fn serve(listener: TcpListener, to: SocketAddr) -> Arc<AtomicU32> {
    let copies = Arc::new(AtomicU32::new(0));
    let counted = copies.clone();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let counted = counted.clone();
            thread::spawn(move || carry(&client, to, &counted));
        }
    });
    copies
}

/// One request after the other, as long as the client takes it.
fn carry(client: &TcpStream, to: SocketAddr, copies: &AtomicU32) -> io::Result<()> {
    let mut requests = BufReader::new(client);
    loop {
        let request = message(&mut requests)?;
        let mut server = TcpStream::connect(to)?;
        server.write_all(&request)?;
        let answer = message(&mut BufReader::new(&server))?;
        server.shutdown(Shutdown::Both)?;
        let mut client = client;
        client.write_all(&[answer.clone(), answer].concat())?;
        copies.fetch_add(1, Ordering::Relaxed);
    }
}

/// Head and body of a message of HTTP/1.1 with a Content-Length.
fn message(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let (mut all, mut length) = (vec![], 0);
    loop {
        let mut line = vec![];
        if from.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&line).to_ascii_lowercase();
        if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        all.extend_from_slice(&line);
        if text.trim().is_empty() {
            break;
        }
    }
    from.take(length).read_to_end(&mut all)?;
    Ok(all)
}
