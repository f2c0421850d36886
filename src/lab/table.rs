//! Text for terminals: tables, check marks, colour where there is a terminal to show it.

use super::checks::Check;

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    pub fn green(self, text: &str) -> String {
        self.code("32", text)
    }

    pub fn red(self, text: &str) -> String {
        self.code("31", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn mark(self, held: bool) -> String {
        if held { self.green("✓") } else { self.red("✗") }
    }
}

/// Columns as wide as their widest cell; cells that begin with a digit stand to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let numeric = |column: usize| {
        let mut cells = rows.iter().filter_map(|r| r.get(column)).peekable();
        cells.peek().is_some() && cells.all(|c| c.starts_with(|d: char| d.is_ascii_digit()))
    };
    let columns: Vec<(usize, bool)> = (0..head.len()).map(|c| (width(c), numeric(c))).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&columns).map(
            |(cell, (width, right))| {
                if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            },
        );
        format!("  {}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let rule: Vec<String> = columns.iter().map(|(width, _)| "─".repeat(*width)).collect();
    let mut text = line(head.to_vec());
    text += &line(rule.iter().map(String::as_str).collect());
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

/// One line a claim, and one for each check of it that did not hold.
pub fn checks(checks: &[Check], paint: Paint) -> String {
    let mut claims: Vec<&str> = Vec::new();
    for check in checks {
        if !claims.contains(&check.claim.as_str()) {
            claims.push(&check.claim);
        }
    }
    let mut text = String::new();
    for claim in claims {
        let of_it: Vec<&Check> = checks.iter().filter(|c| c.claim == claim).collect();
        let failed: Vec<&Check> = of_it.iter().copied().filter(|c| !c.held).collect();
        let summary = match of_it.as_slice() {
            [one] if failed.is_empty() => one.detail.clone(),
            _ => format!("{} of {}", of_it.len() - failed.len(), of_it.len()),
        };
        text += &format!(
            "  {} {claim}  {}
",
            paint.mark(failed.is_empty()),
            paint.dim(&summary)
        );
        for check in failed {
            text += &format!(
                "      {} {}
",
                paint.red(&check.subject),
                check.detail
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_words_to_the_left() {
        let rows = [vec!["fn-1a".into(), "0.3 ms".into()], vec!["b".into(), "12.0 ms".into()]];
        assert_eq!(table(&["who", "connect"], &rows), "  who    connect\n  ─────  ───────\n  fn-1a   0.3 ms\n  b      12.0 ms\n");
    }
}
