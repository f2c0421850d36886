//! Certificates with which SNS signs.

use super::CertificateUrl;
use crate::wire::webhook::Refusal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// Bytes of the largest file that is read as a certificate.
pub const LIMIT: usize = 64 * 1024;

/// A certificate of SNS (RFC 5280), read from what its URL gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    url: CertificateUrl,
    /// SubjectPublicKeyInfo, in DER.
    key: Box<[u8]>,
    from: SystemTime,
    until: SystemTime,
}

impl Certificate {
    /// The first certificate of a file in PEM. Its names have to be among those of the URL's region.
    pub fn parse(url: &CertificateUrl, pem: &[u8]) -> Result<Self, Refusal> {
        let bad = |what: &str| Refusal::BadCertificate(format!("what is at {url} {what}"));
        if pem.len() > LIMIT {
            return Err(bad(&format!("has more than {LIMIT} bytes")));
        }
        let der = CertificateDer::from_pem_slice(pem).map_err(|_| bad("is no certificate in PEM"))?;
        let Ok(([], read)) = X509Certificate::from_der(&der) else { return Err(bad("is no certificate of X.509")) };
        if read.is_ca() {
            return Err(bad("is an authority's certificate, and no signer's"));
        }
        let names = url.names();
        if !of(&read).iter().any(|name| names.iter().any(|known| known.eq_ignore_ascii_case(name))) {
            return Err(bad(&format!("is not a certificate of {}", names[0])));
        }
        let time = |time: ASN1Time| seconds(time.timestamp()).ok_or_else(|| bad("is valid at no time that can be told"));
        let validity = read.validity();
        Ok(Self { url: url.clone(), key: read.public_key().raw.into(), from: time(validity.not_before)?, until: time(validity.not_after)? })
    }

    pub fn url(&self) -> &CertificateUrl {
        &self.url
    }

    pub(super) fn until(&self) -> SystemTime {
        self.until
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    pub fn valid_at(&self, now: SystemTime) -> Result<(), Refusal> {
        if now < self.from {
            return Err(Refusal::BadCertificate(format!("{} is not valid yet: see that the clock here is right", self.url)));
        }
        if now > self.until {
            return Err(Refusal::BadCertificate(format!("{} is not valid any more: see that the clock here is right", self.url)));
        }
        Ok(())
    }
}

/// The names that a certificate is for: those of its subjectAltName, and the common name if it has none (RFC 6125 section 6.4.4).
fn of<'c>(certificate: &'c X509Certificate<'_>) -> Vec<&'c str> {
    match certificate.subject_alternative_name() {
        Ok(Some(names)) => {
            let dns = |name: &'c GeneralName<'_>| match name {
                GeneralName::DNSName(name) => Some(*name),
                _ => None,
            };
            names.value.general_names.iter().filter_map(dns).collect()
        }
        Ok(None) => certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect(),
        Err(_) => vec![],
    }
}

fn seconds(since_1970: i64) -> Option<SystemTime> {
    let distance = Duration::from_secs(since_1970.unsigned_abs());
    if since_1970 < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

#[cfg(test)]
mod tests;
