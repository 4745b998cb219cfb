//! The handshake between a client and its relay (protocol §3.1).
//!
//! The client knows the relay's key from its ticket; the relay learns the client's. Payloads are empty. Messages are plain
//! Noise messages: [`crate::wire::relay`] frames them as LINK_INIT and LINK_RESPONSE. The stream is in order, so a wrong
//! message ends it and neither side keeps anything.

use crate::crypto::keys::{LinkKeys, NodeSecret};
use crate::crypto::labels;
use crate::crypto::resolver::KemRole;
use crate::handshake::noise::{self, MESSAGE_1_LEN, MESSAGE_2_LEN, Noise, Role, Setup};
use crate::handshake::payload::PayloadError;
use crate::handshake::{HandshakeError, InitiatorKeys, draw};
use crate::ids::{NodeId, RelayId};
use crate::rng::Rng;
use std::sync::Arc;

/// A client that waits for the relay's answer.
#[derive(Debug)]
pub struct LinkInitiator(Box<Noise>);

impl LinkInitiator {
    /// Begins a link to `relay`; gives the pending state and Noise message 1.
    ///
    /// # Errors
    /// `SmallOrder` when `relay` is no honest key, `Internal` when the library fails.
    pub fn begin(
        local: &NodeSecret,
        relay: &RelayId,
        rng: &mut dyn Rng,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        Self::begin_with(local, relay, InitiatorKeys::generate(rng)?)
    }

    /// As [`Self::begin`], with the keys given.
    pub(super) fn begin_with(
        local: &NodeSecret,
        relay: &RelayId,
        keys: InitiatorKeys,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let kem = KemRole::Decapsulate(Arc::new(keys.kem));
        let mut noise = start(local, Role::Initiator { remote: relay.as_bytes() }, kem)?;
        let message = noise.write(keys.exchange, MESSAGE_1_LEN, &[])?;
        Ok((Self(Box::new(noise)), message))
    }

    /// Reads Noise message 2. Success proves that the other end is the relay that was called.
    ///
    /// # Errors
    /// [`HandshakeError`] by cause: `Authentication` above all when the relay has another key than its ticket says.
    pub fn finish(mut self, message: &[u8]) -> Result<LinkKeys, HandshakeError> {
        read_empty(&mut self.0, message, MESSAGE_2_LEN)?;
        Ok(LinkKeys::from_split(&self.0.split()?, self.0.hash()?, true))
    }
}

/// The relay's side: reads Noise message 1; gives message 2, the client's key and the link's keys.
///
/// Like any first message it may be a replay. The client is known to be present only when a CONTROL opens (protocol §3.4).
///
/// # Errors
/// [`HandshakeError`] by cause: `Authentication` above all when the client called another relay's key.
pub fn respond(
    local: &NodeSecret,
    message: &[u8],
    rng: &mut dyn Rng,
) -> Result<(Vec<u8>, NodeId, LinkKeys), HandshakeError> {
    respond_with(local, message, KemRole::Encapsulate, rng)
}

/// As [`respond`], with the KEM's part given.
pub(super) fn respond_with(
    local: &NodeSecret,
    message: &[u8],
    kem: KemRole,
    rng: &mut dyn Rng,
) -> Result<(Vec<u8>, NodeId, LinkKeys), HandshakeError> {
    let mut noise = start(local, Role::Responder, kem)?;
    read_empty(&mut noise, message, MESSAGE_1_LEN)?;
    let client = noise.remote().ok_or(HandshakeError::Internal("no client after message 1"))?;
    let answer = noise.write(draw(rng), MESSAGE_2_LEN, &[])?;
    let keys = LinkKeys::from_split(&noise.split()?, noise.hash()?, false);
    Ok((answer, NodeId(client), keys))
}

fn start(local: &NodeSecret, role: Role<'_>, kem: KemRole) -> Result<Noise, HandshakeError> {
    let prologue = labels::LINK_PROLOGUE;
    Noise::new(Setup { pattern: noise::LINK, role, local, psk: None, prologue, kem })
}

fn read_empty(noise: &mut Noise, message: &[u8], expected_len: usize) -> Result<(), HandshakeError> {
    if message.len() != expected_len {
        return Err(HandshakeError::Length);
    }
    // The length leaves no room for a payload; this states it once more where it is relied on.
    if noise.read(message)?.is_empty() { Ok(()) } else { Err(HandshakeError::Payload(PayloadError::Body)) }
}
