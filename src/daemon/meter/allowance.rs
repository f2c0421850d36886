//! Which of a driver's counters are the cloud's: packets beyond what it allows the instance.

use crate::proto::scale::Allowance;

/// Packets that were queued or dropped, each by [`Allowance`] as its index. None: the driver does not count that.
pub type Exceeded = [Option<u64>; Allowance::ALL.len()];

fn named(counter: &str) -> Option<Allowance> {
    Allowance::ALL.into_iter().find(|allowance| allowance.as_str() == counter)
}

pub fn is_one(counter: &str) -> bool {
    named(counter).is_some()
}

/// None: the driver counts nothing of the kind.
pub fn exceeded(counters: &[(String, u64)]) -> Option<Exceeded> {
    let mut exceeded = Exceeded::default();
    for (counter, packets) in counters {
        if let Some(allowance) = named(counter) {
            exceeded[allowance as usize] = Some(*packets);
        }
    }
    exceeded.iter().any(Option::is_some).then_some(exceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As `ethtool -S` tells them of an interface of ENA.
    const SEEN: [(&str, u64); 9] = [
        ("tx_timeout", 0),
        ("suspend", 0),
        ("bw_in_allowance_exceeded", 3),
        ("bw_out_allowance_exceeded", 0),
        ("pps_allowance_exceeded", 12),
        ("conntrack_allowance_exceeded", 0),
        ("linklocal_allowance_exceeded", 7),
        ("conntrack_allowance_available", 136_812),
        ("queue_0_tx_cnt", 5120),
    ];

    fn counters(of: &[(&str, u64)]) -> Vec<(String, u64)> {
        of.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn what_the_cloud_held_back_is_told_apart_from_all_else() {
        assert_eq!(exceeded(&counters(&SEEN)), Some([Some(3), Some(0), Some(12), Some(0), Some(7)]));
        assert_eq!(exceeded(&counters(&SEEN[..2])), None, "a driver that does not count it");
        assert_eq!(exceeded(&[]), None);
        assert_eq!(exceeded(&counters(&SEEN[4..5])), Some([None, None, Some(12), None, None]), "an older driver");
    }

    proptest! {
        #[test]
        fn the_order_of_counters_means_nothing(order in Just(SEEN.to_vec()).prop_shuffle()) {
            prop_assert_eq!(exceeded(&counters(&order)), exceeded(&counters(&SEEN)));
        }

        #[test]
        fn other_names_are_not_ours(name in "[a-z_]{0,40}", value in any::<u64>()) {
            prop_assume!(!is_one(&name));
            prop_assert_eq!(exceeded(&[(name, value)]), None);
        }
    }
}
