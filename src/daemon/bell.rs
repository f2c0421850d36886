//! A queue whose reader waits in `poll` for other things too.

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

#[derive(Debug)]
pub struct Bell<T> {
    queue: Sender<T>,
    event: Arc<EventFd>,
}

#[derive(Debug)]
pub struct Inbox<T> {
    queue: Receiver<T>,
    event: Arc<EventFd>,
}

pub fn bell<T>() -> Result<(Bell<T>, Inbox<T>), Errno> {
    let (sender, receiver) = channel();
    let event = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    Ok((Bell { queue: sender, event: event.clone() }, Inbox { queue: receiver, event }))
}

impl<T> Bell<T> {
    /// Never waits. What is sent to a thread that has ended is lost, as it should be.
    pub fn send(&self, message: T) {
        if self.queue.send(message).is_ok() {
            // Fails only when the counter is full: then it has been rung.
            let _ = self.event.write(1);
        }
    }
}

impl<T> Clone for Bell<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), event: self.event.clone() }
    }
}

impl<T> Inbox<T> {
    /// What has come, oldest first.
    pub fn take(&self) -> impl Iterator<Item = T> + '_ {
        // Before the queue is read, or a message that comes in between would wait for the next ring.
        let _ = self.event.read();
        self.queue.try_iter()
    }
}

impl<T> AsFd for Inbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
