//! What a gateway node's kernel should hold.
