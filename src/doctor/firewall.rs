//! Which rules of others would drop what Portway sends, receives or forwards, or translate it in Portway's place.
//!
//! Each packet that Portway depends on is led through every foreign base chain on its way, as nft describes them
//! (libnftables-json(5)). Of such a packet some things are known and others not, so a match holds, does not, or may.

use super::{Finding, Severity};
use crate::model::IfName;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Chains call each other no deeper (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// The priority `srcnat`, which Portway's translation has. Of two chains with the same, the one that was loaded last comes first.
const SRCNAT: i64 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    Unknown,
    /// One of Portway's tunnels, whichever.
    Tunnel,
    Named(IfName),
}

/// The first and the last.
pub type Ports = (u16, u16);

/// A packet, as it is seen at one hook.
#[derive(Debug, Clone)]
pub struct Packet {
    /// As in "drops ...".
    pub what: String,
    pub hook: &'static str,
    pub iif: Side,
    pub oif: Side,
    /// The transport protocol, if it is known.
    pub protocol: Option<&'static str>,
    /// Where from and where to it may be, of UDP; none: anywhere.
    pub ports: [Option<Ports>; 2],
    pub state: &'static str,
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
    /// The rule that would let it through.
    pub pass: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Truth {
    No,
    Maybe,
    Yes,
}

enum End {
    Through,
    Accepted,
    Dropped,
    /// Its source address was replaced, which ends the chain as an `accept` does.
    Translated,
}

/// The rules' statements, by family, table and chain.
type Rules<'a> = BTreeMap<[&'a str; 3], Vec<&'a Value>>;

/// One finding for each foreign chain that stands in the way of a packet, and one for each that translates it.
pub fn findings(ruleset: &Value, packets: &[Packet]) -> Vec<Finding> {
    let items = || ruleset["nftables"].as_array().into_iter().flatten();
    let foreign = |chain: &&Value| {
        let portway = chain["table"] == "portway" && matches!(text(&chain["family"]), "ip" | "inet" | "netdev");
        matches!(text(&chain["family"]), "ip" | "inet") && !portway && chain["hook"].is_string()
    };
    let mut rules = Rules::new();
    for rule in items().map(|item| &item["rule"]).filter(|rule| rule.is_object()) {
        rules.entry([text(&rule["family"]), text(&rule["table"]), text(&rule["chain"])]).or_default().push(&rule["expr"]);
    }
    let judged = |chain| [dropping(chain, &rules, packets), translating(chain, &rules, packets)];
    items().map(|item| &item["chain"]).filter(foreign).flat_map(judged).flatten().collect()
}

fn dropping(chain: &Value, rules: &Rules, packets: &[Packet]) -> Option<Finding> {
    let [family, table, name] = [text(&chain["family"]), text(&chain["table"]), text(&chain["name"])];
    let (mut severity, mut whats, mut passes, mut by_policy) = (Severity::Warning, Vec::new(), Vec::new(), true);
    for packet in packets.iter().filter(|packet| chain["hook"] == packet.hook) {
        let mut walk = Walk { family, table, rules, packet, spared: false };
        let dropped = match walk.chain(name, true, 0) {
            End::Accepted | End::Translated => false,
            End::Dropped => {
                by_policy = false;
                true
            }
            End::Through => chain["policy"] == "drop",
        };
        if dropped {
            severity = severity.max(if walk.spared { Severity::Warning } else { Severity::Broken });
            whats.push(packet.what.as_str());
            passes.push(packet.pass.as_str());
        }
    }
    let verb = if severity == Severity::Broken { "drops" } else { "drops, unless one of its rules spares it," };
    let by = if by_policy { "by its policy" } else { "by a rule" };
    (!whats.is_empty()).then(|| {
        let whats = distinct(&whats);
        let what = format!("table {family} {table}, chain {name} (hook {}) {verb} {} {by}", text(&chain["hook"]), whats.join(", and "));
        Finding { severity, what, remedy: Some(exceptions(chain, &passes)) }
    })
}

/// Only a connection's first packet is translated, and what Portway keeps out of connection tracking never is.
fn translating(chain: &Value, rules: &Rules, packets: &[Packet]) -> Option<Finding> {
    let [family, table, name] = [text(&chain["family"]), text(&chain["table"]), text(&chain["name"])];
    let first = chain["type"] == "nat" && chain["hook"] == "postrouting" && chain["prio"].as_i64().is_none_or(|prio| prio <= SRCNAT);
    let translated = |packet: &&Packet| {
        let mut walk = Walk { family, table, rules, packet, spared: false };
        packet.hook == "postrouting" && packet.state == "new" && matches!(walk.chain(name, true, 0), End::Translated)
    };
    let caught: Vec<&Packet> = packets.iter().filter(|_| first).filter(translated).collect();
    let whats: Vec<&str> = caught.iter().map(|packet| packet.what.as_str()).collect();
    let passes: Vec<&str> = caught.iter().map(|packet| packet.pass.as_str()).collect();
    (!caught.is_empty()).then(|| {
        let caught = distinct(&whats).join(", and ");
        let what = format!("table {family} {table}, chain {name} (hook postrouting) may translate {caught} in Portway's place");
        Finding::warning(what, exceptions(chain, &passes))
    })
}

/// The commands that let packets past a chain.
fn exceptions(chain: &Value, passes: &[&str]) -> String {
    let [family, table, name] = [text(&chain["family"]), text(&chain["table"]), text(&chain["name"])];
    distinct(passes).iter().map(|pass| format!("nft insert rule {family} {table} {name} '{pass}'")).collect::<Vec<_>>().join(" && ")
}

/// Each once, in their order: tenants have packets in common.
fn distinct<'a>(all: &[&'a str]) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    all.iter().copied().filter(|one| seen.insert(*one)).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// One packet on its way through one base chain.
struct Walk<'a> {
    family: &'a str,
    table: &'a str,
    rules: &'a Rules<'a>,
    packet: &'a Packet,
    /// A rule may have accepted it, or led it around the rest.
    spared: bool,
}

impl Walk<'_> {
    /// Only a walk that is certain ends in a verdict.
    fn chain(&mut self, name: &str, certain: bool, depth: usize) -> End {
        if depth > DEPTH {
            return End::Through;
        }
        for rule in self.rules.get(&[self.family, self.table, name]).into_iter().flatten() {
            let mut holds = if certain { Truth::Yes } else { Truth::Maybe };
            for statement in rule.as_array().into_iter().flatten() {
                if let Some(end) = self.statement(statement, &mut holds, depth) {
                    return end;
                }
                if holds == Truth::No {
                    break;
                }
            }
        }
        End::Through
    }

    /// The end of the chain, if this ends it; else `holds` says whether the rest of the rule counts.
    fn statement(&mut self, statement: &Value, holds: &mut Truth, depth: usize) -> Option<End> {
        let (kind, value) = statement.as_object()?.iter().next()?;
        match (kind.as_str(), *holds) {
            ("match", _) => *holds = (*holds).min(self.matches(value)),
            ("vmap", _) => return self.map(value, *holds, depth),
            ("accept", Truth::Yes) => return Some(End::Accepted),
            ("drop" | "reject", Truth::Yes) => return Some(End::Dropped),
            ("return", Truth::Yes) => return Some(End::Through),
            ("masquerade", Truth::Yes) => return Some(End::Translated),
            // To an address; a map may have none for this packet.
            ("snat", Truth::Yes) if value["addr"].is_string() => return Some(End::Translated),
            ("accept" | "return" | "queue" | "masquerade" | "snat", _) => self.spared = true,
            ("jump" | "goto", now) => match self.chain(text(&value["target"]), now == Truth::Yes, depth + 1) {
                End::Through if kind == "goto" && now == Truth::Yes => return Some(End::Through),
                End::Through => self.spared |= kind == "goto",
                end => return Some(end),
            },
            // iptables-nft: what has no form of nft's own.
            ("xt", now) if value["type"] == "target" && matches!(text(&value["name"]), "REJECT" | "DROP") => {
                return (now == Truth::Yes).then_some(End::Dropped);
            }
            ("xt", Truth::Yes) if value["type"] == "target" && matches!(text(&value["name"]), "MASQUERADE" | "SNAT") => {
                return Some(End::Translated);
            }
            ("xt", _) if value["type"] == "target" => {}
            ("limit" | "quota" | "xt" | "ct count" | "connlimit" | "last", _) => *holds = (*holds).min(Truth::Maybe),
            _ => {}
        }
        None
    }

    fn map(&mut self, map: &Value, holds: Truth, depth: usize) -> Option<End> {
        let Some(entries) = map["data"]["set"].as_array() else {
            self.spared = true;
            return None;
        };
        for entry in entries {
            let fits = self.equals(&map["key"], &entry[0]);
            if fits != Truth::No {
                let end = self.statement(&entry[1], &mut holds.min(fits), depth);
                if end.is_some() || fits == Truth::Yes {
                    return end;
                }
            }
        }
        None
    }

    fn matches(&self, test: &Value) -> Truth {
        let equal = self.equals(&test["left"], &test["right"]);
        let so = match (text(&test["op"]), equal) {
            ("==" | "in", equal) => equal,
            ("!=", Truth::Yes) => Truth::No,
            ("!=", Truth::No) => Truth::Yes,
            _ => Truth::Maybe,
        };
        // What is not there is not unequal either.
        so.min(self.has(&test["left"]))
    }

    /// Whether the packet has what is compared: who names a field asks for its protocol first (nft(8), implicit protocol matches).
    fn has(&self, left: &Value) -> Truth {
        match text(&left["payload"]["protocol"]) {
            "ip6" | "icmpv6" | "arp" => Truth::No,
            protocol @ ("tcp" | "udp" | "icmp" | "igmp" | "sctp" | "dccp" | "udplite" | "esp" | "ah" | "comp" | "gre") => {
                self.protocol(&protocol.into())
            }
            _ => Truth::Yes,
        }
    }

    fn equals(&self, left: &Value, right: &Value) -> Truth {
        let any = |of: &Vec<Value>| of.iter().map(|one| self.equals(left, one)).max().unwrap_or(Truth::No);
        match right {
            Value::Array(of) => return any(of),
            Value::Object(object) if object.contains_key("set") => return right["set"].as_array().map_or(Truth::Maybe, any),
            Value::Object(object) if object.contains_key("elem") => return self.equals(left, &right["elem"]["val"]),
            Value::String(name) if name.starts_with('@') => return Truth::Maybe,
            _ => {}
        }
        let payload = [text(&left["payload"]["protocol"]), text(&left["payload"]["field"])];
        match (text(&left["meta"]["key"]), text(&left["ct"]["key"]), payload) {
            ("iifname" | "iif", ..) => interface(&self.packet.iif, text(right)),
            ("oifname" | "oif", ..) => interface(&self.packet.oif, text(right)),
            ("nfproto", ..) => is(right == "ipv4"),
            ("protocol", ..) => is(right == "ip"),
            ("l4proto", ..) | (.., ["ip", "protocol"]) => self.protocol(right),
            (_, "state", _) => is(right == self.packet.state),
            (.., ["ip", "saddr"]) => address(self.packet.source, right),
            (.., ["ip", "daddr"]) => address(self.packet.destination, right),
            (.., ["udp" | "th", "sport"]) if self.packet.protocol == Some("udp") => port(self.packet.ports[0], right),
            (.., ["udp" | "th", "dport"]) if self.packet.protocol == Some("udp") => port(self.packet.ports[1], right),
            _ => self.has(left).min(Truth::Maybe),
        }
    }

    fn protocol(&self, name: &Value) -> Truth {
        const NUMBERS: [(&str, u64); 3] = [("gre", 47), ("udp", 17), ("vrrp", 112)];
        self.packet.protocol.map_or(Truth::Maybe, |known| is(name == known || NUMBERS.iter().any(|of| of.0 == known && *name == of.1)))
    }
}

fn is(so: bool) -> Truth {
    if so { Truth::Yes } else { Truth::No }
}

fn interface(side: &Side, pattern: &str) -> Truth {
    match (side, pattern.strip_suffix('*')) {
        (Side::Unknown, _) => Truth::Maybe,
        (Side::Named(name), Some(begin)) => is(name.as_str().starts_with(begin)),
        (Side::Named(name), None) => is(name.as_str() == pattern),
        (Side::Tunnel, Some(begin)) if IfName::OURS.starts_with(begin) => Truth::Yes,
        // This tunnel or another one.
        (Side::Tunnel, _) if pattern.starts_with(IfName::OURS) => Truth::Maybe,
        (Side::Tunnel, _) => Truth::No,
    }
}

/// A number, or a range of them.
fn port(known: Option<Ports>, of: &Value) -> Truth {
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let range = number(of).map(|one| (one, one)).or_else(|| Some((number(&of["range"][0])?, number(&of["range"][1])?)));
    let (Some((first, last)), Some((least, most))) = (known, range) else { return Truth::Maybe };
    if last < least || most < first {
        return Truth::No;
    }
    if least <= first && last <= most { Truth::Yes } else { Truth::Maybe }
}

fn address(known: Option<IpAddr>, of: &Value) -> Truth {
    let Some(known) = known else { return Truth::Maybe };
    let parse = |value: &Value| text(value).parse::<IpAddr>().ok();
    let (prefix, range) = (&of["prefix"], &of["range"]);
    if let (Some(first), Some(last)) = (parse(&range[0]), parse(&range[1])) {
        return is((first..=last).contains(&known));
    }
    let length = prefix["len"].as_u64().and_then(|length| u8::try_from(length).ok());
    if let (Some(address), Some(length)) = (parse(&prefix["addr"]), length) {
        return ipnet::IpNet::new(address, length).map_or(Truth::Maybe, |net| is(net.contains(&known)));
    }
    parse(of).map_or(Truth::Maybe, |address| is(address == known))
}
