use super::*;
use crate::wire::webhook::sns::tests::support::{PEM_URL, at, certificate_url, pem};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair};
use rstest::rstest;

/// 2027-01-01T00:00:00Z and a year later.
const FROM: u64 = 1_798_761_600;
const UNTIL: u64 = FROM + 365 * 86_400;

fn parse(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Result<Certificate, Refusal> {
    Certificate::parse(&certificate_url(), &pem(&KeyPair::generate().unwrap(), names, change))
}

#[rstest]
#[case(&["sns.amazonaws.com"], true)]
#[case(&["SNS.amazonaws.com"], true)]
#[case(&["other.example", "sns.us-west-2.amazonaws.com"], true)]
#[case(&["sns-signing.us-west-2.amazonaws.com"], true)]
#[case(&[], true)]
#[case(&["sns.us-east-1.amazonaws.com"], false)]
#[case(&["s3.amazonaws.com"], false)]
#[case(&["*.amazonaws.com"], false)]
#[case(&["sns.amazonaws.com.evil.example"], false)]
#[case(&["evil.example"], false)]
fn a_certificate_is_of_sns(#[case] names: &[&str], #[case] good: bool) {
    let read = parse(names, |_| {});
    assert_eq!(read.as_ref().err().map(Refusal::label), (!good).then_some("bad_certificate"), "{read:?}");
}

#[test]
fn a_common_name_counts_where_there_is_no_other() {
    let other = |params: &mut CertificateParams| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "evil.example");
    };
    assert!(parse(&[], other).is_err());
    assert!(parse(&["sns.amazonaws.com"], other).is_ok());
}

#[test]
fn an_authority_signs_no_messages() {
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert!(parse(&["sns.amazonaws.com"], authority).unwrap_err().to_string().contains("is an authority's certificate"));
}

#[test]
fn a_certificate_is_valid_from_its_first_second_to_its_last() {
    let read = parse(&["sns.amazonaws.com"], |_| {}).unwrap();
    assert!(read.valid_at(at(FROM)).is_ok() && read.valid_at(at(UNTIL)).is_ok());
    assert!(read.valid_at(at(FROM - 1)).unwrap_err().to_string().contains("not valid yet"));
    assert!(read.valid_at(at(UNTIL + 1)).unwrap_err().to_string().contains("not valid any more"));
}

#[rstest]
#[case(b"".as_slice())]
#[case(b"<html>not found</html>")]
#[case(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
#[case(b"-----BEGIN CERTIFICATE-----\n")]
fn what_is_no_certificate_is_refused(#[case] bytes: &[u8]) {
    let refusal = Certificate::parse(&certificate_url(), bytes).unwrap_err();
    assert_eq!(refusal.label(), "bad_certificate");
    assert!(refusal.to_string().contains(PEM_URL), "{refusal}");
    let key = KeyPair::generate().unwrap().serialize_pem();
    assert!(Certificate::parse(&certificate_url(), key.as_bytes()).is_err());
}

#[test]
fn a_file_without_end_is_not_looked_at() {
    let mut long = pem(&KeyPair::generate().unwrap(), &["sns.amazonaws.com"], |_| {});
    long.resize(LIMIT, b'\n');
    assert!(Certificate::parse(&certificate_url(), &long).is_ok());
    long.push(b'\n');
    assert!(Certificate::parse(&certificate_url(), &long).unwrap_err().to_string().contains("has more than 65536 bytes"));
}

proptest! {
    #[test]
    fn no_file_is_too_odd(index in any::<prop::sample::Index>(), to in any::<u8>(), bytes in any::<Vec<u8>>()) {
        let good = include_bytes!("../tests/openssl.pem");
        let der = CertificateDer::from_pem_slice(good).unwrap();
        let mut changed = der.to_vec();
        let index = index.index(changed.len());
        changed[index] = to;
        let wrapped = |der: &[u8]| {
            use base64::Engine;
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n").into_bytes()
        };
        for file in [wrapped(&changed), wrapped(&changed[..index]), wrapped(&bytes), bytes] {
            let _ = Certificate::parse(&certificate_url(), &file);
        }
    }
}
