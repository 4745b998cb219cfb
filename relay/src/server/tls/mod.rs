//! TLS in front of the relay's stream: the same port serves `ws://` and `wss://`, told apart by a connection's first byte.
//!
//! TLS adds no secrecy and no identity here: the link handshake inside proves the relay's key, which the ticket pins, and seals what client and relay
//! say (protocol §3.1). What it adds is that the stream looks like HTTPS to networks which let nothing else out. So a client takes any
//! certificate, and one that has expired, or was made by hand, locks nobody out; a real one is for the inspecting kind of firewall, and for
//! browsers and probes that look at the port.
//!
//! - [`Front`] holds what is presented now, and is told of something better while it serves.
//! - [`certificate`]: a chain with its key, from PEM, with everything that is wrong said in a sentence.
//! - [`files`]: the operator's files, read again when they change.
//! - [`challenge`]: what an ACME authority is shown that looks whether a name leads here (see [`acme`](crate::acme)).
//! - [`handshake`] and [`stream`]: one connection.
//!
//! # What is spoken
//!
//! TLS 1.3 alone, X25519MLKEM768 before X25519 and P-256, `http/1.1` where a client names protocols at all. No session tickets: they would
//! save a client one signature each reconnect, and cost the relay memory or a key that opens old traffic.

pub mod certificate;
pub mod challenge;
pub mod files;
mod handshake;
mod stream;
mod validity;

pub(super) use handshake::{TlsError, accept};
#[cfg(test)]
pub(super) use stream::TlsStream;

use crate::server::port::lock;
use certificate::Certificate;
use challenge::Challenges;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use std::sync::{Arc, LazyLock, Mutex};

/// The first byte of a TLS connection: a record of type handshake (RFC 8446 §5.1). No method of HTTP begins with it.
pub(super) const FIRST_BYTE: u8 = 0x16;
/// The protocol that is spoken inside (RFC 7301).
const HTTP: &[u8] = b"http/1.1";

/// TLS 1.3 with these, in this order of preference. The link inside is sealed post-quantum already, so this one is for the looks: what
/// browsers of today begin with.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    })
});

/// What is presented to whoever begins with TLS. Clones are the same.
#[derive(Debug, Clone)]
pub struct Front {
    presented: Arc<Mutex<Arc<Certificate>>>,
    challenges: Challenges,
}

impl Front {
    /// Presents `certificate` until told otherwise.
    pub fn new(certificate: Certificate) -> Self {
        Self { presented: Arc::new(Mutex::new(Arc::new(certificate))), challenges: Challenges::default() }
    }

    /// From the next handshake on this one is presented. Connections that are open go on as they are.
    pub fn present(&self, certificate: Certificate) {
        *lock(&self.presented) = Arc::new(certificate);
    }

    /// What an ACME authority is shown.
    pub const fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// What is presented now.
    pub fn presented(&self) -> Arc<Certificate> {
        Arc::clone(&lock(&self.presented))
    }
}
