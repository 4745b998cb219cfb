//! The handshake between two members of a network (protocol §4).
//!
//! ```text
//!  INIT      clear part (8 B), Noise message 1 (1296 + payload), mac1 (16 B)
//!  RESPONSE  clear part (12 B), Noise message 2 (1152 + payload), mac1 (16 B)
//! ```
//!
//! mac1 covers everything before it in both packets, so also the indices, which are not part of Noise's transcript: without
//! the network secret nobody on the way can point one side at a key the other does not have. The layouts are
//! [`crate::wire::packet`]'s.
//!
//! [`Initiator`] waits for the answer and survives wrong ones. [`Responder`] reads a first message without keeping state;
//! what it gives, [`Received`], names the sender and what it offers, and can be dropped or answered.

use crate::crypto::aead::{Cipher, CipherSet};
use crate::crypto::keys::{MAC1_LEN, NetworkKeys, NodeSecret, SessionKeys};
use crate::crypto::labels;
use crate::crypto::resolver::KemRole;
use crate::handshake::noise::{self, MESSAGE_1_LEN, MESSAGE_2_LEN, Noise, Role, Setup};
use crate::handshake::payload::{MAX_PAYLOAD, Payload};
use crate::handshake::{HandshakeError, InitiatorKeys, draw};
use crate::ids::{AssociationId, NodeId, ReceiverIndex};
use crate::rng::Rng;
use crate::version::{self, Versions};
use crate::wire::codec::WireError;
use crate::wire::packet::{self, Init, Response};
use std::sync::Arc;

/// Bytes of an INIT packet beside its payload.
pub const INIT_LEN: usize = 8 + MESSAGE_1_LEN + MAC1_LEN;
/// Bytes of a RESPONSE packet beside its payload.
pub const RESPONSE_LEN: usize = 12 + MESSAGE_2_LEN + MAC1_LEN;

/// What a finished handshake leaves at either side.
///
/// At the responder it is *unconfirmed*: nobody has shown yet that they can open anything, so it must send nothing and
/// replace nothing until a control packet opens under it (protocol §4.5).
#[derive(Debug)]
pub struct Completed {
    /// The other side, authenticated.
    pub remote: NodeId,
    /// The index that names these keys at this side.
    pub local_index: ReceiverIndex,
    /// The index that names them at the other side.
    pub remote_index: ReceiverIndex,
    /// The keys.
    pub keys: SessionKeys,
    /// What the other side said.
    pub payload: Payload,
    /// The association the keys are for, as the initiator named it.
    pub association: AssociationId,
    /// Whether this side began.
    pub initiator: bool,
    /// The version of the protocol that both speak from now on.
    pub version: u8,
}

/// A handshake this side began, waiting for its RESPONSE.
#[derive(Debug)]
pub struct Initiator(Box<Pending>);

#[derive(Debug)]
struct Pending {
    noise: Noise,
    network: NetworkKeys,
    remote: NodeId,
    local_index: ReceiverIndex,
    offered: CipherSet,
    versions: Versions,
    association: AssociationId,
}

impl Initiator {
    /// Begins a handshake with `remote`; gives the pending state and the INIT packet.
    ///
    /// `offer.association` is the id of the association the new keys are for: fresh for a first handshake, the running one
    /// for a rekey (protocol §4.8).
    ///
    /// # Errors
    /// `OwnPayload` for an offer that breaks its bounds, `SmallOrder` when `remote` is no honest key, `Internal` when the
    /// library fails.
    pub fn begin(
        local: &NodeSecret,
        network: &NetworkKeys,
        remote: NodeId,
        offer: &Payload,
        local_index: ReceiverIndex,
        rng: &mut dyn Rng,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let keys = InitiatorKeys::generate(rng)?;
        Self::begin_with(local, network, remote, offer, local_index, keys)
    }

    /// As [`Self::begin`], with the keys given.
    pub(super) fn begin_with(
        local: &NodeSecret,
        network: &NetworkKeys,
        remote: NodeId,
        offer: &Payload,
        local_index: ReceiverIndex,
        keys: InitiatorKeys,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let payload = offer.encode().map_err(HandshakeError::OwnPayload)?;
        let role = Role::Initiator { remote: remote.as_bytes() };
        let mut noise = start(local, network, role, KemRole::Decapsulate(Arc::new(keys.kem)))?;
        let message = noise.write(keys.exchange, MESSAGE_1_LEN, &payload)?;
        let packet = with_mac1(network, Init::write_without_mac(local_index, &message));
        let (offered, versions, association) = (offer.ciphers, offer.versions, offer.association);
        let network = network.clone();
        let pending = Pending { noise, network, remote, local_index, offered, versions, association };
        Ok((Self(Box::new(pending)), packet))
    }

    /// The index that the RESPONSE will carry as its receiver.
    pub fn local_index(&self) -> ReceiverIndex {
        self.0.local_index
    }

    /// Whom this handshake is with.
    pub fn remote(&self) -> NodeId {
        self.0.remote
    }

    /// Reads a RESPONSE.
    ///
    /// # Errors
    /// With the state, so that a packet from a stranger ([`HandshakeError::fault`]) does not destroy it. After an error that
    /// is the authenticated peer's fault the handshake is over, and further packets are refused as `Spent`.
    pub fn finish(mut self, packet: &[u8]) -> Result<Completed, (Self, HandshakeError)> {
        match self.0.finish(packet) {
            Ok(completed) => Ok(completed),
            Err(error) => Err((self, error)),
        }
    }
}

impl Pending {
    fn finish(&mut self, packet: &[u8]) -> Result<Completed, HandshakeError> {
        let covered = check_packet(&self.network, packet, packet::RESPONSE, RESPONSE_LEN)?;
        let response = Response::parse(covered)?;
        if response.receiver != self.local_index {
            return Err(HandshakeError::WrongReceiver);
        }
        let payload = Payload::decode(&self.noise.read(response.noise)?).map_err(HandshakeError::Payload)?;
        // protocol §1.7: the highest, or somebody is talked down.
        let version = match self.versions.common(payload.versions) {
            None => return Err(HandshakeError::NoCommonVersion(payload.versions)),
            Some(highest) if payload.version == highest => highest,
            Some(_) => return Err(HandshakeError::VersionChoice),
        };
        // protocol §4.3: exactly one cipher, and one that was offered.
        let chosen = Cipher::from_bit(payload.ciphers.bits()).filter(|cipher| self.offered.contains(*cipher));
        let cipher = chosen.ok_or(HandshakeError::CipherChoice)?;
        if payload.association != self.association {
            return Err(HandshakeError::Association);
        }
        Ok(Completed {
            remote: self.remote,
            local_index: self.local_index,
            remote_index: response.sender,
            keys: SessionKeys::from_split(cipher, version, &self.noise.split()?, true),
            payload,
            association: self.association,
            initiator: true,
            version,
        })
    }
}

/// Reads first messages.
#[derive(Debug, Clone, Copy)]
pub struct Responder;

impl Responder {
    /// Reads an INIT packet: length, layout, mac1 in constant time, then Noise.
    ///
    /// # Errors
    /// [`HandshakeError`] by cause. `Mac` also for members of the network with another generation of its secret.
    pub fn read(
        local: &NodeSecret,
        network: &NetworkKeys,
        packet: &[u8],
    ) -> Result<Received, HandshakeError> {
        Self::read_with(local, network, packet, KemRole::Encapsulate)
    }

    /// As [`Self::read`], with the KEM's part given.
    pub(super) fn read_with(
        local: &NodeSecret,
        network: &NetworkKeys,
        packet: &[u8],
        kem: KemRole,
    ) -> Result<Received, HandshakeError> {
        check_packet(network, packet, packet::INIT, INIT_LEN)?;
        let init = Init::parse(packet)?;
        let mut noise = start(local, network, Role::Responder, kem)?;
        let payload = noise.read(init.noise)?;
        let remote = noise.remote().ok_or(HandshakeError::Internal("no sender after message 1"))?;
        let payload = Payload::decode(&payload).map_err(HandshakeError::Payload)?;
        let network = network.clone();
        Ok(Received { noise, network, remote: NodeId(remote), payload, sender_index: init.sender })
    }
}

/// A first message that was read: it is from a member and was made for this node, now or at any time before.
#[derive(Debug)]
pub struct Received {
    noise: Noise,
    network: NetworkKeys,
    remote: NodeId,
    payload: Payload,
    sender_index: ReceiverIndex,
}

impl Received {
    /// Who made the message.
    pub const fn remote(&self) -> NodeId {
        self.remote
    }

    /// What it offers.
    pub const fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The index that names the new keys at the sender.
    pub const fn sender_index(&self) -> ReceiverIndex {
        self.sender_index
    }

    /// Answers; gives the RESPONSE packet and the unconfirmed session.
    ///
    /// `answer.ciphers` and `answer.versions` are what this side is willing to use; the choice is made here (protocol §4.3, §1.7).
    /// `answer.association` is not used: the initiator's is repeated; nor is `answer.version`.
    ///
    /// # Errors
    /// `NoCommonVersion`, to be answered by [`Self::decline`]; `NoCommonCipher`; `OwnPayload` for an answer that breaks its bounds; `Kem` for an invalid share in the INIT;
    /// `SmallOrder` for an ephemeral key that is no honest one.
    pub fn respond(
        mut self,
        answer: &Payload,
        local_index: ReceiverIndex,
        rng: &mut dyn Rng,
    ) -> Result<(Vec<u8>, Completed), HandshakeError> {
        let theirs = self.payload.versions;
        let version = answer.versions.common(theirs).ok_or(HandshakeError::NoCommonVersion(theirs))?;
        let cipher = answer.ciphers.choose(self.payload.ciphers).ok_or(HandshakeError::NoCommonCipher)?;
        let association = self.payload.association;
        let choice = Payload { ciphers: CipherSet::only(cipher), association, version, ..answer.clone() };
        let payload = choice.encode().map_err(HandshakeError::OwnPayload)?;
        let message = self.noise.write(draw(rng), MESSAGE_2_LEN, &payload)?;
        let packet = with_mac1(&self.network, Response::write(local_index, self.sender_index, &message));
        let completed = Completed {
            remote: self.remote,
            local_index,
            remote_index: self.sender_index,
            keys: SessionKeys::from_split(cipher, version, &self.noise.split()?, false),
            payload: self.payload,
            association,
            initiator: false,
            version,
        };
        Ok((packet, completed))
    }

    /// Answers that there is no version that both speak, and which this side does; gives the RESPONSE packet. No session comes of it.
    ///
    /// # Errors
    /// `OwnPayload`, `Kem`, `SmallOrder`, as [`Self::respond`].
    pub fn decline(mut self, answer: &Payload, rng: &mut dyn Rng) -> Result<Vec<u8>, HandshakeError> {
        let association = self.payload.association;
        let payload = Payload { association, version: version::NONE, ..answer.clone() };
        let payload = payload.encode().map_err(HandshakeError::OwnPayload)?;
        let message = self.noise.write(draw(rng), MESSAGE_2_LEN, &payload)?;
        // The index of no key: nothing will be sent to it.
        let response = Response::write(ReceiverIndex(0), self.sender_index, &message);
        Ok(with_mac1(&self.network, response))
    }
}

fn start(
    local: &NodeSecret,
    network: &NetworkKeys,
    role: Role<'_>,
    kem: KemRole,
) -> Result<Noise, HandshakeError> {
    let generation = network.generation().to_be_bytes();
    let id = network.id();
    // protocol §4: "shadowmesh peer v1" ‖ version ‖ network id ‖ generation
    let prologue = [labels::PEER_PROLOGUE, &[packet::VERSION], id.as_bytes(), &generation].concat();
    let psk = Some(network.psk());
    Noise::new(Setup { pattern: noise::PEER, role, local, psk, prologue: &prologue, kem })
}

fn with_mac1(network: &NetworkKeys, mut packet: Vec<u8>) -> Vec<u8> {
    let mac = network.mac1(&packet);
    packet.extend_from_slice(&mac);
    packet
}

/// The packet without its mac1, once length, type, version and mac1 are right (protocol §4.4). Type and version go first, so
/// that a newer peer is counted as newer and not as a forger.
fn check_packet<'a>(
    network: &NetworkKeys,
    packet: &'a [u8],
    kind: u8,
    fixed_len: usize,
) -> Result<&'a [u8], HandshakeError> {
    match packet {
        [byte, ..] if *byte != kind => return Err(WireError::Kind(*byte).into()),
        [_, version, ..] if *version != packet::VERSION => return Err(WireError::Version(*version).into()),
        _ => {}
    }
    if !(fixed_len..=fixed_len + MAX_PAYLOAD).contains(&packet.len()) {
        return Err(HandshakeError::Length);
    }
    let (covered, mac) = packet.split_last_chunk::<MAC1_LEN>().ok_or(HandshakeError::Length)?;
    if network.is_mac1(covered, mac) { Ok(covered) } else { Err(HandshakeError::Mac) }
}
