//! The client's side of a link.

use super::LinkError;
use super::seal::LinkSession;
use crate::crypto::keys::{NetworkKeys, NodeSecret};
use crate::handshake::link::LinkInitiator;
use crate::ids::{NodeId, RelayId};
use crate::rng::Rng;
use crate::version::{Mismatch, UNSAID, Versions};
use crate::wire::relay::{Control, StreamMessage};

/// What a client registers: needed once, when the handshake is complete.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    /// This node.
    pub node: NodeId,
    /// The network's keys, one of which signs.
    pub network: &'a NetworkKeys,
    /// Random per daemon start.
    pub instance: u64,
    /// Versions of the protocol that it speaks.
    pub versions: Versions,
}

/// What a message from the relay means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientInput {
    /// The handshake is complete; send this (REGISTER).
    Send(Vec<u8>),
    /// A control body. The first one is `Registered` or `Error`.
    Control(Control),
    /// A FORWARD message: parse it with [`crate::wire::relay::Forward::parse`].
    Forward,
    /// A body of a later version.
    Ignored,
}

/// The client's side of a link.
#[derive(Debug)]
pub struct ClientLink {
    state: State,
}

#[derive(Debug)]
enum State {
    Handshaking(Box<LinkInitiator>),
    Open { session: Box<LinkSession>, version: Option<u8> },
    Failed,
}

impl ClientLink {
    /// Starts a link; send the bytes as the stream's first message.
    ///
    /// # Errors
    /// `Handshake` when the relay's key is no usable X25519 key.
    pub fn begin(node: &NodeSecret, relay: RelayId, rng: &mut dyn Rng) -> Result<(Self, Vec<u8>), LinkError> {
        let (initiator, noise) = LinkInitiator::begin(node, &relay, rng)?;
        Ok((Self { state: State::Handshaking(Box::new(initiator)) }, StreamMessage::link_init(&noise)))
    }

    /// Whether the relay accepted the registration.
    pub const fn is_registered(&self) -> bool {
        self.version().is_some()
    }

    /// The version of the protocol that the relay chose, once it accepted the registration.
    pub const fn version(&self) -> Option<u8> {
        match self.state {
            State::Open { version, .. } => version,
            State::Handshaking(_) | State::Failed => None,
        }
    }

    /// Takes one message of the stream.
    ///
    /// # Errors
    /// Any [`LinkError`]; the link is over and the connection is to be closed.
    pub fn handle(
        &mut self,
        registration: Registration<'_>,
        message: &[u8],
    ) -> Result<ClientInput, LinkError> {
        let (state, input) = self.take_state().step(registration, message)?;
        self.state = state;
        Ok(input)
    }

    /// A whole stream message around `body`.
    ///
    /// # Errors
    /// `OutOfPlace` before the handshake is complete, `Exhausted` after 2^32 messages.
    pub fn seal(&mut self, body: &Control) -> Result<Vec<u8>, LinkError> {
        match &mut self.state {
            State::Open { session, .. } => session.seal(body),
            State::Handshaking(_) | State::Failed => Err(LinkError::OutOfPlace("nothing can be sealed yet")),
        }
    }

    /// Finishes the handshake with `response` and seals what `forge` makes of the link's hash as the first body.
    #[cfg(test)]
    pub(super) fn register_with(
        &mut self,
        response: &[u8],
        forge: impl FnOnce(&[u8; 32]) -> Control,
    ) -> Vec<u8> {
        let (State::Handshaking(initiator), Ok(StreamMessage::LinkResponse(noise))) =
            (self.take_state(), StreamMessage::parse(response))
        else {
            panic!("not at the end of a handshake");
        };
        let keys = initiator.finish(noise).unwrap();
        LinkSession::new(&keys).seal(&forge(&keys.hash)).unwrap()
    }

    /// Leaves `Failed` behind, so that an early return is final.
    const fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Failed)
    }
}

impl State {
    fn step(self, registration: Registration<'_>, message: &[u8]) -> Result<(Self, ClientInput), LinkError> {
        match (self, StreamMessage::parse(message)?) {
            (Self::Handshaking(initiator), StreamMessage::LinkResponse(noise)) => {
                let keys = initiator.finish(noise)?;
                let mut session = Box::new(LinkSession::new(&keys));
                let (network_key, signature) =
                    registration.network.sign_register(&keys.hash, &registration.node);
                let register = session.seal(&Control::Register {
                    network: registration.network.id(),
                    network_key,
                    signature,
                    instance: registration.instance,
                    features: 0,
                    versions: registration.versions.said(),
                })?;
                Ok((Self::Open { session, version: None }, ClientInput::Send(register)))
            }
            (Self::Open { mut session, version }, StreamMessage::Control(ciphertext)) => {
                let body = session.open(ciphertext)?;
                let version = match (&body, version) {
                    (Some(Control::Registered { .. }), Some(_)) => {
                        return Err(LinkError::OutOfPlace("a second REGISTERED"));
                    }
                    (Some(Control::Registered { versions, version, .. }), None) => {
                        Some(chosen(registration.versions, *versions, *version)?)
                    }
                    (Some(Control::Error { .. }) | None, None) => None,
                    (Some(_), None) => return Err(LinkError::OutOfPlace("a body before REGISTERED")),
                    (_, Some(_)) => version,
                };
                let input = body.map_or(ClientInput::Ignored, ClientInput::Control);
                Ok((Self::Open { session, version }, input))
            }
            (Self::Open { session, version: version @ Some(_) }, StreamMessage::Forward(_)) => {
                Ok((Self::Open { session, version }, ClientInput::Forward))
            }
            (Self::Handshaking(_), _) => Err(LinkError::OutOfPlace("expected LINK_RESPONSE")),
            (Self::Open { .. }, _) => Err(LinkError::OutOfPlace("a handshake message in an open link")),
            (Self::Failed, _) => Err(LinkError::OutOfPlace("the link has failed")),
        }
    }
}

/// The version that the relay chose, if that is the one it had to choose (protocol §1.7).
fn chosen(ours: Versions, theirs: Option<Versions>, version: Option<u8>) -> Result<u8, LinkError> {
    let theirs = theirs.unwrap_or(Versions::FIRST);
    let highest = ours.common(theirs).ok_or(LinkError::Version(Mismatch { theirs, ours }))?;
    if version.unwrap_or(UNSAID) == highest { Ok(highest) } else { Err(LinkError::VersionChoice) }
}
