//! A long TCP transfer through an echo server, every byte checked on its return.

use super::error::{During, Result};
use super::netns::Netns;
use super::pattern;
use serde::Serialize;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Nothing arriving for this long ends a transfer as failed.
const STALLED: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transferred {
    /// Bytes that came back right.
    pub bytes: u64,
    /// 1 when the connection was reset, broke or stalled; 0 when it ended in order.
    pub resets: u64,
    /// Ended in order, and everything sent came back unchanged.
    pub ok: bool,
    /// What went wrong.
    pub fault: Option<String>,
}

#[derive(Debug)]
pub struct Transfer {
    stop: Arc<AtomicBool>,
    returned: Arc<AtomicU64>,
    writer: JoinHandle<io::Result<u64>>,
    reader: JoinHandle<Transferred>,
}

impl Transfer {
    /// Connects and sends as fast as the way there and back allows, or `pace` bytes a second, until [`Transfer::stop`].
    pub fn start(from: &Netns, echo: SocketAddr, pace: Option<u64>) -> Result<Self> {
        let stream = from.run(|| TcpStream::connect_timeout(&echo, Duration::from_secs(5))).during(format!("connect to {echo}"))?;
        let set = || {
            stream.set_read_timeout(Some(STALLED))?;
            stream.set_write_timeout(Some(STALLED))?;
            stream.try_clone()
        };
        let reading = set().during("prepare a transfer")?;
        let (stop, returned) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, counting) = (stop.clone(), returned.clone());
        let writer = std::thread::spawn(move || write(stream, pace, &stopping));
        let reader = std::thread::spawn(move || read(reading, &counting));
        Ok(Self { stop, returned, writer, reader })
    }

    /// Bytes that have come back so far.
    pub fn returned(&self) -> u64 {
        self.returned.load(Ordering::Relaxed)
    }

    /// Stops sending, waits for the rest to come back.
    pub fn stop(self) -> Transferred {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.writer.join().expect("the writer does not panic");
        let mut result = self.reader.join().expect("the reader does not panic");
        match sent {
            Ok(sent) if result.fault.is_none() && sent != result.bytes => {
                result.fault = Some(format!("{sent} bytes sent, {} came back", result.bytes));
            }
            Err(e) if result.fault.is_none() => {
                result.resets = 1;
                result.fault = Some(format!("writing failed: {e}"));
            }
            _ => {}
        }
        result.ok = result.fault.is_none();
        result
    }
}

fn write(mut stream: TcpStream, pace: Option<u64>, stop: &AtomicBool) -> io::Result<u64> {
    let mut block = vec![0; 16 << 10];
    let (start, mut sent) = (std::time::Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        pattern::fill(sent, &mut block);
        stream.write_all(&block)?;
        sent += block.len() as u64;
        if let Some(pace) = pace {
            std::thread::sleep(Duration::from_secs_f64(sent as f64 / pace as f64).saturating_sub(start.elapsed()));
        }
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(sent)
}

fn read(mut stream: TcpStream, returned: &AtomicU64) -> Transferred {
    let mut block = vec![0; 64 << 10];
    let mut result = Transferred { bytes: 0, resets: 0, ok: false, fault: None };
    loop {
        match stream.read(&mut block) {
            Ok(0) => return result,
            Ok(length) => {
                if let Some(position) = pattern::first_difference(result.bytes, &block[..length]) {
                    result.fault = Some(format!("the byte at {position} came back changed"));
                    return result;
                }
                result.bytes += length as u64;
                returned.store(result.bytes, Ordering::Relaxed);
            }
            Err(e) => {
                result.resets = 1;
                result.fault = Some(format!("after {} bytes: {e}", result.bytes));
                return result;
            }
        }
    }
}
