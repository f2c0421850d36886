//! Tokens: `pwt_ID_SECRET`, 8 and 32 random bytes. The id finds the token, the secret proves it; of the secret only SHA-256 is kept, which is
//! enough as nobody can guess 256 random bits.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const PREFIX: &str = "pwt_";
const ID_LEN: usize = 8;
const SECRET_LEN: usize = 32;

/// SHA-256 of a secret. Compared in constant time.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for TokenHash {
    type Error = std::array::TryFromSliceError;
    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// A token's text in its parts.
#[derive(Clone)]
pub struct TokenText {
    /// 16 hexadecimal digits.
    pub id: String,
    secret: Zeroizing<[u8; SECRET_LEN]>,
}

impl TokenText {
    /// A token of random bytes.
    pub fn new(random: &[u8; ID_LEN + SECRET_LEN]) -> Self {
        let (id, secret) = random.split_at(ID_LEN);
        let mut room = Zeroizing::new([0; SECRET_LEN]);
        room.copy_from_slice(secret);
        Self { id: id.iter().map(|byte| format!("{byte:02x}")).collect(), secret: room }
    }

    /// None: it is no token of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        if id.len() != 2 * ID_LEN || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let mut room = Zeroizing::new([0; SECRET_LEN + 3]);
        let length = URL_SAFE_NO_PAD.decode_slice(secret, room.as_mut_slice()).ok()?;
        let mut bytes = Zeroizing::new([0; SECRET_LEN]);
        if length != SECRET_LEN {
            return None;
        }
        bytes.copy_from_slice(&room[..SECRET_LEN]);
        Some(Self { id: id.to_owned(), secret: bytes })
    }

    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.secret.as_slice())
    }

    /// As it is given to its owner.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}_{}", self.id, URL_SAFE_NO_PAD.encode(self.secret.as_slice())))
    }

    /// Whether a text is meant to be one of ours, right or wrong.
    pub fn looks_like_one(text: &str) -> bool {
        text.starts_with(PREFIX)
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenText({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> TokenText {
        TokenText::new(&std::array::from_fn(|i| u8::try_from(i * 7 % 256).unwrap()))
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let (written, text) = (token(), token().expose());
        let read = TokenText::parse(&text).unwrap();
        assert_eq!((read.id.as_str(), read.hash()), (written.id.as_str(), written.hash()));
        assert!(text.starts_with("pwt_00070e151c232a31_"), "{}", *text);
    }

    #[test]
    fn another_secret_is_another_token() {
        let text = token().expose();
        // The last character but one holds six whole bits of the secret.
        let (front, back) = text.split_at(text.len() - 2);
        let changed = format!("{front}{}{}", if back.starts_with('A') { 'B' } else { 'A' }, &back[1..]);
        assert_ne!(TokenText::parse(&changed).unwrap().hash(), token().hash());
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?} {:?}", token(), token().hash()), "TokenText(00070e151c232a31) TokenHash(..)");
    }

    #[test]
    fn what_is_no_token_is_none() {
        let text = token().expose();
        let short = &text[..text.len() - 1];
        let long = format!("{}AAAA", *text);
        let upper = text.to_uppercase();
        for bad in ["", "pwt_", "pwt__", "pwt_00070e151c232a31", short, &long, &upper, &text[1..], "pwt_00070e151c232a3g_AAAA"] {
            assert!(TokenText::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_none(text in "(pwt_)?[0-9a-f]{0,17}_?[A-Za-z0-9_=-]{0,60}|.*") {
            if let Some(token) = TokenText::parse(&text) {
                prop_assert_eq!(&*token.expose(), &text);
            }
        }
    }
}
