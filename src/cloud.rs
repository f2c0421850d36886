//! The cloud that a node runs in, as its machines see it.

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "aws")]
pub mod ec2;
#[cfg(feature = "aws")]
pub mod metadata;
