//! The thread that speaks VRRP for all shards. It does nothing that could take long: addresses, leases, announcements and log
//! lines are the hands' ([`super::hands`]), so that no advertisement waits for the kernel, a disk or a reader of the log.

use super::board::Board;
use super::hands::{Addresses, Deed};
use super::instances::{Elsewhere, Virtual};
use super::routers::Routers;
use super::routers::change::Transmit;
use crate::daemon::bell::{Bell, Inbox};
use crate::kernel::vrrp_socket::{BATCH, VrrpSocket};
use crate::model::{Priority, TenantShard};
use crate::proto::vrrp::Input;
use crate::wire::vrrp::{Envelope, Keyring};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the socket is read at most before timers that are late have their turn: long enough for all that its buffer holds, so that a process which
/// stood still hears what waits; and a bound if packets come as fast as they are read.
const READING: Duration = Duration::from_millis(20);

/// What others ask of the thread.
#[derive(Debug)]
pub enum Order {
    /// Exactly these from now on; what stays as it was is not disturbed.
    Replace(Vec<Virtual>, Elsewhere, Box<Keyring>, Addresses),
    Drain,
    Undrain,
    /// Hand everything over; again: do not wait for it.
    Retire,
    Priority(TenantShard, Priority),
    /// What tracking found: whether the node can serve the shard.
    Able(TenantShard, bool),
    InSync(TenantShard, bool),
    /// End at once and leave everything as it stands: another process goes on.
    Stop,
}

/// Its state beside the socket.
struct Speaker {
    socket: VrrpSocket,
    routers: Routers,
}

/// Runs until it is told to stop. `resumed`: shards whose HaVips a process before this one had until now.
pub fn run(
    socket: VrrpSocket,
    inbox: &Inbox<Order>,
    hands: Bell<Deed>,
    board: Arc<Board>,
    (virtuals, elsewhere): (Vec<Virtual>, Elsewhere),
    keys: &Keyring,
    resumed: &BTreeSet<TenantShard>,
) {
    let now = Instant::now();
    let routers = Routers::new(now, hands, board, elsewhere);
    let mut speaker = Speaker { socket, routers };
    for what in virtuals {
        let start = if resumed.contains(&what.of) { Input::Resume } else { Input::Start };
        speaker.add(what, keys, start);
    }
    speaker.listen(inbox);
}

impl Speaker {
    fn listen(&mut self, inbox: &Inbox<Order>) {
        loop {
            self.routers.show();
            let wait = self.routers.due().map(|at| at.saturating_duration_since(Instant::now()));
            let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(inbox.as_fd(), PollFlags::POLLIN)];
            match ppoll(&mut ready, wait.map(TimeSpec::from_duration), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => self.routers.tell(Deed::Complain(format!("waiting for advertisements failed: {error}"))),
            }
            self.read();
            for order in inbox.take() {
                if matches!(order, Order::Stop) {
                    return;
                }
                self.obey(order);
            }
            self.routers.timeouts(Instant::now());
            self.routers.watch_hands(Instant::now());
            self.send();
        }
    }

    /// What waits, before any timer that is late: at least one batch, which is all of it but in a flood.
    fn read(&mut self) {
        let until = reading(Instant::now(), self.routers.due());
        loop {
            let routers = &mut self.routers;
            let now = Instant::now();
            // Read after the packet has come: a clock that was read before it, and a pause in between, would seem to be behind the sender's.
            let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            match self.socket.receive(|ip, bytes| routers.hear(now, clock(), ip, bytes)) {
                // The socket was found empty. What has come since is read after the timers: in a flood there is always something.
                Ok(..BATCH) => return self.send(),
                Ok(_) => self.send(),
                // An ICMP error about something that was sent, or the interface is down: nothing to read.
                Err(_) => return,
            }
            if Instant::now() >= until {
                return;
            }
        }
    }

    fn obey(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Replace(virtuals, elsewhere, keys, addresses) => {
                self.routers.replace(now, (virtuals, elsewhere), &keys, addresses, &mut self.socket);
            }
            Order::Drain => {
                self.routers.drained = true;
                self.all(now, Input::Drain);
            }
            Order::Undrain => {
                self.routers.drained = false;
                self.all(now, Input::Undrain);
            }
            Order::Retire => self.all(now, Input::Shutdown),
            Order::Priority(of, priority) => {
                if let Some(place) = self.routers.entries.iter().position(|entry| entry.what.of == of) {
                    self.routers.prioritize(now, place, priority);
                    self.send();
                }
            }
            Order::Able(of, able) => {
                let stuck = self.routers.told.stuck;
                self.routers.entries.iter_mut().filter(|entry| entry.what.of == of).for_each(|entry| entry.able = able);
                self.one(now, &of, if able && !stuck { Input::Mended } else { Input::Fault });
            }
            Order::InSync(of, in_sync) => {
                self.routers.synced(now, &of, in_sync);
                self.send();
            }
            Order::Stop => {}
        }
    }

    fn all(&mut self, now: Instant, input: Input<'_>) {
        (0..self.routers.entries.len()).for_each(|place| self.routers.handle(now, place, input));
        self.send();
    }

    fn one(&mut self, now: Instant, of: &TenantShard, input: Input<'_>) {
        if let Some(place) = self.routers.entries.iter().position(|entry| entry.what.of == *of) {
            self.routers.handle(now, place, input);
            self.send();
        }
    }

    fn add(&mut self, what: Virtual, keys: &Keyring, start: Input<'_>) {
        self.routers.add(Instant::now(), what, keys, start, &mut self.socket);
    }

    /// Sends what the machines have said.
    fn send(&mut self) {
        self.routers.send(&mut self.socket);
    }
}

impl Transmit for VrrpSocket {
    fn transmit(&mut self, ip: &Envelope, bytes: &[u8]) -> bool {
        self.send(ip.source, ip.destination, bytes).is_ok()
    }

    fn clock(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// Until when the socket is read. Up to the next timer; where that is late already, for as long again: what came in that time is read in less, unless more comes
/// than can be read.
fn reading(now: Instant, due: Option<Instant>) -> Instant {
    let off = due.map_or(READING, |due| if due > now { due - now } else { now - due });
    now + off.min(READING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_read_until_the_next_timer_and_what_waited_before_one_that_is_late() {
        let (now, ms) = (Instant::now() + Duration::from_secs(1), Duration::from_millis);
        for (due, wanted) in [(Some(now + ms(3)), ms(3)), (Some(now + ms(80)), READING), (Some(now), ms(0)), (None, READING)] {
            assert_eq!(reading(now, due) - now, wanted);
        }
        for (late, wanted) in [(ms(1), ms(1)), (ms(15), ms(15)), (ms(500), READING)] {
            assert_eq!(reading(now, Some(now - late)) - now, wanted);
        }
    }
}
