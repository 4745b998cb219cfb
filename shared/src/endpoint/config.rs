//! What an endpoint is made from.

use crate::addresses::AddressSpace;
use crate::crypto::aead::CipherSet;
use crate::crypto::keys::{NetworkKeys, NodeSecret};
use crate::ids::RelayId;
use crate::version::Versions;
use crate::wire::control::Hello;
use std::time::Duration;

/// Everything an endpoint needs to know at its start.
#[derive(Debug)]
pub struct Config {
    /// This node.
    pub node: NodeSecret,
    /// The network it is in.
    pub network: NetworkKeys,
    /// What its addresses derive from.
    pub addresses: AddressSpace,
    /// The relays, in the order that [`crate::transmit::RelayNo`] counts.
    pub relays: Vec<RelayId>,
    /// Ciphers to offer.
    pub ciphers: CipherSet,
    /// What to say of this node; its `revision` is counted from here.
    pub hello: Hello,
    /// Which attempt gave the IPv4 address (protocol §1.5), or `None` when a person gave it.
    pub address_attempt: Option<u8>,
    /// How often keys are replaced, 2 s to 120 s.
    pub rekey_interval: Duration,
    /// Random per daemon start.
    pub instance: u64,
    /// Version of the program, for the handshake payload.
    pub program: String,
    /// Versions of the protocol to speak, [`SPOKEN`](crate::version::SPOKEN) but in tests of what other programs do.
    pub versions: Versions,
}
