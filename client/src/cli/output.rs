//! Where words go: stdout for data, stderr for people; a spinner where stderr is a terminal.
//!
//! `println!` panics when a pipe is closed; nothing here does.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Moves to the start of the line and erases it.
const ERASE: &str = "\r\x1b[2K";
/// Whether the last line of stderr is a spinner's, to be erased before anything else is written.
static SPINNING: AtomicBool = AtomicBool::new(false);

/// Writes lines of data to stdout.
pub(super) fn data(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}

/// Writes a document of `--json`.
pub(super) fn document(document: &impl serde::Serialize) -> anyhow::Result<()> {
    Ok(data(&serde_json::to_string_pretty(document)?)?)
}

/// Says a line to a person, on stderr. A closed stderr is nobody's fault and stops nothing.
pub(super) fn note(line: &str) {
    let _ = stderr().write_all(format!("{line}\n").as_bytes());
}

/// Shows `text` on a line that the next words replace. Only for a terminal.
pub(super) fn spin(text: &str) {
    let mut stderr = stderr();
    if stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).is_ok() {
        SPINNING.store(true, Ordering::Relaxed);
    }
}

/// stderr, with the spinner wiped off it.
pub(super) fn stderr() -> io::StderrLock<'static> {
    let mut stderr = io::stderr().lock();
    if SPINNING.swap(false, Ordering::Relaxed) {
        let _ = stderr.write_all(ERASE.as_bytes());
    }
    stderr
}

/// Whether a spinner can be shown.
pub(super) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal() && !is_dumb()
}

/// Whether stdout is a terminal that can do more than lines.
pub(super) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal() && !is_dumb()
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Whether what is written goes to the journal: then a person reads it later, and others may too (systemd.exec(5)). Desktops
/// hand the variable on to their terminals, so a terminal is none.
pub(super) fn is_journal() -> bool {
    let inherited = std::env::var_os("JOURNAL_STREAM").is_some_and(|value| !value.is_empty());
    inherited && !io::stdout().is_terminal() && !io::stderr().is_terminal()
}

/// Whether a failure is only that the reader of stdout went away.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// `1 rule`, `2 rules`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// One line of any text.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a terminal may be shown of a text that a peer chose, in at most `width` columns.
///
/// Neither control characters nor what is invisible or turns the direction of writing; beyond ASCII only letters and digits,
/// each counted as two columns, since some are as wide.
pub(super) fn clean(text: &str, width: usize) -> String {
    let shown = |c: &char| {
        if c.is_ascii() { !c.is_ascii_control() } else { c.is_alphanumeric() }
    };
    let columns = |c: char| if c.is_ascii() { 1 } else { 2 };
    let visible: String = text.chars().filter(shown).collect();
    if visible.chars().map(columns).sum::<usize>() <= width {
        return visible;
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let fits = columns(*c) <= left;
        left = left.saturating_sub(columns(*c));
        fits
    };
    let mut short: String = visible.chars().take_while(fits).collect();
    short.push('…');
    short
}

/// Lines of at most `width` characters.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.chars().take(width).collect()),
        }
    }
    lines
}

/// Milliseconds for people: a decimal only where it tells something.
pub(super) fn ms(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// As [`ms`], of a duration.
pub(super) fn ms_of(duration: Duration) -> String {
    ms(duration.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_drive_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\r\n\u{9b}c", 20), "a[31mbc");
        assert_eq!(clean("abcdef", 4), "abc…");
        assert_eq!(clean("abcd", 4), "abcd");
        assert_eq!(clean("a\u{202e}b\u{200b}", 9), "ab");
        assert_eq!(clean("ちちちち", 5), "ちち…");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(ms(48.2), "48 ms");
        assert_eq!(ms(0.42), "0.4 ms");
        assert_eq!(ms_of(Duration::from_millis(1500)), "1500 ms");
    }

    #[test]
    fn errors_fit_a_line() {
        assert_eq!(one_line("a\n  b\tc"), "a b c");
    }
}
