//! Hosts come, come again, and change their keys.

use super::support::*;
use portway::directory::client::{Client, PathKey};
use portway::directory::proof::{self, Nonce, Question};
use portway::directory::types::*;
use portway::model::PrivateKey;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

/// Longer than a directory waits for an issuer.
const PATIENCE: Duration = Duration::from_secs(15);

pub async fn a_host_enrols_and_comes_again(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    let enrolment = bed.enrolment(&["acme"]).await;
    let first = enrolment.enroll(&key(1), &node("host-1")).await.unwrap();
    assert_eq!(inner(&first.membership.host), "acme/0=10.64.0.1/32");
    let host = bed.with(first.credential.token.clone());
    assert_eq!(host.membership().await.unwrap().host.inner, first.membership.host.inner);
    // The answer was lost: the same again, with the same token. The first credential is no more.
    let again = enrolment.enroll(&key(1), &node("host-1")).await.unwrap();
    assert_eq!(again.membership.host.inner, first.membership.host.inner);
    assert_eq!(code(host.whoami().await), "unauthenticated");
    bed.with(again.credential.token).whoami().await.unwrap();
    // Later, with a token for more.
    let (_, more) = bed.host("host-1", &key(1), &["globex"]).await;
    assert_eq!(inner(&more.membership.host), "acme/0=10.64.0.1/32 globex/0=10.64.0.1/32");
    assert_eq!(more.membership.host.keys, [HostKey { public_key: key(1).public(), expires: None }]);
}

pub async fn a_token_is_good_for_one_host(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let enrolment = bed.enrolment(&["acme"]).await;
    enrolment.enroll(&key(1), &node("host-1")).await.unwrap();
    assert_eq!(code(enrolment.enroll(&key(2), &node("host-2")).await), "unauthenticated");
    assert_eq!(code(enrolment.enroll(&key(2), &node("host-1")).await), "unauthenticated");
    assert_eq!(code(enrolment.enroll(&key(1), &node("host-2")).await), "unauthenticated");
    // Two at once: one of them.
    let enrolment = bed.enrolment(&["acme"]).await;
    let (three, four, three_name, four_name) = (key(3), key(4), node("host-3"), node("host-4"));
    let (one, other) = tokio::join!(enrolment.enroll(&three, &three_name), enrolment.enroll(&four, &four_name));
    assert_eq!([one.is_ok(), other.is_ok()].iter().filter(|good| **good).count(), 1);
    let pinned = bed.role(TokenSpec { host: Some(node("host-5")), ..enroll(&["acme"]) }).await;
    assert_eq!(code(pinned.enroll(&key(5), &node("host-6")).await), "forbidden");
    pinned.enroll(&key(5), &node("host-5")).await.unwrap();
    // Other tokens are for other things.
    assert_eq!(code(bed.role(token(Role::Operator)).await.enroll(&key(7), &node("host-7")).await), "forbidden");
    let used = bed.operator().tokens().await.unwrap().into_iter().filter_map(|token| token.used_by).count();
    assert_eq!(used, 3);
}

pub async fn nobody_takes_what_is_anothers(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    bed.host("host-1", &key(1), &["acme"]).await;
    let enrolment = bed.enrolment(&["acme"]).await;
    assert_eq!(code(enrolment.enroll(&key(2), &node("host-1")).await), "name_taken");
    assert_eq!(code(enrolment.enroll(&key(1), &node("host-2")).await), "key_taken");
    // A host that was added for another tenant, and has not come yet, is not for whoever comes with a token of any tenant.
    bed.operator().put_host(&node("host-3"), &host_spec(&["globex"], None)).await.unwrap();
    assert_eq!(code(enrolment.enroll(&key(3), &node("host-3")).await), "name_taken");
    // Nothing of that has used the token up.
    enrolment.enroll(&key(4), &node("host-4")).await.unwrap();
    let globex = bed.enrolment(&["globex"]).await;
    assert_eq!(inner(&globex.enroll(&key(3), &node("host-3")).await.unwrap().membership.host), "globex/0=10.64.0.1/32");
}

/// An enrolment in its parts, so that each can be wrong.
pub async fn attempt(
    client: &Client,
    claimed: &PrivateKey,
    prover: &PrivateKey,
    token: &str,
    edit: impl FnOnce(&mut EnrollSpec),
) -> Result<Enrolled, String> {
    let body = ChallengeSpec { public_key: claimed.public() };
    let (_, bytes) = client.call(Method::POST, "/v1/enroll/challenge", Some(&body), PATIENCE).await.unwrap();
    let challenge: Challenge = serde_json::from_slice(&bytes).unwrap();
    let question = Question { nonce: Nonce::parse(&challenge.nonce).unwrap(), server_key: challenge.server_key };
    let proof = proof::answer(prover, &question, token, "host-1").unwrap();
    let mut spec =
        EnrollSpec { name: node("host-1"), public_key: claimed.public(), nonce: challenge.nonce, proof, tenants: None, inner: None };
    edit(&mut spec);
    match client.with_token(token).call(Method::POST, "/v1/enroll", Some(&spec), PATIENCE).await {
        Ok((201, bytes)) => Ok(serde_json::from_slice(&bytes).unwrap()),
        Ok(other) => panic!("{other:?}"),
        refused => Err(code(refused)),
    }
}

pub async fn a_claim_to_more_than_the_token_allows_is_refused(bed: Bed) {
    for name in ["acme", "globex", "initech"] {
        bed.tenant(name, "10.64.0.0/16", &[0]).await;
    }
    let token = bed.operator().add_token(&enroll(&["acme", "globex"])).await.unwrap().token;
    let wanting = async |tenants: &[&str], claim: &[(&str, &str)]| {
        let tenants = (!tenants.is_empty()).then(|| tenants.iter().map(|name| tenant(name)).collect());
        let claim = (!claim.is_empty()).then(|| claim.iter().map(|(of, net)| (shard(of), vec![net.parse().unwrap()])).collect());
        let edit = |spec: &mut EnrollSpec| (spec.tenants, spec.inner) = (tenants, claim);
        attempt(&bed.stranger(), &key(1), &key(1), &token, edit).await.map(|enrolled| inner(&enrolled.membership.host))
    };
    // One that is not there is refused as one that is another's.
    for more in ["initech", "umbrella"] {
        assert_eq!(wanting(&["acme", more], &[]).await, Err("tenant_refused".into()));
    }
    for (of, net) in [("acme", "10.64.0.9/32"), ("initech", "10.64.0.1/32"), ("acme/1", "10.64.0.1/32")] {
        assert_eq!(wanting(&["acme"], &[(of, net)]).await, Err("inner_taken".into()), "{of} {net}");
    }
    assert_eq!(wanting(&["acme"], &[("acme", "10.64.0.1/32")]).await, Ok("acme/0=10.64.0.1/32".into()));
    assert_eq!(wanting(&[], &[]).await, Ok("acme/0=10.64.0.1/32 globex/0=10.64.0.1/32".into()));
}

pub async fn without_the_private_key_nobody_enrols(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let token = bed.operator().add_token(&enroll(&["acme"])).await.unwrap().token;
    let other = bed.operator().add_token(&enroll(&["acme"])).await.unwrap().token;
    let stranger = bed.stranger();
    let bad = || Err("bad_proof".to_owned());
    let wrong = async |prover: u8, token: &str, edit: &dyn Fn(&mut EnrollSpec)| {
        attempt(&stranger, &key(1), &key(prover), token, |spec| edit(spec)).await.map(drop)
    };
    assert_eq!(wrong(2, &token, &|_| {}).await, bad());
    assert_eq!(wrong(1, &token, &|spec| spec.name = node("host-2")).await, bad());
    assert_eq!(wrong(1, &token, &|spec| spec.public_key = key(2).public()).await, bad());
    assert_eq!(wrong(1, &token, &|spec| spec.proof = String::new()).await, bad());
    assert_eq!(wrong(1, &token, &|spec| spec.nonce = "AAAA".into()).await, Err("invalid".into()));
    assert_eq!(wrong(1, &token, &|_| bed.advance(61)).await, bad());
    // A proof that was made for another token.
    let mut stolen = None;
    attempt(&stranger, &key(1), &key(1), &token, |spec| {
        stolen = Some(spec.clone());
        spec.proof = String::new();
    })
    .await
    .unwrap_err();
    let result = stranger.with_token(other).call(Method::POST, "/v1/enroll", stolen.as_ref(), PATIENCE).await;
    assert_eq!(code(result), "bad_proof");
    assert_eq!(bed.operator().hosts(None).await.unwrap().hosts, []);
    wrong(1, &token, &|_| {}).await.unwrap();
}

/// Who overhears everything, the token included, and repeats it, gets nothing.
pub async fn an_answer_counts_once(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let token = bed.operator().add_token(&enroll(&["acme"])).await.unwrap().token;
    let mut overheard = None;
    let first = attempt(&bed.stranger(), &key(1), &key(1), &token, |spec| overheard = Some(spec.clone())).await.unwrap();
    let again = bed.with(token.as_str()).call(Method::POST, "/v1/enroll", overheard.as_ref(), PATIENCE).await;
    assert_eq!(code(again), "bad_proof");
    // The host's own token is what it was; and what was refused for another reason was not counted.
    let host = bed.with(first.credential.token);
    host.whoami().await.unwrap();
    let wanting = |spec: &mut EnrollSpec| {
        spec.tenants = Some([tenant("globex")].into());
        overheard = Some(EnrollSpec { tenants: None, ..spec.clone() });
    };
    assert_eq!(attempt(&bed.stranger(), &key(1), &key(1), &token, wanting).await.unwrap_err(), "tenant_refused");
    bed.with(token.as_str()).call(Method::POST, "/v1/enroll", overheard.as_ref(), PATIENCE).await.unwrap();
}

/// A token for acme, made for a host that serves nobody at the moment, would be one for all that the host serves later.
pub async fn a_host_of_no_tenant_is_not_for_whoever_names_it(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    bed.host("host-1", &key(1), &["globex"]).await;
    let none = HostSpec { tenants: [].into(), public_key: None };
    bed.operator().put_host(&node("host-1"), &none).await.unwrap();
    let some = bed.operator_of(&["acme"]).await;
    let minted = some.add_token(&TokenSpec { host: Some(node("host-1")), ..enroll(&["acme"]) }).await.unwrap();
    assert_eq!(code(bed.with(minted.token).enroll(&key(2), &node("host-1")).await), "name_taken");
}

pub async fn a_host_with_a_new_key_takes_a_token_of_its_own(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    bed.host("host-0", &key(9), &["acme"]).await;
    let (old, first) = bed.host("host-1", &key(1), &["acme"]).await;
    old.whoami().await.unwrap();
    // Installed anew, its key lost: an operator says that it is this host.
    let pinned = bed.role(TokenSpec { host: Some(node("host-1")), ..enroll(&["acme"]) }).await;
    let anew = pinned.enroll(&key(2), &node("host-1")).await.unwrap();
    assert_eq!(anew.membership.host.inner, first.membership.host.inner);
    assert_eq!(anew.membership.host.keys, [HostKey { public_key: key(2).public(), expires: None }]);
    assert_eq!(code(old.whoami().await), "unauthenticated");
    assert_eq!(bed.operator().peer(&key(1).public()).await.unwrap(), None);
    // Not by a token for one tenant only, if it serves another one, too.
    bed.operator().put_host(&node("host-1"), &host_spec(&["acme", "globex"], None)).await.unwrap();
    let pinned = bed.role(TokenSpec { host: Some(node("host-1")), ..enroll(&["acme"]) }).await;
    assert_eq!(code(pinned.enroll(&key(3), &node("host-1")).await), "name_taken");
}

pub async fn a_removed_host_does_not_come_back_by_itself(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let enrolment = bed.enrolment(&["acme"]).await;
    enrolment.enroll(&key(1), &node("host-1")).await.unwrap();
    bed.operator().remove_host(&node("host-1")).await.unwrap();
    assert_eq!(code(enrolment.enroll(&key(1), &node("host-1")).await), "unauthenticated");
    assert_eq!(bed.operator().peer(&key(1).public()).await.unwrap(), None);
    // Removed, it is as any other.
    bed.host("host-1", &key(1), &["acme"]).await;
}

pub async fn two_keys_are_valid_while_one_is_changed(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let gateway = bed.gateway("gw-1", &["acme/0"]).await;
    let (host, first) = bed.host("host-1", &key(1), &["acme"]).await;
    bed.host("host-2", &key(9), &["acme"]).await;
    host.rotate(&key(2), &node("host-1")).await.unwrap();
    // Once more, as the answer was lost.
    host.rotate(&key(2), &node("host-1")).await.unwrap();
    for number in [1, 2] {
        let seen = gateway.peer(&key(number).public()).await.unwrap().unwrap();
        assert_eq!((seen.name, &seen.inner), (node("host-1"), &first.membership.host.inner), "{number}");
        let keys: Vec<_> = seen.keys.iter().map(|key| (key.public_key, key.expires.is_some())).collect();
        assert_eq!(keys, [(key(1).public(), true), (key(2).public(), false)]);
    }
    assert_eq!(code(host.rotate(&key(3), &node("host-1")).await), "rotating");
    assert_eq!(code(host.rotate(&key(9), &node("host-1")).await), "rotating");
    // Of somebody's else name the proof is none.
    let body = json!({ "public_key": key(3).public(), "nonce": "AAAA", "proof": "" });
    assert_eq!(code(host.call(Method::POST, "/v1/host/key", Some(&body), PATIENCE).await), "invalid");
    bed.advance(601);
    assert_eq!(gateway.peer(&key(1).public()).await.unwrap(), None);
    assert!(gateway.peer(&key(2).public()).await.unwrap().is_some());
    assert_eq!(code(host.rotate(&key(9), &node("host-1")).await), "key_taken");
    host.rotate(&key(3), &node("host-1")).await.unwrap();
    // Its token is the same all the time.
    assert_eq!(host.membership().await.unwrap().host.inner, first.membership.host.inner);
    assert_eq!(PathKey(key(3).public()).to_string().len(), 43);
}
