//! A plain kernel peer whose gateway dies: two gateways on the kernel's WireGuard, and a directory that knows its key.

use super::stranger_support::{Kind, PORT, Stranger, TENANT, bound_ms, havip, ip, public, run};
use super::vm_support::{inside, sh, wait};
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::PLATFORM_IF;
use portway::lab::{Kill, Lab, Netns, Probe, Topology, unix};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The emulated machine is slow, and its timers with it.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Emulated, a handshake between two kernels takes some hundred milliseconds (the other test here prints them).
pub const EMULATED_MS: f64 = 300.0;
pub const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 20);
/// What the tenant's HaVip leads to, from anywhere in its network.
const INSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 10);
const VPC: &str = "db-acme";

pub fn pair() -> Lab {
    let topology = Topology::group(&[TENANT], 2, 1, &[]).with_tunnel(TunnelKind::Wireguard).with_directory().with_interval(INTERVAL);
    let mut lab = Lab::build(topology).unwrap();
    lab.serve().unwrap();
    lab.start_daemons(Path::new(env!("CARGO_BIN_EXE_portway")), Backend::Kernel).unwrap();
    lab.await_active("gw-1", TENANT, 0).unwrap();
    lab.await_in_sync().unwrap();
    lab
}

fn jit(lab: &Lab, node: &str) -> Value {
    let answer = unix(&lab.socket(node).unwrap(), "GET", "/v1/status", None).unwrap();
    serde_json::from_str::<Value>(&answer.body).unwrap()["jit"]["peers"].clone()
}

#[test]
fn a_plain_kernel_peer_goes_on_when_its_gateway_dies() {
    inside("failover::a_plain_kernel_peer_goes_on_when_its_gateway_dies", || {
        let mut lab = pair();
        let stranger = Stranger::come(&mut lab, Kind::Kernel);
        let probe = Probe::start(&stranger.netns, SERVER, Duration::from_millis(10)).unwrap();
        wait("answers", || probe.answered() >= 300);
        assert_eq!((&jit(&lab, "gw-1")["live"], stranger.endpoint()), (&1.into(), havip(&lab)));
        lab.await_in_sync().unwrap();

        probe.mark();
        lab.fail("gw-1", Kill::Node).unwrap();
        lab.await_active("gw-2", TENANT, 0).unwrap();
        let before = probe.answered();
        wait("answers", || probe.answered() >= before + 100);
        let probed = probe.stop();
        let bound = bound_ms(INTERVAL) + EMULATED_MS;
        println!("a plain kernel peer, its gateway dead: {probed:?}; at most {bound:.0} ms");
        assert!(probed.gap_ms <= bound + probed.quiet_ms, "{probed:?}");
        let jit = jit(&lab, "gw-2");
        assert_eq!((&jit["live"], &jit["admitted"]), (&1.into(), &0.into()), "a peer already, who need not knock: {jit}");
        assert_eq!(stranger.endpoint(), havip(&lab));
    });
}

/// The kernel outlives its daemon, with sessions, keepalives, and connections through which the tenant goes on sending. Nothing of it comes out.
#[test]
fn what_a_dead_daemons_kernel_still_sends_steals_no_peer() {
    inside("failover::what_a_dead_daemons_kernel_still_sends_steals_no_peer", || {
        let mut lab = pair();
        let stranger = Stranger::come(&mut lab, Kind::Kernel);
        let pushed = Pushed::start(&lab, &stranger);
        wait("what the tenant sends", || pushed.arrived() >= 100);
        lab.await_in_sync().unwrap();
        // As the tenant's server and the dead node have it in their tables, whatever they hear: the worst that may be.
        let [platform, tenant] = [PLATFORM_IF, "eni0"].map(|interface| address(lab.node("gw-1").unwrap(), interface));
        ip(lab.node(VPC).unwrap(), &format!("neigh replace {INSIDE} dev vpc0 lladdr {tenant} nud permanent"));
        let own = address(&stranger.netns, PLATFORM_IF);
        ip(lab.node("gw-1").unwrap(), &format!("neigh replace 10.9.0.200 dev {PLATFORM_IF} lladdr {own} nud permanent"));
        let seen = Seen::of(&lab, &stranger, &platform);
        wait("packets of the Active's", || seen.count("of_the_dead") >= 20);

        lab.fail("gw-1", Kill::Daemon).unwrap();
        let device = run(lab.node("gw-1").unwrap(), "wg", "show interfaces");
        run(lab.node("gw-1").unwrap(), "wg", &format!("set {} peer {} persistent-keepalive 1", device.trim(), public()));
        lab.await_active("gw-2", TENANT, 0).unwrap();
        let then = seen.count("of_the_dead");
        let counted = |name: &str| number(&sh(&lab, "gw-1", &format!("nft list counter netdev portway {name}")));
        let before = ["drop_not_active_in", "drop_not_active_out"].map(counted);
        wait("both ways to be tried", || {
            assert_eq!(stranger.endpoint(), havip(&lab), "{}", stranger.wg("show"));
            counted("drop_not_active_in") >= before[0] + 200 && counted("drop_not_active_out") >= before[1] + 3
        });
        assert_eq!((seen.count("of_the_dead"), seen.count("from_elsewhere")), (then, 0), "the dead node speaks");

        // Once the server has heard who has the address, what it sends arrives again, by the same connection.
        ip(lab.node(VPC).unwrap(), &format!("neigh del {INSIDE} dev vpc0"));
        let arrived = pushed.arrived();
        wait("what the tenant sends", || pushed.arrived() >= arrived + 100);
        assert_eq!(stranger.endpoint(), havip(&lab));
        println!(
            "kept in by the dead node's fence since the takeover: {:?} in, {:?} out",
            counted("drop_not_active_in") - before[0],
            counted("drop_not_active_out") - before[1]
        );
    });
}

/// A server that sends and sends, once it has been asked, and the stranger that counts.
struct Pushed {
    stop: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
}

impl Pushed {
    fn start(lab: &Lab, stranger: &Stranger) -> Self {
        let to = SocketAddrV4::new(SERVER, 5205);
        let server = lab.node(VPC).unwrap().run(|| UdpSocket::bind(to)).unwrap();
        let client = stranger.netns.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        }
        let pushed = Self { stop: Arc::default(), arrived: Arc::default() };
        client.send_to(b"?", to).unwrap();
        let stop = pushed.stop.clone();
        std::thread::spawn(move || {
            let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
            while !stop.load(Relaxed) {
                // While nobody has the address there is no way to it.
                let _ = server.send_to(&[7; 100], from);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let arrived = pushed.arrived.clone();
        std::thread::spawn(move || {
            while client.recv_from(&mut [0; 200]).is_ok() {
                arrived.fetch_add(1, Relaxed);
            }
        });
        pushed
    }

    fn arrived(&self) -> u64 {
        self.arrived.load(Relaxed)
    }
}

impl Drop for Pushed {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// WireGuard's packets to the stranger, counted where they come in.
struct Seen<'s>(&'s Stranger);

impl<'s> Seen<'s> {
    fn of(lab: &Lab, stranger: &'s Stranger, dead: &str) -> Self {
        let gateway = havip(lab);
        let rules = format!(
            "table netdev seen {{
               counter of_the_dead {{ }}
               counter from_elsewhere {{ }}
               chain seen {{ type filter hook ingress device \"{PLATFORM_IF}\" priority 0; policy accept;
                 ether saddr {dead} udp dport {PORT} counter name of_the_dead
                 udp dport {PORT} ip saddr != {} counter name from_elsewhere
               }}
             }}",
            gateway.ip()
        );
        let output = stranger.netns.command("nft").arg(rules).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(stranger)
    }

    fn count(&self, name: &str) -> u64 {
        number(&run(&self.0.netns, "nft", &format!("list counter netdev seen {name}")))
    }
}

/// Of packets, as `nft` lists a counter.
fn number(listed: &str) -> u64 {
    let count = listed.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    count.unwrap_or_else(|| panic!("no counter: {listed}"))
}

/// The hardware address of an interface.
fn address(at: &Netns, interface: &str) -> String {
    let listed = ip(at, &format!("-o link show dev {interface}"));
    listed.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{listed}")).to_owned()
}
