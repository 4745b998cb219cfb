//! Colours of a terminal, where there is one: they say again what the words say, for whoever looks at many lines.

use crate::cli::output;

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint(bool);

impl Paint {
    /// None.
    pub(super) const NONE: Self = Self(false);
    /// As on a terminal.
    #[cfg(test)]
    pub(super) const SOME: Self = Self(true);

    /// As stdout takes them: a terminal does, unless `NO_COLOR` is set (no-color.org) or it cannot.
    pub(super) fn for_stdout() -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(output::stdout_is_terminal() && !is_unwanted)
    }

    /// As it should be.
    pub(super) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// It works, and something better may come.
    pub(super) fn fair(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Something for a person to look at.
    pub(super) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// Of no great interest now.
    pub(super) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// A heading.
    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `text` without what colours it.
#[cfg(test)]
pub(super) fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('m').map_or("", |(_, rest)| rest))
}
