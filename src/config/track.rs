//! `track:` what shards depend on besides their gateways.

use super::common::Seen;
use super::decode::{At, Decoder, Field, Shape, Table};
use super::node::Node;
use super::{HttpCheck, Probe, StatusRange, Target, Tracked, Watched};
use crate::model::{Cost, IfName};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const TRACK: Shape = Shape {
    what: "this `track` entry",
    fields: &[
        Field::optional("interface", "interface: eth2"),
        Field::optional("tcp", "tcp: 172.16.101.20:5432"),
        Field::optional("http", "http: \"http://172.16.101.20:8080/health\""),
        Field::optional("icmp", "icmp: 172.16.101.20"),
        Field::optional("script", "script: /usr/local/bin/check"),
        Field::optional("args", "args: [one, two]"),
        Field::optional("expect", "expect: 200-299"),
        Field::optional("every", "every: 1s"),
        Field::optional("timeout", "timeout: 500ms"),
        Field::optional("rise", "rise: 2"),
        Field::optional("fall", "fall: 3"),
        Field::optional("weight", "weight: 150"),
        Field::optional("fault", "fault: true"),
    ],
};

/// What a `track` looks like.
pub(super) const EXAMPLE: &str = "track: [{ tcp: 172.16.101.20:5432 }]";
const KINDS: [&str; 5] = ["interface", "tcp", "http", "icmp", "script"];
/// For a list, as each is a label of metrics and a task.
const MOST: usize = 16;
const MOST_ARGS: usize = 16;
/// Bytes of an argument or an URL: they are shown and are labels.
const LONGEST: usize = 200;
const EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));
const MOST_RESULTS: u64 = 100;
const HIGHEST_WEIGHT: u64 = 253;

/// Whose list it is.
pub(super) enum Place<'a> {
    /// `ha`: it concerns all shards. No probe, for there are several ways into several VPCs.
    All {
        platform: Option<&'a IfName>,
    },
    Tenant {
        platform: Option<&'a IfName>,
        interface: Option<&'a IfName>,
    },
}

impl Place<'_> {
    /// Interfaces that are a fault of the shard anyway.
    fn own(&self, name: &IfName) -> bool {
        let (platform, interface) = match self {
            Place::All { platform } => (*platform, None),
            Place::Tenant { platform, interface } => (*platform, *interface),
        };
        [platform, interface].contains(&Some(name))
    }
}

impl Decoder {
    pub fn track(&mut self, node: &Node, place: &Place<'_>) -> Option<Vec<Tracked>> {
        let items = self.list(node, "`track`", EXAMPLE)?;
        if items.len() > MOST {
            self.fault(
                node.span,
                format!("`track` has {} entries", items.len()),
                format!("write {MOST} at most; a script can check several"),
            );
        }
        let mut seen = Seen::new("the check");
        let all: Vec<Tracked> = items.iter().filter_map(|item| self.tracked(item, place, &mut seen)).collect();
        (all.len() == items.len()).then_some(all)
    }

    fn tracked(&mut self, node: &Node, place: &Place<'_>, seen: &mut Seen<String>) -> Option<Tracked> {
        let table = self.table(node, &TRACK, node.span)?;
        let written: Vec<&str> = KINDS.into_iter().filter(|kind| table.written(kind)).collect();
        let cost = self.cost(&table);
        let kind = match written[..] {
            [kind] => kind,
            [] => {
                let remedy = "add one of `interface`, `tcp`, `http`, `icmp` and `script`";
                self.fault(node.span, "this `track` entry says nothing to check", remedy);
                return None;
            }
            [first, second, ..] => {
                let remedy = "make an entry of each";
                self.fault(table.place(second), format!("this `track` entry has `{second}` beside `{first}`"), remedy);
                return None;
            }
        };
        self.misplaced(&table, kind);
        let watched = match kind {
            "interface" => Watched::Interface(self.tracked_interface(&table, place)?),
            _ => Watched::Probe(self.probe(&table, kind, place)?),
        };
        let label = At { value: watched.to_string(), span: table.place(kind) };
        self.unique(seen, Some(&label), "check everything once");
        Some(Tracked { watched, cost: cost? })
    }

    /// Keys that go with other kinds.
    fn misplaced(&mut self, table: &Table<'_>, kind: &str) {
        let only = [("args", &["script"][..]), ("expect", &["http"])];
        let probes = ["every", "timeout", "rise", "fall"].map(|key| (key, &KINDS[1..]));
        for (key, kinds) in only.into_iter().chain(probes) {
            if table.get(key).is_some() && !kinds.contains(&kind) {
                let why = if kind == "interface" { "; an interface is not asked, the kernel tells" } else { "" };
                self.fault(table.place(key), format!("`{key}` does not go with `{kind}`{why}"), "remove it");
            }
        }
    }

    fn cost(&mut self, table: &Table<'_>) -> Option<Cost> {
        let fault = self.field_or(table, "fault", false, |d, node| d.boolean(node, "fault"))?;
        let Some(node) = table.get("weight") else { return Some(if fault { Cost::Fault } else { Cost::DEFAULT }) };
        let unit = ", which is subtracted from the priority; or `fault: true`";
        let weight = u8::try_from(self.number(node, "weight", 1..=HIGHEST_WEIGHT, unit)?.value).ok()?;
        if fault {
            let remedy = "keep one: `weight` lowers the priority, with `fault` the node lets go of the shard";
            self.fault(table.place("weight"), "this `track` entry has `weight` beside `fault`", remedy);
            return None;
        }
        Some(Cost::Weight(weight))
    }

    fn tracked_interface(&mut self, table: &Table<'_>, place: &Place<'_>) -> Option<IfName> {
        let At { value, span } = self.field(table, "interface", Self::interface)?;
        if place.own(&value) {
            self.fault(span, format!("{value} is tracked anyway: without it a shard cannot be served"), "remove this entry");
            return None;
        }
        Some(value)
    }

    fn probe(&mut self, table: &Table<'_>, kind: &str, place: &Place<'_>) -> Option<Probe> {
        if kind != "script" && matches!(place, Place::All { .. }) {
            let remedy = "write it in the `track` of a tenant: a probe goes into that tenant's VPC";
            self.fault(table.place(kind), format!("`{kind}` is no check for all tenants"), remedy);
            return None;
        }
        let target = match kind {
            "tcp" => self.field(table, "tcp", |d, node| d.target_socket(node)).map(Target::Tcp),
            "http" => self.http(table).map(Target::Http),
            "icmp" => self.field(table, "icmp", |d, node| d.address(node, "`icmp`")).map(|at| Target::Icmp(at.value)),
            _ => self.script(table),
        };
        let least_timeout = if kind == "script" { Duration::from_secs(2) } else { Duration::from_millis(500) };
        let every = self.field_or(table, "every", Duration::from_secs(1), |d, node| d.time_in(node, "every", "1s", EVERY));
        let timeout = self.field_or(table, "timeout", least_timeout, |d, node| d.time_in(node, "timeout", "500ms", TIMEOUT));
        let mut count = |name: &str, default| {
            self.field_or(table, name, default, |d, node| {
                u32::try_from(d.number(node, &format!("`{name}`"), 1..=MOST_RESULTS, " results in a row")?.value).ok()
            })
        };
        let (rise, fall) = (count("rise", 2), count("fall", 3));
        Some(Probe { target: target?, every: every?, timeout: timeout?, rise: rise?, fall: fall? })
    }

    fn target_socket(&mut self, node: &Node) -> Option<SocketAddr> {
        let text = self.text(node, "`tcp`", "172.16.101.20:5432")?;
        let target = text.parse::<SocketAddr>().ok().filter(|target| target.port() != 0 && target.is_ipv4());
        if target.is_none() {
            let remedy = "write both, such as 172.16.101.20:5432; names are not looked up";
            self.fault(node.span, format!("`tcp` {text:?} is not an IPv4 address and a port"), remedy);
        }
        target
    }

    fn http(&mut self, table: &Table<'_>) -> Option<HttpCheck> {
        let (at, path) = self.field(table, "http", Self::url)?;
        let expect = self.field_or(table, "expect", StatusRange::default(), Self::expected)?;
        Some(HttpCheck { at, path, expect })
    }

    fn url(&mut self, node: &Node) -> Option<(SocketAddr, String)> {
        const EXAMPLE: &str = "http://172.16.101.20:8080/health";
        let text = self.text(node, "`http`", EXAMPLE)?;
        if text.starts_with("https://") {
            let remedy = "write an http:// address, `tcp` for the port alone, or a `script`";
            self.fault(node.span, "https is not supported here", remedy);
            return None;
        }
        let parts = text.strip_prefix("http://").map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len())));
        let parts = parts.and_then(|(authority, path)| {
            let alone = || authority.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 80));
            let at = authority.parse::<SocketAddr>().ok().or_else(alone)?;
            Some((at, if path.is_empty() { "/" } else { path }))
        });
        let printable = text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        let Some((at, path)) = parts.filter(|(at, _)| printable && at.port() != 0 && at.is_ipv4()) else {
            let remedy = format!("write an IPv4 address, {LONGEST} characters at most, such as {EXAMPLE}; names are not looked up");
            self.fault(node.span, format!("`http` {text:?} cannot be asked"), remedy);
            return None;
        };
        Some((at, path.to_owned()))
    }

    fn expected(&mut self, node: &Node) -> Option<StatusRange> {
        let text = self.text(node, "`expect`", "200")?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..=599).contains(status));
        let range =
            status(first).zip(status(last)).map(|(first, last)| StatusRange { first, last }).filter(|range| range.first <= range.last);
        if range.is_none() {
            let remedy = "write one such as 200, or a range such as 200-399, of 100 to 599";
            self.fault(node.span, format!("`expect` {text:?} is not a status of HTTP"), remedy);
        }
        range
    }

    fn script(&mut self, table: &Table<'_>) -> Option<Target> {
        let file = self.field(table, "script", |d, node| d.absolute(node, "script", "/usr/local/bin/check"))?;
        let args = self.field_or(table, "args", Vec::new(), |d, node| {
            let items = d.list(node, "`args`", "args: [one, two]")?;
            let args: Vec<String> = items.iter().filter_map(|item| d.text(item, "an argument", "one").map(str::to_owned)).collect();
            let good = |arg: &String| arg.len() <= LONGEST && !arg.contains(char::is_control);
            if args.len() > MOST_ARGS || !args.iter().all(good) {
                let remedy = format!("write {MOST_ARGS} at most, of {LONGEST} bytes each, without control characters");
                d.fault(node.span, "these `args` are too many, too long or not text", remedy);
                return None;
            }
            (args.len() == items.len()).then_some(args)
        })?;
        Some(Target::Script { file: file.value, args })
    }
}
