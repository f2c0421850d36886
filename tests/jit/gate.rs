//! A gateway that serves whoever its directory knows.

use crate::support::*;
use portway::gateway::jit::{Door, Jit, Knock, News, Order, Report, Setup, WhoIs};
use portway::gateway::sessions::tunnels::Tunnels;
use portway::model::{Lane, PrivateKey, PublicKey, Slot, TenantShard};
use portway::plan::gateway::ends::End;
use portway::proto::jit::{Answer, Config, Refusal, Registered};
use portway::userspace::wireguard::{Clocks, Descriptors, Device, DeviceConfig, Event, InterfaceConfig, Limit, knock};
use portway::wire::wireguard::Tai64n;
use std::collections::HashMap;
use std::future::Future;
use std::net::UdpSocket;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Semaphore, mpsc};

pub const MS: Duration = Duration::from_millis(1);

pub fn slot() -> Slot {
    Slot::try_from(1).unwrap()
}

pub fn shard() -> TenantShard {
    "acme/1".parse().unwrap()
}

pub fn registered(prefix: &str) -> Answer {
    registered_to("host-1", prefix)
}

pub fn registered_to(host: &str, prefix: &str) -> Answer {
    Answer::Found(Arc::new(Registered { host: host.parse().unwrap(), allowed: vec![prefix.parse().unwrap()] }))
}

/// A directory of the test's own.
#[derive(Default)]
pub struct Directory {
    answers: Mutex<HashMap<PublicKey, Answer>>,
    /// It says nothing while this is not None; then what it knows, when it is told to.
    hold: Mutex<Option<Arc<Semaphore>>>,
    pub asked: AtomicUsize,
}

impl Directory {
    pub fn says(&self, key: PublicKey, answer: Answer) {
        self.answers.lock().unwrap().insert(key, answer);
    }

    /// From now on it says nothing.
    pub fn holds(&self) {
        *self.hold.lock().unwrap() = Some(Arc::new(Semaphore::new(0)));
    }

    pub fn goes_on(&self) {
        if let Some(hold) = self.hold.lock().unwrap().take() {
            hold.close();
        }
    }

    /// What is asked from now on is answered; what was asked before, when the caller says so.
    pub fn take_hold(&self) -> Arc<Semaphore> {
        self.hold.lock().unwrap().take().unwrap()
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl WhoIs for Directory {
    fn look_up<'a>(&'a self, of: &'a TenantShard, key: &'a PublicKey) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        assert_eq!(*of, shard());
        self.asked.fetch_add(1, Ordering::Relaxed);
        let hold = self.hold.lock().unwrap().clone();
        Box::pin(async move {
            if let Some(hold) = hold {
                let _ = hold.acquire().await;
            }
            self.answers.lock().unwrap().get(key).cloned().unwrap_or(Answer::Unknown)
        })
    }
}

pub struct Gate {
    jit: Option<Jit>,
    pub door: Door,
    pub news: mpsc::UnboundedReceiver<News>,
    pub device: Arc<RwLock<Device>>,
    pub directory: Arc<Directory>,
    _runtime: tokio::runtime::Runtime,
}

impl Gate {
    pub fn open(net: &Net) -> Gate {
        Gate::with(net, |_| {})
    }

    pub fn with(net: &Net, change: impl FnOnce(&mut Setup)) -> Gate {
        let (gate, mut events) = Gate::deaf(net, change);
        // What the owner of the device does with its events. It ends with the device.
        let to = gate.door.clone();
        thread::spawn(move || {
            while let Some(event) = events.blocking_recv() {
                match event {
                    Event::UnknownInitiation { interface, source, key, stamp, bytes } => {
                        to.knock(Knock { interface, source, key, stamp, bytes });
                    }
                    Event::Handshake { key, heard, .. } => {
                        to.order(Order::Learn { slot: slot(), stamps: vec![(key, heard)] });
                        to.order(Order::Seen { slot: slot(), key, at: Instant::now() });
                    }
                }
            }
        });
        gate
    }

    /// Nobody takes what the device tells.
    pub fn deaf(net: &Net, change: impl FnOnce(&mut Setup)) -> (Gate, mpsc::Receiver<Event>) {
        let clocks = Clocks { now: Instant::now, wall: SystemTime::now };
        let limit = Limit { rate: 1_000, burst: 1_000 };
        let config = DeviceConfig { threads: NonZeroUsize::MIN, clocks, initiations: limit, load: 1_000 };
        let interface = InterfaceConfig { name: pw(), key: key(OURS), listen: at("10.0.0.2:51820"), mark: None, roaming: true };
        let (mut device, events) = Device::prepare(config, Descriptors::new()).unwrap();
        assert!(net.gateway.run(|| device.add_interface(interface)).unwrap());
        device.carry().unwrap();
        net.plumb_gateway();
        let device = Arc::new(RwLock::new(device));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let directory = Arc::new(Directory::default());
        let mut setup = Setup::new(Tunnels::Userspace(device.clone()), None, directory.clone(), runtime.handle().clone());
        change(&mut setup);
        let (jit, news) = net.gateway.run(|| Jit::start(setup)).unwrap();
        let door = jit.door().clone();
        door.order(Order::Serve { of: shard(), slot: slot(), ends: vec![End { lane: Lane::First, key: key(OURS), port: 51_820 }] });
        (Gate { jit: Some(jit), door, news, device, directory, _runtime: runtime }, events)
    }

    /// What the gateway shows.
    pub fn report(&self) -> Report {
        self.jit.as_ref().unwrap().report()
    }

    /// The next news of a kind.
    pub fn news<T>(&mut self, mut which: impl FnMut(News) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            match self.news.try_recv() {
                Ok(news) => {
                    if let Some(found) = which(news) {
                        return found;
                    }
                }
                Err(_) => {
                    assert!(begun.elapsed() < PATIENCE, "no such news; {:?}", self.door.report());
                    thread::yield_now();
                }
            }
        }
    }

    pub fn await_installed(&mut self, of: PublicKey) {
        self.news(|news| matches!(news, News::Admitted { key, .. } if key == of).then_some(()));
        until(|| self.stands(&of) && self.report().sizes.installing == 0, || "the peer to stand".into());
    }

    pub fn await_reaped(&mut self, of: PublicKey) -> portway::proto::jit::Reaped {
        let why = self.news(|news| if let News::Reaped { key, why, .. } = news { (key == of).then_some(why) } else { None });
        until(|| !self.stands(&of), || "the peer to be gone".into());
        until(|| self.door.board().peers(&shard()).is_empty(), || "the board to forget it".into());
        why
    }

    pub fn stands(&self, key: &PublicKey) -> bool {
        self.device.read().unwrap().peer(&pw(), key).unwrap().is_some()
    }

    pub fn refused(&self, why: Refusal) -> u64 {
        self.door.report().counters.refused(why)
    }

    pub fn await_refused(&self, why: Refusal, count: u64) {
        until(|| self.refused(why) >= count, || format!("{count} times {why}, of {:?}", self.refusals()));
    }

    pub fn refusals(&self) -> Vec<(Refusal, u64)> {
        self.door.report().counters.refusals().filter(|(_, n)| *n > 0).collect()
    }

    pub fn dropped(&self, why: portway::userspace::wireguard::DropReason) -> u64 {
        self.device.read().unwrap().counters()[&pw()].drops[&why]
    }

    pub fn stop(&mut self) {
        if let Some(jit) = self.jit.take() {
            jit.stop();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.directory.goes_on();
        self.stop();
    }
}

/// An initiation of a host to our gateway, made so many seconds after 2001.
pub fn initiation(host: &PrivateKey, second: u64) -> [u8; 148] {
    knock(host, &public(OURS), Tai64n::from_unix(1_000_000_000 + second, 0)).unwrap()
}

/// Where datagrams to the gateway come from, past all WireGuard.
pub fn socket(net: &Net, port: u16) -> UdpSocket {
    let socket = net.host.run(|| UdpSocket::bind(("10.0.0.1", port))).unwrap();
    socket.connect("10.0.0.2:51820").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub fn config(change: impl FnOnce(&mut Config)) -> impl FnOnce(&mut Setup) {
    |setup| change(&mut setup.config)
}
