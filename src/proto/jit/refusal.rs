//! Why an initiation leads to nothing.

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why an initiation leads to nothing: one counter each. They are in the order of the checks, from the cheapest to the dearest.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
        pub enum Refusal {
            $($(#[$doc])* #[error($label)] $name,)*
        }

        impl Refusal {
            pub const ALL: [Refusal; [$($label),*].len()] = [$(Refusal::$name),*];

            /// A metric label.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Refusal::$name => $label,)*
                }
            }
        }
    };
}

refusals! {
    /// No initiation by type and length.
    Malformed = "malformed",
    /// For an interface that is not ours, or not any more.
    NoInterface = "no_interface",
    /// Its sender does not know our public key, or it was damaged.
    Mac1 = "mac1",
    /// The very same was seen before: sent twice, or played again.
    Repeated = "repeated",
    /// Its source has sent more garbage than it may.
    SourceRate = "source_rate",
    /// Too many wait for the first step, or too many of this source.
    Backlog = "backlog",
    /// The first step fails: it names nobody.
    NotForUs = "not_for_us",
    /// Too many wait for the directory or the second step, or too many of this source.
    Crowded = "crowded",
    /// The same source has claimed the same key again meanwhile: the later one counts.
    Overtaken = "overtaken",
    /// The directory does not know the key, or said so a moment ago.
    Unknown = "unknown",
    /// The directory does not answer, and nothing is known from before.
    Unavailable = "unavailable",
    /// The second step fails: its sender is not whom it claims to be.
    Forged = "forged",
    /// Not newer than what the same key sent before.
    Replayed = "replayed",
    /// There are as many peers as there may be.
    Full = "full",
    /// The peer could not be installed.
    Failed = "failed",
}
