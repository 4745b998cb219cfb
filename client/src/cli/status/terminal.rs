//! The terminal while a view is on it: a screen of its own, keys as they are pressed, and everything as it was at the end.
//!
//! `Ctrl-C` stays a signal. `Ctrl-Z` is off meanwhile: a shell would be given a terminal that shows nothing.

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use std::io::{self, Stdin, Write as _};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Another screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// The screen as it was.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Columns and rows of a terminal that does not say.
const USUAL: (usize, usize) = (80, 24);

/// The terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    keys: Option<Keys>,
}

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Leave.
    Quit,
    /// Go up or down by so many lines.
    Go(isize),
}

#[derive(Debug)]
struct Keys {
    stdin: AsyncFd<Stdin>,
    before: Termios,
}

impl Terminal {
    /// Takes it.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn enter() -> io::Result<Self> {
        let terminal = Self { keys: Keys::take() };
        write(ENTER)?;
        Ok(terminal)
    }

    /// Columns and rows.
    pub(super) fn size() -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => USUAL,
        }
    }

    /// Shows lines in place of those before, without a moment of nothing.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn show(lines: &[String]) -> io::Result<()> {
        let mut text = "\x1b[H".to_owned();
        for (at, line) in lines.iter().enumerate() {
            text += if at == 0 { "" } else { "\r\n" };
            text += line;
            text += "\x1b[K";
        }
        text += "\x1b[J";
        write(&text)
    }

    /// The next key that means something; never where there are none.
    pub(super) async fn key(&mut self) -> Key {
        while let Some(keys) = &self.keys {
            match keys.next().await {
                Ok(Some(key)) => return key,
                Ok(None) => {}
                // Hung up.
                Err(_) => self.keys = None,
            }
        }
        std::future::pending().await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = write(LEAVE);
    }
}

impl Keys {
    fn take() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        raw.special_codes[SpecialCodeIndex::VSUSP] = 0;
        // A read gives what is there.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        // SAFETY: stdin is open as long as the process lives, and no other descriptor takes its number.
        let stdin = unsafe { AsyncFd::register_with_interest(io::stdin(), Interest::READABLE) }.ok()?;
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw).ok()?;
        Some(Self { stdin, before })
    }

    async fn next(&self) -> io::Result<Option<Key>> {
        let mut ready = self.stdin.readable().await?;
        let mut bytes = [0; 32];
        let count = rustix::io::read(io::stdin(), &mut bytes)?;
        ready.clear_ready();
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(meaning(bytes.get(..count).unwrap_or_default()))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// What bytes of a keyboard mean (ECMA-48 for the arrows and pages).
fn meaning(bytes: &[u8]) -> Option<Key> {
    match bytes {
        b"q" | b"Q" => Some(Key::Quit),
        b"k" | b"\x1b[A" | b"\x1bOA" => Some(Key::Go(-1)),
        b"j" | b"\x1b[B" | b"\x1bOB" => Some(Key::Go(1)),
        b"\x1b[5~" => Some(Key::Go(-10)),
        b"\x1b[6~" | b" " => Some(Key::Go(10)),
        _ => None,
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
