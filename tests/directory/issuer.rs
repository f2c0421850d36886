//! An issuer of identity tokens: signs them, and serves its public keys over HTTPS.

use super::support::certificate;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub struct Key {
    id: String,
    algorithm: Algorithm,
    private: EncodingKey,
    public: Value,
}

impl Key {
    pub fn new(id: &str, algorithm: Algorithm) -> Self {
        let (private, public) = match algorithm {
            Algorithm::ES256 => {
                let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
                let (x, y) = pair.public_key_raw()[1..].split_at(32);
                let public = json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) });
                (EncodingKey::from_ec_der(&pair.serialize_der()), public)
            }
            Algorithm::EdDSA => {
                let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
                let public = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw()) });
                (EncodingKey::from_ed_der(&pair.serialize_der()), public)
            }
            Algorithm::RS256 => {
                let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
                // PKCS #8 wraps PKCS #1 in 26 bytes for keys of this size (RFC 5208, RFC 8017 appendix A.1.2).
                let private = EncodingKey::from_rsa_der(&pair.serialize_der()[26..]);
                let public = serde_json::to_value(Jwk::from_encoding_key(&private, algorithm).unwrap()).unwrap();
                (private, public)
            }
            other => panic!("{other:?}"),
        };
        Self { id: id.into(), algorithm, private, public }
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(Header::new(self.algorithm), claims)
    }

    /// With more in its header.
    pub fn sign_with(&self, header: Header, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.clone()), alg: self.algorithm, ..header };
        encode(&header, claims, &self.private).unwrap()
    }

    pub fn jwk(&self) -> Value {
        let mut jwk = self.public.clone();
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }
}

pub struct Issuer {
    listed: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
    silent: Arc<AtomicBool>,
    pub jwks: String,
    pub ca: PathBuf,
}

impl Issuer {
    /// With a certificate of its own in this directory.
    pub async fn start(dir: &Path) -> Self {
        let (ca, tls) = certificate(dir, "issuer");
        let chain = CertificateDer::pem_file_iter(&tls.certificate).unwrap().collect::<Result<_, _>>().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&tls.key).unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let jwks = format!("https://localhost:{}/keys", listener.local_addr().unwrap().port());
        let (listed, asked) = (Arc::new(Mutex::new(json!({ "keys": [] }))), Arc::new(AtomicUsize::new(0)));
        let silent = Arc::new(AtomicBool::new(false));
        let issuer = Self { listed: listed.clone(), asked: asked.clone(), silent: silent.clone(), jwks, ca };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, body, asked) = (acceptor.clone(), listed.lock().unwrap().to_string(), asked.clone());
                let silent = silent.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut request = vec![];
                    while !request.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        request.push(byte);
                    }
                    asked.fetch_add(1, Relaxed);
                    if silent.load(Relaxed) {
                        // Until the caller has enough.
                        let _ = stream.read_u8().await;
                        return;
                    }
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                    let _ = stream.write_all((head + &body).as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        issuer
    }

    /// What it lists from now on.
    pub fn list(&self, keys: &[&Key]) {
        *self.listed.lock().unwrap() = json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() });
    }

    /// From now on it takes what is asked and says nothing.
    pub fn fall_silent(&self) {
        self.silent.store(true, Relaxed);
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}
