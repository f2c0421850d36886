//! Descriptors by name from one process to its successor, over a unix stream socket (SCM_RIGHTS).
//!
//! ```text
//! message:  | length, 4 bytes big-endian | {"names": ["gre-socket", "tun-pw-1", ...], "more": true} |
//!             ^ with the length travel as many descriptors as there are names
//! ```
//! The kernel takes at most 253 descriptors at once (`SCM_MAX_FD`), so there may be several messages; the last one says
//! `"more": false`.

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::str::FromStr;

/// Descriptors in one message.
const CHUNK: usize = 250;
/// Bytes of names in one message: 250 interface names are far less.
const NAMES_MAX: usize = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    names: Vec<String>,
    more: bool,
}

/// Sends them all. Blocks as the stream does: set its timeouts.
pub fn send<Name: Display>(mut stream: &UnixStream, descriptors: &BTreeMap<Name, OwnedFd>) -> io::Result<()> {
    let all = descriptors.iter().collect::<Vec<_>>();
    let mut chunks = all.chunks(CHUNK).peekable();
    // Nothing to send is said in a message too.
    let mut chunk = chunks.next().unwrap_or_default();
    loop {
        let names = chunk.iter().map(|(name, _)| name.to_string()).collect();
        let body = serde_json::to_vec(&Manifest { names, more: chunks.peek().is_some() })?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?.to_be_bytes();
        let fds = chunk.iter().map(|(_, fd)| fd.as_raw_fd()).collect::<Vec<_>>();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&length)], control, MsgFlags::MSG_NOSIGNAL, None)?;
        // What has been sent has taken the descriptors with it.
        stream.write_all(&length[sent..])?;
        stream.write_all(&body)?;
        match chunks.next() {
            Some(next) => chunk = next,
            None => return Ok(()),
        }
    }
}

/// Receives what [`send`] sent.
///
/// # Errors
/// `InvalidData` if the other side sends something else, `UnexpectedEof` if it goes away.
pub fn receive<Name: FromStr<Err: Display> + Ord>(stream: &UnixStream) -> io::Result<BTreeMap<Name, OwnedFd>> {
    let mut descriptors = BTreeMap::new();
    loop {
        let (fds, manifest) = receive_one(stream)?;
        if fds.len() != manifest.names.len() {
            return Err(invalid(format!("{} descriptors came with {} names", fds.len(), manifest.names.len())));
        }
        for (name, fd) in manifest.names.iter().zip(fds) {
            descriptors.insert(name.parse::<Name>().map_err(|fault| invalid(fault.to_string()))?, fd);
        }
        if !manifest.more {
            return Ok(descriptors);
        }
    }
}

fn receive_one(mut stream: &UnixStream) -> io::Result<(Vec<OwnedFd>, Manifest)> {
    let mut length = [0; 4];
    let mut control = cmsg_space!([RawFd; CHUNK + 3]);
    let mut fds = Vec::new();
    let got = {
        let mut vectors = [IoSliceMut::new(&mut length)];
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut vectors, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(received) = part {
                // SAFETY: the kernel has just made these descriptors for us; nobody else knows their numbers.
                fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        if message.flags.contains(MsgFlags::MSG_CTRUNC) {
            return Err(invalid("descriptors were cut off: is RLIMIT_NOFILE too low?".into()));
        }
        message.bytes
    };
    if got == 0 {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the other side closed the connection"));
    }
    stream.read_exact(&mut length[got..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > NAMES_MAX {
        return Err(invalid(format!("a list of names of {length} bytes: at most {NAMES_MAX} are taken")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((fds, serde_json::from_slice(&body)?))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::super::dataplane::{Descriptors, Role};
    use super::*;
    use std::fs::File;

    fn tun(n: usize) -> Role {
        Role::Tun(format!("pw-{n}").parse().unwrap())
    }

    #[test]
    fn a_thousand_descriptors_arrive_under_their_names() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let files = (0..1000).map(|n| {
            let mut file = tempfile::tempfile().unwrap();
            write!(file, "{n}").unwrap();
            (tun(n), OwnedFd::from(file))
        });
        let mut descriptors = files.collect::<Descriptors>();
        descriptors.insert(Role::Socket, tempfile::tempfile().unwrap().into());
        let sender = std::thread::spawn(move || send(&ours, &descriptors));
        let received: Descriptors = receive(&theirs).unwrap();
        sender.join().unwrap().unwrap();
        assert_eq!(received.len(), 1001);
        for (role, fd) in received {
            let mut text = String::new();
            let mut file = File::from(fd);
            std::io::Seek::rewind(&mut file).unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(role, if text.is_empty() { Role::Socket } else { tun(text.parse().unwrap()) });
        }
    }

    #[test]
    fn nothing_is_a_message_too() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&ours, &Descriptors::new()).unwrap();
        assert!(receive::<Role>(&theirs).unwrap().is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x02{}", b"\0\0\0\x1f{\"names\":[\"tun-x\"],\"more\":false}", b"\0"] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(bytes).unwrap();
            drop(ours);
            assert!(receive::<Role>(&theirs).is_err(), "{bytes:?}");
        }
    }
}
