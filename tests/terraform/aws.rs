//! A simulated AWS on loopback: moto.

use super::ROOT;
use portway::lab::{Life, Process, poll_until};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub const REGION: &str = "eu-central-1";
/// It comes up within seconds; not from a slow disk.
const PATIENCE: Duration = Duration::from_secs(180);

pub struct Aws {
    pub endpoint: String,
    process: Process,
    _log: tempfile::TempDir,
}

impl Aws {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("moto.log");
        let python = Path::new(ROOT).join("target/moto/bin/python");
        assert!(python.exists(), "no {}: run scripts/install-deps test", python.display());
        let mut command = Command::new(python);
        // Port 0: one that is free, which it tells.
        command.arg(Path::new(ROOT).join("tests/terraform/moto_server.py")).args(["-H", "127.0.0.1", "-p", "0"]);
        let mut process = Process::spawn("moto", command, &log, Life::WithLab).unwrap();
        let mut endpoint = None;
        poll_until("moto listens", PATIENCE, || {
            process.check_alive()?;
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            endpoint = log.split("Running on ").nth(1).and_then(|rest| rest.split_once('\n')).map(|(url, _)| url.trim().to_owned());
            Ok(endpoint.is_some())
        })
        .unwrap_or_else(|error| panic!("{error}: {}", process.tail()));
        Self { endpoint: endpoint.unwrap(), process, _log: dir }
    }

    /// For Terraform: it calls nobody else.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", "testing".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "testing".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            // What it cannot do fails at once.
            ("AWS_MAX_ATTEMPTS", "1".to_owned()),
        ]
    }

    fn curl(&self, service: &str, arguments: &[&str]) -> String {
        let key = format!(
            "Authorization: AWS4-HMAC-SHA256 Credential=testing/20200101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=none"
        );
        let output = Command::new("curl").args(["--silent", "--show-error", "--fail-with-body", "--header", &key]).args(arguments).output();
        let output = output.expect("no curl: run scripts/install-deps demo");
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{service} {arguments:?}: {answer}\n{}", self.process.tail());
        answer
    }

    /// A call of a service that speaks JSON.
    pub fn json(&self, service: &str, target: &str, body: &Value) -> Value {
        let target = format!("X-Amz-Target: {target}");
        let (body, url) = (body.to_string(), format!("{}/", self.endpoint));
        let answer =
            self.curl(service, &["--header", &target, "--header", "Content-Type: application/x-amz-json-1.1", "--data", &body, &url]);
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"))
    }

    /// A call of EC2's, which answers in XML.
    pub fn ec2(&self, parameters: &str) -> String {
        self.curl("ec2", &["--data", &format!("Version=2016-11-15&{parameters}"), &format!("{}/", self.endpoint)])
    }

    pub fn put_object(&self, bucket: &str, key: &str, content: &str) {
        let place = format!("<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>");
        for (what, content) in [(bucket.to_owned(), place.as_str()), (format!("{bucket}/{key}"), content)] {
            let url = format!("{}/{what}", self.endpoint);
            self.curl("s3", &["--request", "PUT", "--header", "Content-Type: application/xml", "--data", content, &url]);
        }
    }
}

/// What stands in the first element of this name.
pub fn element<'t>(xml: &'t str, name: &str) -> &'t str {
    let after = xml.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {xml}")).1;
    after.split_once(&format!("</{name}>")).unwrap().0
}
