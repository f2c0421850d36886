//! YAML as JSON values, all scalars as text: as much as rules and their tests need.

use granit_parser::{Event, Parser};
use serde_json::{Map, Value};
use std::path::Path;

pub fn read(path: &Path) -> Value {
    let text = super::read(path);
    let mut events = Parser::new_from_str(&text).map(|event| event.unwrap_or_else(|error| panic!("{}: {error}", path.display())).0);
    let first = events.by_ref().find(|event| !matches!(event, Event::StreamStart | Event::DocumentStart(..)));
    value(first.expect("a document"), &mut events)
}

fn value<'e>(event: Event<'e>, rest: &mut impl Iterator<Item = Event<'e>>) -> Value {
    match event {
        Event::Scalar(text, ..) => text.into_owned().into(),
        Event::SequenceStart(..) => {
            let mut all = Vec::new();
            while let Some(event) = rest.next().filter(|event| !matches!(event, Event::SequenceEnd)) {
                all.push(value(event, rest));
            }
            all.into()
        }
        Event::MappingStart(..) => {
            let mut all = Map::new();
            while let Some(Event::Scalar(key, ..)) = rest.next() {
                let event = rest.next().expect("a value");
                let former = all.insert(key.into_owned(), value(event, rest));
                assert!(former.is_none(), "a key twice: {all:?}");
            }
            all.into()
        }
        other => panic!("{other:?}"),
    }
}

/// A list, or nothing.
pub fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().into_iter().flatten()
}

pub fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no text `{key}` in {value:#}"))
}
