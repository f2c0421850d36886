//! What is wrong with a configuration: every fault at once, each with its place and its remedy.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use std::fmt;
use std::sync::Arc;

/// A place in the source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Span {
    /// Byte offset of the first byte.
    pub start: usize,
    /// Byte offset behind the last byte.
    pub end: usize,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Span {
    pub const TOP: Span = Span { start: 0, end: 0, line: 1, column: 1 };
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub remedy: String,
    /// Bytes of the source that the fault is about.
    range: (usize, usize),
}

impl Fault {
    pub(super) fn new(file: &Arc<str>, span: Span, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Fault {
            file: Arc::clone(file),
            line: span.line.max(1),
            column: span.column.max(1),
            what: what.into(),
            remedy: remedy.into(),
            range: (span.start, span.end.max(span.start)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}; {}", self.file, self.line, self.column, self.what, self.remedy)
    }
}

/// All the faults of one file in the order of the file; at least one. Displayed as one line each.
#[derive(Clone, PartialEq, Eq)]
pub struct Faults {
    source: Arc<str>,
    faults: Vec<Fault>,
}

impl Faults {
    /// As many faults as are shown with the lines that they are about; the rest are shown as a line each.
    const SHOWN_WITH_SOURCE: usize = 20;

    /// `faults` is not empty.
    pub(super) fn new(source: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| (fault.line, fault.column));
        // An anchor used in many places is one text: a fault in it is reported once.
        faults.dedup();
        Faults { source: source.into(), faults }
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.faults.iter()
    }

    /// At least 1.
    pub fn count(&self) -> usize {
        self.faults.len()
    }

    /// For a terminal: each fault under the lines of the file that it is about.
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(110);
        let mut out = String::new();
        for (n, fault) in self.faults.iter().enumerate() {
            let snippet = Snippet { source: NamedSource::new(&fault.file, Arc::clone(&self.source)), fault };
            if n >= Self::SHOWN_WITH_SOURCE || handler.render_report(&mut out, &snippet).is_err() {
                out.push_str(&format!("{fault}\n"));
            }
        }
        let plural = if self.count() == 1 { "fault" } else { "faults" };
        out.push_str(&format!("{}: {} {plural}\n", self.faults[0].file, self.count()));
        out
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{fault}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Faults {}

/// One fault as miette draws it.
struct Snippet<'a> {
    source: NamedSource<Arc<str>>,
    fault: &'a Fault,
}

impl fmt::Debug for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.fault, f)
    }
}

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault.what)
    }
}

impl std::error::Error for Snippet<'_> {}

impl miette::Diagnostic for Snippet<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.fault.remedy))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (start, end) = self.fault.range;
        let span: SourceSpan = (start, end - start).into();
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some("here".into()), span))))
    }
}
