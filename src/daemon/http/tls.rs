//! A server's own certificate (rustls, aws-lc-rs).

use crate::config::Tls;
use anyhow::{Context, ensure};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;

/// A certificate that can be changed while connections go on with the one before.
#[derive(Debug)]
pub struct Certificate {
    files: Tls,
    present: RwLock<Arc<ServerConfig>>,
}

impl Certificate {
    pub fn load(files: &Tls) -> anyhow::Result<Self> {
        Ok(Self { files: files.clone(), present: RwLock::new(read(files)?) })
    }

    /// From the same files; if they are not good, the present one stays.
    pub fn reload(&self) -> anyhow::Result<()> {
        let new = read(&self.files)?;
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        self.present.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

fn read(files: &Tls) -> anyhow::Result<Arc<ServerConfig>> {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the certificate {certificate}: it must be a file in PEM"))?;
    ensure!(!chain.is_empty(), "{certificate} holds no certificate: it must have a BEGIN CERTIFICATE block");
    let mode = std::fs::metadata(&files.key).with_context(|| format!("cannot read the key {key}"))?.mode();
    ensure!(mode & 0o007 == 0, "everybody may read the key {key}: chmod o= {key}");
    let private =
        PrivateKeyDer::from_pem_file(&files.key).with_context(|| format!("cannot read the key {key}: it must be a file in PEM"))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_safe_default_protocol_versions()?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| format!("cannot use the certificate {certificate} with the key {key}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
