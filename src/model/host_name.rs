//! Names of machines, as DNS has them.

use super::Invalid;
use std::fmt;
use std::str::FromStr;

/// Labels of letters, digits and hyphens (RFC 1123 section 2.1), 1 to 63 bytes each, 253 in all; kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    const LONGEST: usize = 253;
    const LONGEST_LABEL: usize = 63;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let label = |label: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            (1..=Self::LONGEST_LABEL).contains(&label.len()) && label.bytes().all(good) && !label.starts_with('-') && !label.ends_with('-')
        };
        if text.len() > Self::LONGEST || !text.split('.').all(label) {
            return Err(Invalid(format!(
                "{text:?} is no name of a machine: write one as DNS has it, without a port, such as gw-1.example.com"
            )));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_dns_has_them() {
        assert_eq!("GW-1.Example.COM".parse::<HostName>().unwrap().as_str(), "gw-1.example.com");
        let long = ["a".repeat(64), format!("{}.a", "a.".repeat(130))];
        for bad in ["", ".", "gw-1.", "a..b", "-a.b", "a-.b", "a_b", "gw-1:9470", "http://gw-1", "gw 1", &long[0], &long[1]] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
    }
}
