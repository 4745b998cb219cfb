//! `ticket`: the same line that `run` prints first.

use super::{Options, say};
use crate::public;
use crate::store::StateDir;
use shadowmesh_proto::ids::RelayId;
use shadowmesh_proto::ticket::RelayTicket;

/// The document of `--json`: fields are added, none is renamed or removed.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
pub(super) struct Document {
    /// `smr1…`
    ticket: String,
    /// Where it says that the relay is, each `host:port`, with `wss://` before it where that is by TLS.
    addresses: Vec<String>,
}

pub(super) fn execute(options: Options, json: bool) -> anyhow::Result<()> {
    let state = StateDir::open(&options.state);
    let key = state.key()?;
    let remembered = state.read_state()?;
    // What the command line or the file says beats memory, so that a ticket for another name can be printed too.
    let addresses = if options.public.is_some() || remembered.addresses.is_empty() {
        let tls = options.tls.is_some();
        public::addresses(options.public.as_ref(), &options.sockets.listen, tls).addresses
    } else {
        remembered.addresses
    };
    let ticket = RelayTicket { key: RelayId(key.public().0), addresses, expires: None };
    if json {
        let document = Document { ticket: ticket.to_text(), addresses: ticket.addresses };
        return say(&serde_json::to_string_pretty(&document)?);
    }
    say(&ticket.to_text())
}
