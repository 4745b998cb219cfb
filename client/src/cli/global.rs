//! Options that every command takes: which daemon, which state.

use crate::config::NetworkAlias;
use crate::daemon::state_dir;
use crate::doctor::{Call, quoted};
use std::path::{Path, PathBuf};

const HEADING: &str = "Options of every command";

/// Options that every command takes, before or after its name.
#[derive(Debug, clap::Args)]
pub(super) struct Global {
    /// Directory that holds this host's key and network
    #[arg(long, global = true, help_heading = HEADING, value_name = "DIR")]
    #[arg(env = "SHADOWMESH_STATE", hide_env = true, default_value = state_dir::DEFAULT)]
    pub(super) state: PathBuf,

    /// Socket of the daemon [default: /run/shadowmesh/control.sock]
    #[arg(long, global = true, help_heading = HEADING, value_name = "PATH", env = "SHADOWMESH_SOCKET", hide_env = true)]
    pub(super) socket: Option<PathBuf>,

    /// Which network, where a host is in several: keeps its state in DIR/NAME
    #[arg(long, global = true, help_heading = HEADING, value_name = "NAME")]
    pub(super) network: Option<NetworkAlias>,

    /// Print JSON where output is data
    #[arg(long, global = true, help_heading = HEADING)]
    pub(super) json: bool,
}

impl Global {
    /// The state directory of the network meant.
    pub(super) fn state_dir(&self) -> PathBuf {
        match &self.network {
            Some(name) => self.state.join(name.as_str()),
            None => self.state.clone(),
        }
    }

    /// The control socket of the network meant.
    pub(super) fn socket(&self) -> PathBuf {
        let name = self.network.as_ref().map_or("control", NetworkAlias::as_str);
        self.socket.clone().unwrap_or_else(|| PathBuf::from(format!("/run/shadowmesh/{name}.sock")))
    }

    /// What root types for the same daemon and state.
    pub(super) fn typed(&self, words: &str) -> String {
        let options: String = self.call().options.iter().map(|word| format!(" {}", quoted(word))).collect();
        format!("sudo shadowmesh{options} {words}")
    }

    /// How somebody else types a command for the same daemon and state.
    pub(super) fn call(&self) -> Call {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let mut options = Vec::new();
        let mut add = |option: &str, value: String| options.extend([option.to_owned(), value]);
        if self.state != Path::new(state_dir::DEFAULT) {
            add("--state", absolute(&self.state).display().to_string());
        }
        if let Some(socket) = &self.socket {
            add("--socket", absolute(socket).display().to_string());
        }
        if let Some(network) = &self.network {
            add("--network", network.to_string());
        }
        Call { options, state: absolute(&self.state_dir()), socket: absolute(&self.socket()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        global: Global,
    }

    fn paths(args: &[&str]) -> (String, String) {
        let Only { global } = Only::parse_from(["x"].iter().chain(args));
        (global.state_dir().display().to_string(), global.socket().display().to_string())
    }

    #[test]
    fn what_somebody_else_types_has_the_options_that_are_not_the_default() {
        let options =
            |args: &[&str]| Only::parse_from(["x"].iter().chain(args)).global.call().options.join(" ");
        assert_eq!(options(&[]), "");
        assert_eq!(options(&["--network", "home"]), "--network home");
        assert_eq!(options(&["--state", "/s", "--socket", "/x"]), "--state /s --socket /x");
    }

    #[test]
    fn a_network_has_its_own_state_and_socket() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(paths(&[]), pair("/var/lib/shadowmesh", "/run/shadowmesh/control.sock"));
        assert_eq!(
            paths(&["--network", "home"]),
            pair("/var/lib/shadowmesh/home", "/run/shadowmesh/home.sock")
        );
        assert_eq!(paths(&["--network", "home", "--state", "/s", "--socket", "/x"]), pair("/s/home", "/x"));
    }
}
