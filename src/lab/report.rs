//! A demo as one HTML page without anything from elsewhere.

use super::demo::{COLUMNS, Demo};
use super::error::{During, Result};
use super::picture;
use super::scenario::{HANDOVER_COLUMNS, HandedOver};
use std::fmt::Write;
use std::path::Path;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}\
pre{font:12px/1.25 ui-monospace,monospace;background:#f5f5f5;padding:1rem;overflow-x:auto}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}\
.held{color:#0a6b2d}.failed{color:#b00020}small{color:#555}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}pre{background:#222}th,td{border-color:#444}.held{color:#5fd38a}.failed{color:#ff8090}small{color:#aaa}}";

pub fn write(demo: &Demo, path: &Path) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).during(format!("create {}", dir.display()))?;
    }
    std::fs::write(path, page(demo)).during(format!("write {}", path.display()))
}

fn page(demo: &Demo) -> String {
    let failed = demo.checks.iter().filter(|c| !c.held).count();
    let (class, verdict) = match failed {
        0 => ("held", format!("All {} checks held", demo.checks.len())),
        n => ("failed", format!("{n} of {} checks did not hold", demo.checks.len())),
    };
    let felt = table(&COLUMNS, &demo.rows());
    let handed: Vec<Vec<String>> = demo.handovers.iter().map(HandedOver::row).collect();
    let handed = table(&HANDOVER_COLUMNS, &handed);
    let checks = demo.checks.iter().fold(String::new(), |mut all, c| {
        let (class, mark, word) = if c.held { ("held", '✓', "held") } else { ("failed", '✗', "failed") };
        let cells = format!(
            "<td class=\"{class}\">{mark} {word}</td><td>{}<br><small>{} {}</small></td>",
            escape(&c.claim),
            escape(&c.subject),
            escape(&c.detail)
        );
        let _ = writeln!(all, "<tr>{cells}</tr>");
        all
    });
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Portway demo</title><style>{STYLE}</style></head><body>\n<h1>Portway demo</h1>\n\
         <p><strong class=\"{class}\">{verdict}</strong>, in {:.0} s, {} {}.</p>\n<h2>The lab</h2>\n<pre>{}</pre>\n\
         <h2>What a function feels</h2>\n{felt}\
         <h2>What a function feels of a gateway's end</h2>\n{handed}\
         <h2>What must hold</h2>\n<table><tr><th scope=\"col\">result</th><th scope=\"col\">check</th></tr>\n{checks}</table>\n</body></html>\n",
        demo.seconds,
        escape(&demo.backend),
        demo.topology.tunnel,
        escape(&picture::draw(&demo.topology))
    )
}

fn table(columns: &[&str], rows: &[Vec<String>]) -> String {
    let head: String = columns.iter().map(|c| format!("<th scope=\"col\">{}</th>", escape(c))).collect();
    let cells = |row: &Vec<String>| row.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect::<String>();
    let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells(row))).collect();
    format!("<table><tr>{head}</tr>\n{rows}</table>\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
