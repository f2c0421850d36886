//! Explicit congestion notification through a tunnel (RFC 6040). DSCP stays on its own side: an inner class of service is
//! the tenant's word, and it is not for tenants to choose how the platform's network treats a packet.

const MASK: u8 = 3;
const NOT_ECT: u8 = 0;
const CE: u8 = 3;

/// The outer traffic class of a packet with this inner one (section 4.1, normal mode).
pub fn encapsulate(inner: u8) -> u8 {
    inner & MASK
}

/// The traffic class that the inner packet goes on with; none if it must be dropped: congestion was signalled to a
/// sender that cannot hear it otherwise (section 4.2).
pub fn decapsulate(outer: u8, inner: u8) -> Option<u8> {
    match (outer & MASK, inner & MASK) {
        (CE, NOT_ECT) => None,
        (CE, _) => Some(inner | CE),
        // ECT(1) outside, ECT(0) inside.
        (1, 2) => Some(inner & !MASK | 1),
        _ => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6040 figure 4; rows: inner Not-ECT, ECT(0), ECT(1), CE; columns: outer the same.
    #[test]
    fn figure_4_of_rfc_6040() {
        let codes = [0, 2, 1, 3];
        let table = [
            [Some(0), Some(0), Some(0), None],
            [Some(2), Some(2), Some(1), Some(3)],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(3), Some(3), Some(3), Some(3)],
        ];
        for (inner, row) in codes.into_iter().zip(table) {
            for (outer, want) in codes.into_iter().zip(row) {
                let dscp = 0xb8;
                assert_eq!(decapsulate(outer, dscp | inner), want.map(|ecn| dscp | ecn), "outer {outer} inner {inner}");
            }
        }
        assert_eq!(encapsulate(0xba), 2);
    }
}
