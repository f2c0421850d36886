//! YAML to validated values; faults with file, line, column and remedy.

mod types;
pub use types::*;
