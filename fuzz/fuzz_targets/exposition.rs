#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::wire::exposition;

fuzz_target!(|page: &str| {
    for sample in exposition::read(page) {
        match sample {
            Ok(sample) => {
                assert!(!sample.name.is_empty() && page.contains(sample.name));
                assert!(sample.labels.iter().all(|(name, _)| !name.is_empty() && sample.label(name).is_some()));
            }
            Err(broken) => assert!((1..=page.split('\n').count()).contains(&broken.line)),
        }
    }
});
