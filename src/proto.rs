//! State machines of protocols: packets and time in, effects out. No I/O, no clock, no randomness of their own.

pub mod sync;
