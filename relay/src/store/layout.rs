//! Layouts of the state directory, and the way from each to the next.
//!
//! | layout | differs from the one before |
//! |---|---|
//! | 1 | `state.toml` holds what the ticket says (`addresses`, `public`) beside the number |
//! | 2 | `ticket.toml` holds it, so that a fault in what is remembered for convenience can be removed without the number going with it |
//!
//! A new layout is due when a program of the one before would misread what is written, and only then: it refuses the directory from then on.
//!
//! Each step ([`STEPS`]) reads files and replaces whole files ([`Files`]). It may be ended at any instant, and begins anew at the next start:
//! so doing it twice does no harm, and the number is written last ([`migrate`]). It looks at the text of its layout, not through the types of
//! the program. Only who has the lock migrates; who only looks sees what the steps would write ([`preview`]).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// What this program writes.
pub(super) const NEWEST: u32 = 2;
/// The oldest that it reads, and what a directory with a key and no number is taken for: steps do nothing to what is newer.
pub(super) const OLDEST: u32 = 1;
/// Holds the number.
pub(super) const STATE_FILE: &str = "state.toml";

/// From each layout to the next, the oldest first.
const STEPS: [Step; (NEWEST - OLDEST) as usize] = [ticket_of_its_own];

type Step = fn(&mut dyn Files) -> io::Result<()>;

/// The texts of a directory.
pub(super) trait Files {
    /// The text of a file; `None` when it is not there.
    fn read(&self, name: &str) -> io::Result<Option<String>>;

    /// Puts `text` in the place of the file: whole or not at all, and for its owner alone.
    fn replace(&mut self, name: &str, text: &str) -> io::Result<()>;
}

/// The number that the text of `state.toml` says, or why it says none.
pub(super) fn number_in(text: &str) -> Result<u32, String> {
    // Of a newer layout there may be more in it.
    #[derive(Deserialize)]
    struct Layout {
        version: u32,
    }
    let Layout { version } = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if version >= OLDEST { Ok(version) } else { Err(format!("no version has layout {version}")) }
}

/// The text of `state.toml`.
pub(super) fn text_of(number: u32) -> String {
    format!("version = {number}\n")
}

/// Takes `files` from layout `from` to [`NEWEST`], a step and its number at a time.
///
/// # Errors
/// Whatever reading and writing gives: what was done stays, and the rest is done the next time.
pub(super) fn migrate(files: &mut dyn Files, from: u32) -> io::Result<()> {
    for (number, step) in (OLDEST..).zip(STEPS).skip_while(|(number, _)| *number < from) {
        step(files)?;
        files.replace(STATE_FILE, &text_of(number + 1))?;
    }
    Ok(())
}

/// The texts that the steps would write into a directory of layout `from`, by the names of their files.
///
/// # Errors
/// Whatever reading gives.
pub(super) fn preview(below: &dyn Files, from: u32) -> io::Result<BTreeMap<String, String>> {
    let mut preview = Preview { below, written: BTreeMap::new() };
    migrate(&mut preview, from)?;
    Ok(preview.written)
}

struct Preview<'a> {
    below: &'a dyn Files,
    written: BTreeMap<String, String>,
}

impl Files for Preview<'_> {
    fn read(&self, name: &str) -> io::Result<Option<String>> {
        match self.written.get(name) {
            Some(text) => Ok(Some(text.clone())),
            None => self.below.read(name),
        }
    }

    fn replace(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.written.insert(name.to_owned(), text.to_owned());
        Ok(())
    }
}

/// 1 to 2: what the ticket says moves out of `state.toml`.
fn ticket_of_its_own(files: &mut dyn Files) -> io::Result<()> {
    #[derive(Deserialize, Serialize)]
    struct Ticket {
        #[serde(default)]
        addresses: Vec<String>,
        public: Option<String>,
    }
    let Some(state) = files.read(STATE_FILE)? else { return Ok(()) };
    // Who wrote the number wrote these. What does not read is as good as not there: the relay finds its addresses anew.
    let Ok(ticket) = toml::from_str::<Ticket>(&state) else { return Ok(()) };
    files.replace("ticket.toml", &toml::to_string(&ticket).map_err(io::Error::other)?)
}

#[cfg(test)]
mod tests;
