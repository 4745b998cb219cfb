//! Everything a daemon needs to know before it starts: read, checked and merged by the command line.

use crate::config::Settings;
use crate::control::server::ControlSocket;
use crate::daemon::config_file::ConfigFile;
use crate::daemon::manager::Manager;
use crate::daemon::members::Members;
use crate::daemon::progress::ProgressSender;
use crate::daemon::rules_file::RulesFile;
use crate::daemon::state_dir::{NetworkState, StateDir, StateLock};
use crate::names::Places;
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::session::RingLimits;
use shadowmesh_proto::ticket::RelayTicket;

/// What [`run`](crate::daemon::run) takes.
#[derive(Debug)]
pub struct DaemonOptions {
    /// Where changes of the network state are saved.
    pub state: StateDir,
    /// Keeps every other daemon off that directory; dropped when this one is gone.
    pub lock: StateLock,
    /// The control socket, bound so that no other daemon has it; callers wait until it is served.
    pub control: ControlSocket,
    /// The node's own key.
    pub node_secret: NodeSecret,
    /// The network as it was last saved, with the address claim.
    pub network: NetworkState,
    /// The relays to use, best first: those of the network and those of the configuration.
    pub relays: Vec<RelayTicket>,
    /// What the configuration chooses, and the defaults of the rest.
    pub settings: Settings,
    /// A file whose settings win over what is remembered.
    pub config_file: Option<ConfigFile>,
    /// What stands in for a name that nobody chose.
    pub hostname: String,
    /// What a person types to start it anew, for what counts from the next start on.
    pub restart: String,
    /// The access rules that this node enforces, if it does.
    pub rules: Option<RulesFile>,
    /// Who is a member; nothing in a network without certificates.
    pub members: Option<Members>,
    /// What is kept of each peer's packets until they are acknowledged.
    pub ring: RingLimits,
    /// Where this machine looks for names.
    pub names: Places,
    /// The service manager that started it, if one did.
    pub manager: Manager,
    /// Where to say what is happening.
    pub progress: ProgressSender,
}
