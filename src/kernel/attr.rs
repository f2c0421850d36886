//! Netlink attributes by hand, for the few messages that no crate encodes: length (u16), type (u16), value, padding to 4 bytes.

/// Says that a value is itself a list of attributes.
const NESTED: u16 = 0x8000;
/// What is left of a type without the flags `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE: u16 = 0x3fff;

pub fn put(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let start = open(buffer, kind);
    buffer.extend_from_slice(value);
    close(buffer, start);
}

/// A string with its terminating zero.
pub fn put_name(buffer: &mut Vec<u8>, kind: u16, value: &str) {
    let start = open(buffer, kind);
    buffer.extend_from_slice(value.as_bytes());
    buffer.push(0);
    close(buffer, start);
}

pub fn nest(buffer: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = open(buffer, kind | NESTED);
    fill(buffer);
    close(buffer, start);
}

fn open(buffer: &mut Vec<u8>, kind: u16) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0, 0]);
    buffer.extend_from_slice(&kind.to_ne_bytes());
    start
}

fn close(buffer: &mut Vec<u8>, start: usize) {
    // Callers keep every attribute below 64 KiB (element.rs counts), as the field has 16 bits.
    let length = u16::try_from(buffer.len() - start).unwrap_or(u16::MAX);
    buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}

/// The attributes in a piece of a message, as (type, value). Ends at the first malformed one.
pub fn each(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1, ..] = *rest else { return None };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & TYPE, value))
    })
}

/// The first attribute of a type.
pub fn find(list: &[u8], kind: u16) -> Option<&[u8]> {
    each(list).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// A string up to its terminating zero.
pub fn name(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

pub fn be32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found_again() {
        let mut buffer = Vec::new();
        put_name(&mut buffer, 1, "portway");
        nest(&mut buffer, 2, |inner| {
            put(inner, 3, &[1, 2, 3, 4, 5]);
            put(inner, 4, &7u32.to_be_bytes());
        });
        assert_eq!(buffer.len() % 4, 0);
        assert_eq!(name(find(&buffer, 1).unwrap()), "portway");
        let inner = find(&buffer, 2).unwrap();
        assert_eq!(find(inner, 3).unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(find(inner, 4).and_then(be32), Some(7));
    }

    #[test]
    fn a_truncated_list_ends_without_a_panic() {
        let mut buffer = Vec::new();
        put(&mut buffer, 1, &[9; 10]);
        for length in 0..buffer.len() {
            assert!(each(&buffer[..length]).count() <= 1);
        }
        assert_eq!(each(&[3, 0, 1, 0]).count(), 0, "a length below 4 is malformed");
    }
}
