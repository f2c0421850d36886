//! Times of day as they are written in payloads.

use serde::Deserialize;
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time as RFC 3339 writes it (`2026-11-22T07:15:00.123Z`), year 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Stamp(pub SystemTime);

impl TryFrom<String> for Stamp {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match OffsetDateTime::parse(&text, &Rfc3339) {
            Ok(read) => Ok(Self(read.into())),
            Err(_) => Err(format!("{text:?} is no time: write it as 2026-11-22T07:15:00Z (RFC 3339)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::time::{Duration, UNIX_EPOCH};

    fn read(text: &str) -> Option<SystemTime> {
        Stamp::try_from(text.to_owned()).ok().map(|stamp| stamp.0)
    }

    #[rstest]
    #[case("1970-01-01T00:00:00Z", 0)]
    #[case("2012-05-02T00:54:06.655Z", 1_335_920_046_655)]
    #[case("2018-08-03T09:52:26.739266876+02:00", 1_533_282_746_739)]
    fn a_time_is_read_whatever_its_zone(#[case] text: &str, #[case] millis: u64) {
        let since = read(text).unwrap().duration_since(UNIX_EPOCH).unwrap();
        assert_eq!(since.as_millis(), u128::from(millis));
    }

    /// The zero of Go's times, with which Alertmanager says that an alert has no end.
    #[test]
    fn the_first_year_is_a_time_too() {
        assert_eq!(read("0001-01-01T00:00:00Z"), UNIX_EPOCH.checked_sub(Duration::from_secs(62_135_596_800)));
    }

    #[rstest]
    #[case("")]
    #[case("now")]
    #[case("1335920046")]
    #[case("2012-05-02")]
    #[case("2012-13-02T00:54:06Z")]
    #[case("2012-05-02T00:54:06")]
    fn anything_else_is_no_time(#[case] text: &str) {
        assert_eq!(read(text), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?(Z|[+-][0-9]{2}:[0-9]{2})|.*") {
            read(&text);
        }
    }
}
