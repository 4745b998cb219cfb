//! How the lines are written that mend something: such that they work when they are copied, from where `doctor` was typed.

use super::facts::{Facts, Running};
use std::path::Path;

impl Facts {
    /// A line that needs root: with `sudo`, unless who reads it is root.
    pub(super) fn root(&self, line: &str) -> String {
        if self.caller.is_root { line.to_owned() } else { format!("sudo {line}") }
    }

    /// `shadowmesh …` for the same daemon and state, as root.
    pub(super) fn shadowmesh(&self, words: &str) -> String {
        let options: String = self.call.options.iter().map(|option| format!(" {}", quoted(option))).collect();
        self.root(&format!("shadowmesh{options} {words}"))
    }

    /// Ends the daemon that runs and starts it with these options besides.
    pub(super) fn restart(&self, options: &str) -> String {
        let unit = self.daemon.running().and_then(Running::unit);
        match (unit, options) {
            (Some(unit), "") => self.root(&format!("systemctl restart {}", quoted(unit))),
            (Some(unit), options) => {
                // What is given once is remembered, and the service starts with it.
                let stop = self.root(&format!("systemctl stop {}", quoted(unit)));
                let once = self.shadowmesh(&format!("up --detach{options}"));
                let down = self.shadowmesh("down");
                let start = self.root(&format!("systemctl start {}", quoted(unit)));
                format!("{stop} && {once} && {down} && {start}")
            }
            (None, options) => {
                format!(
                    "{} && {}",
                    self.shadowmesh("down"),
                    self.shadowmesh(&format!("up --detach{options}"))
                )
            }
        }
    }
}

impl Running {
    fn unit(&self) -> Option<&str> {
        self.process.as_ref()?.unit.as_deref()
    }
}

/// As a shell takes it for one word.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

pub(super) fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_what_is_quoted_for_one_word() {
        for word in ["", "a b", "it's", "$HOME", "`x`", "a\nb", "*", "plain-1.2", "-x"] {
            let done = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output();
            assert_eq!(String::from_utf8_lossy(&done.expect("run").stdout), word, "{word}");
        }
        assert_eq!(quoted("plain-1.2"), "plain-1.2");
    }
}
