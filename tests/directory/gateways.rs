//! A gateway that asks its directory: what it learns, and what it goes on with when the directory does not answer.

use super::registry::shard_spec;
use super::support::*;
use portway::config::{self, Config, Gateway};
use portway::directory::types::*;
use portway::gateway::members::{Known, Own};
use portway::gateway::registry::members::{Standing, recall};
use portway::gateway::registry::{Changed, Registry};
use portway::lab::secret;
use portway::metrics::{Format, Page};
use portway::model::{NodeName, PrivateKey, TenantShard};
use portway::plan::gateway::ends::Keys;
use portway::proto::jit::Answer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::Receiver;

/// The files of a gateway of two tenants.
struct Node {
    dir: TempDir,
    url: String,
    ca: Option<PathBuf>,
}

impl Node {
    fn new(url: &str, ca: Option<PathBuf>, token: &str) -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap(), url: url.into(), ca };
        secret(&node.dir.path().join("token"), token).unwrap();
        node
    }

    /// `gw-1`, which may speak for both tenants' shards 0.
    async fn of(bed: &Bed) -> Self {
        bed.tenant("acme", "10.64.0.0/16", &[0]).await;
        bed.tenant("globex", "10.64.0.0/16", &[0]).await;
        let spec = GatewaySpec { shards: [shard("acme/0"), shard("globex/0")].into() };
        bed.operator().put_gateway(&node("gw-1"), &spec).await.unwrap();
        Self::new(&bed.url(), Some(bed.ca.clone()), &format!("{}\n", gateway_token(bed, "gw-1").await))
    }

    fn config(&self, edit: impl FnOnce(String) -> String) -> Gateway {
        let dir = self.dir.path().display();
        let ca = self.ca.as_ref().map_or_else(String::new, |ca| format!(", ca: {}", ca.display()));
        let yaml = format!(
            "gateway:
  node: gw-1
  platform: {{ interface: plat0, address: 10.9.0.50 }}
  tunnel: wireguard
  directory: {{ url: {}, token_file: {dir}/token, state_dir: {dir}/state{ca} }}
  tenants:
    - {{ name: acme, wireguard: {{ private_key: /k }}, interface: eni0, allow: [{{ to: 172.16.0.0/16, tcp: all }}], inner: 10.64.0.0/16 }}
    - {{ name: globex, wireguard: {{ private_key: /k, port: 51900 }}, interface: eni1, allow: [{{ to: 172.16.0.0/16, tcp: all }}], inner: 10.64.0.0/16 }}
",
            self.url
        );
        match config::parse(&edit(yaml), "gw").unwrap() {
            Config::Gateway(gateway) => gateway,
            other => panic!("{other:?}"),
        }
    }

    fn start(&self) -> Registry {
        Registry::start(&self.config(|yaml| yaml), &keys()).unwrap()
    }
}

fn keys() -> BTreeMap<TenantShard, Keys> {
    [(shard("acme/0"), at(key(100), 51820)), (shard("globex/0"), at(key(101), 51900))].into()
}

fn at(key: PrivateKey, port: u16) -> Keys {
    Keys { present: (key, port), next: None }
}

async fn gateway_token(bed: &Bed, name: &str) -> String {
    bed.operator().add_token(&TokenSpec { gateway: Some(node(name)), ..token(Role::Gateway) }).await.unwrap().token
}

/// What a look-up comes to, as text.
async fn look_up(registry: &Registry, of: &str, number: u8) -> String {
    match registry.look_up(&shard(of), &key(number).public()).await {
        Answer::Found(found) => format!("{} {:?}", found.host, found.allowed),
        Answer::Unknown => "unknown".into(),
        Answer::Failed => "failed".into(),
    }
}

/// Waits until what a status says is so.
async fn wait(registry: &Registry, what: &str, mut is: impl FnMut(&Value) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is(&registry.status()) {
        assert!(Instant::now() < deadline, "not {what}: {:#}", registry.status());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn watches(registry: &Registry, bed: &Bed) {
    wait(registry, "watching", |status| status["revision"].is_u64() && status["reachable"] == true).await;
    bed.has_watcher().await;
}

async fn next(changes: &mut Receiver<Changed>) -> Changed {
    tokio::time::timeout(Duration::from_secs(20), changes.recv()).await.expect("a change").expect("a sender")
}

/// A directory that answers every call with these bytes, and then hangs up.
async fn stub(answer: &'static [u8], hangs: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer).await;
                if hangs {
                    // Until the caller gives up.
                    let _ = stream.read(&mut [0; 1]).await;
                }
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_learns_whose_a_key_is_and_tells_where_it_is() {
    let bed = Bed::sqlite().await;
    let files = Node::of(&bed).await;
    let registry = files.start();
    wait(&registry, "told", |status| status["shards"]["acme/0"] == "told" && status["shards"]["globex/0"] == "told").await;
    let shards = bed.operator().shards().await.unwrap();
    let told: Vec<_> = shards.iter().map(|one| (one.endpoint.unwrap().to_string(), one.public_key.unwrap())).collect();
    assert_eq!(told, [("10.9.0.50:51820".to_owned(), key(100).public()), ("10.9.0.50:51900".to_owned(), key(101).public())]);
    bed.host("host-1", &key(1), &["acme"]).await;
    bed.host("host-2", &key(2), &["acme", "globex"]).await;
    assert_eq!(look_up(&registry, "acme/0", 1).await, "host-1 [10.64.0.1/32]");
    assert_eq!(look_up(&registry, "globex/0", 1).await, "unknown");
    assert_eq!(look_up(&registry, "globex/0", 2).await, "host-2 [10.64.0.1/32]");
    assert_eq!(look_up(&registry, "acme/0", 3).await, "unknown");
    assert_eq!(look_up(&registry, "acme/0", 100).await, "unknown", "a shard's own key is no host's");
    let counted = registry.status()["look_ups"].clone();
    assert_eq!((&counted["found"], &counted["unknown"], &counted["elsewhere"]), (&2.into(), &2.into(), &1.into()));
    let mut page = Page::default();
    registry.metrics(&mut page);
    let text = page.encode(Format::OpenMetrics).unwrap();
    for line in ["portway_directory_reachable 1", "portway_directory_cached_hosts 2", "portway_directory_look_up_seconds_count 5"] {
        assert!(text.replace("{} ", " ").lines().any(|found| found.starts_with(line)), "{line} is not in\n{text}");
    }
    // A range that the file does not know: such a host would get other tenants' packets, or the node's.
    registry.reload(&files.config(|yaml| yaml.replacen("inner: 10.64.0.0/16", "inner: 10.65.0.0/16", 1)), &keys());
    assert_eq!(look_up(&registry, "acme/0", 1).await, "unknown");
    assert_eq!(registry.status()["look_ups"]["out_of_range"], 1);
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_is_told_within_a_second() {
    let bed = Bed::sqlite().await;
    let files = Node::of(&bed).await;
    let (host, _) = bed.host("host-1", &key(1), &["acme"]).await;
    let registry = files.start();
    watches(&registry, &bed).await;
    let mut changes = registry.changes();
    assert_eq!(look_up(&registry, "acme/0", 1).await, "host-1 [10.64.0.1/32]");
    assert_eq!(look_up(&registry, "acme/0", 2).await, "unknown");
    // Another key.
    host.rotate(&key(2), &node("host-1")).await.unwrap();
    let done = Instant::now();
    assert_eq!(next(&mut changes).await, Changed::Keys(vec![key(1).public(), key(2).public()]));
    assert!(done.elapsed() < Duration::from_secs(1), "{:?}", done.elapsed());
    assert_eq!(look_up(&registry, "acme/0", 2).await, "host-1 [10.64.0.1/32]");
    assert_eq!(look_up(&registry, "acme/0", 1).await, "host-1 [10.64.0.1/32]", "valid for a while longer");
    // It ends, by the directory's clock.
    bed.advance(601);
    assert!(matches!(next(&mut changes).await, Changed::Keys(keys) if keys.contains(&key(1).public())));
    assert_eq!(look_up(&registry, "acme/0", 1).await, "unknown");
    // Revoked.
    bed.operator().remove_host(&node("host-1")).await.unwrap();
    let done = Instant::now();
    assert_eq!(next(&mut changes).await, Changed::Keys(vec![key(2).public()]));
    assert!(done.elapsed() < Duration::from_secs(1), "{:?}", done.elapsed());
    assert_eq!(look_up(&registry, "acme/0", 2).await, "unknown");
    assert_eq!(registry.status()["known"], 0);
    // A tenant is served from elsewhere now: nobody of it may come in here, and nobody is named.
    bed.host("host-3", &key(3), &["globex"]).await;
    assert_eq!(next(&mut changes).await, Changed::Keys(vec![key(3).public()]));
    assert_eq!(look_up(&registry, "globex/0", 3).await, "host-3 [10.64.0.1/32]");
    bed.operator().put_gateway(&node("gw-1"), &GatewaySpec { shards: [shard("acme/0")].into() }).await.unwrap();
    assert_eq!(next(&mut changes).await, Changed::All);
    assert_eq!(look_up(&registry, "globex/0", 3).await, "unknown");
    wait(&registry, "refused", |status| status["shards"]["globex/0"].as_str().is_some_and(|text| text.starts_with("refused: "))).await;
    bed.operator().put_gateway(&node("gw-1"), &GatewaySpec { shards: [shard("acme/0"), shard("globex/0")].into() }).await.unwrap();
    wait(&registry, "told", |status| status["shards"]["globex/0"] == "told").await;
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_directory_a_gateway_knows_whom_it_knew_also_after_a_restart() {
    let bed = Bed::sqlite().await;
    let files = Node::of(&bed).await;
    let (host, _) = bed.host("host-1", &key(1), &["acme"]).await;
    bed.host("host-2", &key(2), &["acme"]).await;
    let registry = files.start();
    watches(&registry, &bed).await;
    assert_eq!(look_up(&registry, "acme/0", 1).await, "host-1 [10.64.0.1/32]");
    let mut changes = registry.changes();
    let down = bed.down().await;
    wait(&registry, "away", |status| status["reachable"] == false).await;
    let begun = Instant::now();
    assert_eq!(look_up(&registry, "acme/0", 1).await, "host-1 [10.64.0.1/32]");
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert_eq!(look_up(&registry, "acme/0", 2).await, "failed");
    assert_eq!(look_up(&registry, "globex/0", 1).await, "unknown");
    registry.stop().await;
    let file = files.dir.path().join("state/known-hosts.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let stored = std::fs::read_to_string(&file).unwrap();
    assert!(!stored.contains(std::fs::read_to_string(files.dir.path().join("token")).unwrap().trim()));
    assert!(changes.recv().await.is_none(), "nothing changed while it was away");

    // The next process.
    let registry = files.start();
    let mut changes = registry.changes();
    assert_eq!(look_up(&registry, "acme/0", 1).await, "host-1 [10.64.0.1/32]");
    assert_eq!(look_up(&registry, "acme/0", 2).await, "failed");
    assert!(registry.status()["look_ups"]["from_cache"] == 1 && registry.status()["reachable"] == false, "{:#}", registry.status());
    // Back, and with what changed meanwhile.
    let bed = down.up().await;
    host.rotate(&key(3), &node("host-1")).await.unwrap();
    assert_eq!(next(&mut changes).await, Changed::Keys(vec![key(1).public(), key(3).public()]));
    assert_eq!(look_up(&registry, "acme/0", 2).await, "host-2 [10.64.0.2/32]");
    registry.stop().await;

    // What is in the file is not a gateway's word for ever, nor another gateway's, nor anything at all.
    for (from, to) in [("\"version\":1", "\"version\":2"), ("\"gw-1\"", "\"gw-2\""), ("https://", "https://x"), ("{", "")] {
        let stored = std::fs::read_to_string(&file).unwrap();
        let spoilt = stored.replacen(from, to, 1);
        assert_ne!(spoilt, stored);
        std::fs::write(&file, spoilt).unwrap();
        // Nobody to ask, so that nothing else than the file says anything.
        let config = files.config(|yaml| yaml.replace(&format!("{}/token", files.dir.path().display()), "/none"));
        let registry = Registry::start(&config, &keys()).unwrap();
        assert_eq!(registry.status()["known"], 0, "{to}");
        assert_eq!(look_up(&registry, "acme/0", 2).await, "failed");
        registry.stop().await;
        std::fs::write(&file, stored).unwrap();
    }
    let registry = files.start();
    assert_eq!(registry.status()["known"], 1);
    registry.stop().await;
    drop(bed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_for_good_makes_everything_worth_another_look() {
    let bed = Bed::sqlite().await;
    let files = Node::of(&bed).await;
    let (host, _) = bed.host("host-1", &key(1), &["acme"]).await;
    let registry = files.start();
    watches(&registry, &bed).await;
    assert_eq!(look_up(&registry, "acme/0", 1).await, "host-1 [10.64.0.1/32]");
    registry.stop().await;
    let since = registry.status()["revision"].as_u64().unwrap();
    for number in 0..160 {
        bed.tenant("initech", &format!("10.{number}.0.0/16"), &[0]).await;
    }
    // What it has in memory, it still tells.
    let bed = bed.down().await.up().await;
    let forgotten = Instant::now() + Duration::from_secs(20);
    while !matches!(host.watch(Some(since), Duration::ZERO).await.unwrap(), portway::directory::client::Watched::StartAgain) {
        assert!(Instant::now() < forgotten, "changes are not forgotten");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let registry = files.start();
    let mut changes = registry.changes();
    assert_eq!(next(&mut changes).await, Changed::All);
    // Once is enough: from here on it hears of each.
    bed.has_watcher().await;
    bed.host("host-2", &key(2), &["acme"]).await;
    assert_eq!(next(&mut changes).await, Changed::Keys(vec![key(2).public()]));
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_directory_holds_up_only_who_is_not_known() {
    let bed = Bed::sqlite().await;
    let files = Node::of(&bed).await;
    bed.host("host-1", &key(1), &["acme"]).await;
    let registry = files.start();
    watches(&registry, &bed).await;
    assert_eq!(look_up(&registry, "acme/0", 1).await, "host-1 [10.64.0.1/32]");
    registry.stop().await;
    // The same directory, as far as the file goes, that takes calls and says nothing.
    let file = files.dir.path().join("state/known-hosts.json");
    let slow = Node { url: stub(b"", true).await, ..files };
    let stored = std::fs::read_to_string(&file).unwrap().replace(&format!("{}/", bed.url()), &format!("{}/", slow.url));
    std::fs::write(&file, stored).unwrap();
    let registry = slow.start();
    let begun = Instant::now();
    let (known, unknown) = tokio::join!(async { (look_up(&registry, "acme/0", 1).await, begun.elapsed()) }, async {
        (look_up(&registry, "acme/0", 2).await, begun.elapsed())
    });
    assert_eq!((known.0.as_str(), unknown.0.as_str()), ("host-1 [10.64.0.1/32]", "failed"));
    assert!(known.1 >= Duration::from_secs(1) && known.1 < Duration::from_secs(3), "{:?}", known.1);
    assert!(unknown.1 >= Duration::from_secs(9) && unknown.1 < Duration::from_secs(13), "{:?}", unknown.1);
    // By now it counts as away.
    let begun = Instant::now();
    assert_eq!(look_up(&registry, "acme/0", 1).await, "host-1 [10.64.0.1/32]");
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    registry.stop().await;
}

/// So many cannot be told to the other candidates: a host that has them would be unknown after a failover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_of_too_many_prefixes_is_refused() {
    for (count, outcome) in [(16, "found"), (17, "too_many")] {
        let inner: Vec<_> = (1..=count).map(|n| format!("10.64.0.{n}/32")).collect();
        let host = serde_json::json!({ "name": "host-1", "keys": [{ "public_key": key(1).public() }], "inner": { "acme/0": inner }, "revision": 1 });
        let body = host.to_string();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let node = Node::new(&stub(answer.leak().as_bytes(), false).await, None, "pwt_0_0");
        let registry = node.start();
        let found = look_up(&registry, "acme/0", 1).await;
        assert_eq!(found.starts_with("host-1"), count == 16, "{found}");
        assert_eq!(registry.status()["look_ups"][outcome], 1, "{}", registry.status());
        registry.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_no_answer() {
    let answers: [&[u8]; 9] = [
        b"",
        b"\x00\xff\x00 whatever",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<html>...",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 6\r\n\r\n<html>",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        // A host, but of another key.
        b"HTTP/1.1 200 OK\r\ncontent-length: 137\r\n\r\n{\"name\":\"host-1\",\"keys\":[{\"public_key\":\"hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\"}],\"inner\":{\"acme/0\":[\"10.64.0.1/32\"]},\"revision\":1}",
    ];
    for answer in answers {
        let shown = String::from_utf8_lossy(answer);
        let node = Node::new(&stub(answer, false).await, None, "pwt_0_0");
        let registry = node.start();
        assert_eq!(look_up(&registry, "acme/0", 1).await, "failed", "{shown}");
        assert_eq!(registry.status()["look_ups"]["failed"], 1, "{shown}");
        assert_eq!(registry.status()["known"], 0, "{shown}");
        wait(&registry, "away", |status| status["reachable"] == false && status["error"].is_string()).await;
        registry.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_read_again_when_it_is_refused() {
    let bed = Bed::sqlite().await;
    let files = Node::of(&bed).await;
    let file = files.dir.path().join("token");
    bed.host("host-1", &key(1), &["acme"]).await;
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let registry = files.start();
    let refused = async |says: &str| {
        assert_eq!(look_up(&registry, "acme/0", 1).await, "failed", "{says}");
        wait(&registry, says, |status| status["error"].as_str().is_some_and(|error| error.contains(says))).await;
    };
    refused("No such file").await;
    secret(&file, &good).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    refused("chmod 600").await;
    std::fs::remove_file(&file).unwrap();
    secret(&file, "two words").unwrap();
    refused("does not hold one token").await;
    secret(&file, "pwt_0123456789abcdef_wrong").unwrap();
    refused("needs a token").await;
    // As a host, it would learn nothing.
    let (_, enrolled) = bed.host("host-9", &key(9), &["acme"]).await;
    secret(&file, &enrolled.credential.token).unwrap();
    refused("may not do this").await;
    secret(&file, &good).unwrap();
    // The host's token is good: it is not refused for that, and so the file is read at the reload.
    registry.reload(&files.config(|yaml| yaml), &keys());
    assert_eq!(look_up(&registry, "acme/0", 1).await, "host-1 [10.64.0.1/32]");
    watches(&registry, &bed).await;
    // Replaced while it is in use.
    let newer = gateway_token(&bed, "gw-1").await;
    secret(&file, &newer).unwrap();
    let id = good.split('_').nth(1).unwrap();
    bed.operator().remove_token(id).await.unwrap();
    assert_eq!(look_up(&registry, "acme/0", 1).await, "host-1 [10.64.0.1/32]");
    // Another gateway's: it would tell of shards that are not its own.
    let other: NodeName = node("gw-2");
    bed.operator().put_gateway(&other, &GatewaySpec { shards: [shard("acme/0")].into() }).await.unwrap();
    secret(&file, &gateway_token(&bed, "gw-2").await).unwrap();
    registry.reload(&files.config(|yaml| yaml), &keys());
    bed.operator().put_shard(&shard("acme/0"), &shard_spec("10.9.0.99:51820", 120, None)).await.unwrap();
    wait(&registry, "told whose it is", |status| status["failed"].as_str().is_some_and(|why| why.contains("the token of gateway gw-2")))
        .await;
    let acme = bed.operator().shards().await.unwrap().into_iter().find(|one| one.of == shard("acme/0")).unwrap();
    assert_eq!(acme.endpoint, Some("10.9.0.99:51820".parse().unwrap()));
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_are_told_again_when_they_change_and_a_coming_key_is_left_alone() {
    let bed = Bed::sqlite().await;
    let files = Node::of(&bed).await;
    let registry = files.start();
    wait(&registry, "told", |status| status["shards"]["acme/0"] == "told").await;
    watches(&registry, &bed).await;
    let acme = async || bed.operator().shards().await.unwrap().into_iter().find(|one| one.of == shard("acme/0")).unwrap();
    // An operator begins to change the shard's key, and then the gateway's port is another.
    bed.operator().put_shard(&shard("acme/0"), &shard_spec("10.9.0.50:51820", 100, Some(110))).await.unwrap();
    let moved = [(shard("acme/0"), at(key(100), 7000)), (shard("globex/0"), at(key(101), 51900))].into();
    registry.reload(&files.config(|yaml| yaml), &moved);
    let deadline = Instant::now() + Duration::from_secs(20);
    while acme().await.endpoint != Some("10.9.0.50:7000".parse().unwrap()) {
        assert!(Instant::now() < deadline, "{:?}", acme().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(acme().await.next_key, Some(key(110).public()));
    // A key that is a host's is no shard's.
    bed.host("host-1", &key(1), &["acme"]).await;
    let keys = [(shard("acme/0"), at(key(1), 51820)), (shard("globex/0"), at(key(101), 51900))].into();
    registry.reload(&files.config(|yaml| yaml), &keys);
    wait(&registry, "refused", |status| status["shards"]["acme/0"].as_str().is_some_and(|text| text.contains("is another's"))).await;
    assert_eq!(registry.status()["shards"]["globex/0"], "told");
    registry.stop().await;
}

/// The same gateway with two shards that it shares by the directory's list.
fn shared(yaml: String) -> String {
    let shard = |vrid: u8, n: u8, port: u16| {
        format!(
            "shards: [{{ shard: 0, vrid: {vrid}, platform: 10.9.0.{n}, tenant: 172.16.101.10, wireguard: {{ private_key: /k, port: {port} }} }}]"
        )
    };
    yaml.replace("address: 10.9.0.50", "address: 10.9.0.1")
        .replace("  tenants:", "  ha: { nodes: directory, keys: [{ id: 1, file: /k }] }\n  tenants:")
        .replacen("wireguard: { private_key: /k }", &shard(51, 50, 51820), 1)
        .replacen("wireguard: { private_key: /k, port: 51900 }", &shard(52, 51, 51900), 1)
}

/// What the registry says of the group next, with those who leave.
async fn news(registry: &Registry) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(members) = registry.group_news() {
            return members.iter().map(|member| format!("{}{}", member.name, if member.leaving { " leaves" } else { "" })).collect();
        }
        assert!(Instant::now() < deadline, "no news: {:#}", registry.status());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn news_until(registry: &Registry, wanted: &[&str]) {
    while news(registry).await != wanted {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_says_what_it_is_to_its_group_and_hears_of_the_others() {
    let bed = Bed::sqlite().await;
    let files = Node::of(&bed).await;
    let other = bed.gateway("gw-2", &["acme/0", "globex/0"]).await;
    let config = files.config(shared);
    let registry = Registry::start(&config, &BTreeMap::new()).unwrap();
    news_until(&registry, &["gw-1"]).await;
    assert_eq!(registry.status()["member"], "told");
    // What it goes by, the others hear.
    let own = Own { leaving: false, shards: [shard("acme/0"), shard("globex/0")].into() };
    let members = other.put_member(&super::group::at("10.9.0.2")).await.unwrap().members;
    news_until(&registry, &["gw-1", "gw-2"]).await;
    let heeds = members.iter().map(|member| member.since).max().unwrap();
    let standing = Standing { heeds, known: Some(Known { members: members.clone(), own: Some(own) }), served: [].into() };
    registry.stands(standing.clone());
    let deadline = Instant::now() + Duration::from_secs(20);
    while other.assignment().await.unwrap().members[0].heeds != heeds {
        assert!(Instant::now() < deadline, "{:#}", registry.status());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    registry.say_leaving(true);
    registry.answers().wait_for(|answer| answer.own.as_ref().is_some_and(|own| own.leaving)).await.unwrap();
    news_until(&registry, &["gw-1 leaves", "gw-2"]).await;
    registry.say_leaving(false);
    news_until(&registry, &["gw-1", "gw-2"]).await;

    // The next process knows what was in force, with no directory.
    registry.write_down().await;
    registry.stop().await;
    let (known, age) = recall(&config).unwrap();
    assert_eq!(Some(known), standing.known);
    assert!(age < Duration::from_secs(20), "{age:?}");
    let elsewhere = files.config(|yaml| shared(yaml).replace("address: 10.9.0.1 ", "address: 10.9.0.9 "));
    assert_eq!(recall(&elsewhere), None, "another machine's");
    assert_eq!(other.assignment().await.unwrap().members.len(), 2, "a restart takes nobody off");

    // One that ends for good is off the list, and leaves nothing behind.
    let registry = Registry::start(&config, &BTreeMap::new()).unwrap();
    registry.stands(standing);
    registry.say_leaving(true);
    registry.answers().wait_for(|answer| answer.own.as_ref().is_some_and(|own| own.leaving)).await.unwrap();
    registry.leave_the_group().await;
    registry.stop().await;
    assert_eq!(recall(&config), None);
    let members = other.assignment().await.unwrap().members;
    assert_eq!(members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["gw-2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_address_is_anothers_says_so() {
    let bed = Bed::sqlite().await;
    let files = Node::of(&bed).await;
    let other = bed.gateway("gw-2", &["acme/0"]).await;
    other.put_member(&super::group::at("10.9.0.1")).await.unwrap();
    let registry = Registry::start(&files.config(shared), &BTreeMap::new()).unwrap();
    wait(&registry, "refused", |status| status["member"].as_str().is_some_and(|member| member.contains("address of gateway gw-2"))).await;
    let mut page = Page::default();
    registry.metrics(&mut page);
    assert!(page.encode(Format::OpenMetrics).unwrap().replace("{} ", " ").contains("portway_directory_refused_member_total 1"), "counted");
    registry.stop().await;
}
