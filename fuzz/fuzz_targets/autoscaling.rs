#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::wire::{autoscaling, aws};

fuzz_target!(|xml: &str| {
    if let Ok(group) = autoscaling::group(xml, "gateways") {
        assert_eq!(group.name, "gateways");
        assert!(group.instances().iter().all(|instance| !(instance.is_in_service() && instance.waits_to_go())));
    }
    let _ = aws::fault(xml);
});
