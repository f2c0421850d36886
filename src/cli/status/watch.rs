//! `portway status --watch`: the same again every second, over what it was.

use super::Args;
use super::rates::Counted;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const EVERY: Duration = Duration::from_secs(1);

/// The other screen of the terminal (xterm's ctlseqs: DECSET 1049), no cursor (25), long lines cut (7); and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Until a signal, or nobody reads any more.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut ticks = tokio::time::interval(EVERY);
    let mut screen = Screen::open();
    let mut before = BTreeMap::new();
    loop {
        tokio::select! {
            _ = int.recv() => return Ok(()),
            _ = term.recv() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let text = tokio::select! {
            _ = int.recv() => return Ok(()),
            _ = term.recv() => return Ok(()),
            text = look(args, &mut before) => text,
        };
        if !screen.show(&text) {
            return Ok(());
        }
    }
}

/// All daemons here, with what they have carried since the last look. One that does not answer may do so the next time.
async fn look(args: &Args, before: &mut BTreeMap<&'static str, Counted>) -> String {
    let seen = match args.look().await {
        Ok(seen) => seen,
        Err(error) if args.json => return format!("{}\n", serde_json::json!({ "error": format!("{error:#}") })),
        Err(error) => return format!("{error:#}\n"),
    };
    let mut text = String::new();
    for (role, one) in &seen {
        text += &args.tell(role, one);
        if let Some(now) = one.as_ref().ok().and_then(|one| Counted::of(&one.status)).filter(|_| !args.json)
            && let Some(before) = before.insert(role, now)
        {
            text += &now.since(&before, role);
        }
        if !args.json {
            text.push('\n');
        }
    }
    text
}

/// What stands on a terminal is written over; anybody else is sent one after the other.
struct Screen {
    terminal: bool,
}

impl Screen {
    fn open() -> Self {
        let terminal = std::io::stdout().is_terminal();
        if terminal {
            send(ENTER);
        }
        Self { terminal }
    }

    /// False: nobody reads any more.
    fn show(&mut self, text: &str) -> bool {
        if !self.terminal {
            return send(text);
        }
        let rows = terminal_size::terminal_size().map_or(usize::MAX, |(_, rows)| usize::from(rows.0));
        send(&frame(text, rows))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            send(LEAVE);
        }
    }
}

/// From the upper left corner, as many lines as there is room for, the rest of each cleared.
fn frame(text: &str, rows: usize) -> String {
    let lines = text.trim_end().lines().count();
    let shown = if lines > rows { rows.saturating_sub(1) } else { lines };
    let mut frame = String::from("\x1b[H");
    for (place, line) in text.lines().take(shown).enumerate() {
        let _ = write!(frame, "{}{line}\x1b[K", if place == 0 { "" } else { "\r\n" });
    }
    if shown < lines {
        let _ = write!(frame, "\r\n... {} more lines\x1b[K", lines - shown);
    }
    frame + "\x1b[J"
}

fn send(text: &str) -> bool {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taller_than_the_terminal_is_cut_and_says_so() {
        assert_eq!(frame("a\nb\n\n", 2), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
        assert_eq!(frame("a\nb\nc\n", 2), "\x1b[Ha\x1b[K\r\n... 2 more lines\x1b[K\x1b[J");
    }
}
