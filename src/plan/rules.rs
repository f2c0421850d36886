//! The policy routing rules that lead from a mark's slot to its table, as a tree of `goto`s.

use super::Rule;
use crate::model::Slot;
use std::collections::BTreeSet;

pub fn rule_tree(_slots: &BTreeSet<Slot>) -> BTreeSet<Rule> {
    BTreeSet::new()
}
