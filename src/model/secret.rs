//! Secrets that do not find their way into a log.

use super::Invalid;
use std::fmt;

/// Key material for HMAC-SHA256: 32 to 64 bytes (a shorter one would be the weakest part, a longer one is hashed down first).
/// It can be neither printed nor serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    pub const LEN: std::ops::RangeInclusive<usize> = 32..=64;

    pub fn new(bytes: &[u8]) -> Result<Self, Invalid> {
        if Self::LEN.contains(&bytes.len()) {
            Ok(Secret(bytes.into()))
        } else {
            Err(Invalid(format!("a key of {} bytes: use 32 to 64 random bytes, such as `openssl rand -hex 32` prints", bytes.len())))
        }
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Names a key, so that two can be in use while they are changed: 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(u8);

impl KeyId {
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for KeyId {
    type Error = Invalid;
    fn try_from(n: u8) -> Result<Self, Invalid> {
        if n == 0 { Err(Invalid("key id 0 is not one: use 1 to 255".into())) } else { Ok(KeyId(n)) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new(&[0x41; 32]).expect("long enough");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(..) Some(Secret(..))");
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(Secret::new(&[0; 31]).is_err());
        assert!(Secret::new(&[0; 65]).is_err());
    }
}
