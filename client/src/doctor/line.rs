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
        match (self.daemon.running().and_then(Running::unit), options) {
            (Some(unit), "") => self.root(&format!("systemctl restart {}", quoted(unit))),
            (Some(_), options) => self.start_after(Vec::new(), options),
            (None, options) => self.start_after(vec![self.shadowmesh("down")], options),
        }
    }

    /// Starts a daemon where none runs, with these options besides: as the service, where this machine has one.
    pub(super) fn start(&self, options: &str) -> String {
        self.start_after(Vec::new(), options)
    }

    /// The same behind other lines, by which the daemon ends or before which none must run.
    pub(super) fn start_after(&self, first: Vec<String>, options: &str) -> String {
        let up = || self.shadowmesh(&format!("up --detach{}{options}", self.config_option()));
        let mut lines = first;
        match self.service() {
            None => lines.push(up()),
            Some(unit) => {
                let systemctl = |verb: &str| self.root(&format!("systemctl {verb} {}", quoted(unit)));
                if !lines.is_empty() || !options.is_empty() {
                    // Else it comes back meanwhile, however often it fails.
                    lines.insert(0, systemctl("stop"));
                }
                if !options.is_empty() {
                    // What is given once is remembered, and the service starts with it.
                    lines.extend([up(), self.shadowmesh("down")]);
                }
                lines.push(systemctl("start"));
            }
        }
        lines.join(" && ")
    }

    /// Has the daemon run with another value of this setting, which these options give it. Where people's file has one that wins at each start, and
    /// is theirs to change.
    pub(super) fn set(&self, key: &str, options: &str) -> String {
        let is_running = self.daemon.running().is_some();
        let again = |options: &str| if is_running { self.restart(options) } else { self.start(options) };
        match self.settings.as_ref().filter(|file| file.sets.contains(&key)) {
            Some(file) => {
                let edit = self.root(&format!("\"${{EDITOR:-vi}}\" {}", path(&file.path)));
                format!("{edit} && {}", again(""))
            }
            None => again(options),
        }
    }

    /// The service that the daemon is, or that it is meant to be.
    fn service(&self) -> Option<&str> {
        let unit = self.daemon.process().and_then(|process| process.unit.as_deref());
        unit.or_else(|| self.has_service.then_some("shadowmesh"))
    }

    /// The file of settings, for a daemon that is started by hand: what it was started with, or the service's, where that says anything.
    fn config_option(&self) -> String {
        let file = self.settings.as_ref().filter(|file| self.service().is_none() || !file.sets.is_empty());
        file.map(|file| format!(" --config {}", path(&file.path))).unwrap_or_default()
    }
}

impl Running {
    fn unit(&self) -> Option<&str> {
        self.process.as_ref()?.unit.as_deref()
    }
}

/// As a shell takes it for one word.
pub(crate) fn quoted(word: &str) -> String {
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
