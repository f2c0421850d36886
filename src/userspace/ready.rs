//! Waiting for descriptors that can be read: what a thread of a data path does when there is nothing to do.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollTimeout};

/// What the descriptor that wakes a thread is called in its epoll set; all others have numbers from 1.
pub const WAKE: u64 = 0;

/// Descriptors that are told of at once.
const EVENTS: usize = 64;

/// Has `work` told what can be read, by its number, until it is time to stop. `what` comes, in a log's words.
pub fn serve(epoll: &Epoll, what: &str, stopping: impl Fn() -> bool, mut work: impl FnMut(&mut dyn Iterator<Item = u64>)) {
    let mut events = [EpollEvent::empty(); EVENTS];
    while !stopping() {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => 0,
            Err(fault) => {
                tracing::error!(%fault, "waiting for {what} failed: no more come");
                return;
            }
        };
        work(&mut events[..ready].iter().map(EpollEvent::data).filter(|number| *number != WAKE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::epoll::{EpollCreateFlags, EpollFlags};
    use nix::sys::eventfd::{EfdFlags, EventFd};
    use std::cell::Cell;

    #[test]
    fn what_can_be_read_is_told_and_the_end_is_not() {
        let eventfd = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let (wake, first, second) = (eventfd(), eventfd(), eventfd());
        for (number, fd) in [(WAKE, &wake), (1, &first), (2, &second)] {
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, number)).unwrap();
        }
        first.write(1).unwrap();
        let (rounds, mut told) = (Cell::new(0), Vec::new());
        serve(
            &epoll,
            "news",
            || rounds.get() == 3,
            |ready| {
                told.push(ready.collect::<Vec<_>>());
                rounds.set(rounds.get() + 1);
                if rounds.get() == 1 {
                    first.read().unwrap();
                    second.write(1).unwrap();
                } else {
                    wake.write(1).unwrap();
                }
            },
        );
        assert_eq!(told, [[1], [2], [2]]);
    }
}
