//! Gateways that share HaVips, each with an interface in every tenant's VPC: between the boxes a line of its own for each VPC.

use super::{GATEWAY_WIDTH, Row, VPC_WIDTH, boxed, joint, replace_ends};
use crate::lab::topology::Topology;

/// Tenants for whose lines there is room.
pub const MOST: usize = 3;

/// A row of one side: its text, and the tenant whose cable ends there.
struct Side {
    text: String,
    tenant: Option<usize>,
}

/// Where a tenant's cables end, by row.
struct Line {
    gateways: Vec<usize>,
    vpc: usize,
}

impl Line {
    fn first(&self) -> usize {
        self.gateways.iter().copied().chain([self.vpc]).min().unwrap_or(0)
    }

    fn last(&self) -> usize {
        self.gateways.iter().copied().chain([self.vpc]).max().unwrap_or(0)
    }
}

/// Columns between gateways and VPCs.
pub fn gap(lab: &Topology) -> usize {
    2 * lab.tenants.len() + 1
}

pub fn rows(lab: &Topology) -> Vec<Row> {
    let left = gateways(lab);
    let mut right = vpcs(lab);
    let lines: Vec<Line> = (0..lab.tenants.len()).map(|tenant| line(tenant, &left, &right)).collect();
    for line in &lines {
        right[line.vpc].text = replace_ends(&right[line.vpc].text, '┤', '│');
    }
    let row = |n: usize| {
        let (gateway, vpc) = (left.get(n), right.get(n));
        let text = gateway.map_or_else(|| " ".repeat(GATEWAY_WIDTH), |side| side.text.clone());
        let between: String = (0..gap(lab)).map(|column| cell(&lines, n, column)).collect();
        Row { text: text + &between + vpc.map_or("", |side| &side.text), cable: gateway.is_some_and(|side| side.text.starts_with('┤')) }
    };
    (0..left.len().max(right.len())).map(row).collect()
}

fn gateways(lab: &Topology) -> Vec<Side> {
    let shown = |tenant: &str| match lab.shards_of(tenant).as_slice() {
        [one] => format!("{tenant} HaVip {}", one.gateway),
        many => format!("{tenant} {} HaVips", many.len()),
    };
    let mut rows = Vec::new();
    for gateway in &lab.gateways {
        let lines: Vec<String> = lab.tenants.iter().map(|tenant| shown(&tenant.name)).collect();
        let made = boxed(&format!("{} {}", gateway.node, gateway.outer), &lines, GATEWAY_WIDTH);
        rows.extend(made.into_iter().enumerate().map(|(n, text)| {
            let tenant = n.checked_sub(1).filter(|tenant| *tenant < lines.len());
            let text = if tenant.is_some() { replace_ends(&text, if n == 1 { '┤' } else { '│' }, '├') } else { text };
            Side { text, tenant }
        }));
    }
    rows
}

fn vpcs(lab: &Topology) -> Vec<Side> {
    let mut rows = Vec::new();
    for (number, tenant) in lab.tenants.iter().enumerate() {
        let source = match lab.shards_of(&tenant.name).as_slice() {
            [one] => format!("HaVip {}", one.source),
            many => format!("{} HaVips", many.len()),
        };
        let lines = [tenant.vpc.to_string(), source, format!("server {}", tenant.server)];
        let made = boxed(&format!("VPC {}", tenant.name), &lines, VPC_WIDTH);
        let inside = 1..=lines.len();
        rows.extend(made.into_iter().enumerate().map(|(n, text)| Side { text, tenant: inside.contains(&n).then_some(number) }));
    }
    rows
}

/// A VPC's cable ends where no other's leaves a gateway.
fn line(tenant: usize, left: &[Side], right: &[Side]) -> Line {
    let of = |sides: &[Side]| -> Vec<usize> { (0..sides.len()).filter(|row| sides[*row].tenant == Some(tenant)).collect() };
    let (gateways, inside) = (of(left), of(right));
    let free = inside.iter().find(|row| left.get(**row).and_then(|side| side.tenant).is_none_or(|other| other == tenant));
    Line { gateways, vpc: free.or(inside.first()).copied().unwrap_or(0) }
}

/// What stands in one column between the boxes. Tenant n's line is in column 2n + 1; where a cable crosses it, the cable is broken.
fn cell(lines: &[Line], row: usize, column: usize) -> char {
    let of = |tenant: usize| 2 * tenant + 1;
    let crossing = lines
        .iter()
        .enumerate()
        .any(|(tenant, line)| (line.gateways.contains(&row) && column < of(tenant)) || (line.vpc == row && column > of(tenant)));
    let here = lines.iter().enumerate().find(|(tenant, line)| of(*tenant) == column && (line.first()..=line.last()).contains(&row));
    match here {
        Some((_, line)) => match (line.gateways.contains(&row), line.vpc == row) {
            (false, false) => '│',
            (from_left, from_right) => joint(from_left, from_right, row == line.first(), row == line.last()),
        },
        None if crossing => '─',
        None => ' ',
    }
}
