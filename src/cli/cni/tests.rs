use super::*;
use serde_json::json;
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// More than any of these answers takes; nothing waits for it.
const LONG: Duration = Duration::from_secs(60);

fn listener(dir: &TempDir) -> UnixListener {
    UnixListener::bind(sockets::api_path(dir.path(), "host")).unwrap()
}

fn given(dir: &TempDir, more: Value) -> Vec<u8> {
    let mut config = json!({ "cniVersion": "1.1.0", "name": "functions", "tenant": "acme", "runtimeDir": dir.path() });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config.to_string().into_bytes()
}

fn container(id: &str) -> Container {
    Container { id: id.into(), ifname: "eth0".into() }
}

fn del() -> Call {
    Call::Del(container("a"))
}

fn none_is_valid() -> Value {
    json!({ "cni.dev/valid-attachments": [] })
}

/// The first line of each request to a daemon, which gives these answers; without one it hangs up.
fn daemon(dir: &TempDir, answers: impl Fn(&str) -> Option<(u16, Value)> + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let (asked, listener) = (Arc::<Mutex<Vec<String>>>::default(), listener(dir));
    let told = asked.clone();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let line = String::from_utf8(head).unwrap().lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
            told.lock().unwrap().push(line.clone());
            if let Some((status, body)) = answers(&line) {
                let body = if body.is_null() { String::new() } else { body.to_string() };
                let answer = format!("HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    asked
}

/// Two attachments of the network, and what a DELETE is answered.
fn two_stand(deleted: Option<(u16, Value)>) -> impl Fn(&str) -> Option<(u16, Value)> {
    let names = ["a", "b"].map(|id| json!({ "name": cni::attachment("functions", &container(id)) }));
    move |line| if line.starts_with("DELETE ") { deleted.clone() } else { Some((200, json!(names))) }
}

/// Runtimes, the status of their node behind them, wait for STATUS; and a container is not to wait for a daemon to go.
#[tokio::test]
async fn a_daemon_that_hangs_is_told_of_and_keeps_no_container_from_going() {
    let dir = TempDir::new().unwrap();
    // Connections are taken up, as the kernel does for a process that is stopped, and as systemd does for one that is started again.
    let _hangs = listener(&dir);
    let short = Duration::from_millis(50);
    assert_eq!(answer(&del(), &given(&dir, json!({})), short).await, Ok(None));
    for (call, code) in [(Call::Status, Code::NotAvailable), (Call::Gc, Code::TryAgainLater)] {
        let error = answer(&call, &given(&dir, none_is_valid()), short).await.unwrap_err();
        assert!(error.code == code && error.message.contains("gave no answer for 50ms"), "{error:?}");
    }
    assert_eq!([Call::Status, Call::Gc, del()].map(|call| patience(&call).as_secs()), [3, 30, 30]);
}

#[tokio::test]
async fn what_the_daemon_has_half_undone_is_its_own_to_end() {
    let dir = TempDir::new().unwrap();
    let asked = daemon(&dir, two_stand(Some((500, json!({ "error": "not altogether undone" })))));
    assert_eq!(answer(&del(), &given(&dir, json!({})), LONG).await, Ok(None));
    let error = answer(&Call::Gc, &given(&dir, none_is_valid()), LONG).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::TryAgainLater, "not altogether undone"));
    let path = |id| format!("DELETE /v1/attachments/{}", cni::attachment("functions", &container(id)));
    assert_eq!(
        *asked.lock().unwrap(),
        [path("a"), "GET /v1/attachments".into(), path("a"), path("b")],
        "the other is asked for all the same"
    );
}

#[tokio::test]
async fn a_daemon_that_goes_away_is_not_asked_for_each_that_is_left() {
    let dir = TempDir::new().unwrap();
    let asked = daemon(&dir, two_stand(None));
    let error = answer(&Call::Gc, &given(&dir, none_is_valid()), LONG).await.unwrap_err();
    assert!(error.code == Code::TryAgainLater && error.message.contains("is it running"), "{error:?}");
    assert_eq!(asked.lock().unwrap().len(), 2);
    assert_eq!(answer(&del(), &given(&dir, json!({})), LONG).await, Ok(None));
}

#[tokio::test]
async fn what_a_daemon_refuses_to_end_is_said() {
    let dir = TempDir::new().unwrap();
    let asked = daemon(&dir, two_stand(Some((400, json!({ "error": "no name" })))));
    let error = answer(&del(), &given(&dir, json!({})), LONG).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::Refused, "no name"));
    assert_eq!(asked.lock().unwrap().len(), 1);
}

/// A tunnel that cannot be made is its tenant's matter: the runtime would take the machine out of service for all of them.
#[tokio::test]
async fn one_tenants_fault_is_no_reason_to_add_nobodys_containers() {
    let dir = TempDir::new().unwrap();
    let fails = |line: &str| if line == "GET /readyz" { (503, json!("not ready:\npw-1")) } else { (200, json!("ok")) };
    daemon(&dir, move |line| Some(fails(line)));
    assert_eq!(answer(&Call::Status, &given(&dir, json!({})), LONG).await, Ok(None));

    let dir = TempDir::new().unwrap();
    daemon(&dir, |_| Some((503, json!("starting"))));
    let error = answer(&Call::Status, &given(&dir, json!({})), LONG).await.unwrap_err();
    assert!(error.code == Code::NotAvailable && error.message.contains("starting"), "{error:?}");
}

#[test]
fn what_may_go_better_later_is_told_from_what_will_not() {
    let told = |status: u16| match succeeded((status, json!({ "error": "why" }))) {
        Ok(_) => None,
        Err(failed) => {
            let error = Error::from(failed);
            assert_eq!(error.message, "why");
            Some(error.code as u16)
        }
    };
    assert_eq!([200, 201, 204].map(told), [None; 3]);
    assert_eq!([500, 503].map(told), [Some(11); 2]);
    assert_eq!([400, 404, 409, 507].map(told), [Some(100); 4]);
}

#[test]
fn standard_input_that_has_no_end_is_no_configuration() {
    let error = read(io::repeat(b' ')).unwrap_err();
    assert!(error.code == Code::Undecodable && error.message.contains("longer than 4 MiB"), "{error:?}");
    assert_eq!(read(io::repeat(b' ').take(LONGEST)).unwrap().len() as u64, LONGEST);
}
