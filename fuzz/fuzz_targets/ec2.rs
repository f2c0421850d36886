#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::wire::{aws, ec2};

fuzz_target!(|xml: &str| {
    let _ = (ec2::interfaces(xml), ec2::routes(xml), ec2::elastics(xml), aws::fault(xml));
});
