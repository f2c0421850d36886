//! What EC2 calls its things: a prefix and 8 or 17 hexadecimal digits.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html>

use super::Invalid;
use super::text::kept_as_text;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! id {
    ($(#[$doc:meta])* $type:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        kept_as_text!($type);

        impl FromStr for $type {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                let digits = text.strip_prefix($prefix).unwrap_or_default();
                let good = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                if !matches!(digits.len(), 8 | 17) || !digits.bytes().all(good) {
                    let prefix = $prefix;
                    return Err(Invalid(format!("{text:?} is no {}: write it as `{prefix}0123456789abcdef0`", $what)));
                }
                Ok(Self(text.to_owned()))
            }
        }
    };
}

id!(
    /// A network interface of EC2's.
    EniId, "eni-", "network interface (ENI)"
);
id!(RouteTableId, "rtb-", "route table");
id!(
    /// An elastic address of this account's.
    AllocationId, "eipalloc-", "allocation of an elastic address"
);
id!(InstanceId, "i-", "instance");
id!(SecurityGroupId, "sg-", "security group");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_its_prefix_and_8_or_17_digits() {
        for good in ["eni-0a1b2c3d", "eni-0123456789abcdef0"] {
            assert_eq!(good.parse::<EniId>().map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "eni-", "eni-0A1b2c3d", "eni-0123456789abcde", "rtb-0a1b2c3d", " eni-0a1b2c3d", "eni-0a1b2c3d0123456789abcdef0"] {
            let said = bad.parse::<EniId>().map_err(|error| error.to_string());
            assert_eq!(said, Err(format!("{bad:?} is no network interface (ENI): write it as `eni-0123456789abcdef0`")));
        }
        assert!("i-0123456789abcdef0".parse::<InstanceId>().is_ok() && "eipalloc-0a1b2c3d".parse::<AllocationId>().is_ok());
    }
}
