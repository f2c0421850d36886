//! What a page of metrics says, in the text format of OpenMetrics 1.0 (section "ABNF") or Prometheus's 0.0.4: samples alone. Lines with `#` are
//! for people and databases.

use std::borrow::Cow;

/// One line: a name, its labels, a value. A timestamp or an exemplar behind it is not looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    pub name: &'a str,
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// NaN and infinities too: what they mean is the reader's to decide.
    pub value: f64,
}

impl Sample<'_> {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }
}

/// Where a page is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Broken {
    /// From 1.
    pub line: usize,
    pub what: &'static str,
}

/// Labels of one sample: more is somebody's mistake, or worse.
const MOST_LABELS: usize = 64;

/// All samples of a page, or the first line that is none.
pub fn read(page: &str) -> impl Iterator<Item = Result<Sample<'_>, Broken>> {
    let lines = page.split('\n').map(|line| line.trim_end_matches('\r')).enumerate();
    let told = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    told.map(|(index, line)| sample(line).map_err(|what| Broken { line: index + 1, what }))
}

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let (name, mut rest) = name(line, |byte| byte == b':').ok_or("it begins with no name")?;
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = self::name(rest, |_| false).ok_or("a label has no name")?;
            let quoted = after.strip_prefix("=\"").ok_or("a label has no value in quotes")?;
            let (value, after) = unquoted(quoted).ok_or("a label's value does not end, or has an unknown escape")?;
            if labels.len() == MOST_LABELS {
                return Err("it has more than 64 labels");
            }
            labels.push((label, value));
            rest = match after.strip_prefix(',') {
                Some(after) => after,
                None if after.starts_with('}') => after,
                None => return Err("after a label comes `,` or `}`"),
            };
        }
    }
    let value = rest.strip_prefix([' ', '\t']).ok_or("after the name comes a space")?;
    let value = value.trim_start_matches([' ', '\t']).split([' ', '\t']).next().unwrap_or_default();
    // `parse` knows NaN and infinities in all their spellings, but also `infinity` and hexadecimal of no kind: a superset that does no harm.
    let value = value.parse().map_err(|_| "its value is no number")?;
    Ok(Sample { name, labels, value })
}

/// The name that a text begins with, and what follows.
fn name(text: &str, more: impl Fn(u8) -> bool) -> Option<(&str, &str)> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || more(byte);
    let end = text.bytes().position(|byte| !good(byte)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (!name.is_empty() && !name.as_bytes()[0].is_ascii_digit()).then_some((name, rest))
}

/// A value up to the closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let plain = text.find(['"', '\\'])?;
    if text[plain..].starts_with('"') {
        return Some((Cow::Borrowed(&text[..plain]), &text[plain + 1..]));
    }
    let mut value = text[..plain].to_owned();
    let mut rest = text[plain..].chars();
    loop {
        match rest.next()? {
            '"' => return Some((Cow::Owned(value), rest.as_str())),
            '\\' => value.push(match rest.next()? {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(page: &str) -> Result<Vec<Sample<'_>>, Broken> {
        read(page).collect()
    }

    #[test]
    fn both_formats_are_read_and_what_is_for_people_is_not() {
        let page = "# HELP a What it is\n# TYPE a counter\na_total{tenant=\"acme\",shard=\"0\"} 3 1700000000.5 # {trace=\"x\"} 1\r\n\n\
                    a:b{} -Inf\nb{c=\"}, \\\"d\\\" = \\\\ \\n\",}\t1e3\n# EOF\n";
        let samples = all(page).unwrap();
        assert_eq!(
            samples.iter().map(|one| (one.name, one.value)).collect::<Vec<_>>(),
            [("a_total", 3.0), ("a:b", f64::NEG_INFINITY), ("b", 1000.0)]
        );
        assert_eq!((samples[0].label("tenant"), samples[0].label("shard"), samples[0].label("x")), (Some("acme"), Some("0"), None));
        assert_eq!(samples[2].label("c"), Some("}, \"d\" = \\ \n"));
        assert!(all("a NaN").unwrap()[0].value.is_nan());
        assert_eq!(all("").unwrap(), []);
    }

    #[test]
    fn what_is_no_sample_is_told_by_its_line() {
        for line in [
            "1a 1",
            "{a=\"b\"} 1",
            "a",
            "a{b=\"c\"}",
            "a{b} 1",
            "a{b=c} 1",
            "a{b=\"c} 1",
            "a{b=\"c\" d=\"e\"} 1",
            "a{b=\"\\x\"} 1",
            "a b",
            "a{1=\"\"} 1",
            "a1",
        ] {
            assert_eq!(all(&format!("good 1\n{line}\n")).unwrap_err().line, 2, "{line}");
        }
        let many = |count: usize| format!("a{{{}}} 1", (0..count).map(|n| format!("l{n}=\"\",")).collect::<String>());
        assert_eq!((all(&many(64)).map(|all| all.len()), all(&many(65)).is_err()), (Ok(1), true));
    }

    proptest! {
        #[test]
        fn what_our_own_pages_say_is_read(labels in prop::collection::btree_map("[a-z_][a-z0-9_]{0,8}", any::<String>(), 0..4), value in any::<f64>()) {
            let mut page = self::page(&labels, value);
            page.push_str("# EOF\n");
            let samples = all(&page).unwrap();
            prop_assert_eq!(samples.len(), 1);
            for (name, value) in &labels {
                prop_assert_eq!(samples[0].label(name), Some(value.as_str()));
            }
            prop_assert!(samples[0].value == value || value.is_nan() && samples[0].value.is_nan());
        }

        #[test]
        fn nothing_breaks_it(page in ".{0,200}") {
            let _ = all(&page);
        }

        #[test]
        fn nor_what_is_nearly_right(page in "[a{}=\", \\\\n1#]{0,60}") {
            let _ = all(&page);
        }
    }

    /// As a writer of the format escapes.
    fn page(labels: &std::collections::BTreeMap<String, String>, value: f64) -> String {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        format!("# TYPE a gauge\na{{{}}} {value}\n", labels.join(","))
    }
}
