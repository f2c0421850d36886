#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::wire::prometheus;
use std::time::{Duration, UNIX_EPOCH};

fuzz_target!(|body: &[u8]| {
    match prometheus::read(body, UNIX_EPOCH + Duration::from_secs(1_803_896_100)) {
        Ok(value) => assert!(value.is_finite() && value >= 0.0),
        Err(unusable) => assert!(!unusable.to_string().contains(char::is_control), "{unusable}"),
    }
});
