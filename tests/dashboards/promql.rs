//! Which metrics an expression is about.

use std::collections::BTreeSet;

const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];
/// A list of labels follows.
const LISTS: [&str; 6] = ["by", "on", "without", "ignoring", "group_left", "group_right"];

/// Everything that is a name and no function, operator, label, duration or text.
pub fn metrics(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = bare(expression);
    while let Some(begin) = rest.find(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        let after = rest.split_off(begin);
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(after.len());
        let (word, after) = after.split_at(end);
        let mut after = after.trim_start().to_owned();
        let next = after.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        let is_function = after.starts_with('(') || next == "by" || next == "without";
        if LISTS.contains(&word) {
            after = after.split_off(after.find(')').expect("the end of a list"));
        } else if !is_function && !OPERATORS.contains(&word) && !word.starts_with(|c: char| c.is_ascii_digit()) {
            names.insert(word.to_owned());
        }
        rest = after;
    }
    names
}

/// Without texts, matchers and ranges.
fn bare(expression: &str) -> String {
    let (mut bare, mut depth, mut quote) = (String::new(), 0, None);
    let mut chars = expression.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => _ = chars.next(),
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => {
                depth -= 1;
                bare.push(' ');
            }
            (None, _) if depth == 0 => bare.push(c),
            (None, _) => {}
        }
    }
    bare
}

#[test]
fn names_are_told_from_functions_labels_and_texts() {
    let named = |expression: &str| metrics(expression).into_iter().collect::<Vec<_>>();
    assert_eq!(named("up{job=~\"port}way.*\", x!='a_b'} == 0"), ["up"]);
    assert_eq!(
        named("sum by (job, le) (rate(a_total[5m])) / on(job) group_left (tenant) b:c:rate2m * 0.5 > bool 1e3"),
        ["a_total", "b:c:rate2m"]
    );
    assert_eq!(named("sum(a offset 5m) by (x) or vector(0) unless b"), ["a", "b"]);
    assert_eq!(named("histogram_quantile(0.99, sum by (le) (rate(a_bucket{x=\"y\"}[$__rate_interval])))"), ["a_bucket"]);
}
