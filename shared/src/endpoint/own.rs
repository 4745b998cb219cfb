//! What the people of this node's host change about it while it runs.

use super::Endpoint;
use crate::crypto::aead::CipherSet;
use std::time::{Duration, Instant};

impl Endpoint {
    /// This node calls itself `name` from now on: those that are connected hear it at once.
    pub fn set_name(&mut self, now: Instant, name: String) {
        if self.hello.name != name {
            self.hello.name = name;
            self.announce(now);
            self.after_input(now);
        }
    }

    /// Handshakes that begin from now on offer these ciphers, and take no other.
    pub const fn set_ciphers(&mut self, ciphers: CipherSet) {
        self.config.ciphers = ciphers;
    }

    /// Sessions that begin from now on replace their keys so often.
    pub const fn set_rekey_interval(&mut self, interval: Duration) {
        self.config.rekey_interval = interval;
    }
}
