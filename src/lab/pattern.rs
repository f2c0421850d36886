//! An endless byte sequence in which every position tells its own content: a transfer that loses, repeats or
//! swaps anything is found out, and nothing has to be stored.

/// Fills `out` with the bytes that stand at `offset` and after.
pub fn fill(offset: u64, out: &mut [u8]) {
    for (n, byte) in out.iter_mut().enumerate() {
        *byte = at(offset + n as u64);
    }
}

/// The first position at which `data`, standing at `offset`, differs.
pub fn first_difference(offset: u64, data: &[u8]) -> Option<u64> {
    data.iter().zip(offset..).find(|(byte, position)| **byte != at(*position)).map(|(_, position)| position)
}

/// One byte of the splitmix64 of the eight-byte word it lies in: no period a transfer could hide a loss in.
fn at(position: u64) -> u8 {
    let mut x = (position / 8).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)).to_le_bytes()[(position % 8) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_block_and_a_flipped_bit_are_found() {
        let mut bytes = vec![0; 4096];
        fill(1000, &mut bytes);
        assert_eq!(first_difference(1000, &bytes), None);
        assert!(first_difference(1000 + 1460, &bytes).is_some());
        bytes[77] ^= 1;
        assert_eq!(first_difference(1000, &bytes), Some(1077));
    }
}
