//! Sealing control bodies on a stream: ChaCha20-Poly1305, implicit counters from 0, 16 zero bytes of associated data (protocol §3.2).

use super::LinkError;
use crate::crypto::aead::{AeadKey, Cipher};
use crate::crypto::keys::LinkKeys;
use crate::wire::header::TAG_LEN;
use crate::wire::relay::{Control, StreamMessage};

/// Messages per direction before a fresh link is due (protocol §3.2): far from every limit of the cipher, and no link lives so long.
const MESSAGE_LIMIT: u64 = 1 << 32;

/// The associated data of every body: a stream message has no clear header to cover.
const NO_HEADER: [u8; 16] = [0; 16];

/// Both directions of a link's keys with their counters.
#[derive(Debug)]
pub(super) struct LinkSession {
    send: AeadKey,
    sent: u64,
    receive: AeadKey,
    received: u64,
}

impl LinkSession {
    pub(super) fn new(keys: &LinkKeys) -> Self {
        Self {
            send: AeadKey::new(Cipher::ChaCha20Poly1305, &keys.send),
            sent: 0,
            receive: AeadKey::new(Cipher::ChaCha20Poly1305, &keys.recv),
            received: 0,
        }
    }

    /// A whole stream message around `body`.
    pub(super) fn seal(&mut self, body: &Control) -> Result<Vec<u8>, LinkError> {
        if self.sent >= MESSAGE_LIMIT {
            return Err(LinkError::Exhausted);
        }
        let mut bytes = body.encode();
        bytes.resize(bytes.len() + TAG_LEN, 0);
        self.send.seal_in_place(self.sent, &NO_HEADER, &mut bytes).map_err(|_| LinkError::Exhausted)?;
        self.sent += 1;
        Ok(StreamMessage::control(&bytes))
    }

    /// The body inside the ciphertext of a CONTROL message; `None` for one of a later version.
    pub(super) fn open(&mut self, ciphertext: &[u8]) -> Result<Option<Control>, LinkError> {
        if self.received >= MESSAGE_LIMIT {
            return Err(LinkError::Exhausted);
        }
        let mut bytes = ciphertext.to_vec();
        let body = self
            .receive
            .open_in_place(self.received, &NO_HEADER, &mut bytes)
            .map_err(|_| LinkError::Forged)?;
        self.received += 1;
        Ok(Control::decode(body)?)
    }
}
