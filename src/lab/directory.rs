//! A directory on the lab's platform, over TLS, with whatever the topology names in it.

use super::dir::{LabDir, secret};
use super::error::{During, Error, Result};
use super::http;
use super::netns::Netns;
use super::process::{Life, Process, poll_until};
use super::topology::{PLATFORM_ADDRESS, Topology};
use crate::directory::types::{Host, Minted, Shard};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PORT: u16 = 9473;
const READY: Duration = Duration::from_secs(60);
const NAME: &str = "directory";

/// Where gateways and hosts call.
pub fn url() -> String {
    format!("https://{PLATFORM_ADDRESS}:{PORT}")
}

/// The certificate of whoever certifies it. `runtime_dir`: of any node.
pub fn ca(runtime_dir: &Path) -> PathBuf {
    runtime_dir.with_file_name("directory-ca.pem")
}

/// What a node may show it.
pub fn token(runtime_dir: &Path, node: &str) -> PathBuf {
    runtime_dir.with_file_name(format!("{node}.token"))
}

/// What a node keeps of it.
pub fn state_dir(runtime_dir: &Path, node: &str) -> PathBuf {
    runtime_dir.with_file_name(format!("{node}.state"))
}

#[derive(Debug)]
pub struct Directory {
    socket: PathBuf,
    config: PathBuf,
    log: PathBuf,
    netns: Netns,
    portway: PathBuf,
    process: Option<Process>,
}

impl Directory {
    /// Runs in this node, and knows the tenants and gateways of the lab; there are files with their tokens.
    pub fn start(lab: &Topology, netns: &Netns, portway: &Path, dir: &LabDir) -> Result<Self> {
        let runtime_dir = dir.runtime(NAME);
        certificates(&runtime_dir)?;
        let leaf = runtime_dir.with_file_name("directory.pem");
        let yaml = format!(
            "directory:\n  listen: {PLATFORM_ADDRESS}:{PORT}\n  tls: {{ certificate: {leaf:?}, key: {:?} }}\n  database: \"sqlite://{}\"\n  runtime_dir: {runtime_dir:?}\n  admin: 127.0.0.1:9472\n",
            leaf.with_extension("key"),
            runtime_dir.with_file_name("directory.db").display(),
        );
        let config = dir.config(NAME);
        fs::write(&config, yaml).during(format!("write {}", config.display()))?;
        let (log, netns, portway) = (dir.log(NAME), netns.clone(), portway.to_owned());
        let mut directory = Self { socket: runtime_dir.join("directory.sock"), config, log, netns, portway, process: None };
        directory.resume()?;
        for tenant in &lab.tenants {
            let shards: Vec<u8> = lab.shards_of(&tenant.name).iter().map(|shard| shard.shard).collect();
            directory.call("PUT", &format!("/v1/tenants/{}", tenant.name), &json!({ "inner": tenant.inner, "shards": shards }))?;
        }
        for gateway in &lab.gateways {
            let of = |tenant: &str| lab.shards_of(tenant).into_iter().filter(|shard| shard.nodes.contains(&gateway.node));
            let shards = gateway.enis.iter().flat_map(|eni| of(&eni.tenant).map(|s| format!("{}/{}", eni.tenant, s.shard)));
            directory.call("PUT", &format!("/v1/gateways/{}", gateway.node), &json!({ "shards": shards.collect::<Vec<_>>() }))?;
            let minted: Minted = directory.ask("POST", "/v1/tokens", &json!({ "role": "gateway", "gateway": gateway.node }))?;
            secret(&token(&runtime_dir, &gateway.node), &minted.token)?;
        }
        Ok(directory)
    }

    /// Starts it, unless it runs.
    pub fn resume(&mut self) -> Result<()> {
        if self.process.is_none() {
            let mut command = self.netns.command(&self.portway);
            command.arg(NAME).arg("--config").arg(&self.config);
            let mut process = Process::spawn(NAME, command, &self.log, Life::WithLab)?;
            poll_until("the directory", READY, || {
                process.check_alive()?;
                Ok(http::unix(&self.socket, "GET", "/readyz", None).is_ok_and(|answer| answer.status == 200))
            })?;
            self.process = Some(process);
        }
        Ok(())
    }

    /// Ends it, as a machine that is switched off.
    pub fn fail(&mut self) {
        self.process = None;
    }

    /// Waits until gateways have told of all shards where they are.
    pub fn await_shards(&self) -> Result<()> {
        poll_until("shards with endpoints in the directory", READY, || {
            let shards: Vec<Shard> = read("GET /v1/shards", &http::unix_ok(&self.socket, "GET", "/v1/shards", None)?)?;
            Ok(!shards.is_empty() && shards.iter().all(|shard| shard.endpoint.is_some()))
        })
    }

    /// A host by its key alone, as one that never enrols.
    pub fn add_host(&self, name: &str, tenant: &str, key: &crate::model::PublicKey) -> Result<Host> {
        self.ask("PUT", &format!("/v1/hosts/{name}"), &json!({ "tenants": [tenant], "public_key": key }))
    }

    /// Enrols the host of this node by a token of its own: key, credential and membership are in its state directory then.
    pub fn enroll(&self, node: &str, netns: &Netns, tenants: &[&str], runtime_dir: &Path) -> Result<()> {
        let minted: Minted = self.ask("POST", "/v1/tokens", &json!({ "role": "enroll", "tenants": tenants }))?;
        let file = token(runtime_dir, node);
        secret(&file, &minted.token)?;
        let mut command = netns.command(&self.portway);
        command.args(["enroll", "--url", &url(), "--name", node, "--token-file"]).arg(file);
        command.arg("--ca").arg(ca(runtime_dir)).arg("--state").arg(state_dir(runtime_dir, node));
        let output = command.output().during("run portway enroll")?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::Command { node: node.to_owned(), command: "portway enroll".into(), stderr });
        }
        Ok(())
    }

    /// A token of whoever may look at the fleet, in a file beside the runtime directories.
    pub fn observer(&self, runtime_dir: &Path) -> Result<PathBuf> {
        let minted: Minted = self.ask("POST", "/v1/tokens", &json!({ "role": "observer" }))?;
        let file = token(runtime_dir, "observer");
        secret(&file, &minted.token)?;
        Ok(file)
    }

    pub fn remove_gateway(&self, name: &str) -> Result<()> {
        http::unix_ok(&self.socket, "DELETE", &format!("/v1/gateways/{name}"), None).map(drop)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<()> {
        http::unix_ok(&self.socket, method, path, Some(&body.to_string())).map(drop)
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: &Value) -> Result<T> {
        read(&format!("{method} {path}"), &http::unix_ok(&self.socket, method, path, Some(&body.to_string()))?)
    }
}

fn read<T: DeserializeOwned>(what: &str, answer: &http::Answer) -> Result<T> {
    let unreadable = || Error::Unreadable { what: what.to_owned(), body: answer.body.clone() };
    serde_json::from_str(&answer.body).map_err(|_| unreadable())
}

/// A certificate for the platform's address, and of whoever certifies it.
fn certificates(runtime_dir: &Path) -> Result<()> {
    let made = || -> std::result::Result<_, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?;
        let (issuer, key) = (Issuer::new(params, key), KeyPair::generate()?);
        let leaf = CertificateParams::new(vec![PLATFORM_ADDRESS.to_string()])?.signed_by(&key, &issuer)?;
        Ok((ca.pem(), leaf.pem(), key.serialize_pem()))
    };
    let (authority, leaf, key) = made().map_err(|error| Error::State(format!("no certificate can be made: {error}")))?;
    let place = runtime_dir.with_file_name("directory.pem");
    for (path, text) in [(&ca(runtime_dir), authority), (&place, leaf)] {
        fs::write(path, text).during(format!("write {}", path.display()))?;
    }
    secret(&place.with_extension("key"), &key)
}
