//! A keyed tag at the end of a datagram, so that nobody without the key can make or change one: HMAC-SHA256 (RFC 2104),
//! its first 128 bits. It says nothing of *when*: against replay a protocol needs numbers of its own inside.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Bytes of the tag.
pub const TAG: usize = 16;

/// A key, ready for use.
#[derive(Clone)]
pub struct Seal {
    closing: Hmac<Sha256>,
    /// Opens, too: while keys are changed.
    other: Option<Hmac<Sha256>>,
}

impl Seal {
    /// A secret of any length; less than 16 random bytes are no secret.
    pub fn new(secret: &[u8]) -> Self {
        Self { closing: Hmac::new_from_slice(secret).expect("HMAC takes keys of every length"), other: None }
    }

    /// A key for one purpose out of a secret that serves several: HMAC-SHA256 of its name.
    pub fn derived(secret: &[u8], purpose: &str) -> Self {
        Self::new(&Self::new(secret).closing.chain_update(purpose).finalize().into_bytes())
    }

    /// Opens what is closed with the other one, too.
    #[must_use]
    pub fn or(self, other: Seal) -> Self {
        Self { other: Some(other.closing), ..self }
    }

    /// Appends the tag.
    pub fn close(&self, datagram: &mut Vec<u8>) {
        let tag = self.closing.clone().chain_update(&*datagram).finalize().into_bytes();
        datagram.extend_from_slice(&tag[..TAG]);
    }

    /// What was sealed, if the tag is right. Takes the same time whatever is wrong with it.
    pub fn open<'d>(&self, datagram: &'d [u8]) -> Option<&'d [u8]> {
        let (content, tag) = datagram.split_last_chunk::<TAG>()?;
        let fits = |key: &Hmac<Sha256>| key.clone().chain_update(content).verify_truncated_left(tag).is_ok();
        (fits(&self.closing) || self.other.as_ref().is_some_and(fits)).then_some(content)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231 section 4: test cases 2 and 6, the short key and the long one.
    #[test]
    fn tags_are_those_of_the_rfc() {
        let sealed = |key: &[u8], data: &[u8]| {
            let mut datagram = data.to_vec();
            Seal::new(key).close(&mut datagram);
            datagram[data.len()..].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(sealed(b"Jefe", b"what do ya want for nothing?"), "5bdcc146bf60754e6a042426089575c7");
        let long = sealed(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(long, "60e431591ee0b67f0d8a26aacbf5b77f");
    }

    #[test]
    fn any_changed_bit_is_refused() {
        let seal = Seal::new(b"0123456789abcdef");
        let mut datagram = b"connections".to_vec();
        seal.close(&mut datagram);
        assert_eq!(seal.open(&datagram), Some(&b"connections"[..]));
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal.open(&changed), None);
        }
        for length in 0..datagram.len() {
            assert_eq!(seal.open(&datagram[..length]), None);
        }
        assert_eq!(Seal::new(b"another").open(&datagram), None);
    }
}
