//! As much of an HTTP/1.1 client as a lab needs: one request a connection, over TCP or a unix socket.

use super::error::{During, Error, Result};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The longest that a read takes, unless said otherwise.
const USUAL: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// A request to a daemon's socket.
pub fn unix(socket: &Path, method: &str, path: &str, body: Option<&str>) -> io::Result<Answer> {
    unix_within(socket, method, path, body, USUAL)
}

/// As [`unix`], and no read takes longer than `timeout`.
pub fn unix_within(socket: &Path, method: &str, path: &str, body: Option<&str>, timeout: Duration) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(timeout))?;
    exchange(stream, method, path, body)
}

/// As [`unix`], and an error unless the status is 2xx.
pub fn unix_ok(socket: &Path, method: &str, path: &str, body: Option<&str>) -> Result<Answer> {
    unix_ok_within(socket, method, path, body, USUAL)
}

/// As [`unix_ok`], and no read takes longer than `timeout`.
pub fn unix_ok_within(socket: &Path, method: &str, path: &str, body: Option<&str>, timeout: Duration) -> Result<Answer> {
    let request = format!("{method} {path} at {}", socket.display());
    let answer = unix_within(socket, method, path, body, timeout).during(&request)?;
    if (200..300).contains(&answer.status) { Ok(answer) } else { Err(Error::Refused { request, status: answer.status, body: answer.body }) }
}

/// GET over TCP from the calling thread's namespace; every wait is at most `timeout`.
pub fn get(server: SocketAddr, path: &str, timeout: Duration) -> io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    exchange(stream, "GET", path, None)
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str, body: Option<&str>) -> io::Result<Answer> {
    let body = body.unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    read_answer(BufReader::new(stream))
}

fn read_answer(mut stream: impl BufRead) -> io::Result<Answer> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| broken("no HTTP status line"))?;
    let mut length = None;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        if line == "\r\n" {
            break;
        }
        let header = line.strip_suffix("\r\n").and_then(|l| l.split_once(':'));
        let (name, value) = header.ok_or_else(|| broken("HTTP headers without an end"))?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<u64>().ok();
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(broken("a chunked body, which this client does not read"));
        }
    }
    let mut body = Vec::new();
    stream.take(length.unwrap_or(u64::MAX)).read_to_end(&mut body)?;
    if length.is_some_and(|l| l != body.len() as u64) {
        return Err(broken("a body shorter than announced"));
    }
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_to_its_announced_length() {
        let raw = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\nX: y\r\n\r\nokmore";
        assert_eq!(read_answer(raw.as_bytes()).unwrap(), Answer { status: 201, body: "ok".into() });
    }

    #[test]
    fn a_cut_or_foreign_answer_is_an_error() {
        for raw in ["", "SSH-2.0\r\n", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"] {
            assert!(read_answer(raw.as_bytes()).is_err(), "{raw:?}");
        }
    }
}
