//! Options that every command takes: which daemon, which state.

use crate::config::NetworkAlias;
use std::path::PathBuf;

const HEADING: &str = "Options of every command";

/// Options that every command takes, before or after its name.
#[derive(Debug, clap::Args)]
pub(super) struct Global {
    /// Directory that holds this host's key and network
    #[arg(long, global = true, help_heading = HEADING, value_name = "DIR")]
    #[arg(env = "SHADOWMESH_STATE", hide_env = true, default_value = "/var/lib/shadowmesh")]
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
