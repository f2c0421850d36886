//! Networks that go by what the cloud says, and not by ARP: a packet reaches whoever owns its destination, through security groups that know the connections of one interface
//! each. The gateways are the real ones.

use super::aws_support::{groups, rule, security_groups};
use super::{Bed, PLATFORM_HAVIP, TENANT_HAVIP, address, enis};
use portway::lab::cloud::Cloud;
use portway::lab::cloud::ec2::network::{TCP, Why};
use portway::lab::topology::{PLATFORM, PLATFORM_IF, port};
use portway::lab::{Delivered, Kill, Lab, Netns, Probe, Transfer, Vpc, poll_until};
use portway::model::{EniId, RouteTableId, SecurityGroup};
use rstest::rstest;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 20);
const SERVERS: &str = "db-acme";
/// For what comes about sooner or later: TCP sends again after ever longer times, and a claim that was refused waits up to 30 s.
const PATIENCE: Duration = Duration::from_secs(60);
const OFTEN: Duration = Duration::from_millis(10);
/// From a call to its answer.
const SLOW: Duration = Duration::from_secs(2);
/// Bytes a second.
const PACE: u64 = 256 << 10;

/// What terraform/modules/appliance writes: out goes what tunnels, the other nodes and `allow` need.
fn as_written() -> [SecurityGroup; 2] {
    let [mut platform, mut tenant] = security_groups();
    platform.egress.clone_from(&platform.ingress);
    let to_servers = |(protocol, ports)| rule(protocol, ports, &["172.16.0.0/16"]);
    tenant.egress = [("tcp", (80, 80)), ("tcp", (5201, 5210)), ("udp", (5201, 5210)), ("icmp", (-1, -1))].map(to_servers).into();
    [platform, tenant]
}

/// The pair of gateways, and the networks on both sides of them.
struct Site {
    platform: Vpc,
    tenant: Vpc,
    bed: Bed,
}

impl Site {
    /// `overlay`: the platform HaVip is in no subnet, and routes lead to it.
    fn new(groups: [SecurityGroup; 2], overlay: bool) -> Self {
        let site = Self::stand(groups, overlay);
        site.bed.lab.await_active("gw-1", "acme", 0).unwrap();
        site.bed.lab.await_in_sync().unwrap();
        if !overlay {
            site.bed.await_owner(1);
        }
        site
    }

    fn stand(security: [SecurityGroup; 2], overlay: bool) -> Self {
        let table: RouteTableId = "rtb-0000000a".parse().unwrap();
        let mut vpcs = None;
        let prepare = |lab: &Lab, cloud: &Cloud| {
            let host = &lab.topology.hosts[0];
            let others = [(&*host.node, PLATFORM_IF, host.outer, "10.9.0.0/24"), (SERVERS, "vpc0", SERVER, "172.16.0.0/16")];
            for (number, (node, interface, address, subnet)) in (0xa0..).zip(others) {
                let id: EniId = format!("eni-000000{number:x}").parse().unwrap();
                cloud.eni(
                    &id,
                    &format!("i-000000{number:x}"),
                    &lab.hardware_address(node, interface).unwrap(),
                    subnet.parse().unwrap(),
                    address.into(),
                );
            }
            for eni in [1, 2].map(enis) {
                eni.iter().zip(groups()).for_each(|(eni, group)| cloud.grouped(eni, &[group]));
            }
            security.into_iter().for_each(|group| cloud.security_group(group));
            cloud.route_table(&table);
            vpcs =
                Some([(PLATFORM, overlay.then_some(&table)), (SERVERS, None)].map(|(node, by)| Vpc::stand(lab, node, cloud, by).unwrap()));
        };
        let (written, subnet) =
            if overlay { (format!(", platform: {{ route_tables: [{table}] }}"), "10.9.0.0/27") } else { (String::new(), "10.9.0.0/24") };
        let mut bed = Bed::stand(&written, subnet, |lab, cloud, _| prepare(lab, cloud));
        let [platform, tenant] = vpcs.unwrap();
        bed.lab.attach_all().unwrap();
        Self { platform, tenant, bed }
    }

    fn function(&self) -> &Netns {
        self.bed.lab.node(&self.bed.lab.topology.containers[0].node).unwrap()
    }

    /// A ping that is answered.
    fn probe(&self) -> Probe {
        let probe = Probe::start(self.function(), SERVER, OFTEN).unwrap();
        self.goes_on(&probe);
        probe
    }

    fn goes_on(&self, probe: &Probe) {
        let before = probe.answered();
        poll_until("pings that are answered", PATIENCE, || Ok(probe.answered() >= before + 20)).unwrap();
    }

    /// What came to a node for each HaVip.
    fn delivered(&self, node: usize) -> [Option<Delivered>; 2] {
        let [platform, tenant] = enis(node);
        [self.platform.delivered(&platform, address(PLATFORM_HAVIP)), self.tenant.delivered(&tenant, address(TENANT_HAVIP))]
    }

    /// From the first node to the second, whatever the cloud says.
    fn take_over(&mut self) {
        self.bed.lab.fail("gw-1", Kill::Node).unwrap();
        self.bed.lab.await_active("gw-2", "acme", 0).unwrap();
    }
}

/// Traffic goes on, and not before the cloud has answered: it is the first that reaches the new Active.
#[rstest]
#[case::addresses(false)]
#[case::a_route_and_an_address(true)]
fn a_takeover_is_over_when_the_cloud_sends_traffic_to_the_new_active(#[case] overlay: bool) {
    let mut site = Site::new(as_written(), overlay);
    let probe = site.probe();
    let transfer = Transfer::start(site.function(), SocketAddr::from((SERVER, port::ECHO)), Some(PACE)).unwrap();
    let goes_on = || {
        let before = transfer.returned();
        poll_until("the transfer goes on", PATIENCE, || Ok(transfer.returned() >= before + PACE / 4)).unwrap();
    };
    goes_on();
    site.bed.lab.await_in_sync().unwrap();
    let before = site.delivered(2);
    goes_on();
    assert_eq!(site.delivered(2), before, "the Backup gets nothing");
    site.bed.cloud.latency(SLOW);
    site.take_over();
    let active = Instant::now();
    goes_on();
    site.goes_on(&probe);
    let transferred = transfer.stop();
    assert!(transferred.ok, "{transferred:?}");
    let moved = site.bed.cloud.moved();
    let moved_at = |havip: &str, eni: &EniId| moved.iter().rfind(|moved| moved.what.starts_with(havip) && moved.to == *eni).unwrap().at;
    let [platform, tenant] = enis(2);
    let both = moved_at(PLATFORM_HAVIP, &platform).max(moved_at(TENANT_HAVIP, &tenant));
    let probed = probe.stop();
    assert!(probed.gap_ms >= both.saturating_duration_since(active).as_secs_f64() * 1e3, "{probed:?}");
}

/// A connection that has been silent, of which the server has the next word. The interface that took the address over has never seen it.
#[rstest]
#[case::rules_as_the_modules_write_them(true)]
#[case::rules_that_let_nothing_in(false)]
fn a_servers_word_after_a_takeover_needs_a_rule_that_lets_it_in(#[case] lets: bool) {
    let mut groups = as_written();
    if !lets {
        groups[1].ingress.clear();
    }
    let mut site = Site::new(groups, false);
    let at = SocketAddr::from((SERVER, port::FLOWS));
    let listener = site.bed.lab.node(SERVERS).unwrap().run(|| TcpListener::bind(at)).unwrap();
    let mut client = site.function().run(|| TcpStream::connect_timeout(&at, PATIENCE)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let hears = |stream: &mut TcpStream, word: &[u8; 4]| {
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, *word);
    };
    client.write_all(b"open").unwrap();
    hears(&mut server, b"open");
    server.write_all(b"fine").unwrap();
    hears(&mut client, b"fine");
    site.bed.lab.await_in_sync().unwrap();
    site.take_over();
    site.bed.await_owner(2);

    let [_, eni] = enis(2);
    let dropped = || site.tenant.dropped(&eni, Why::Ingress, TCP);
    assert_eq!(dropped(), 0);
    server.write_all(b"push").unwrap();
    if lets {
        hears(&mut client, b"push");
        assert_eq!(dropped(), 0);
        return;
    }
    poll_until("it is dropped, again and again", PATIENCE, || Ok(dropped() >= 3)).unwrap();
    client.set_nonblocking(true).unwrap();
    assert_eq!(client.read(&mut [0; 4]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    client.set_nonblocking(false).unwrap();
    // With a word of its own the function is known there.
    client.write_all(b"well").unwrap();
    hears(&mut server, b"well");
    hears(&mut client, b"push");
}

/// The old Active's interface owns the addresses still: to be Active is not enough.
#[test]
fn whoever_is_active_and_owns_nothing_gets_nothing() {
    let mut site = Site::new(as_written(), false);
    let probe = site.probe();
    site.bed.cloud.deny("AssignPrivateIpAddresses");
    site.take_over();
    let says = || Ok(site.bed.shard("gw-2")["failure"].as_str().is_some_and(|text| text.contains("ec2:AssignPrivateIpAddresses")));
    poll_until("it says what it lacks", PATIENCE, says).unwrap();
    let answered = probe.answered();
    let of_old = || site.delivered(1)[0].unwrap().packets;
    let before = of_old();
    poll_until("tunnels lead to the dead node", PATIENCE, || Ok(of_old() >= before + 20)).unwrap();
    assert_eq!((site.delivered(2), probe.answered()), ([None, None], answered));

    site.bed.cloud.permit("AssignPrivateIpAddresses");
    site.goes_on(&probe);
    probe.stop();
}

/// Both are Active, and each takes the addresses from the other; an address has one owner all the same, and gets what is for it. With the rules mended there is one Active.
#[test]
fn two_actives_that_do_not_hear_each_other_share_no_address() {
    let mut groups = as_written();
    let mended = groups[0].clone();
    for rules in [&mut groups[0].ingress, &mut groups[0].egress] {
        rules.retain(|rule| rule.protocol != "112");
    }
    let site = Site::stand(groups, false);
    poll_until("both are Active", PATIENCE, || Ok(site.bed.lab.actives("acme", 0)?.len() == 2)).unwrap();
    let owners = || [PLATFORM_HAVIP, TENANT_HAVIP].map(|havip| site.bed.cloud.owner(address(havip)));
    let both = |of: &str| {
        let to: Vec<EniId> = site.bed.moves_of(of).into_iter().map(|moved| moved.to).collect();
        [1, 2].iter().all(|node| to.iter().any(|eni| enis(*node).contains(eni)))
    };
    poll_until("both have claimed both", PATIENCE, || Ok(both(PLATFORM_HAVIP) && both(TENANT_HAVIP))).unwrap();
    let probe = Probe::start(site.function(), SERVER, OFTEN).unwrap();
    let gets = |node: usize| site.delivered(node)[0].map_or(0, |delivered| delivered.packets);
    // As long as it does not move: they take it from each other.
    poll_until("whoever owns it gets what is for it, and the other nothing", PATIENCE, || {
        let moves = || site.bed.moves_of(PLATFORM_HAVIP);
        let known = moves();
        let owner = [1, 2].into_iter().find(|node| known.last().is_some_and(|moved| moved.to == enis(*node)[0])).unwrap();
        let before = [owner, 3 - owner].map(gets);
        let came = || [gets(owner) - before[0], gets(3 - owner) - before[1]];
        poll_until("packets, or another owner", PATIENCE, || Ok(came()[0] >= 20 || moves() != known))?;
        let (came, stayed) = (came(), moves() == known);
        assert!(!stayed || came[1] == 0, "{came:?}: the second does not own it");
        Ok(stayed)
    })
    .unwrap();
    assert_eq!(site.bed.lab.actives("acme", 0).unwrap().len(), 2);

    site.bed.cloud.security_group(mended);
    site.bed.lab.await_active("gw-1", "acme", 0).unwrap();
    poll_until("it owns both", PATIENCE, || Ok(owners() == enis(1).map(Some))).unwrap();
    site.goes_on(&probe);
    probe.stop();
}
