//! What the driver of an interface counts, under names of its own: `ethtool -S` (include/uapi/linux/ethtool.h). No netlink message has these.

use crate::model::IfName;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
/// The names of what a driver counts.
const ETH_SS_STATS: u32 = 1;
/// Words in a name, of 32 bits (`ETH_GSTRING_LEN`, 32 bytes).
const NAME: usize = 8;
/// Words before the first name in `struct ethtool_gstrings`: command, which set, how many.
const HEADER: usize = 3;

/// A driver that counts more than this is not asked. ENA counts some 30 things for each of its queues, of which there are 128 at most.
const MOST: usize = 16_384;
/// The kernel writes as many as the driver has when it is asked, whatever room there is (`ethtool_get_strings`, `ethtool_get_stats`), and that changes with the
/// number of its queues. So there is room for many times what it has just told of. Pages that nobody writes to cost nothing.
const ROOM: usize = 4 * MOST;

#[derive(Debug)]
pub struct Drivers {
    socket: OwnedFd,
}

impl Drivers {
    /// For the interfaces of the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)? })
    }

    /// Those of the interface's counters that are wanted, by name. None if there is no such interface, or its driver counts nothing.
    ///
    /// The values are asked for only if one is wanted: some drivers ask their device, which takes a millisecond.
    pub fn counters(&self, name: &IfName, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<(String, u64)>> {
        match self.read(name, wanted) {
            Err(Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(Vec::new()),
            other => Ok(other?),
        }
    }

    fn read(&self, name: &IfName, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, u64)>, Errno> {
        let count = self.count(name)?;
        if count == 0 || count > MOST {
            return Ok(Vec::new());
        }
        let mut strings = vec![0u32; HEADER + NAME * ROOM];
        strings[..HEADER].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_STATS, count as u32]);
        self.ask(name, &mut strings)?;
        let names = names(strings[2], &strings[HEADER..]);
        if !names.iter().any(|name| wanted(name)) {
            return Ok(Vec::new());
        }
        // struct ethtool_stats: command, how many, then the values.
        let mut stats = vec![0u64; 1 + ROOM];
        stats[0] = pair(ETHTOOL_GSTATS, names.len() as u32);
        self.ask(name, &mut stats)?;
        let [_, told] = halves(stats[0]);
        // The driver has other queues by now, so these are not the values of those names.
        if told as usize != names.len() {
            return Ok(Vec::new());
        }
        Ok(names.into_iter().zip(stats[1..].iter().copied()).filter(|(name, _)| wanted(name)).collect())
    }

    /// How many there are.
    fn count(&self, name: &IfName) -> Result<usize, Errno> {
        // struct ethtool_sset_info: command, a reserved word, a mask of sets (64 bits), and for each set that there is, in the mask's order, its size (32 bits).
        let mut info = [pair(ETHTOOL_GSSET_INFO, 0), 1 << ETH_SS_STATS, 0];
        self.ask(name, &mut info)?;
        let [count, _] = halves(info[2]);
        Ok(if info[1] == 0 { 0 } else { count as usize })
    }

    /// Carries out the command whose structure this is; the answer stands in it. `T`: an integer, so that whatever the kernel writes is a value.
    fn ask<T: Word>(&self, name: &IfName, structure: &mut [T]) -> Result<(), Errno> {
        // SAFETY: all zeroes is a valid `ifreq`: an array and a union of plain numbers and a null pointer.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // An `IfName` has at most 15 bytes: one zero stays.
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = structure.as_mut_ptr().cast();
        // SAFETY: `request` and `structure` are borrowed exclusively and live through the call. The kernel reads and writes the structure of the command that stands in
        // its first word: for GSSET_INFO with one bit in the mask 20 bytes of the 24 that there are, for the others a header and as many entries as the driver has,
        // for which there is ROOM, many times what it had a moment ago. Any bytes are values of `T`.
        Errno::result(unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL as libc::Ioctl, &raw mut request) })?;
        Ok(())
    }
}

/// Integers, for which all bits are values.
trait Word: Copy {}
impl Word for u32 {}
impl Word for u64 {}

/// Two words as they stand one after the other in memory.
fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn halves(both: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = both.to_ne_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes)
}

/// The names in a list of so many, each padded with zeroes.
fn names(count: u32, words: &[u32]) -> Vec<String> {
    let (names, _) = words.as_chunks::<NAME>();
    let name = |words: &[u32; NAME]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    names.iter().take(count as usize).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.as_chunks::<4>().0.iter().copied().map(u32::from_ne_bytes).collect()
    }

    #[test]
    fn a_structure_of_words_is_laid_out_as_in_memory() {
        let both = pair(ETHTOOL_GSSET_INFO, 7);
        assert_eq!(halves(both), [ETHTOOL_GSSET_INFO, 7]);
        assert_eq!(words(&both.to_ne_bytes()), [ETHTOOL_GSSET_INFO, 7]);
    }

    #[test]
    fn a_name_may_fill_its_place_and_none_is_read_beyond_the_list() {
        let mut bytes = b"tx_timeout\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend([b'x'; 32]);
        assert_eq!(names(2, &words(&bytes)), ["tx_timeout".to_owned(), "x".repeat(32)]);
        assert_eq!(names(1, &words(&bytes)), ["tx_timeout"]);
        assert_eq!(names(3, &words(&bytes)).len(), 2, "a count beyond the room");
        assert_eq!(names(u32::MAX, &[0; 7]), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn whatever_a_driver_writes_is_read_as_names(bytes in prop::collection::vec(any::<u8>(), 0..400), count in 0u32..20) {
            let names = names(count, &words(&bytes));
            prop_assert_eq!(names.len(), (count as usize).min(bytes.len() / 32));
            prop_assert!(names.iter().all(|name| !name.contains('\0')));
        }
    }
}
