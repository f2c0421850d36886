//! One kept-open HTTP connection over a unix socket: as little as a client can be, so that what is measured is the daemon.

use anyhow::{Context, bail, ensure};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn open(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The status code and the body.
    pub fn call(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: portway\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes())?;
        self.buffer.clear();
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(head) = find(&self.buffer, b"\r\n\r\n") {
                let text = std::str::from_utf8(&self.buffer[..head])?;
                let status: u16 = text.split(' ').nth(1).context("an answer without a status")?.parse()?;
                let length = text.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
                });
                if self.buffer.len() >= head + 4 + length.unwrap_or(0) {
                    return Ok((status, String::from_utf8_lossy(&self.buffer[head + 4..]).into_owned()));
                }
            }
            let read = self.stream.read(&mut chunk)?;
            ensure!(read > 0, "the daemon closed the connection");
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }

    /// A call that must have this result.
    pub fn expect(&mut self, method: &str, path: &str, body: &str, status: u16) -> anyhow::Result<String> {
        match self.call(method, path, body)? {
            (got, body) if got == status => Ok(body),
            (got, body) => bail!("{method} {path}: {got} instead of {status}: {body}"),
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
