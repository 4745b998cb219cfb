//! The relay's side of a link.

use super::LinkError;
use super::seal::LinkSession;
use crate::crypto::keys::{NodeSecret, verify_register};
use crate::handshake::link;
use crate::ids::{NetworkId, NodeId};
use crate::rng::Rng;
use crate::version::{Mismatch, Versions};
use crate::wire::relay::{Control, StreamMessage};

/// What a message from a client means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerInput {
    /// The handshake is complete on this side; send this (LINK_RESPONSE).
    Send(Vec<u8>),
    /// The client proved that it is `node` and knows the secret of `network`. Comes once.
    Register {
        /// The client's key, proven by the handshake.
        node: NodeId,
        /// Its network, proven by the signature.
        network: NetworkId,
        /// Random per daemon start.
        instance: u64,
        /// Feature bits.
        features: u32,
        /// The version of the protocol chosen, to be said in REGISTERED.
        version: u8,
    },
    /// A control body of a registered client.
    Control(Control),
    /// A FORWARD message of a registered client: parse it with [`crate::wire::relay::Forward::parse`].
    Forward,
    /// A body of a later version.
    Ignored,
}

/// The relay's side of a link.
#[derive(Debug)]
pub struct ServerLink {
    state: State,
    versions: Versions,
}

#[derive(Debug)]
enum State {
    Waiting,
    Handshaken { session: Box<LinkSession>, node: NodeId, hash: [u8; 32] },
    Registered { session: Box<LinkSession> },
    Failed,
}

impl ServerLink {
    /// A link on which nothing came yet, to a relay that speaks `versions` of the protocol.
    pub const fn new(versions: Versions) -> Self {
        Self { state: State::Waiting, versions }
    }

    /// Whether a registration was proven.
    pub const fn is_registered(&self) -> bool {
        matches!(self.state, State::Registered { .. })
    }

    /// Takes one message of the stream. `secret` is the relay's key.
    ///
    /// # Errors
    /// Any [`LinkError`]; the link is over and the connection is to be closed. After `Proof` and `Version` an ERROR may still be sealed.
    pub fn handle(
        &mut self,
        secret: &NodeSecret,
        message: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<ServerInput, LinkError> {
        let parsed = StreamMessage::parse(message);
        match (&mut self.state, parsed) {
            // The data path first, and without moving the state about.
            (State::Registered { .. }, Ok(StreamMessage::Forward(_))) => Ok(ServerInput::Forward),
            (State::Registered { session }, Ok(StreamMessage::Control(ciphertext))) => {
                let opened = session.open(ciphertext);
                self.settle(opened).and_then(|body| match body {
                    Some(Control::Register { .. }) => self.fail(LinkError::OutOfPlace("a second REGISTER")),
                    Some(body) => Ok(ServerInput::Control(body)),
                    None => Ok(ServerInput::Ignored),
                })
            }
            (State::Waiting, Ok(StreamMessage::LinkInit(noise))) => match link::respond(secret, noise, rng) {
                Ok((response, node, keys)) => {
                    let session = Box::new(LinkSession::new(&keys));
                    self.state = State::Handshaken { session, node, hash: keys.hash };
                    Ok(ServerInput::Send(StreamMessage::link_response(&response)))
                }
                Err(error) => self.fail(error.into()),
            },
            (State::Handshaken { session, node, hash }, Ok(StreamMessage::Control(ciphertext))) => {
                let (node, hash) = (*node, *hash);
                let opened = session.open(ciphertext);
                let body = self.settle(opened)?;
                self.register(node, &hash, body)
            }
            (_, Ok(_)) => self.fail(LinkError::OutOfPlace("not what this state expects")),
            (_, Err(error)) => self.fail(error.into()),
        }
    }

    /// A whole stream message around `body`.
    ///
    /// # Errors
    /// `OutOfPlace` before the handshake is complete, `Exhausted` after 2^32 messages.
    pub fn seal(&mut self, body: &Control) -> Result<Vec<u8>, LinkError> {
        match &mut self.state {
            State::Handshaken { session, .. } | State::Registered { session } => session.seal(body),
            State::Waiting | State::Failed => Err(LinkError::OutOfPlace("nothing can be sealed yet")),
        }
    }

    fn register(
        &mut self,
        node: NodeId,
        hash: &[u8; 32],
        body: Option<Control>,
    ) -> Result<ServerInput, LinkError> {
        let Some(Control::Register { network, network_key, signature, instance, features, versions }) = body
        else {
            return self.fail(LinkError::OutOfPlace("expected REGISTER"));
        };
        if verify_register(&network, &network_key, &signature, hash, &node).is_err() {
            // The state stays, so that the caller can still seal an ERROR that says why; it accepts one more try at most
            // until the caller closes, which costs the client a signature and us a verification, never a registration.
            return Err(LinkError::Proof);
        }
        // After the proof: a stranger is told nothing.
        let theirs = versions.unwrap_or(Versions::FIRST);
        let Some(version) = self.versions.common(theirs) else {
            return Err(LinkError::Version(Mismatch { theirs, ours: self.versions }));
        };
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Handshaken { session, .. } => self.state = State::Registered { session },
            State::Waiting | State::Registered { .. } | State::Failed => {}
        }
        Ok(ServerInput::Register { node, network, instance, features, version })
    }

    /// Makes an error final.
    fn settle<T>(&mut self, result: Result<T, LinkError>) -> Result<T, LinkError> {
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    fn fail<T>(&mut self, error: LinkError) -> Result<T, LinkError> {
        self.settle(Err(error))
    }
}
