//! What a function host's kernel should hold.
