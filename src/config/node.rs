//! YAML text to a tree in which every node knows its place.
//!
//! serde stops at the first fault; a tree can be walked to the end. Anchors and aliases work; what an attacker or an
//! accident could do with them (a file that unfolds to billions of nodes, or to a stack overflow) is bounded here.

use super::fault::Span;
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle};
use std::collections::HashMap;
use std::rc::Rc;

/// Nodes after aliases are followed: enough for 65,535 peers with 100 prefixes each.
const MAX_NODES: usize = 10_000_000;
/// Lists and maps in each other; the deepest that a configuration needs is 6.
const MAX_DEPTH: usize = 32;

#[derive(Debug)]
pub(super) struct Node {
    /// Of a scalar its text, of a list or map its beginning.
    pub span: Span,
    pub kind: Kind,
    size: usize,
    depth: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Text after escapes are resolved; `plain` if it stood without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Rc<Node>>),
    /// In the order written, duplicates included.
    Map(Vec<(Key, Rc<Node>)>),
}

#[derive(Debug)]
pub(super) struct Key {
    pub text: String,
    pub span: Span,
}

/// What makes the text no tree at all: where, what, remedy.
#[derive(Debug)]
pub(super) struct Broken(pub Span, pub String, pub String);

impl Node {
    /// Nothing was written: `key:`, `key: ~` or `key: null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// For a message: what stands here.
    pub fn describe(&self) -> String {
        match &self.kind {
            _ if self.is_null() => "nothing".into(),
            Kind::Scalar { text, .. } => format!("{text:?}"),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
        }
    }

    fn new(span: Span, kind: Kind) -> Node {
        let (mut size, mut depth) = (1usize, 0);
        let mut add = |child: &Rc<Node>| {
            size = size.saturating_add(child.size);
            depth = depth.max(child.depth + 1);
        };
        match &kind {
            Kind::Scalar { .. } => {}
            Kind::List(items) => items.iter().for_each(&mut add),
            Kind::Map(entries) => entries.iter().for_each(|(_, value)| add(value)),
        }
        Node { span, kind, size, depth }
    }
}

/// The only document of a text.
pub(super) fn read(text: &str) -> Result<Rc<Node>, Broken> {
    let options = granit_parser::options! { emit_comments: false, flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
    let mut composer = Composer::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let at = place(granit_parser::Span::empty(*error.marker()), text.len());
            let remedy = match error.kind() {
                ErrorKind::UnknownAnchor => "define it further up with `&NAME`, or put the text in quotes",
                _ => "mend the syntax here or just above: indent with spaces, close every bracket and quote",
            };
            Broken(at, format!("this is not YAML: {}", error.info()), remedy.into())
        })?;
        composer.event(event, place(span, text.len()))?;
    }
    composer.document.ok_or_else(|| Broken(Span::TOP, "the file is empty".into(), super::ROLES.into()))
}

fn place(span: granit_parser::Span, length: usize) -> Span {
    let start = span.start.byte_offset().unwrap_or(0).min(length);
    let end = span.end.byte_offset().unwrap_or(start).clamp(start, length);
    Span { start, end, line: span.start.line().max(1), column: span.start.col() + 1 }
}

/// A list or map that has begun and not ended.
struct Open {
    span: Span,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Rc<Node>>),
    Map(Vec<(Key, Rc<Node>)>, Option<Key>),
}

#[derive(Default)]
struct Composer {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    documents: usize,
    document: Option<Rc<Node>>,
}

impl Composer {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Broken> {
        if let Some(tag) = event.tag() {
            let what = format!("the tag {} is not understood", tag.original());
            return Err(Broken(span, what, "remove it: types follow from the keys".into()));
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Broken(span, "a second YAML document begins here".into(), "keep one document to a file".into()));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                self.close(Node::new(span, Kind::Scalar { text: text.into_owned(), plain }), anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(span, anchor, OpenKind::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => self.begin(span, anchor, OpenKind::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { span, anchor, kind: OpenKind::List(items) }) => self.close(Node::new(span, Kind::List(items)), anchor),
                Some(Open { span, anchor, kind: OpenKind::Map(entries, _) }) => self.close(Node::new(span, Kind::Map(entries)), anchor),
                None => Ok(()),
            },
            Event::Alias(id) => match self.anchors.get(&id).map(Rc::clone) {
                Some(node) => self.put(node, span),
                None => Err(Broken(span, "this alias stands inside its own anchor".into(), "write the value out here".into())),
            },
            _ => Ok(()),
        }
    }

    fn begin(&mut self, span: Span, anchor: usize, kind: OpenKind) -> Result<(), Broken> {
        // What is closed must still fit under its parents.
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.open.push(Open { span, anchor, kind });
        Ok(())
    }

    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Broken> {
        let (span, node) = (node.span, Rc::new(node));
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.put(node, span)
    }

    /// A finished node takes its place in what is open. `span` is where it stands, which for an alias is not where it was written.
    fn put(&mut self, node: Rc<Node>, span: Span) -> Result<(), Broken> {
        if node.depth + self.open.len() > MAX_DEPTH {
            return Err(too_deep(span));
        }
        if node.size > MAX_NODES {
            let what = format!("aliases unfold this to more than {MAX_NODES} values");
            return Err(Broken(span, what, "use fewer aliases in each other".into()));
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.document = Some(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map(entries, key)) => match (key.take(), &node.kind) {
                (Some(key), _) => entries.push((key, node)),
                (None, Kind::Scalar { text, .. }) => *key = Some(Key { text: text.clone(), span }),
                (None, _) => {
                    let remedy = "write a name such as `node:`; a value with brackets needs quotes";
                    return Err(Broken(span, format!("a key cannot be {}", node.describe()), remedy.into()));
                }
            },
        }
        Ok(())
    }
}

fn too_deep(span: Span) -> Broken {
    let what = format!("lists and maps stand more than {MAX_DEPTH} deep in each other here");
    Broken(span, what, "the deepest that a configuration needs is 6".into())
}
