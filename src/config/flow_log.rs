//! `flow_log:` a line for each connection that begins and ends.

use super::decode::{Decoder, Field, Shape, Table};
use super::node::Node;
use std::path::PathBuf;

/// docs/flow-log.md
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowLog {
    /// Absolute.
    pub file: PathBuf,
    /// Bytes at which a new file is begun: 4 KiB to 1 TiB. Default 100 MiB.
    pub max_size: u64,
    /// How many old files stay: 0 to 1,000. Default 10.
    pub keep: u32,
    /// Lines of each tenant in a second, in the long run: 1 to 1,000,000. Default 1,000.
    pub rate: u32,
    /// Lines of each tenant at once: 1 to 10,000,000. Default 5,000.
    pub burst: u32,
}

pub(super) const EXAMPLE: &str = "flow_log: { file: /var/log/portway/flows.jsonl }";
const FILE: &str = "/var/log/portway/flows.jsonl";
const SIZE: &str = "max_size: 100MiB";

const FLOW_LOG: Shape = Shape {
    what: "`flow_log`",
    fields: &[
        Field::required("file", "file: /var/log/portway/flows.jsonl"),
        Field::optional("max_size", SIZE),
        Field::optional("keep", "keep: 10"),
        Field::optional("rate", "rate: 1000"),
        Field::optional("burst", "burst: 5000"),
    ],
};

const MAX_SIZE: u64 = 100 << 20;
const KEEP: u32 = 10;
const RATE: u32 = 1000;
const BURST: u32 = 5000;

impl Decoder {
    pub fn flow_log(&mut self, role: &Table<'_>) -> Option<Option<FlowLog>> {
        let place = role.place("flow_log");
        self.field_or(role, "flow_log", None, |d, node| {
            let table = d.table(node, &FLOW_LOG, place)?;
            let file = d.field(&table, "file", |d, node| d.log_file(node));
            let max_size = d.field_or(&table, "max_size", MAX_SIZE, |d, node| d.size(node, "max_size", SIZE, (4 << 10, 1 << 40)));
            let number = |d: &mut Self, name: &str, otherwise: u32, range| {
                d.field_or(&table, name, otherwise, |d, node| u32::try_from(d.number(node, &format!("`{name}`"), range, "")?.value).ok())
            };
            let keep = number(d, "keep", KEEP, 0..=1000);
            let rate = number(d, "rate", RATE, 1..=1_000_000);
            let burst = number(d, "burst", BURST, 1..=10_000_000);
            Some(Some(FlowLog { file: file?, max_size: max_size?, keep: keep?, rate: rate?, burst: burst? }))
        })
    }

    fn log_file(&mut self, node: &Node) -> Option<PathBuf> {
        let file = self.absolute(node, "file", FILE)?;
        if file.value.file_name().is_none() || file.value.as_os_str().as_encoded_bytes().ends_with(b"/") {
            self.fault(
                file.span,
                format!("`file` {} is a folder", file.value.display()),
                format!("write the name of a file, such as {FILE}"),
            );
            return None;
        }
        Some(file.value)
    }
}
