//! The policy routing rules that lead from a mark's slot to its table.
//!
//! A rule costs every packet some 7 ns, so a rule per slot in a flat list would make a packet on a host of 500
//! tenants several times as dear. The rules are a tree of `goto`s instead: at most 8 + 8 + 8 + 16 of them are tried.
//!
//! ```text
//! 7000        no slot bit -> 7999                       foreign traffic leaves at once
//! 7001        slot bits 12-10 -> 7002..7009
//! 7002-7009   slot bits 9-7   -> 7010..7073
//! 7010-7073   slot bits 6-4   -> 7074, 7076, ...
//! 7074+2i     slot            -> its table
//! 7075+2i     slots of the block above whose table has no such destination -> 7999
//! 7999        nothing: routing goes on with everybody else's rules
//! ```
//! Which priority a block has depends on its slots alone, so that a slot that comes or goes moves no other rule.

use super::{Rule, RuleAction};
use crate::model::{SLOT_MASK, SLOT_PRESENT, Slot};
use std::collections::BTreeSet;

/// Priorities 7000 to 7999 are Portway's.
pub const PRIORITIES: std::ops::RangeInclusive<u32> = 7000..=7999;

const END: u32 = 7999;

/// A level of the tree: how many low bits of the slot its children do not look at, and where its blocks begin.
struct Level {
    shift: u32,
    first_priority: u32,
    stride: u32,
}

const LEVELS: [Level; 4] = [
    Level { shift: 13, first_priority: 7001, stride: 1 },
    Level { shift: 10, first_priority: 7002, stride: 1 },
    Level { shift: 7, first_priority: 7010, stride: 1 },
    Level { shift: 4, first_priority: 7074, stride: 2 },
];

impl Level {
    fn priority(&self, slot: u32) -> u32 {
        self.first_priority + self.stride * (slot >> self.shift)
    }
}

/// All rules for these slots.
pub fn rule_tree(slots: impl IntoIterator<Item = Slot>) -> BTreeSet<Rule> {
    let mut rules: BTreeSet<Rule> = slots.into_iter().flat_map(path).collect();
    if !rules.is_empty() {
        rules.insert(Rule { priority: 7000, mark: 0, mask: SLOT_PRESENT, action: RuleAction::Goto(END) });
        rules.insert(Rule { priority: END, mark: 0, mask: 0, action: RuleAction::Nop });
    }
    rules
}

/// The rules that lead to one slot, shared with its neighbours but for the leaf.
fn path(slot: Slot) -> impl Iterator<Item = Rule> {
    let number = u32::from(slot.get());
    let block = move |shift: u32| (SLOT_PRESENT | (number >> shift << shift), SLOT_MASK >> shift << shift);
    let inner = LEVELS.windows(2).map(move |pair| {
        let (mark, mask) = block(pair[1].shift);
        Rule { priority: pair[0].priority(number), mark, mask, action: RuleAction::Goto(pair[1].priority(number)) }
    });
    let leaf = LEVELS[3].priority(number);
    let (mark, mask) = block(LEVELS[3].shift);
    inner.chain([
        Rule { priority: leaf, mark: slot.bits(), mask: SLOT_MASK, action: RuleAction::Table(slot.table()) },
        Rule { priority: leaf + 1, mark, mask, action: RuleAction::Goto(END) },
    ])
}

#[cfg(test)]
mod tests;
