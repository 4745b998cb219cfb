//! A session as the control side holds it: control keys, the times of its keys, and data keys on their way to the data plane.

use super::gate::DataKeys;
use super::rekey::Rekey;
use crate::crypto::aead::Cipher;
use crate::endpoint::outbox::Indices;
use crate::handshake::payload::{COMPLETES_CHECKSUMS, KNOWS_REST};
use crate::handshake::peer::Completed;
use crate::ids::{AssociationId, ReceiverIndex};
use crate::session::OpenError;
use crate::session::control::{ControlOpen, ControlSeal};
use crate::session::key::{OpenKey, SealKey};
use crate::session::rekey::{RekeyPolicy, Role};
use crate::time::Deadline;
use crate::wire::control::Control;
use std::time::{Duration, Instant};

/// A session, confirmed or not.
#[derive(Debug)]
pub(super) struct Session {
    association: AssociationId,
    cipher: Cipher,
    version: u8,
    seal: ControlSeal,
    open: ControlOpen,
    /// On their way to the data plane: nothing may be sent before confirmation, nor between those who are not members.
    pub(super) data: DataKeys,
    /// Indices of this side that name keys of this session.
    indices: Vec<ReceiverIndex>,
    /// The one among them that the peer should be sealing for.
    current: ReceiverIndex,
    established: Instant,
    /// When the current send key was made.
    installed: Instant,
    /// When it seals nothing more, as was reckoned when it was made: a hint of a relay moves the next rekey, never this.
    seals_until: Instant,
    policy: RekeyPolicy,
    rekeys: u64,
    pub(super) rekey: Rekey,
    /// Whether the peer answers REST.
    pub(super) knows_rest: bool,
}

impl Session {
    pub(super) fn new(now: Instant, completed: &Completed, interval: Duration, role: Role) -> Self {
        let policy = RekeyPolicy::new(interval, role);
        let mut seal = ControlSeal::new();
        let mut open = ControlOpen::new();
        seal.install(control_seal_key(now, completed, policy));
        open.install(control_open_key(completed));
        Self {
            association: completed.association,
            cipher: completed.keys.cipher,
            version: completed.version,
            seal,
            open,
            data: DataKeys::new(
                completed.association,
                data_open_key(completed),
                data_seal_key(now, completed, policy),
            ),
            indices: vec![completed.local_index],
            current: completed.local_index,
            established: now,
            installed: now,
            seals_until: policy.stop_sealing_at(now),
            policy,
            rekeys: 0,
            rekey: Rekey::Idle,
            knows_rest: completed.payload.features & KNOWS_REST != 0,
        }
    }

    pub(super) const fn association(&self) -> AssociationId {
        self.association
    }

    pub(super) const fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// The version of the protocol that both speak in it.
    pub(super) const fn version(&self) -> u8 {
        self.version
    }

    pub(super) const fn rekeys(&self) -> u64 {
        self.rekeys
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.established)
    }

    pub(super) fn has_index(&self, index: ReceiverIndex) -> bool {
        self.indices.contains(&index)
    }

    #[cfg(test)]
    pub(super) const fn index_for_test(&self) -> ReceiverIndex {
        self.current
    }

    /// The relay's hint can only shorten (protocol §3.5).
    pub(super) fn shorten_rotation(&mut self, hint: Duration) {
        self.policy = self.policy.with_hint(hint);
    }

    /// A control packet around `body`; `None` when the key may seal no more.
    pub(super) fn seal(&mut self, now: Instant, body: &Control) -> Option<Vec<u8>> {
        match self.seal.seal(now, &body.encode()) {
            Ok(packet) => Some(packet),
            Err(error) => {
                tracing::debug!(%error, "a control packet was not sealed");
                None
            }
        }
    }

    /// The body inside a control packet; `None` for one of a later version or one that does not parse.
    pub(super) fn open(&mut self, now: Instant, packet: &mut [u8]) -> Result<Option<Control>, OpenError> {
        let opened = self.open.open(now, packet)?;
        Ok(Control::decode(opened.body).unwrap_or_else(|error| {
            // Authentic and yet not readable: a peer that breaks the protocol, not a stranger.
            tracing::debug!(%error, "a control body does not parse");
            None
        }))
    }

    /// When the next rekey begins, or its message is repeated, or the session is too old.
    pub(super) fn poll_timeout(&self) -> Deadline {
        let rekey = self.rekey.deadline().unwrap_or_else(|| self.policy.begin(self.installed));
        if rekey.at <= self.dies_at() {
            rekey
        } else {
            Deadline::new(self.dies_at(), "the session's keys are too old")
        }
    }

    /// When its send key seals nothing more.
    pub(super) const fn dies_at(&self) -> Instant {
        self.seals_until
    }

    pub(super) fn rekey_due(&self, now: Instant) -> bool {
        matches!(self.rekey, Rekey::Idle | Rekey::Answered { until: None, .. })
            && self.policy.begin(self.installed).is_due(now)
    }

    /// Adds the receive keys of a rekey; gives the one for the data plane, and the index of a key that had to make way.
    pub(super) fn add_receive_keys(&mut self, completed: &Completed) -> (OpenKey, Option<ReceiverIndex>) {
        let gone = self.open.install(control_open_key(completed));
        self.indices.retain(|index| Some(*index) != gone);
        self.indices.push(completed.local_index);
        (data_open_key(completed), gone)
    }

    /// Sends under the keys of a rekey from now on; gives the data key, and the index of the receive key it replaces.
    pub(super) fn switch_send_keys(
        &mut self,
        now: Instant,
        completed: &Completed,
    ) -> (SealKey, ReceiverIndex) {
        self.seal.install(control_seal_key(now, completed, self.policy));
        self.installed = now;
        self.seals_until = self.policy.stop_sealing_at(now);
        self.rekeys += 1;
        let replaced = std::mem::replace(&mut self.current, completed.local_index);
        self.retire(now, replaced);
        (data_seal_key(now, completed, self.policy), replaced)
    }

    /// The receive key `index` has a successor, or was never used.
    pub(super) fn retire(&mut self, now: Instant, index: ReceiverIndex) {
        self.open.retire(index, now);
    }

    /// Drops control keys whose time is over; gives their indices.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<ReceiverIndex> {
        let mut gone = Vec::new();
        self.open.expire(now, |index| gone.push(index));
        self.indices.retain(|index| !gone.contains(index));
        gone
    }

    /// Whether its keys are being replaced.
    pub(super) const fn is_rekeying(&self) -> bool {
        !matches!(self.rekey, Rekey::Idle | Rekey::Answered { until: None, .. })
    }

    /// Gives back its indices.
    pub(super) fn release(self, indices: &mut Indices) {
        for index in self.indices {
            indices.release(index);
        }
        self.rekey.release(indices);
    }
}

fn control_seal_key(now: Instant, completed: &Completed, policy: RekeyPolicy) -> SealKey {
    let keys = &completed.keys;
    SealKey::new(keys.cipher, &keys.send.control, completed.remote_index, now, policy.stop_sealing_at(now))
}

fn data_seal_key(now: Instant, completed: &Completed, policy: RekeyPolicy) -> SealKey {
    let keys = &completed.keys;
    SealKey::new(keys.cipher, &keys.send.data, completed.remote_index, now, policy.stop_sealing_at(now))
        .for_one_who_completes_checksums(completed.payload.features & COMPLETES_CHECKSUMS != 0)
}

fn control_open_key(completed: &Completed) -> OpenKey {
    OpenKey::new(completed.keys.cipher, &completed.keys.recv.control, completed.local_index)
}

fn data_open_key(completed: &Completed) -> OpenKey {
    OpenKey::new(completed.keys.cipher, &completed.keys.recv.data, completed.local_index)
}
