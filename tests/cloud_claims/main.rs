//! Two gateways whose addresses a cloud has to send to them: real daemons in namespaces, each with its instance's metadata and EC2 on its loopback. Both stand for one
//! account, where an address is one network interface's and no other's.

mod attach;
#[path = "../aws_support/mod.rs"]
mod aws_support;
mod network;

use portway::config::Backend;
use portway::lab::cloud::Cloud;
use portway::lab::cloud::ec2::Moved;
use portway::lab::cloud::gateways::{self, enis, instance};
use portway::lab::cloud::metadata::Metadata;
use portway::lab::topology::Wiring;
use portway::lab::{Kill, Lab, Topology, poll_until, unix};
use portway::model::{AllocationId, RouteTableId};
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;

const SOON: Duration = Duration::from_secs(10);
const LATENCY: Duration = Duration::from_millis(50);

const PLATFORM_HAVIP: &str = "10.9.0.50";
const TENANT_HAVIP: &str = "172.16.101.10";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Bed {
    lab: Lab,
    cloud: Cloud,
    runtime: Runtime,
}

impl Bed {
    fn new() -> Self {
        Self::new_with("", "10.9.0.0/24", |_| ())
    }

    /// `written`: what else stands below `aws`; `platform`: the subnet of that side.
    fn new_with(written: &str, platform: &str, prepare: impl FnOnce(&Cloud)) -> Self {
        let bed = Self::stand(written, platform, |_, cloud, _| prepare(cloud));
        bed.lab.await_active("gw-1", "acme", 0).unwrap();
        bed
    }

    /// As [`Bed::new_with`], and nobody is waited for. `prepare` finds the gateways' interfaces in both, their metadata, and no daemons yet.
    fn stand(written: &str, platform: &str, prepare: impl FnOnce(&Lab, &Cloud, &[Metadata])) -> Self {
        let runtime = Runtime::new().unwrap();
        let cloud = runtime.block_on(Cloud::start()).unwrap();
        cloud.latency(LATENCY);
        let mut lab = Lab::build(Topology::group(&["acme"], 2, 1, &[Wiring::Veth])).unwrap();
        lab.serve().unwrap();
        let entered = runtime.enter();
        let metadata = cloud.serve_gateways(&lab, platform.parse().unwrap(), "172.16.0.0/16".parse().unwrap()).unwrap();
        drop(entered);
        prepare(&lab, &cloud, &metadata);
        let portway = Path::new(env!("CARGO_BIN_EXE_portway"));
        lab.start_daemons_edited(portway, Backend::Auto, |_, yaml| gateways::configured(&yaml, written)).unwrap();
        Self { lab, cloud, runtime }
    }

    fn status(&self, node: &str) -> Value {
        let body = unix(&self.lab.socket(node).unwrap(), "GET", "/v1/status", None).unwrap().body;
        serde_json::from_str::<Value>(&body).unwrap()["ha"]["cloud"].clone()
    }

    /// Of the shard at this node.
    fn shard(&self, node: &str) -> Value {
        self.status(node)["shards"]["acme/0"].clone()
    }

    fn await_owner(&self, node: usize) {
        let [platform, tenant] = enis(node);
        let both = || {
            self.cloud.owner(address(PLATFORM_HAVIP)) == Some(platform.clone())
                && self.cloud.owner(address(TENANT_HAVIP)) == Some(tenant.clone())
        };
        poll_until("the cloud sends both addresses there", SOON, || Ok(both())).unwrap();
        poll_until("the node knows it", SOON, || Ok(self.shard(&format!("gw-{node}"))["claimed"] == true)).unwrap();
    }

    fn moves_of(&self, what: &str) -> Vec<Moved> {
        self.cloud.moved().into_iter().filter(|moved| moved.what == what).collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
    }
}

/// From the addresses in the kernel to the answer of the cloud: one round trip for both, and 20 ms.
#[test]
fn serial_the_cloud_follows_whoever_is_active() {
    let mut bed = Bed::new();
    bed.lab.await_in_sync().unwrap();
    bed.await_owner(1);
    assert_eq!(bed.shard("gw-2"), Value::Null, "who has no shard claims nothing");
    bed.lab.fail("gw-1", Kill::Node).unwrap();
    bed.lab.await_active("gw-2", "acme", 0).unwrap();
    bed.await_owner(2);
    let took = bed.shard("gw-2")["took"].as_f64().unwrap();
    assert!(took <= 0.070, "both addresses took {took} s of 0.05 and 0.02");
    assert_eq!(bed.moves_of(PLATFORM_HAVIP).len(), 2, "{:?}", bed.cloud.moved());
    bed.lab.heal("gw-1").unwrap();
}

/// Over connections that stood ready: a new one would take round trips of its own first.
#[test]
fn whoever_becomes_active_claims_over_connections_that_it_has() {
    let mut bed = Bed::new();
    bed.lab.await_in_sync().unwrap();
    bed.await_owner(1);
    let ready = "portway_cloud_calls_total{call=\"ready\",result=\"taken\"}";
    poll_until("connections for two calls at once", SOON, || Ok(bed.lab.metric("gw-2", ready)? >= 2.0)).unwrap();
    let before = bed.cloud.connections();
    bed.lab.fail("gw-1", Kill::Node).unwrap();
    bed.await_owner(2);
    assert_eq!(bed.cloud.connections(), before);
    bed.lab.heal("gw-1").unwrap();
}

/// A partition between a node and EC2 alone: it says so, nothing is lost or forgotten, and it claims when there is a way again.
#[test]
fn who_is_cut_off_from_ec2_claims_when_it_is_not_any_more() {
    let mut bed = Bed::new();
    bed.lab.await_in_sync().unwrap();
    bed.await_owner(1);
    bed.cloud.cut_off(&instance(2));
    bed.lab.fail("gw-1", Kill::Node).unwrap();
    bed.lab.await_active("gw-2", "acme", 0).unwrap();
    poll_until("it says so", 2 * SOON, || Ok(bed.shard("gw-2")["failure"].is_string())).unwrap();
    assert_eq!(bed.shard("gw-2")["claimed"], false);
    assert_eq!(bed.cloud.owner(address(TENANT_HAVIP)), Some(enis(1)[1].clone()), "its calls did not arrive");
    bed.cloud.reconnect(&instance(2));
    bed.await_owner(2);
    bed.lab.heal("gw-1").unwrap();
}

/// No token gets over the hop to this instance at first: who it is, is asked again.
#[test]
fn a_gateway_whose_metadata_are_away_says_so_and_claims_when_they_are_back() {
    let mut all = Vec::new();
    let bed = Bed::stand("", "10.9.0.0/24", |_, _, metadata| {
        metadata[0].mute();
        all.extend(metadata.iter().cloned());
    });
    bed.lab.await_active("gw-1", "acme", 0).unwrap();
    let says_so = |status: &Value| status["failure"].as_str().is_some_and(|text| text.contains("HttpPutResponseHopLimit"));
    poll_until("it says so", 2 * SOON, || Ok(says_so(&bed.status("gw-1")))).unwrap();
    assert_eq!(bed.lab.metric("gw-1", "portway_cloud_known{}").unwrap(), 0.0);
    all[0].speak();
    bed.await_owner(1);
    assert_eq!(bed.lab.metric("gw-1", "portway_cloud_known{}").unwrap(), 1.0);
}

/// Nothing is claimed in a region where its interfaces are not.
#[test]
fn a_region_that_is_another_is_named() {
    let bed = Bed::stand(", region: us-east-1", "10.9.0.0/24", |_, _, _| {});
    let says_so = |text: &str| text.contains("`region` is us-east-1, and this instance is in eu-central-1a");
    poll_until("it says so", SOON, || Ok(bed.status("gw-1")["failure"].as_str().is_some_and(says_so))).unwrap();
}

/// Nobody told the gateway: it looks again and again.
#[test]
fn what_somebody_else_takes_away_is_claimed_again() {
    let bed = Bed::new();
    bed.await_owner(1);
    bed.cloud.assign(address(TENANT_HAVIP), &enis(2)[1]);
    bed.await_owner(1);
    assert_eq!(bed.lab.metric("gw-1", "portway_cloud_lost_total{}").unwrap(), 1.0);
}

#[test]
fn a_permission_that_is_missing_is_named_with_the_statement_that_mends_it() {
    let bed = Bed::new();
    bed.await_owner(1);
    bed.cloud.refuse("AssignPrivateIpAddresses", [(403, "UnauthorizedOperation"), (403, "UnauthorizedOperation")]);
    bed.cloud.assign(address(TENANT_HAVIP), &enis(2)[1]);
    let said = r#""Action": "ec2:AssignPrivateIpAddresses""#;
    poll_until("it says so", SOON, || Ok(bed.shard("gw-1")["failure"].as_str().is_some_and(|text| text.contains(said)))).unwrap();
    bed.await_owner(1);
}

/// The overlay: no subnet has the platform HaVip, so both route tables lead to whoever is Active; and the elastic address goes with the tenant's.
#[test]
fn routes_and_public_addresses_follow_as_well() {
    let tables: [RouteTableId; 2] = ["rtb-0000000a", "rtb-0000000b"].map(|id| id.parse().unwrap());
    let elastic: AllocationId = "eipalloc-0000000a".parse().unwrap();
    let mut bed = Bed::new_with(
        &format!(", platform: {{ route_tables: [{}, {}] }}, tenants: {{ acme: {{ public: {{ 0: {elastic} }} }} }}", tables[0], tables[1]),
        "10.9.0.0/27",
        |cloud| {
            tables.iter().for_each(|table| cloud.route_table(table));
            cloud.elastic(&elastic);
        },
    );
    let to = format!("{PLATFORM_HAVIP}/32").parse().unwrap();
    for node in [1, 2] {
        let [platform, tenant] = enis(node);
        poll_until("all lead there", SOON, || {
            let routes = tables.iter().all(|table| bed.cloud.route(table, to) == Some(platform.clone()));
            Ok(routes && bed.cloud.association(&elastic) == Some((tenant.clone(), address(TENANT_HAVIP))))
        })
        .unwrap();
        if node == 1 {
            bed.lab.await_in_sync().unwrap();
            bed.lab.fail("gw-1", Kill::Daemon).unwrap();
        }
    }
    bed.lab.heal("gw-1").unwrap();
}

#[test]
fn an_address_of_no_subnet_without_route_tables_is_told_and_how_to_mend_it() {
    let bed = Bed::new_with("", "10.9.0.0/27", |_| ());
    let said = "write the route tables that are to lead here in `cloud.aws.platform.route_tables`";
    poll_until("it says so", SOON, || Ok(bed.status("gw-1")["failure"].as_str().is_some_and(|text| text.contains(said)))).unwrap();
    assert!(bed.cloud.moved().is_empty());
}
