//! A topology as a drawing of boxes and lines, at most 100 columns wide.

mod group;

use super::topology::{Topology, Wiring};
use crate::config::TunnelKind;

const HOST_WIDTH: usize = 32;
const GATEWAY_WIDTH: usize = 25;
const VPC_WIDTH: usize = 25;
/// Columns between the boxes and the platform's line, on either side.
const GAP: usize = 4;

/// One row of one side: its text, and whether a cable leaves it toward the platform.
struct Row {
    text: String,
    cable: bool,
}

pub fn draw(lab: &Topology) -> String {
    let left = hosts(lab);
    let shared = lab.group.is_some() && lab.tenants.len() <= group::MOST;
    let (right, gap) = if shared { (group::rows(lab), group::gap(lab)) } else { (gateways(lab), GAP) };
    let rows = left.len().max(right.len());
    let cabled = |side: &[Row], row: usize| side.get(row).is_some_and(|r| r.cable);
    let ends: Vec<usize> = (0..rows).filter(|row| cabled(&left, *row) || cabled(&right, *row)).collect();
    let (first, last) = (ends.first().copied().unwrap_or(0), ends.last().copied().unwrap_or(0));

    let title = |text: &str, width: usize| format!("{text:<width$}");
    let mut drawing = format!(
        " {}{}{}{}\n",
        title("function hosts", HOST_WIDTH + GAP - 5),
        title("platform", GAP + 6),
        title("gateways", GATEWAY_WIDTH + gap),
        "tenants' VPCs"
    );
    let empty = |width: usize| " ".repeat(width);
    for row in 0..rows {
        let (from_left, from_right) = (cabled(&left, row), cabled(&right, row));
        let line = |cable: bool| if cable { "─".repeat(GAP) } else { empty(GAP) };
        let bus = if row < first || row > last { ' ' } else { joint(from_left, from_right, row == first, row == last) };
        let left_text = left.get(row).map_or_else(|| empty(HOST_WIDTH), |r| r.text.clone());
        let right_text = right.get(row).map_or("", |r| r.text.as_str());
        let text = format!(" {left_text}{}{bus}{}{right_text}", line(from_left), line(from_right));
        drawing += text.trim_end();
        drawing.push('\n');
    }
    drawing
}

/// The piece of the vertical line at which a row's cables meet it.
fn joint(left: bool, right: bool, first: bool, last: bool) -> char {
    match (left, right, first, last) {
        (_, _, true, true) => '─',
        (true, true, true, _) => '┬',
        (true, false, true, _) => '┐',
        (false, true, true, _) => '┌',
        (true, true, _, true) => '┴',
        (true, false, _, true) => '┘',
        (false, true, _, true) => '└',
        (true, true, false, false) => '┼',
        (true, false, false, false) => '┤',
        (false, true, false, false) => '├',
        (false, false, _, _) => '│',
    }
}

fn hosts(lab: &Topology) -> Vec<Row> {
    let mut rows = Vec::new();
    for host in &lab.hosts {
        let joined = match host.wiring {
            Wiring::Veth => "veth",
            Wiring::Bridge => "bridge",
        };
        let lines: Vec<String> = lab
            .containers
            .iter()
            .filter(|c| c.host == host.node)
            .map(|c| format!("{:<6} {:<11} of {}", c.node, c.address.to_string(), c.tenant))
            .collect();
        let title = format!("{} {} ({joined})", host.node, host.outer);
        let made = boxed(&title, &lines, HOST_WIDTH);
        rows.extend(made.into_iter().enumerate().map(|(n, text)| cable_right(text, n == 1)));
    }
    rows
}

fn gateways(lab: &Topology) -> Vec<Row> {
    let mut rows = Vec::new();
    for gateway in &lab.gateways {
        let lines = gateway.enis.iter().flat_map(|eni| {
            let key = lab.tenant(&eni.tenant).map(|t| t.key).unwrap_or_default();
            let outside = match lab.shards_of(&eni.tenant).as_slice() {
                [one] if lab.group.is_some() => format!("HaVip {}", one.gateway),
                many if lab.group.is_some() => format!("{} HaVips", many.len()),
                _ => format!("snat {}", eni.snat),
            };
            let tunnel = match lab.tunnel {
                TunnelKind::Gre => format!("GRE key {key}"),
                TunnelKind::Wireguard => "WireGuard".to_owned(),
            };
            [tunnel, outside]
        });
        let vpcs = gateway
            .enis
            .iter()
            .filter_map(|eni| lab.tenant(&eni.tenant))
            .flat_map(|t| [format!("{}", t.vpc), format!("server {}", t.server)]);
        let names: Vec<&str> = gateway.enis.iter().map(|e| e.tenant.as_str()).collect();
        let left = boxed(&format!("{} {}", gateway.node, gateway.outer), &lines.collect::<Vec<_>>(), GATEWAY_WIDTH);
        let right = boxed(&format!("VPC {}", names.join(", ")), &vpcs.collect::<Vec<_>>(), VPC_WIDTH);
        for (n, (left, right)) in left.into_iter().zip(right).enumerate() {
            let text = if n == 1 {
                format!("{}{}{}", replace_ends(&left, '┤', '├'), "─".repeat(GAP), replace_ends(&right, '┤', '│'))
            } else {
                format!("{left}{}{right}", " ".repeat(GAP))
            };
            rows.push(Row { text, cable: n == 1 });
        }
    }
    rows
}

fn cable_right(text: String, cable: bool) -> Row {
    let text = if cable { replace_ends(&text, '│', '├') } else { text };
    Row { text, cable }
}

fn replace_ends(text: &str, first: char, last: char) -> String {
    let inner: String = text.chars().skip(1).take(text.chars().count().saturating_sub(2)).collect();
    format!("{first}{inner}{last}")
}

/// A box of exactly `width` columns; what does not fit is cut.
fn boxed(title: &str, lines: &[String], width: usize) -> Vec<String> {
    let fit = |text: &str, width: usize| text.chars().take(width).collect::<String>();
    let title = fit(title, width - 6);
    let mut rows = vec![format!("╭─ {title} {}╮", "─".repeat(width - 5 - title.chars().count()))];
    let inner = width - 4;
    // A box has at least one line inside, for the cable to end at.
    let lines = if lines.is_empty() { &[String::new()][..] } else { lines };
    rows.extend(lines.iter().map(|line| format!("│ {:<inner$} │", fit(line, inner))));
    rows.push(format!("╰{}╯", "─".repeat(width - 2)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawing_fits_100_columns_and_names_every_node() {
        for lab in [
            Topology::demo(),
            Topology::overlap(8),
            Topology::overlap(24),
            Topology::of(&["acme"], &[Wiring::Veth]),
            Topology::group(&["acme", "blue"], 3, 4, &[Wiring::Veth]),
            Topology::group(&["acme", "blue", "cyan"], 6, 2, &[Wiring::Veth]),
            Topology::group(&["t1", "t2", "t3", "t4"], 2, 1, &[Wiring::Veth]),
        ] {
            let drawing = draw(&lab);
            for line in drawing.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
            let names =
                lab.containers.iter().map(|c| &c.node).chain(lab.hosts.iter().map(|h| &h.node)).chain(lab.gateways.iter().map(|g| &g.node));
            for name in names {
                assert!(drawing.contains(name.as_str()), "{name} is missing in\n{drawing}");
            }
        }
    }

    #[test]
    fn the_demo_is_drawn() {
        insta::assert_snapshot!(draw(&Topology::demo()));
    }

    #[test]
    fn gateways_of_one_tenant_each_are_drawn() {
        insta::assert_snapshot!(draw(&Topology::apart()));
    }
}
