//! Policy routing rules of our priorities.

use super::netlink::{Answer, Netlink, Refused, Request};
use crate::plan::{PRIORITIES, ROUTE_PROTOCOL, Rule, RuleAction};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{self, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::HashMap;

const RTM_DELRULE: u16 = 33;

pub fn add(rule: &Rule) -> Request {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    // When rules are removed the kernel takes mark 0 for "any mark" (`rule_find`), but it does compare protocols: with a
    // protocol of its own, the rule for mark 0 is never taken for its neighbour or the other way round.
    let protocol = if rule.mark == 0 { ROUTE_PROTOCOL + 1 } else { ROUTE_PROTOCOL };
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::FwMark(rule.mark),
        RuleAttribute::FwMask(rule.mask),
        RuleAttribute::Protocol(RouteProtocol::from(protocol)),
    ];
    match rule.action {
        RuleAction::Table(table) => {
            message.header.action = rule::RuleAction::ToTable;
            message.attributes.push(RuleAttribute::Table(table));
        }
        RuleAction::Goto(priority) => {
            message.header.action = rule::RuleAction::Goto;
            message.attributes.push(RuleAttribute::Goto(priority));
        }
        RuleAction::Nop => message.header.action = rule::RuleAction::Nop,
    }
    Request::route(RouteNetlinkMessage::NewRule(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// A rule that stands already is as good as added.
pub fn added(answer: Answer) -> Answer {
    match answer {
        Err(Refused { errno: libc::EEXIST, .. }) => Ok(()),
        other => other,
    }
}

/// Removes exactly those rules, each described as the kernel describes it; one that is gone already counts as removed.
pub fn remove<'r>(netlink: &mut Netlink, rules: impl Iterator<Item = &'r Rule>) -> Vec<Answer> {
    let rules: Vec<_> = rules.collect();
    let standing = match list(netlink) {
        Ok(standing) => standing,
        Err(refused) => return vec![Err(refused); rules.len()],
    };
    let mut answers: Vec<Answer> = vec![Ok(()); rules.len()];
    let wanted: HashMap<&Rule, usize> = rules.iter().enumerate().map(|(place, rule)| (*rule, place)).collect();
    let (places, requests): (Vec<_>, Vec<_>) =
        standing.iter().filter_map(|(rule, payload)| Some((*wanted.get(rule)?, Request::new(RTM_DELRULE, 0, payload)))).unzip();
    for (place, answer) in places.into_iter().zip(netlink.execute(requests)) {
        answers[place] = match answer {
            Err(Refused { errno: libc::ENOENT, .. }) => Ok(()),
            other => other,
        };
    }
    answers
}

/// All rules of our priorities, with the kernel's own words for each.
pub fn list(netlink: &mut Netlink) -> Result<Vec<(Rule, Vec<u8>)>, Refused> {
    let mut all = RuleMessage::default();
    all.header.family = AddressFamily::Inet;
    let entries = netlink.dump(Request::route(RouteNetlinkMessage::GetRule(all), 0))?;
    Ok(entries.into_iter().filter_map(|(kind, payload)| Some((read(kind, &payload)?, payload))).collect())
}

/// A rule that looks at more than the mark, or does something else, comes as a look-up of table 0: never desired.
fn read(kind: u16, payload: &[u8]) -> Option<Rule> {
    const FIB_RULE_INVERT: u32 = 2;
    let RouteNetlinkMessage::NewRule(message) = super::route_message(kind, payload)? else { return None };
    let (mut priority, mut mark, mut mask, mut table, mut goto, mut foreign) =
        (0, 0, 0, u32::from(message.header.table), None, message.header.flags.bits() & FIB_RULE_INVERT != 0);
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Priority(n) => priority = n,
            RuleAttribute::FwMark(n) => mark = n,
            RuleAttribute::FwMask(n) => mask = n,
            RuleAttribute::Table(n) => table = n,
            RuleAttribute::Goto(n) => goto = Some(n),
            RuleAttribute::Protocol(_) | RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            _ => foreign = true,
        }
    }
    let action = match (message.header.action, goto) {
        _ if foreign => RuleAction::Table(0),
        (rule::RuleAction::ToTable, _) => RuleAction::Table(table),
        (rule::RuleAction::Goto, Some(priority)) => RuleAction::Goto(priority),
        (rule::RuleAction::Nop, _) => RuleAction::Nop,
        _ => RuleAction::Table(0),
    };
    PRIORITIES.contains(&priority).then_some(Rule { priority, mark, mask, action })
}
