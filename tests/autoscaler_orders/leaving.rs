//! An instance that its group takes away: its gateway hears of it by itself and hands over, and then the hook is completed. Gateways in namespaces, each with metadata of
//! its own on its loopback; the autoscaler and the API on this machine's.

use super::SOON;
use super::group::{Bed, GROUP};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use portway::config::Backend;
use portway::lab::cloud::gateways::METADATA;
use portway::lab::cloud::{ACCESS_KEY, Cloud, Hook};
use portway::lab::topology::Wiring;
use portway::lab::{Counts, Flows, Lab, Netns, Topology, poll_until, unix};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;

const PROVEN: Duration = Duration::from_secs(30);

/// Two gateways with one shard, in sync, gw-1 Active. Each asks its loopback whether it is taken away.
fn pair() -> Lab {
    let mut lab = Lab::build(Topology::group(&["acme"], 2, 1, &[Wiring::Veth]).with_containers(1)).unwrap();
    lab.serve().unwrap();
    let ha = format!("  ha:\n    lifecycle: {{ aws: {{ look: 1s, endpoint: \"http://{METADATA}\" }} }}\n");
    let portway = Path::new(env!("CARGO_BIN_EXE_portway"));
    lab.start_daemons_edited(portway, Backend::Auto, |_, yaml| yaml.replace("  ha:\n", &ha)).unwrap();
    lab.attach_all().unwrap();
    lab.await_active("gw-1", "acme", 0).unwrap();
    lab.await_in_sync().unwrap();
    lab
}

fn flows(lab: &Lab) -> Flows {
    let from: Vec<&Netns> = lab.topology.containers.iter().map(|container| lab.node(&container.node).unwrap()).collect();
    let counts = Counts { tcp: 40, udp: 8, idle: Duration::from_millis(500), pace: Duration::from_millis(20) };
    Flows::open(&from, lab.node("db-acme").unwrap(), lab.topology.tenants[0].server, &counts).unwrap()
}

fn ask(lab: &Lab, node: &str, method: &str, path: &str) -> String {
    unix(&lab.socket(node).unwrap(), method, path, None).unwrap().body
}

fn ha(lab: &Lab, node: &str) -> Value {
    let status: Value = serde_json::from_str(&ask(lab, node, "GET", "/v1/status")).unwrap();
    status["ha"].clone()
}

/// A gateway's page as an autoscaler outside of the lab reaches it.
async fn page(socket: PathBuf) -> String {
    let page = |State(socket): State<PathBuf>| async move {
        tokio::task::spawn_blocking(move || unix(&socket, "GET", "/metrics", None).unwrap().body).await.unwrap()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", get(page)).with_state(socket)).await });
    url
}

#[test]
fn an_instance_that_is_taken_away_hands_over_by_itself_and_then_may_go() {
    let (runtime, lab) = (Runtime::new().unwrap(), pair());
    let _entered = runtime.enter();
    let cloud = runtime.block_on(Cloud::start()).unwrap();
    let hook = Hook { name: "drain".into(), timeout: Duration::from_secs(30) };
    cloud.group(GROUP, (1, 10), 3, Duration::ZERO, Some(hook));
    let ids: Vec<String> = cloud.instances(GROUP).into_iter().map(|(id, _)| id).collect();
    // Of gw-2 there are no metadata, which changes nothing for it.
    let metadata = cloud.serve_instance(&ids[0], lab.node("gw-1").unwrap()).unwrap();
    let pages = ["gw-1", "gw-2"].map(|node| runtime.block_on(page(lab.socket(node).unwrap())));
    let gateways: Vec<(String, String)> = ids.iter().cloned().zip(pages).collect();
    let bed = runtime.block_on(Bed::new(cloud, &gateways, 2, &[], ACCESS_KEY));
    runtime.block_on(bed.until("the group is known", |actuator| actuator["group"]["desired"] == 3));
    poll_until("gw-1 knows that it is in a group", SOON, || Ok(ha(&lab, "gw-1")["lifecycle"]["target"] == "InService")).unwrap();
    let flows = flows(&lab);
    lab.await_in_sync().unwrap();

    // The oldest is gw-1's.
    bed.cloud.desire(GROUP, 2);
    let leaves = |actuator: &Value| actuator["leaving"][0]["instance"] == ids[0].as_str();
    runtime.block_on(bed.until("it leaves", leaves));
    lab.await_active("gw-2", "acme", 0).unwrap();
    runtime.block_on(bed.until("it is gone", |actuator| actuator["leaving"] == serde_json::json!([])));
    assert_eq!(bed.cloud.called("CompleteLifecycleAction"), 1);
    let told = runtime.block_on(bed.ask("/metrics")).unwrap();
    assert!(told.contains("portway_autoscaler_let_go_total{how=\"drained\"} 1"), "{told}");

    let (left, stays) = (ha(&lab, "gw-1"), ha(&lab, "gw-2"));
    let lifecycle = &left["lifecycle"];
    assert!(lifecycle["going"] == true && lifecycle["drain"] == "over" && lifecycle["kept"] == 0, "{lifecycle:#}");
    assert!(left["shards"][0]["drained"] == true && left["shards"][0]["state"] != "active", "{left:#}");
    // By plan, to one that knew all connections.
    assert_eq!(stays["takeovers"][0]["why"], "the Active let go", "{stays:#}");
    let report = flows.verify(PROVEN);
    assert!(report.all_survived() && report.resets == 0 && report.corrupt == 0, "{}", report.summary());
    let log = |node: &str| std::fs::read_to_string(lab.dir().log(node)).unwrap();
    let told = log("gw-1");
    assert!(told.contains("the Auto Scaling group takes this machine away") && !told.contains("handing over although"), "{told}");
    let page = ask(&lab, "gw-1", "GET", "/metrics");
    assert!(page.contains("portway_lifecycle_going{} 1") && page.contains("portway_lifecycle_drains_total{} 1"), "{page}");
    assert!(metadata.counts().1 > 1, "it is looked at again and again");

    // Whose metadata do not answer is told of once, and is drained by nobody.
    let silent = &stays["lifecycle"];
    assert!(silent["failures"].as_u64() > Some(1) && silent["going"] == false && silent["drain"] == "no", "{silent:#}");
    assert_eq!(log("gw-2").matches("takes this machine away is not known").count(), 1);

    // Somebody wants it back all the same.
    ask(&lab, "gw-1", "DELETE", "/v1/drain");
    lab.await_active("gw-1", "acme", 0).unwrap();
    assert_eq!(ha(&lab, "gw-1")["lifecycle"]["drain"], "undone");
    runtime.block_on(bed.end());
}
