//! `nodes:` how many, by what, and how fast that may change.

use crate::config::decode::{Decoder, Field, Shape, Table};
use crate::config::node::Node;
use std::ops::RangeInclusive;
use std::time::Duration;
use time::{Time, UtcOffset, Weekday};

/// As the decision machine takes it (`proto::scale::Policy`), which says what each is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Nodes {
    /// 2 to 1,000: a shard has two candidates. Default 2.
    pub min: u32,
    /// `min` to 1,000. Default 10.
    pub max: u32,
    /// Percent of what the nodes can carry that should be used: 10 to 95. Default 60.
    pub target: u32,
    /// What one node can carry, by the cloud's allowance for its kind; unset, softirq and the table of connections speak alone.
    pub bits_per_second: Option<u64>,
    pub packets_per_second: Option<u64>,
    pub connections: Option<u64>,
    /// To more nodes: 15 s, 4 nodes or 100 percent.
    pub out: Change,
    /// To fewer nodes: 5 min, 1 node or 50 percent.
    pub r#in: Change,
    /// The highest need of this time counts for fewer nodes: 1 min to 24 h. Default 5 min.
    pub window: Duration,
    /// A gateway whose last reading is older is silent: 1 s to 5 min. Default 15 s.
    pub stale_after: Duration,
    /// From an order to a node that carries traffic: up to 1 h. Default 90 s.
    pub start_up: Duration,
    /// Of the hours in the schedule: -23:59 to +23:59. Default UTC.
    pub utc_offset: UtcOffset,
    pub hours: Vec<Hours>,
}

/// How fast, and how far at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// 1 s to 1 h for more nodes, to 24 h for fewer.
    pub cooldown: Duration,
    /// 1 to 1,000.
    pub nodes: u32,
    /// Of the nodes there are, if that is more: 0 to 1,000.
    pub percent: u32,
}

/// So many nodes at least at certain hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// On which they begin; none: every day.
    pub days: Vec<Weekday>,
    pub from: Time,
    /// Not later than `from`: on the next day.
    pub to: Time,
    pub min: u32,
}

const NODES: Shape = Shape {
    what: "`nodes`",
    fields: &[
        Field::optional("min", "min: 2"),
        Field::optional("max", "max: 10"),
        Field::optional("target", "target: 60"),
        Field::optional("bits_per_second", "bits_per_second: 5000000000"),
        Field::optional("packets_per_second", "packets_per_second: 800000"),
        Field::optional("connections", "connections: 400000"),
        Field::optional("out", "out: { cooldown: 15s, nodes: 4, percent: 100 }"),
        Field::optional("in", "in: { cooldown: 5m, nodes: 1, percent: 50 }"),
        Field::optional("window", "window: 5m"),
        Field::optional("stale_after", "stale_after: 15s"),
        Field::optional("start_up", "start_up: 90s"),
        Field::optional("utc_offset", "utc_offset: \"+01:00\""),
        Field::optional("hours", HOURS_EXAMPLE),
    ],
};

const CHANGE: Shape = Shape {
    what: "this change",
    fields: &[
        Field::optional("cooldown", "cooldown: 15s"),
        Field::optional("nodes", "nodes: 4"),
        Field::optional("percent", "percent: 100"),
    ],
};

const HOURS_EXAMPLE: &str = "hours: [{ days: [mon, fri], from: \"07:00\", to: \"19:00\", min: 6 }]";

const HOURS: Shape = Shape {
    what: "these hours",
    fields: &[
        Field::optional("days", "days: [mon, tue, wed, thu, fri]"),
        Field::required("from", "from: \"07:00\""),
        Field::required("to", "to: \"19:00\""),
        Field::required("min", "min: 6"),
    ],
};

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

const MOST: u64 = 1000;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Nodes {
    fn default() -> Self {
        Self {
            min: 2,
            max: 10,
            target: 60,
            bits_per_second: None,
            packets_per_second: None,
            connections: None,
            out: Change { cooldown: 15 * SECOND, nodes: 4, percent: 100 },
            r#in: Change { cooldown: 300 * SECOND, nodes: 1, percent: 50 },
            window: 300 * SECOND,
            stale_after: 15 * SECOND,
            start_up: 90 * SECOND,
            utc_offset: UtcOffset::UTC,
            hours: vec![],
        }
    }
}

impl Decoder {
    pub(super) fn nodes(&mut self, node: &Node) -> Option<Nodes> {
        let table = self.table(node, &NODES, node.span)?;
        let or = Nodes::default();
        let min = self.count_or(&table, "min", or.min, 2..=MOST, ": a shard has two candidates");
        let lowest = u64::from(min.unwrap_or(or.min));
        let max = self.count_or(&table, "max", or.max.max(min.unwrap_or_default()), lowest..=MOST, " (not less than `min`)");
        let target = self.count_or(&table, "target", or.target, 10..=95, " percent: the rest is for what comes while a node starts");
        let rate = |d: &mut Self, name| {
            d.field_or(&table, name, None, |d, node| d.number(node, name, 1..=10_u64.pow(13), "").map(|at| Some(at.value)))
        };
        let [bits_per_second, packets_per_second, connections] =
            ["bits_per_second", "packets_per_second", "connections"].map(|name| rate(self, name));
        let out = self.field_or(&table, "out", or.out, |d, node| d.change(node, or.out, (SECOND, HOUR)));
        let shortest = out.map_or(SECOND, |out| out.cooldown);
        let r#in = self.field_or(&table, "in", or.r#in, |d, node| d.change(node, or.r#in, (shortest, DAY)));
        let window = self.field_or(&table, "window", or.window, |d, node| d.time_in(node, "window", "5m", (60 * SECOND, DAY)));
        let stale_after =
            self.field_or(&table, "stale_after", or.stale_after, |d, node| d.time_in(node, "stale_after", "15s", (SECOND, 300 * SECOND)));
        let start_up = self.field_or(&table, "start_up", or.start_up, |d, node| d.time_in(node, "start_up", "90s", (Duration::ZERO, HOUR)));
        let utc_offset = self.field_or(&table, "utc_offset", or.utc_offset, Self::utc_offset);
        let most = u64::from(max.unwrap_or(or.max));
        let hours =
            self.field_or(&table, "hours", vec![], |d, node| d.items(node, "`hours`", HOURS_EXAMPLE, |d, item| d.hours(item, most)));
        Some(Nodes {
            min: min?,
            max: max?,
            target: target?,
            bits_per_second: bits_per_second?,
            packets_per_second: packets_per_second?,
            connections: connections?,
            out: out?,
            r#in: r#in?,
            window: window?,
            stale_after: stale_after?,
            start_up: start_up?,
            utc_offset: utc_offset?,
            hours: hours?,
        })
    }

    fn count_or(&mut self, table: &Table<'_>, name: &str, or: u32, range: RangeInclusive<u64>, unit: &str) -> Option<u32> {
        self.field_or(table, name, or, |d, node| u32::try_from(d.number(node, name, range, unit)?.value).ok())
    }

    fn change(&mut self, node: &Node, or: Change, cooldown: (Duration, Duration)) -> Option<Change> {
        let table = self.table(node, &CHANGE, node.span)?;
        let cooldown = self.field_or(&table, "cooldown", or.cooldown, |d, node| d.time_in(node, "cooldown", "15s", cooldown));
        let nodes = self.count_or(&table, "nodes", or.nodes, 1..=MOST, "");
        let percent = self.count_or(&table, "percent", or.percent, 0..=1000, " of the nodes there are");
        Some(Change { cooldown: cooldown?, nodes: nodes?, percent: percent? })
    }

    fn hours(&mut self, node: &Node, most: u64) -> Option<Hours> {
        let table = self.table(node, &HOURS, node.span)?;
        let days = self
            .field_or(&table, "days", vec![], |d, node| d.items(node, "`days`", "days: [mon, tue]", |d, item| d.word(item, "days", &DAYS)));
        let from = self.field(&table, "from", |d, node| d.time_of_day(node, "from"));
        let to = self.field(&table, "to", |d, node| d.time_of_day(node, "to"));
        let min = self.field(&table, "min", |d, node| u32::try_from(d.number(node, "min", 1..=most, " (not more than `max`)")?.value).ok());
        Some(Hours { days: days?, from: from?, to: to?, min: min? })
    }

    /// HH:MM.
    fn time_of_day(&mut self, node: &Node, what: &str) -> Option<Time> {
        let text = self.text(node, &format!("`{what}`"), "\"07:00\"")?;
        let time = sexagesimal(text).and_then(|(hours, minutes)| Time::from_hms(hours, minutes, 0).ok());
        if time.is_none() {
            self.fault(
                node.span,
                format!("`{what}` {text:?} is no time of day"),
                "write hours and minutes in quotes, \"00:00\" to \"23:59\"",
            );
        }
        time
    }

    /// +HH:MM or -HH:MM.
    fn utc_offset(&mut self, node: &Node) -> Option<UtcOffset> {
        let text = self.text(node, "`utc_offset`", "utc_offset: \"+01:00\"")?;
        let offset = text.split_at_checked(1).and_then(|(sign, rest)| {
            let (hours, minutes) = sexagesimal(rest)?;
            let sign = match sign {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let part = |number: u8| i8::try_from(number).ok().map(|number| number * sign);
            UtcOffset::from_hms(part(hours)?, part(minutes)?, 0).ok()
        });
        if offset.is_none() {
            let remedy = "write a sign, hours and minutes in quotes, such as \"+01:00\"";
            self.fault(node.span, format!("`utc_offset` {text:?} is none"), remedy);
        }
        offset
    }
}

/// HH:MM, two digits each.
fn sexagesimal(text: &str) -> Option<(u8, u8)> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |part: &str| (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse().ok())?;
    Some((two(hours)?, two(minutes).filter(|minutes| *minutes < 60)?))
}
