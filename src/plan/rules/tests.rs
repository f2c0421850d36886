use super::*;
use crate::model::Mark;
use proptest::prelude::*;

/// What the kernel does with a mark (net/core/fib_rules.c): the tables looked up, and how many rules were tried.
fn walk(rules: &BTreeSet<Rule>, mark: u32) -> (Vec<u32>, usize) {
    let (mut tables, mut tried, mut from) = (Vec::new(), 0, 0);
    for rule in rules {
        if rule.priority < from {
            continue;
        }
        tried += 1;
        if mark & rule.mask != rule.mark {
            continue;
        }
        match rule.action {
            RuleAction::Table(table) => tables.push(table),
            RuleAction::Goto(priority) => from = priority,
            RuleAction::Nop => {}
        }
    }
    (tables, tried)
}

fn slots(count: u16) -> Vec<Slot> {
    (1..=count).map(|n| Slot::try_from(n).unwrap()).collect()
}

#[test]
fn every_slot_finds_its_own_table_and_no_other() {
    let rules = rule_tree(slots(Slot::MAX.get()));
    for slot in slots(Slot::MAX.get()) {
        let who = Some(7.try_into().unwrap());
        assert_eq!(walk(&rules, Mark::new(who, Some(slot)).0).0, [slot.table()], "{slot}");
    }
}

#[test]
fn foreign_marks_look_nothing_up() {
    let rules = rule_tree(slots(Slot::MAX.get()));
    for mark in [0, 1, 0x80, 0x4000, 0x8000, 0xca6c & !SLOT_PRESENT, 0xffff_0000] {
        assert_eq!(walk(&rules, mark), (vec![], 2), "{mark:#x}");
    }
}

#[test]
fn two_thousand_slots_cost_a_packet_at_most_forty_rules() {
    let rules = rule_tree(slots(2000));
    assert!(slots(2000).into_iter().all(|slot| walk(&rules, slot.bits()).1 <= 40));
}

#[test]
fn all_priorities_are_ours() {
    assert!(rule_tree(slots(Slot::MAX.get())).iter().all(|rule| PRIORITIES.contains(&rule.priority)));
}

#[test]
fn without_slots_there_are_no_rules() {
    assert!(rule_tree([]).is_empty());
}

proptest! {
    #[test]
    fn a_slot_that_comes_moves_no_other_rule(some in proptest::collection::btree_set(1..=Slot::MAX.get(), 1..50), one in 1..=Slot::MAX.get()) {
        let before: Vec<Slot> = some.iter().map(|n| Slot::try_from(*n).unwrap()).collect();
        let after = before.iter().copied().chain([Slot::try_from(one).unwrap()]);
        prop_assert!(rule_tree(before.iter().copied()).is_subset(&rule_tree(after)));
    }
}
