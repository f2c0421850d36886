//! What the kernel says: the messages of a datagram, and which of them are answers.

use super::super::attr;
use super::{Answer, HEADER, Refused};
use netlink_packet_core::NLM_F_DUMP_INTR;

/// `NLM_F_CAPPED`, `NLM_F_ACK_TLVS` (include/uapi/linux/netlink.h): how an error answer is laid out.
const CAPPED: u16 = 0x100;
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`: the kernel's own words on what was wrong.
const ERROR_TEXT: u16 = 1;

/// One message out of a datagram.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// Who asked for what this is the answer to or the notice of; 0 is the kernel itself.
    pub port: u32,
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// What an `NLMSG_DONE` says: the dump's own result stands where an error's would (netlink_dump_done).
    pub fn done(&self) -> Answer {
        match self.payload.get(..4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes) {
            Some(errno) if errno < 0 => Err(Refused { errno: -errno, text: None }),
            _ => Ok(()),
        }
    }

    /// Whether the list that this belongs to has not changed underneath.
    pub fn of_one_piece(&self) -> Answer {
        if self.flags & NLM_F_DUMP_INTR == 0 {
            return Ok(());
        }
        Err(Refused { errno: libc::EAGAIN, text: Some("it changed while it was read".into()) })
    }

    /// What an `NLMSG_ERROR` says.
    pub fn answer(&self) -> Answer {
        let errno = self.payload.get(..4).and_then(|b| b.try_into().ok()).map_or(libc::EBADMSG, |b| -i32::from_ne_bytes(b));
        if errno == 0 {
            return Ok(());
        }
        let request = self.payload.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes) as usize;
        let echoed = if self.flags & CAPPED != 0 { HEADER } else { request.next_multiple_of(4) };
        let attributes = if self.flags & ACK_TLVS != 0 { self.payload.get(4 + echoed..) } else { None };
        Err(Refused { errno, text: attributes.and_then(|list| attr::find(list, ERROR_TEXT)).map(attr::name) })
    }
}

/// The messages of a datagram.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = word(0) as usize;
        let payload = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: half(4), flags: half(6), sequence: word(8), port: word(12), payload })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::NLMSG_DONE;

    #[test]
    fn a_list_that_broke_off_is_not_whole() {
        let message = |flags, payload| Message { kind: NLMSG_DONE, flags, sequence: 1, port: 0, payload };
        let errno = |answer: Answer| answer.err().map(|refused| refused.errno);
        let (good, bad) = (0i32.to_ne_bytes(), (-libc::ENOMEM).to_ne_bytes());
        assert_eq!([errno(message(0, &good).done()), errno(message(0, &[]).done())], [None, None]);
        assert_eq!(errno(message(0, &bad).done()), Some(libc::ENOMEM));
        assert_eq!(errno(message(0, &good).of_one_piece()), None);
        assert_eq!(errno(message(NLM_F_DUMP_INTR, &good).of_one_piece()), Some(libc::EAGAIN));
    }
}
