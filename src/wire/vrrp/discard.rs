//! Why a received packet is dropped.

macro_rules! discards {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why a received packet of IP protocol 112 is dropped: one counter each. The first group is found by reading it, the second by its
        /// trailer, the last by the instance that it is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
        pub enum Discard {
            $($(#[$doc])* #[error($label)] $name,)*
        }

        impl Discard {
            pub const ALL: [Discard; [$($label),*].len()] = [$(Discard::$name),*];

            /// A metric label.
            pub fn label(self) -> &'static str {
                match self {
                    $(Discard::$name => $label,)*
                }
            }
        }
    };
}

discards! {
    /// IPv4 TTL or IPv6 hop limit is not 255: it has crossed a router (RFC 9568 section 7.1).
    HopLimit = "hop_limit",
    /// CARP, which took VRRP's protocol number: no VRRP at all.
    Carp = "carp",
    /// Neither version 2 nor 3, or not the one that the instance speaks; version 2 over IPv6.
    Version = "version",
    /// Not an advertisement, type 1, the only one (section 5.2.2).
    Type = "type",
    /// Shorter than its header or its addresses, or longer by something that is no trailer.
    Length = "length",
    /// VRID 0.
    Vrid = "vrid",
    /// No address in it (section 5.2.5).
    NoAddress = "no_address",
    /// No way of calculating its checksum fits.
    Checksum = "checksum",
    /// An interval of zero.
    Interval = "interval",
    /// Version 2: an authentication type that RFC 2338 does not know.
    AuthenticationType = "authentication_type",

    /// Keys are configured, and it has no trailer.
    Unauthenticated = "unauthenticated",
    /// It has a trailer, and no keys are configured.
    UnexpectedTrailer = "unexpected_trailer",
    /// A trailer of a type unknown to us, or with something in its reserved field.
    Trailer = "trailer",
    /// A trailer made with a key that is not ours.
    UnknownKey = "unknown_key",
    /// The HMAC is wrong: forged, damaged, or keys of the same name differ.
    Hmac = "hmac",
    /// Made too long ago, or in the future: a recording, or clocks that differ.
    Stale = "stale",
    /// Not newer than what the sender sent before: repeated or overtaken on the way.
    Replayed = "replayed",

    /// No instance for this VRID and address family on this interface.
    UnknownVrid = "unknown_vrid",
    /// Of a shard that this node is no candidate of: all nodes of a group are told, for who the candidates are may just have changed.
    NotServed = "not_served",
    /// Unicast from somebody who is not a configured peer.
    UnlistedSource = "unlisted_source",
    /// Sent from our own address: reflected, or somebody else has it too.
    OwnAddress = "own_address",
    /// Version 2: not the interval configured here (RFC 3768 section 7.1).
    IntervalMismatch = "interval_mismatch",
    /// Its sender ranks below us, who are Active or about to preempt (sections 6.4.2, 6.4.3).
    LowerPriority = "lower_priority",
    /// The instance is not running: not started, or at fault.
    NotRunning = "not_running",
}
