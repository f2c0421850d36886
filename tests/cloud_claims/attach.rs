//! Nodes of an Auto Scaling group, which come up without their tenants' interfaces: real daemons, one account, interfaces that are plugged into a node's namespace when EC2
//! attaches them, and out of it when it detaches them.

use super::{SOON, address};
use nix::sys::signal::Signal;
use portway::config::{Backend, TunnelKind};
use portway::lab::cloud::ec2::Plug;
use portway::lab::cloud::gateways::{self, METADATA, enis, instance};
use portway::lab::cloud::{Cloud, Hook};
use portway::lab::topology::{PLATFORM_IF, Topology, Wiring};
use portway::lab::{Kill, Lab, Netns, Probe, poll_until, unix, unix_within};
use portway::model::EniId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::Runtime;

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 20);
const TAGS: [(&str, &str); 2] = [("portway:appliance", "prod"), ("portway:tenant", "acme")];
/// As the kernel calls it, before udev does.
const NEW: &str = "ens9";

fn spare(number: usize) -> EniId {
    format!("eni-000000{number:02x}").parse().unwrap()
}

struct Bed {
    lab: Lab,
    cloud: Cloud,
    runtime: Runtime,
    /// So many spare ENIs there are.
    spares: usize,
}

/// A cable's end that no machine has.
struct Socket {
    name: String,
    address: String,
}

impl Bed {
    /// `spares`: in the nodes' zone. `ha`: what else stands there.
    fn new(topology: Topology, spares: usize, ha: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let cloud = runtime.block_on(Cloud::start()).unwrap();
        cloud.page(1);
        let hook = Hook { name: "portway-drain".into(), timeout: Duration::from_secs(600) };
        let nodes = topology.gateways.len() as u32;
        cloud.group("gateways", (0, nodes), nodes, Duration::ZERO, Some(hook));
        let mut lab = Lab::build(topology).unwrap();
        lab.serve().unwrap();
        let entered = runtime.enter();
        let store = Netns::create().unwrap();
        let (mut sockets, mut machines) = (BTreeMap::new(), BTreeMap::new());
        for (number, gateway) in (1..).zip(&lab.topology.gateways) {
            let link = |interface: &str| lab.hardware_address(&gateway.node, interface).unwrap();
            let [own, other] = enis(number);
            cloud.eni(&own, &instance(number), &link(PLATFORM_IF), "10.9.0.0/24".parse().unwrap(), gateway.outer.into());
            // Tenants may have equal networks; they are none the less different ones.
            for (eni, subnet) in gateway.enis.iter().zip(["172.16.0.0/16", "172.16.0.0/17"]) {
                let (mac, subnet) = (link(&eni.interface), subnet.parse().unwrap());
                if eni.tenant == "acme" {
                    let name = format!("spare{number}");
                    let moved = ["link", "set", &eni.interface, "netns", &store.path().display().to_string(), "name", &name];
                    lab.ip(&gateway.node, &moved).unwrap();
                    sockets.insert(spare(number), Socket { name, address: format!("{}/16", eni.address) });
                    let zone = if number <= spares { "a" } else { "b" };
                    cloud.spare(&spare(number), &mac, (zone, subnet), eni.address.into(), &TAGS);
                } else {
                    cloud.eni(&other, &instance(number), &mac, subnet, eni.address.into());
                }
            }
            let node = lab.node(&gateway.node).unwrap();
            machines.insert(instance(number), (node.clone(), gateway.enis[0].interface.clone()));
            cloud.serve_instance(&instance(number), node).unwrap();
        }
        drop(entered);
        let plugs = cloud.plugs();
        std::thread::spawn(move || plug(&plugs, &store, &sockets, &machines));
        let tags: Vec<String> = TAGS.iter().map(|(key, value)| format!("{key:?}: {value}")).collect();
        let attach = format!(", tenants: {{ acme: {{ attach: {{ device: 1, tags: {{ {} }} }} }} }}", tags.join(", "));
        let edit = |_: &str, yaml: String| gateways::configured(&yaml, &attach).replace("  ha:\n", &format!("  ha:\n{ha}"));
        lab.start_daemons_edited(Path::new(env!("CARGO_BIN_EXE_portway")), Backend::Auto, edit).unwrap();
        Self { lab, cloud, runtime, spares }
    }

    fn status(&self, node: usize) -> Value {
        let body = unix(&self.lab.socket(&format!("gw-{node}")).unwrap(), "GET", "/v1/status", None).unwrap().body;
        serde_json::from_str::<Value>(&body).unwrap()["ha"].clone()
    }

    fn attached(&self, node: usize) -> Value {
        self.status(node)["attach"]["acme"].clone()
    }

    fn metric(&self, node: usize, begins: &str) -> f64 {
        self.lab.metric(&format!("gw-{node}"), begins).unwrap()
    }

    /// Which each node has.
    fn held(&self) -> BTreeMap<String, EniId> {
        let holders = (1..=self.lab.topology.gateways.len()).filter_map(|number| Some((self.cloud.holder(&spare(number))?, spare(number))));
        holders.collect()
    }

    fn await_here(&self, node: usize) -> EniId {
        poll_until(&format!("the interface of gw-{node}"), 2 * SOON, || Ok(self.attached(node)["state"] == "here")).unwrap();
        self.held()[&instance(node)].clone()
    }

    fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.lab.dir().log(&format!("gw-{node}"))).unwrap()
    }

    /// Whether a function reaches its server.
    fn is_served(&mut self) {
        let from = self.lab.node(&self.lab.topology.containers[0].node).unwrap();
        let probe = Probe::start(from, SERVER, Duration::from_millis(10)).unwrap();
        poll_until("answers", 2 * SOON, || Ok(probe.answered() >= 20)).unwrap();
        probe.stop();
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
    }
}

/// What EC2 does to machines, and udev and systemd-networkd after it.
fn plug(plugs: &mpsc::Receiver<Plug>, store: &Netns, sockets: &BTreeMap<EniId, Socket>, machines: &BTreeMap<String, (Netns, String)>) {
    let ip = |netns: &Netns, line: &str| {
        let output = netns.command("ip").args(line.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    for Plug { eni, instance, comes } in plugs {
        let (Socket { name, address }, (machine, interface)) = (&sockets[&eni], &machines[&instance]);
        if comes {
            ip(store, &format!("link set {name} netns {} name {NEW}", machine.path().display()));
            ip(machine, &format!("link set {NEW} name {interface}"));
            ip(machine, &format!("addr add {address} dev {interface}"));
            ip(machine, &format!("link set {interface} up"));
        } else {
            ip(machine, &format!("link set {interface} netns {} name {name}", store.path().display()));
        }
    }
}

fn pair() -> Topology {
    Topology::group(&["acme"], 2, 1, &[Wiring::Veth]).with_containers(1)
}

/// From nothing but the platform's interface to a function that is served; and again by the next process, without a call.
#[test]
fn interfaces_are_attached_at_the_start_and_kept() {
    let mut bed = Bed::new(pair(), 2, "");
    let own = [bed.await_here(1), bed.await_here(2)];
    assert_ne!(own[0], own[1]);
    bed.lab.attach_all().unwrap();
    bed.lab.await_in_sync().unwrap();
    bed.is_served();
    let owner = bed.lab.active("acme", 0).unwrap().unwrap();
    let active = if owner == "gw-1" { 0 } else { 1 };
    poll_until("the HaVip there", SOON, || Ok(bed.cloud.owner(address("172.16.101.10")) == Some(own[active].clone()))).unwrap();

    let before = bed.cloud.called("AttachNetworkInterface");
    bed.lab.daemon("gw-1").unwrap().restart().unwrap();
    assert_eq!(bed.await_here(1), own[0]);
    bed.lab.daemon("gw-2").unwrap().stop().unwrap();
    assert_eq!(bed.cloud.holder(&own[1]), Some(instance(2)), "who is only stopped lets nothing go");
    bed.lab.daemon("gw-2").unwrap().start_again().unwrap();
    assert_eq!(bed.await_here(2), own[1]);
    assert_eq!((bed.cloud.called("AttachNetworkInterface"), bed.cloud.called("DetachNetworkInterface")), (before, 0));
    bed.is_served();
}

/// The other tenant is served by whoever has none of this one's; and an instance that ends sets one free.
#[test]
fn of_two_nodes_and_one_interface_one_says_what_it_lacks_and_goes_on() {
    let mut bed = Bed::new(Topology::group(&["acme", "globex"], 2, 1, &[Wiring::Veth]), 1, "");
    assert_eq!(bed.spares, 1);
    let lacks = |bed: &Bed, node: usize| bed.attached(node)["failure"] == "none of 1 is free";
    poll_until("one has it, and the other lacks one", SOON, || {
        Ok((1..=2).any(|node| bed.attached(node)["state"] == "here" && lacks(&bed, 3 - node)))
    })
    .unwrap();
    let (has, without) = if lacks(&bed, 1) { (2, 1) } else { (1, 2) };
    let said = "no network interface with the tags portway:appliance=prod, portway:tenant=acme is free in eu-central-1a: 1 there have them";
    poll_until(said, SOON, || Ok(bed.log(without).contains(said))).unwrap();
    assert!(bed.metric(without, "portway_attach_none_free_total") >= 1.0);
    let known = |node: usize| ["portway_attach_wanted", "portway_attach_here", "portway_cloud_known"].map(|name| bed.metric(node, name));
    // What it lacks is told once: of the others all is known.
    poll_until("who they are to EC2", SOON, || Ok(known(without) == [1.0, 0.0, 1.0] && known(has) == [1.0; 3])).unwrap();
    assert_eq!(bed.metric(without, "portway_ready"), 1.0);
    let [other, one] = [without, has].map(|node| format!("gw-{node}"));
    bed.lab.await_active(&one, "acme", 0).unwrap();

    bed.lab.fail(&one, Kill::Daemon).unwrap();
    bed.lab.await_active(&other, "globex", 0).unwrap();
    poll_until("its addresses are claimed", SOON, || Ok(bed.status(without)["cloud"]["shards"]["globex/0"]["claimed"] == true)).unwrap();
    assert_eq!(bed.status(without)["cloud"]["shards"]["acme/0"], Value::Null);
    bed.cloud.terminate(&instance(has));
    assert_eq!(bed.await_here(without), spare(1));
    bed.lab.await_active(&other, "acme", 0).unwrap();
    poll_until("these as well", SOON, || Ok(bed.status(without)["cloud"]["shards"]["acme/0"]["claimed"] == true)).unwrap();
}

/// For good by the directory: free for the next node; and whoever stays after all takes one again.
#[test]
fn who_has_left_its_group_has_let_go() {
    let topology = Topology::group(&["acme"], 3, 2, &[Wiring::Veth]).with_tunnel(TunnelKind::Wireguard).with_group_by_directory();
    let mut bed = Bed::new(topology, 3, "");
    let own = [1, 2, 3].map(|node| bed.await_here(node))[2].clone();
    bed.lab.await_in_sync().unwrap();
    let socket = bed.lab.socket("gw-3").unwrap();
    let left = unix_within(&socket, "POST", "/v1/drain", Some(r#"{"leave": true, "deadline_s": 60}"#), SOON * 7).unwrap();
    assert!(left.status == 200 && left.body.contains(r#""kept":[]"#), "{}", left.body);
    poll_until("it is free", SOON, || Ok(bed.cloud.holder(&own).is_none())).unwrap();
    assert_eq!(bed.held().len(), 2);
    let known = |bed: &Bed| ["portway_attach_wanted", "portway_attach_here", "portway_cloud_known"].map(|name| bed.metric(3, name));
    poll_until("nothing that anybody would have to see to", SOON, || Ok(known(&bed) == [0.0, 0.0, 1.0])).unwrap();
    unix(&socket, "DELETE", "/v1/drain", None).unwrap();
    let own = bed.await_here(3);
    poll_until("a member again", SOON * 3, || Ok(bed.status(3)["part"] == "member")).unwrap();
    bed.lab.await_in_sync().unwrap();
    // Whoever ends in the same breath does not forget it.
    let left = unix_within(&socket, "POST", "/v1/drain", Some(r#"{"leave": true, "deadline_s": 60}"#), SOON * 7).unwrap();
    assert_eq!(left.status, 200, "{}", left.body);
    bed.lab.daemon("gw-3").unwrap().stop().unwrap();
    assert_eq!(bed.cloud.holder(&own), None);
}

#[test]
fn what_keeps_an_interface_away_is_told_and_mended() {
    let bed = Bed::new(pair(), 2, "");
    let own = [bed.await_here(1), bed.await_here(2)];
    let failure = |said: &str| {
        let says = || Ok(bed.attached(1)["failure"].as_str().is_some_and(|text| text.contains(said)));
        poll_until(said, SOON, says).unwrap();
    };
    bed.cloud.refuse("AttachNetworkInterface", [(403, "UnauthorizedOperation"), (403, "UnauthorizedOperation")]);
    bed.cloud.take_away(&own[0]);
    bed.lab.await_active("gw-2", "acme", 0).unwrap();
    failure(r#""Action": "ec2:AttachNetworkInterface""#);
    assert_eq!(bed.await_here(1), own[0]);
    assert_eq!(bed.metric(1, "portway_attach_lost_total"), 1.0);
    // Nobody has told udev.
    let interface = bed.lab.topology.gateways[0].enis[0].interface.as_str();
    let renamed = |from, to| {
        for change in [&["down"][..], &["name", to]] {
            bed.lab.ip("gw-1", &[&["link", "set", from], change].concat()).unwrap();
        }
    };
    renamed(interface, NEW);
    failure(&format!("the interface of acme is here as {NEW}, and the configuration has {interface}"));
    renamed(NEW, interface);
    assert_eq!(bed.await_here(1), own[0]);
}

/// What had the former index is let go before anything has the other.
#[test]
fn another_index_is_taken_up_by_a_reload() {
    let mut bed = Bed::new(pair(), 2, "");
    let own = bed.await_here(1);
    bed.await_here(2);
    let file = bed.lab.dir().config("gw-1");
    let yaml = std::fs::read_to_string(&file).unwrap();
    assert!(yaml.contains("device: 1,"), "{yaml}");
    std::fs::write(&file, yaml.replace("device: 1,", "device: 2,")).unwrap();
    bed.lab.daemon("gw-1").unwrap().process().signal(Signal::SIGHUP).unwrap();
    poll_until("the other index", 2 * SOON, || Ok(bed.attached(1)["device"] == 2 && bed.attached(1)["state"] == "here")).unwrap();
    assert_eq!((bed.held()[&instance(1)].clone(), bed.cloud.device(&own)), (own.clone(), Some(2)));
    assert_eq!((bed.cloud.called("DetachNetworkInterface"), bed.held().len()), (1, 2));
}

/// Files name the nodes, and the Auto Scaling group says who goes.
#[test]
fn who_is_taken_away_hands_over_and_then_lets_go() {
    let lifecycle = format!("    lifecycle: {{ aws: {{ look: 1s, endpoint: \"http://{METADATA}\" }} }}\n");
    let mut bed = Bed::new(pair(), 2, &lifecycle);
    let own = [bed.await_here(1), bed.await_here(2)];
    bed.lab.attach_all().unwrap();
    bed.lab.await_in_sync().unwrap();
    // The oldest goes.
    bed.cloud.desire("gateways", 1);
    poll_until("it is free", 2 * SOON, || Ok(bed.cloud.holder(&own[0]).is_none())).unwrap();
    bed.lab.await_active("gw-2", "acme", 0).unwrap();
    assert_eq!(bed.cloud.holder(&own[1]), Some(instance(2)));
    bed.is_served();
    // Calls that might have been late are waited out.
    poll_until("it says so", 4 * SOON, || Ok(bed.attached(1)["state"] == "gone")).unwrap();
}
