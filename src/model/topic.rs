//! Names of SNS topics.

use super::Invalid;
use super::text::kept_as_text;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest name of a topic (CreateTopic, Amazon SNS API reference).
const LONGEST_NAME: usize = 256;

/// The name of an SNS topic: `arn:PARTITION:sns:REGION:ACCOUNT:NAME`, its partition `aws`, `aws-us-gov` or `aws-cn`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicArn(String);

impl TopicArn {
    /// Such as `eu-central-1`.
    pub fn region(&self) -> &str {
        self.0.split(':').nth(3).unwrap_or_default()
    }

    /// What the names of machines end with in its partition.
    pub fn domain(&self) -> &'static str {
        if self.0.starts_with("arn:aws-cn:") { "amazonaws.com.cn" } else { "amazonaws.com" }
    }
}

/// Whether a text has the form of a region's name: `us-east-1`, `us-gov-west-1`, `cn-north-1`, `ap-southeast-7`.
fn is_region(text: &str) -> bool {
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let parts: Vec<&str> = text.split('-').collect();
    match parts.as_slice() {
        [area, middle @ .., number] => {
            (2..=4).contains(&area.len())
                && letters(area)
                && (1..=2).contains(&middle.len())
                && middle.iter().all(|part| letters(part) && part.len() <= 16)
                && (1..=2).contains(&number.len())
                && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        [] | [_] => false,
    }
}

impl FromStr for TopicArn {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid(format!("{text:?} is no topic of SNS: write it as `arn:aws:sns:eu-central-1:123456789012:NAME`"));
        let parts: Vec<&str> = text.split(':').collect();
        let ["arn", partition @ ("aws" | "aws-us-gov" | "aws-cn"), "sns", region, account, name] = parts[..] else {
            return Err(invalid());
        };
        let base = name.strip_suffix(".fifo").unwrap_or(name);
        let good_name = !base.is_empty() && base.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let good_region = is_region(region)
            && match partition {
                "aws-cn" => region.starts_with("cn-"),
                "aws-us-gov" => region.starts_with("us-gov-"),
                _ => !region.starts_with("cn-") && !region.starts_with("us-gov-"),
            };
        let good_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        if good_name && name.len() <= LONGEST_NAME && good_region && good_account { Ok(Self(text.to_owned())) } else { Err(invalid()) }
    }
}

kept_as_text!(TopicArn);

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("arn:aws:sns:us-east-1:123456789012:scaling", "us-east-1", "amazonaws.com")]
    #[case("arn:aws:sns:ap-southeast-7:123456789012:a_b-c.fifo", "ap-southeast-7", "amazonaws.com")]
    #[case("arn:aws-us-gov:sns:us-gov-west-1:123456789012:scaling", "us-gov-west-1", "amazonaws.com")]
    #[case("arn:aws-cn:sns:cn-northwest-1:123456789012:scaling", "cn-northwest-1", "amazonaws.com.cn")]
    fn a_topic_has_a_region_and_a_domain(#[case] text: &str, #[case] region: &str, #[case] domain: &str) {
        let topic: TopicArn = text.parse().unwrap();
        assert_eq!((topic.as_str(), topic.region(), topic.domain()), (text, region, domain));
    }

    #[rstest]
    #[case("")]
    #[case("arn:aws:sns:us-east-1:123456789012")]
    #[case("arn:aws:sns:us-east-1:123456789012:")]
    #[case("arn:aws:sns:us-east-1:123456789012:.fifo")]
    #[case("arn:aws:sns:us-east-1:123456789012:a:b")]
    #[case("arn:aws:sns:us-east-1:123456789012:a b")]
    #[case("arn:aws:sqs:us-east-1:123456789012:queue")]
    #[case("arn:aws:sns:us-east-1:12345678901:short")]
    #[case("arn:aws:sns:us-east-1:12345678901x:scaling")]
    #[case("arn:aws:sns:evil.example/:123456789012:scaling")]
    #[case("arn:aws:sns:us-east:123456789012:scaling")]
    #[case("arn:aws:sns:us--1:123456789012:scaling")]
    #[case("arn:aws:sns:US-EAST-1:123456789012:scaling")]
    #[case("arn:aws:sns:cn-north-1:123456789012:scaling")]
    #[case("arn:aws-cn:sns:us-east-1:123456789012:scaling")]
    #[case("arn:aws-us-gov:sns:us-east-1:123456789012:scaling")]
    #[case("arn:aws-iso:sns:us-iso-east-1:123456789012:scaling")]
    fn anything_else_is_none(#[case] text: &str) {
        assert!(text.parse::<TopicArn>().is_err());
    }
}
