//! What has changed, told to whom it concerns.

use super::registry::shard_spec;
use super::support::*;
use portway::directory::client::{Client, Watched};
use portway::directory::types::*;
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

async fn present(client: &Client) -> u64 {
    match client.watch(None, WAIT).await.unwrap() {
        Watched::Changes(changes) => changes.revision,
        other @ Watched::StartAgain => panic!("{other:?}"),
    }
}

/// The next changes as `kind name`, with `-` before what is gone; and from where to go on.
async fn next(client: &Client, since: u64, wait: Duration) -> (Vec<String>, u64) {
    match client.watch(Some(since), wait).await.unwrap() {
        Watched::Changes(changes) => {
            let line = |change: &Change| format!("{}{:?} {}", if change.gone { "-" } else { "" }, change.kind, change.name);
            (changes.changes.iter().map(line).collect(), changes.revision)
        }
        other @ Watched::StartAgain => panic!("{other:?}"),
    }
}

pub async fn changes_are_told_within_a_second(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let gateway = bed.gateway("gw-1", &["acme/0"]).await;
    let since = present(&gateway).await;
    let watcher = tokio::spawn(async move { (next(&gateway, since, WAIT).await, Instant::now()) });
    // Until the call waits; it would be told all the same.
    bed.has_watcher().await;
    let (_, enrolled) = bed.host("host-1", &key(1), &["acme"]).await;
    let done = Instant::now();
    let ((changes, revision), told) = watcher.await.unwrap();
    assert_eq!(changes, ["Host host-1"]);
    assert_eq!(revision, enrolled.membership.host.revision);
    assert!(told.saturating_duration_since(done) < Duration::from_secs(1), "{:?}", told.saturating_duration_since(done));
}

pub async fn each_hears_of_its_own(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    let ours = bed.gateway("gw-a", &["acme/0"]).await;
    let theirs = bed.gateway("gw-g", &["globex/0"]).await;
    let (host, _) = bed.host("host-1", &key(1), &["acme"]).await;
    let all = bed.role(token(Role::Operator)).await;
    let since = present(&all).await;
    bed.operator().put_host(&node("host-2"), &host_spec(&["globex"], Some(2))).await.unwrap();
    bed.operator().put_host(&node("host-3"), &host_spec(&["acme"], Some(3))).await.unwrap();
    theirs.put_shard(&shard("globex/0"), &shard_spec("10.9.0.60:51820", 100, None)).await.unwrap();
    ours.put_shard(&shard("acme/0"), &shard_spec("10.9.0.50:51820", 101, None)).await.unwrap();
    host.rotate(&key(4), &node("host-1")).await.unwrap();
    bed.operator().remove_host(&node("host-3")).await.unwrap();
    assert_eq!(next(&ours, since, WAIT).await.0, ["Host host-3", "Shard acme/0", "Host host-1", "-Host host-3"]);
    assert_eq!(next(&theirs, since, WAIT).await.0, ["Host host-2", "Shard globex/0"]);
    assert_eq!(next(&host, since, WAIT).await.0, ["Shard acme/0", "Host host-1"]);
    assert_eq!(next(&all, since, WAIT).await.0.len(), 8);
    // Gateways are told the keys, those that have become invalid among them, and no other tenant's name.
    let Watched::Changes(changes) = ours.watch(Some(since), WAIT).await.unwrap() else { panic!() };
    assert_eq!(changes.changes[2].keys, [key(1).public(), key(4).public()]);
    assert_eq!(changes.changes[3].keys, [key(3).public()]);
    assert!(!serde_json::to_string(&changes).unwrap().contains("globex"));
    // What it may see has changed: it is told that itself has.
    let since = present(&theirs).await;
    bed.operator().put_gateway(&node("gw-g"), &GatewaySpec { shards: [shard("acme/0")].into() }).await.unwrap();
    assert_eq!(next(&theirs, since, WAIT).await.0, ["Gateway gw-g", "Gateway gw-g"]);
}

pub async fn what_happened_meanwhile_is_told_on_return(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let gateway = bed.gateway("gw-1", &["acme/0"]).await;
    let token = bed.operator().add_token(&TokenSpec { gateway: Some(node("gw-1")), ..token(Role::Gateway) }).await.unwrap().token;
    let since = present(&gateway).await;
    for number in 1..=20 {
        bed.operator().put_host(&node(&format!("host-{number}")), &host_spec(&["acme"], Some(number))).await.unwrap();
    }
    // From the memory of one process, and from what the next one finds in the database.
    let told = next(&gateway, since, WAIT).await;
    assert_eq!((told.0.len(), told.0[0].as_str(), told.0[19].as_str()), (20, "Host host-1", "Host host-20"));
    let bed = bed.restarted(|_| {}).await;
    let gateway = bed.with(token);
    assert_eq!(next(&gateway, since, WAIT).await, told);
    assert_eq!(next(&gateway, told.1 - 1, WAIT).await.0, ["Host host-20"]);
    // Nothing more: it waits as long as it was told to.
    assert_eq!(next(&gateway, told.1, Duration::ZERO).await, (vec![], told.1));
}

pub async fn who_comes_back_too_late_starts_again(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let operator = bed.operator();
    let since = present(&operator).await;
    // 100 are kept, and half as many more before they are tidied up.
    for turn in 0..160_u16 {
        let spec = shard_spec(&format!("10.9.0.50:{}", 1000 + turn), 100, None);
        operator.put_shard(&shard("acme/0"), &spec).await.unwrap();
    }
    let bed = bed.restarted(|_| {}).await;
    let deadline = Instant::now() + WAIT;
    while bed.operator().watch(Some(since), WAIT).await.unwrap() != Watched::StartAgain {
        assert!(Instant::now() < deadline, "nothing was forgotten");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let operator = bed.operator();
    let last = present(&operator).await;
    assert_eq!(next(&operator, last - 50, WAIT).await.0.len(), 50);
    // A revision that has not been, as after a backup was put back.
    assert_eq!(operator.watch(Some(last + 1), WAIT).await.unwrap(), Watched::StartAgain);
}

pub async fn a_watch_ends_with_its_token(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let minted = bed.operator().add_token(&TokenSpec { tenants: Some([tenant("acme")].into()), ..token(Role::Operator) }).await.unwrap();
    let client = bed.with(minted.token.clone());
    let since = present(&client).await;
    let watcher = tokio::spawn(async move { code(client.watch(Some(since), WAIT).await) });
    bed.has_watcher().await;
    bed.operator().remove_token(&minted.id).await.unwrap();
    assert_eq!(watcher.await.unwrap(), "unauthenticated");
}
