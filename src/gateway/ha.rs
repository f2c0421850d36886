//! The part of a gateway that shares its addresses with others.

pub mod keys;
