//! What an instance is told of itself, as a gateway asks for it.

use portway::cloud::metadata::{Failure, Metadata, TARGET_LIFECYCLE_STATE};
use portway::lab::cloud::{self, Cloud, Hook};
use std::net::TcpListener;
use std::time::Duration;

const GROUP: &str = "gateways";

/// Of a group's only instance.
async fn instance() -> (Cloud, cloud::metadata::Metadata, Metadata) {
    let cloud = Cloud::start().await.unwrap();
    let hook = Hook { name: "drain".into(), timeout: Duration::from_secs(30) };
    cloud.group(GROUP, (0, 10), 1, Duration::ZERO, Some(hook));
    let (id, _) = cloud.instances(GROUP)[0].clone();
    let (told, asked) = metadata(&cloud, &id);
    (cloud, told, asked)
}

fn metadata(cloud: &Cloud, id: &str) -> (cloud::metadata::Metadata, Metadata) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    (cloud.metadata(id, listener).unwrap(), Metadata::new(&endpoint))
}

async fn target(asked: &Metadata) -> Option<String> {
    asked.get(TARGET_LIFECYCLE_STATE).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_serves_for_many_questions() {
    let (cloud, told, asked) = instance().await;
    assert_eq!(asked.get("instance-id").await, Ok(Some(cloud.instances(GROUP)[0].0.clone())));
    for _ in 0..3 {
        assert_eq!(target(&asked).await.as_deref(), Some("InService"));
    }
    cloud.desire(GROUP, 0);
    assert_eq!(target(&asked).await.as_deref(), Some("Terminated"));
    assert_eq!(told.counts(), (1, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_of_no_group_has_no_target() {
    let cloud = Cloud::start().await.unwrap();
    let (_, asked) = metadata(&cloud, "i-0123456789abcdef0");
    assert_eq!(target(&asked).await, None);
    assert_eq!(asked.get("instance-id").await, Ok(Some("i-0123456789abcdef0".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_a_new_token_is_asked_for() {
    let (_cloud, told, asked) = instance().await;
    target(&asked).await;
    told.forget_tokens();
    let refused = |status| Err(Failure::Refused { endpoint: asked.endpoint().clone(), status });
    assert_eq!(asked.get(TARGET_LIFECYCLE_STATE).await, refused(401));
    assert_eq!(target(&asked).await.as_deref(), Some("InService"));
    told.refuse([503, 403]);
    assert_eq!(asked.get(TARGET_LIFECYCLE_STATE).await, refused(503));
    assert_eq!(asked.get(TARGET_LIFECYCLE_STATE).await, refused(403));
    assert_eq!(target(&asked).await.as_deref(), Some("InService"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_answers_or_something_else_does_it_is_said_how_to_mend_it() {
    // Nobody.
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // The API of Auto Scaling, which gives no token.
    let cloud = Cloud::start().await.unwrap();
    for endpoint in [format!("http://{at}"), cloud.endpoint.clone()] {
        let endpoint = endpoint.parse().unwrap();
        let failure = Metadata::new(&endpoint).get(TARGET_LIFECYCLE_STATE).await.unwrap_err();
        let text = failure.to_string();
        assert!(matches!(failure, Failure::Silent { .. }) && text.contains("HttpEndpoint"), "{text}");
    }
}
