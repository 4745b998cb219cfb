//! Counters of the running relay: what went through, and what was dropped or refused, by cause.
//!
//! Written with relaxed atomics from every connection, read by `status`. They say how much, never who.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// `amount` more.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident / $snapshot:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name { $($(#[$field_doc])* pub $field: Counter,)* }

        /// The values of the counters at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub struct $snapshot { $($(#[$field_doc])* pub $field: u64,)* }

        impl $name {
            /// The values now.
            pub fn snapshot(&self) -> $snapshot {
                $snapshot { $($field: self.$field.value(),)* }
            }
        }
    };
}

counters! {
    /// What the data path forwarded.
    Forwarded / ForwardedSnapshot {
        /// Bytes of FORWARD messages and datagrams passed on.
        bytes,
        /// FORWARD messages passed on.
        messages,
        /// Datagrams passed on; their bytes are among `bytes`.
        datagrams,
    }
}

counters! {
    /// Handshakes of streams that are wrapped in TLS.
    Tls / TlsSnapshot {
        /// Handshakes completed.
        handshakes,
        /// Those of them whose keys are post-quantum (X25519MLKEM768).
        post_quantum,
    }
}

counters! {
    /// What was dropped, refused or cut, by cause.
    Dropped / DroppedSnapshot {
        /// Packets: the reader was too slow and the oldest had to go.
        queue_full,
        /// FORWARD messages on a channel that its sender has not (or not any more).
        unknown_channel,
        /// Connections ended by bytes that make no sense or do not open.
        malformed,
        /// Connections that did not finish handshake and REGISTER in time.
        handshake_timeout,
        /// Connections of trusted proxies whose header (PROXY protocol) is of no use.
        proxy_header,
        /// Connections that began with TLS and did not come to an agreement: another version, an alert, or no TLS at all.
        tls_failed,
        /// Connections that were no WebSocket of ours.
        not_websocket,
        /// Registrations without a valid proof of membership.
        bad_proof,
        /// Connections ended because their client did not read.
        stuck_reader,
        /// Connections ended because nothing came for too long.
        silent,
        /// Connections refused: the relay has as many as it can hold.
        refused_full,
        /// Connections refused: their address has as many as one may have.
        refused_address,
        /// Connections refused: their address connects too often.
        refused_rate,
        /// Datagrams to be forwarded from an address that no client bound, with another tag, or of a binding that was not proven for long.
        datagrams_unbound,
        /// Datagrams to be forwarded beyond the rate that the operator set.
        datagrams_rate,
        /// Datagrams to be forwarded to a client that bound no address, or is silent there.
        datagrams_no_receiver,
        /// Datagrams to be forwarded that the system did not take: its buffers are full, or it knows no way.
        datagrams_full,
        /// UDP datagrams that were no Binding request with a token of a client; never answered.
        stun_silent,
    }
}

/// All counters.
#[derive(Debug, Default)]
pub struct Metrics {
    /// See [`Forwarded`].
    pub forwarded: Forwarded,
    /// See [`Tls`].
    pub tls: Tls,
    /// See [`Dropped`].
    pub dropped: Dropped,
    /// Connections accepted.
    pub connections: Counter,
    /// STUN requests answered.
    pub stun_answered: Counter,
}
