//! The first boot for real, but for what only a machine has: its metadata are this test's, AWS is moto, and what it would run is written down.

use super::aws::{Aws, REGION, element};
use super::{ROOT, told};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PRIMARY: &str = "0a:00:00:00:00:01";
const TENANT: &str = "0a:00:00:00:00:02";
const PACKAGE: &str = "a package";
/// By sha256sum.
const DIGEST: &str = "c0cd5ccfdb563a59366e33e73001b78fdb8cca5a6c48e2f90fffcde44b81f1f6";
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// An instance's metadata: what is at each path. Without a token, which PUT gives, nothing is told.
fn metadata(paths: BTreeMap<&'static str, String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &paths)));
    endpoint
}

fn answer(mut stream: TcpStream, paths: &BTreeMap<&'static str, String>) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let lines: Vec<String> = lines.collect();
    let has_token = lines.iter().any(|line| line.eq_ignore_ascii_case("x-aws-ec2-metadata-token: a-token"));
    let mut words = lines.first().map(String::as_str).unwrap_or_default().split(' ');
    let (status, body) = match (words.next(), words.next()) {
        (Some("PUT"), Some("/latest/api/token")) => ("200 OK", "a-token"),
        (Some("GET"), Some(_)) if !has_token => ("401 Unauthorized", ""),
        (Some("GET"), Some(path)) => {
            paths.get(path.trim_start_matches("/latest/meta-data/")).map_or(("404 Not Found", ""), |body| ("200 OK", body.as_str()))
        }
        _ => ("400 Bad Request", ""),
    };
    // Who went away has nothing to be told.
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
}

struct Machine {
    root: tempfile::TempDir,
    metadata: String,
}

impl Machine {
    /// `interface`: the id of the primary one.
    fn new(interface: &str) -> Self {
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for (name, mac) in [("ens5", PRIMARY), ("ens6", TENANT)] {
            let device = root.path().join("sys/class/net").join(name);
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("address"), format!("{mac}\n")).unwrap();
        }
        let programs = root.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        let ran = root.path().join("ran");
        for name in ["apt-get", "ip", "portway", "systemctl"] {
            let token = "case \"$*\" in *'token add'*) echo pwt_2_its_own ;; esac";
            let script = format!("#!/bin/sh\necho \"{name} $*\" >> {}\n{token}\n", ran.display());
            std::fs::write(programs.join(name), script).unwrap();
            std::fs::set_permissions(programs.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let credentials = json!({ "AccessKeyId": "testing", "SecretAccessKey": "testing", "Token": "session" });
        let paths = [
            ("instance-id", "i-0123456789abcdef0".to_owned()),
            ("placement/region", REGION.to_owned()),
            ("placement/availability-zone", format!("{REGION}b")),
            ("services/domain", "amazonaws.com".to_owned()),
            ("mac", PRIMARY.to_owned()),
            ("local-ipv4", "10.9.1.77".to_owned()),
            ("network/interfaces/macs/0a:00:00:00:00:01/interface-id", interface.to_owned()),
            ("iam/security-credentials/", "gateway".to_owned()),
            ("iam/security-credentials/gateway", credentials.to_string()),
        ];
        Self { root, metadata: metadata(paths.into()) }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn boot(&self, boot: &Value) -> Output {
        std::fs::create_dir_all(self.at("etc/portway")).unwrap();
        std::fs::write(self.at("etc/portway/boot.json"), boot.to_string()).unwrap();
        let path = format!("{}:{}", self.at("programs").display(), std::env::var("PATH").unwrap());
        let program = Path::new(ROOT).join("terraform/modules/boot/files/portway-configure");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(program).arg("--root").arg(self.root.path()).args(["--metadata", &self.metadata]).env("PATH", path);
        command.output().expect("python3")
    }

    fn file(&self, path: &str) -> (String, u32) {
        let path = self.at(path);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (text, std::fs::metadata(&path).unwrap().permissions().mode() & 0o777)
    }

    /// What it has run, one a line, without the root of the test.
    fn ran(&self) -> Vec<String> {
        let root = self.root.path().display().to_string();
        let ran = std::fs::read_to_string(self.at("ran")).unwrap_or_default();
        ran.lines().map(|line| line.replace(&root, "")).collect()
    }
}

/// As the module `appliance` gives a group's nodes.
fn of_a_group(aws: &Aws, secrets: &[(&str, String)], package: &str) -> Value {
    let endpoints: BTreeMap<&str, &str> = ["ec2", "s3", "secretsmanager", "ssm"].map(|service| (service, aws.endpoint.as_str())).into();
    let config =
        "gateway: { node: @node@, platform: { interface: @primary_interface@, address: @primary_address@ }, router: @router.tenant1@ }\n";
    json!({
        "role": "gateway", "node": null, "config": config, "source_dest_check": false, "endpoints": endpoints, "enroll": null,
        "words": { (format!("{REGION}a")): { "router.tenant1": "172.16.101.1" }, (format!("{REGION}b")): { "router.tenant1": "172.16.102.1" } },
        "interfaces": [{ "name": "tenant1", "macs": [TENANT], "wait": true }],
        "files": { "/etc/portway/directory-ca.pem": "-----BEGIN CERTIFICATE-----\n" },
        "secrets": secrets.iter().map(|(path, arn)| ((*path).to_owned(), json!(arn))).collect::<serde_json::Map<_, _>>(),
        "package": { "url": null, "s3": { "bucket": "packages", "key": "portway 0.1.deb" }, "sha256": package },
        "join": {
            "url": "https://directory.example:9473", "ca": "/etc/portway/directory-ca.pem", "shards": ["acme/0", "acme/1"],
            "operator_token": secrets[0].1, "token_file": "/etc/portway/directory.token",
        },
    })
}

#[test]
fn an_instance_becomes_a_gateway_by_itself() {
    let aws = Aws::start();
    let subnet = aws.ec2("Action=DescribeSubnets");
    let made = aws.ec2(&format!("Action=CreateNetworkInterface&SubnetId={}", element(&subnet, "subnetId")));
    let interface = element(&made, "networkInterfaceId");
    aws.json("ssm", "AmazonSSM.PutParameter", &json!({ "Name": "/portway/prod/ha", "Type": "SecureString", "Value": KEY }));
    let kept = aws.json(
        "secretsmanager",
        "secretsmanager.CreateSecret",
        &json!({ "Name": "acme", "SecretString": "the shard's", "ClientRequestToken": KEY }),
    );
    aws.put_object("packages", "portway%200.1.deb", PACKAGE);
    let secrets = [
        ("/etc/portway/ha-1.key", format!("arn:aws:ssm:{REGION}:123456789012:parameter/portway/prod/ha")),
        ("/etc/portway/acme-0.key", kept["ARN"].as_str().unwrap().to_owned()),
    ];
    let machine = Machine::new(interface);

    let another = "0".repeat(64);
    let refused = machine.boot(&of_a_group(&aws, &secrets, &another));
    let problem = format!("the package has the SHA-256 {DIGEST}, and not {another}: give the module the digest");
    assert!(!refused.status.success() && told(&refused).contains(&problem), "{}", told(&refused));
    assert!(machine.ran().iter().all(|line| !line.starts_with("apt-get")), "{:?}", machine.ran());
    std::fs::remove_file(machine.at("ran")).unwrap();

    for time in 1..=2 {
        let output = machine.boot(&of_a_group(&aws, &secrets, DIGEST));
        assert!(output.status.success(), "{time}: {}", told(&output));
        assert!(!told(&output).contains(KEY) && !told(&output).contains("pwt_"), "{}", told(&output));
    }
    let config = "gateway: { node: i-0123456789abcdef0, platform: { interface: ens5, address: 10.9.1.77 }, router: 172.16.102.1 }\n";
    assert_eq!(machine.file("etc/portway/gateway.yaml"), (config.to_owned(), 0o640));
    assert_eq!(machine.file("etc/portway/ha-1.key"), (format!("{KEY}\n"), 0o600));
    assert_eq!(machine.file("etc/portway/acme-0.key"), ("the shard's\n".to_owned(), 0o600));
    assert_eq!(machine.file("etc/portway/directory.token"), ("pwt_2_its_own\n".to_owned(), 0o600));
    assert!(!machine.at("run/portway-configure/token").exists());
    assert_eq!(machine.file("var/cache/portway/portway.deb").0, PACKAGE);

    let to_directory = "--url https://directory.example:9473 --ca /etc/portway/directory-ca.pem --token-file /run/portway-configure/token";
    let add = format!("portway directory gateway add i-0123456789abcdef0 --shard acme/0 --shard acme/1 {to_directory}");
    let token = format!("portway directory token add --role gateway --gateway i-0123456789abcdef0 {to_directory}");
    let options = "-q -y -o Acquire::Retries=10 -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold";
    let (update, install) =
        (format!("apt-get {options} update"), format!("apt-get {options} install --no-install-recommends /var/cache/portway/portway.deb"));
    let each = [
        "systemctl try-restart systemd-networkd.service",
        "ip link set dev ens6 down",
        "ip link set dev ens6 name tenant1",
        "ip link set dev tenant1 up",
        &update,
        &install,
        &add,
        &token,
        "portway check /etc/portway/gateway.yaml",
        "systemctl enable portway-gateway.service",
        "systemctl reload-or-restart portway-gateway.service",
    ];
    // The second time it has a token.
    let expected: Vec<&str> = each.iter().copied().chain(each.iter().copied().filter(|line| *line != token)).collect();
    assert_eq!(machine.ran(), expected);

    let checks = aws.ec2(&format!("Action=DescribeNetworkInterfaceAttribute&NetworkInterfaceId={interface}&Attribute=sourceDestCheck"));
    assert!(element(&checks, "sourceDestCheck").contains("false"), "{checks}");
}

/// Of a zone of which the module was told nothing.
#[test]
fn an_instance_where_nothing_is_known_says_so_and_starts_nothing() {
    let machine = Machine::new("eni-0");
    let boot = json!({
        "role": "gateway", "node": "gw-1", "config": "router: @router.tenant1@", "source_dest_check": true, "endpoints": {}, "enroll": null, "join": null,
        "words": {}, "interfaces": [], "files": {}, "secrets": {}, "package": null,
    });
    let output = machine.boot(&boot);
    assert!(
        !output.status.success() && told(&output).contains(&format!("nothing is known for @router.tenant1@ in zone {REGION}b")),
        "{}",
        told(&output)
    );
    assert!(machine.ran().iter().all(|line| !line.contains("portway-gateway")), "{:?}", machine.ran());
}

/// "get-vanilla" of AWS's own examples of Signature Version 4.
#[test]
fn requests_are_signed_as_aws_says() {
    let program = Path::new(ROOT).join("terraform/modules/boot/files/portway-configure");
    let script = format!(
        "import datetime, importlib.machinery, importlib.util, sys
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader('configure', {:?})
configure = importlib.util.module_from_spec(importlib.util.spec_from_loader('configure', loader))
loader.exec_module(configure)
keys = {{'AccessKeyId': 'AKIDEXAMPLE', 'SecretAccessKey': 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY'}}
now = datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.timezone.utc)
print(configure.signed('GET', 'https://example.amazonaws.com/', 'service', 'us-east-1', {{}}, b'', keys, now)['Authorization'])",
        program.display().to_string()
    );
    let output = Command::new("/usr/bin/python3").args(["-c", &script]).output().expect("python3");
    let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
                    Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    assert_eq!(told(&output).trim(), expected);
}
