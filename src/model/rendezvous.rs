//! Highest random weight: whom a thing belongs to, such that somebody who comes or goes moves only what he gains or had.

use sha2::{Digest, Sha256};

/// The weight of a candidate for a thing. The highest wins; the same on every machine.
pub fn rendezvous(thing: &str, candidate: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::new().chain_update(thing).chain_update([0]).chain_update(candidate).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best<'c>(thing: &str, candidates: &[&'c str]) -> &'c str {
        candidates.iter().max_by_key(|candidate| rendezvous(thing, candidate)).expect("some")
    }

    #[test]
    fn who_comes_takes_only_for_himself_and_about_his_share() {
        let (before, after) = (["a", "b", "c"], ["a", "b", "c", "d"]);
        let moved = (0..1000).filter(|n| best(&n.to_string(), &before) != best(&n.to_string(), &after));
        let moved: Vec<&str> = moved.map(|n| best(&n.to_string(), &after)).collect();
        assert!(moved.iter().all(|to| *to == "d"));
        assert!((200..300).contains(&moved.len()), "{}", moved.len());
    }
}
