//! Walks a tree and collects faults instead of stopping at the first.
//!
//! Each map of the configuration is described by a [`Shape`]; unknown, doubled, missing and empty keys are found by it.
//! A decoding function returns `None` when it has reported a fault, so that its caller can go on with what remains.

use super::fault::{Fault, Span};
use super::node::{Key, Kind, Node};
use std::rc::Rc;
use std::sync::Arc;

/// A map that the configuration may hold.
pub(super) struct Shape {
    /// What it is called in a message.
    pub what: &'static str,
    pub fields: &'static [Field],
}

pub(super) struct Field {
    pub name: &'static str,
    /// A line to write, shown where the key is missing or empty.
    pub example: &'static str,
    pub required: bool,
}

impl Field {
    pub const fn required(name: &'static str, example: &'static str) -> Field {
        Field { name, example, required: true }
    }

    pub const fn optional(name: &'static str, example: &'static str) -> Field {
        Field { name, example, required: false }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct At<T> {
    pub value: T,
    pub span: Span,
}

/// The values of one map, by key; known keys only.
pub(super) struct Table<'n> {
    pub span: Span,
    fields: Vec<(&'n Key, &'n Node)>,
    /// Keys that were reported as empty or misspelt: they are not missing as well.
    reported: Vec<&'static str>,
}

impl<'n> Table<'n> {
    pub fn get(&self, name: &str) -> Option<&'n Node> {
        self.fields.iter().find(|(key, _)| key.text == name).map(|(_, node)| *node)
    }

    /// Whether the key is there, with a value or reported as being without or misspelt.
    pub fn written(&self, name: &str) -> bool {
        self.get(name).is_some() || self.reported.contains(&name)
    }

    /// Where this key stands, or the map if it is missing.
    pub fn place(&self, name: &str) -> Span {
        self.fields.iter().find(|(key, _)| key.text == name).map_or(self.span, |(key, _)| key.span)
    }
}

pub(super) struct Decoder {
    file: Arc<str>,
    pub faults: Vec<Fault>,
}

impl Decoder {
    pub fn new(file: &str) -> Self {
        Decoder { file: file.into(), faults: Vec::new() }
    }

    pub fn fault(&mut self, span: Span, what: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(Fault::new(&self.file, span, what, remedy));
    }

    /// A map of this shape; `span` is where a missing key is to be reported.
    pub fn table<'n>(&mut self, node: &'n Node, shape: &Shape, span: Span) -> Option<Table<'n>> {
        let Kind::Map(entries) = &node.kind else {
            let first = shape.fields.first().map_or("", |field| field.example);
            self.fault(
                node.span,
                format!("{} must be a map, not {}", shape.what, node.describe()),
                format!("write keys and values: `{first}`"),
            );
            return None;
        };
        let mut table = Table { span, fields: Vec::with_capacity(entries.len()), reported: Vec::new() };
        for (key, value) in entries {
            let Some(field) = shape.fields.iter().find(|field| field.name == key.text) else {
                table.reported.extend(self.unknown_key(key, shape));
                continue;
            };
            if let Some((first, _)) = table.fields.iter().find(|(seen, _)| seen.text == key.text) {
                let (what, remedy) = (format!("`{}` is given twice", key.text), format!("keep this or line {}", first.span.line));
                self.fault(key.span, what, remedy);
            } else if value.is_null() {
                let remedy = if field.required { "" } else { " or remove the line" };
                self.fault(key.span, format!("`{}` has no value", key.text), format!("write `{}`{remedy}", field.example));
                table.reported.push(field.name);
            } else {
                table.fields.push((key, value));
            }
        }
        for field in shape.fields.iter().filter(|field| field.required) {
            if !table.written(field.name) {
                self.fault(span, format!("{} lacks `{}`", shape.what, field.name), format!("add `{}`", field.example));
            }
        }
        Some(table)
    }

    /// Gives the key that was probably meant.
    fn unknown_key(&mut self, key: &Key, shape: &Shape) -> Option<&'static str> {
        let names = || shape.fields.iter().map(|field| field.name);
        if key.text == "<<" {
            self.fault(key.span, "merge keys (`<<`) are not understood", "use an alias for a whole value, or write the keys out");
            return None;
        }
        let meant = nearest(&key.text, names());
        let remedy = match meant {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the keys here are {}", names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
        };
        self.fault(key.span, format!("unknown key `{}` in {}", key.text, shape.what), remedy);
        meant
    }

    /// A value that the table has, decoded. `None` if it is missing (reported by [`Decoder::table`] if required) or faulty.
    pub fn field<'n, T>(&mut self, table: &Table<'n>, name: &str, decode: impl FnOnce(&mut Self, &'n Node) -> Option<T>) -> Option<T> {
        decode(self, table.get(name)?)
    }

    /// Like [`Decoder::field`], with a value for a missing key. A faulty one gives `None`.
    pub fn field_or<'n, T>(
        &mut self,
        table: &Table<'n>,
        name: &str,
        missing: T,
        decode: impl FnOnce(&mut Self, &'n Node) -> Option<T>,
    ) -> Option<T> {
        match table.get(name) {
            None => Some(missing),
            Some(node) => decode(self, node),
        }
    }

    /// The items of a list that must not be empty.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str, example: &str) -> Option<&'n [Rc<Node>]> {
        match &node.kind {
            Kind::List(items) if items.is_empty() => {
                self.fault(node.span, format!("{what} is an empty list"), format!("add an item: `{example}`"));
                None
            }
            Kind::List(items) => Some(items),
            _ => {
                self.fault(node.span, format!("{what} must be a list, not {}", node.describe()), format!("write `{example}`"));
                None
            }
        }
    }

    /// All items of a list, each decoded; those with faults are left out.
    pub fn items<T>(
        &mut self,
        node: &Node,
        what: &str,
        example: &str,
        mut decode: impl FnMut(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.list(node, what, example)?;
        Some(items.iter().filter_map(|item| decode(self, item)).collect())
    }

    /// The text of a value that is neither list nor map.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str, example: &str) -> Option<&'n str> {
        match &node.kind {
            Kind::Scalar { text, .. } if !node.is_null() => Some(text),
            _ => {
                self.fault(node.span, format!("{what} must be one value, not {}", node.describe()), format!("write `{example}`"));
                None
            }
        }
    }
}

/// The known name that was probably meant: at most a third of its letters differ.
pub(super) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // What nobody mistyped need not be compared: the distance costs the product of the lengths.
    if written.len() > 64 {
        return None;
    }
    known
        .map(|name| (distance(&written.to_lowercase(), name), name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_another_word_is_not() {
        let known = ["interface", "address", "mtu"];
        assert_eq!(nearest("interfaec", known.into_iter()), Some("interface"));
        assert_eq!(nearest("Adress", known.into_iter()), Some("address"));
        assert_eq!(nearest("mut", known.into_iter()), Some("mtu"));
        assert_eq!(nearest("gateway", known.into_iter()), None);
        assert_eq!(distance("", "abc"), 3);
    }
}
