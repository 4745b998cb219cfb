//! Layouts of the state directory, and the way from each to the next.
//!
//! | layout | differs from the one before |
//! |---|---|
//! | 1 | `network.toml` holds which address this host has (`given`, `[claim]`) beside the network's secret |
//! | 2 | `address.toml` holds it: it is this host's, not the network's, and changes when members are met, no moment to write a secret anew |
//!
//! A new layout is due when a program of the one before would misread what is written, and only then: it refuses the directory from that
//! moment on. A file that it does not know, or a field that may be left out, is no new layout.
//!
//! Each step ([`STEPS`]) reads files and replaces files, whole ones ([`Files`]). It may be ended at any instant, and begins anew when the
//! directory is opened next: so it does nothing that doing it twice would undo, destroys nothing before what takes its place is safe, and
//! leaves the number in `state.toml`, which is written last ([`migrate`]), to whoever calls it. It looks at the text of its layout, not through
//! the types of the program, which will move on. A file that does not read as what it should be is left as it is: whoever needs it says so.
//!
//! Only who has the directory's lock migrates it. Who only looks sees an older layout as it will be: the same steps run over what was
//! read, and what they would write is kept beside it ([`preview`]).

use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use zeroize::Zeroizing;

/// What this program writes.
pub(super) const NEWEST: u32 = 2;
/// The oldest that it reads. A directory with files of ours and no number is taken for one of these: it may be an old one that was restored
/// without it, and steps do nothing to what is newer.
pub(super) const OLDEST: u32 = 1;
/// Holds the number.
pub(super) const STATE: &str = "state.toml";

/// From each layout to the next, the oldest first.
const STEPS: [Step; (NEWEST - OLDEST) as usize] = [address_of_its_own];

type Step = fn(&mut dyn Files) -> io::Result<()>;

/// The texts of a directory.
pub(super) trait Files {
    /// The text of a file; `None` when it is not there.
    fn read(&self, name: &str) -> io::Result<Option<Zeroizing<String>>>;

    /// Puts `text` in the place of the file: whole or not at all, and for its owner alone.
    fn replace(&mut self, name: &str, text: &str) -> io::Result<()>;
}

/// What `state.toml` says, or that it says nothing that could be the number of a layout.
pub(super) fn number_in(text: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Layout {
        version: u32,
    }
    toml::from_str(text).ok().map(|Layout { version }| version).filter(|version| *version >= OLDEST)
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
        files.replace(STATE, &text_of(number + 1))?;
    }
    Ok(())
}

/// What the steps would write into a directory of layout `from`, by name: over what is on the disk it is the directory as it will be.
///
/// # Errors
/// Whatever reading gives.
pub(super) fn preview(below: &dyn Files, from: u32) -> io::Result<Written> {
    let mut preview = Preview { below, written: Written::new() };
    migrate(&mut preview, from)?;
    Ok(preview.written)
}

/// Texts by the names of their files.
pub(super) type Written = BTreeMap<String, Zeroizing<String>>;

struct Preview<'a> {
    below: &'a dyn Files,
    written: Written,
}

impl Files for Preview<'_> {
    fn read(&self, name: &str) -> io::Result<Option<Zeroizing<String>>> {
        match self.written.get(name) {
            Some(text) => Ok(Some(text.clone())),
            None => self.below.read(name),
        }
    }

    fn replace(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.written.insert(name.to_owned(), Zeroizing::new(text.to_owned()));
        Ok(())
    }
}

/// 1 to 2: which address this host has moves out of `network.toml`.
fn address_of_its_own(files: &mut dyn Files) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Address {
        given: Option<String>,
        claim: Option<Claim>,
    }
    #[derive(Deserialize)]
    struct Claim {
        attempt: u8,
        settled: bool,
    }
    const NETWORK: &str = "network.toml";
    let Some(network) = files.read(NETWORK)? else { return Ok(()) };
    let Ok(Address { given, claim }) = toml::from_str(&network) else { return Ok(()) };
    if given.is_none() && claim.is_none() {
        // Nothing was ever said, or this was done before.
        return Ok(());
    }
    let Claim { attempt, settled } = claim.unwrap_or(Claim { attempt: 0, settled: false });
    let given = given.map(|given| format!("given = {}\n", toml::Value::String(given))).unwrap_or_default();
    files.replace("address.toml", &format!("attempt = {attempt}\nsettled = {settled}\n{given}"))?;
    files.replace(NETWORK, &without_address(&network))
}

/// The text of `network.toml` without what named the address. By line, as it was written: so the secret is in no other copy.
fn without_address(network: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(network.len()));
    let (mut is_top, mut is_claim) = (true, false);
    for line in network.split_inclusive('\n') {
        if line.starts_with('[') {
            is_top = false;
            is_claim = line.trim_end() == "[claim]";
        }
        let is_given = is_top && line.split('=').next().is_some_and(|key| key.trim() == "given");
        if !is_claim && !is_given {
            text.push_str(line);
        }
    }
    text
}

#[cfg(test)]
mod tests;
