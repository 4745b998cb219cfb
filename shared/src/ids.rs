//! Identities: what names a node, a network, a relay, a session.
//!
//! Every table is keyed by the full value; short forms are for people only (protocol §1). Equality of public values need
//! not be constant-time; secrets live in [`crate::crypto`], never here.

use data_encoding::BASE32_NOPAD;
use std::fmt;

/// Length of the short form shown to people, in base32 characters (50 bits: enough to tell a few thousand nodes apart).
pub const SHORT_ID_CHARS: usize = 10;

macro_rules! id32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Lower-case base32 without padding, 52 characters (RFC 4648 §6).
            pub fn to_base32(&self) -> String {
                BASE32_NOPAD.encode(&self.0).to_ascii_lowercase()
            }

            /// The first [`SHORT_ID_CHARS`] characters of [`Self::to_base32`], for people.
            pub fn short(&self) -> String {
                let mut text = self.to_base32();
                text.truncate(SHORT_ID_CHARS);
                text
            }

            /// Reads the full base32 form, in either case; `None` when it is anything else.
            pub fn from_base32(text: &str) -> Option<Self> {
                let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
                Some(Self(bytes.try_into().ok()?))
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?;
                let array = bytes.try_into().map_err(|_| minicbor::decode::Error::message("not 32 bytes"))?;
                Ok(Self(array))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_base32())
            }
        }
    };
}

id32! {
    /// A node: its X25519 static public key (protocol §1.1).
    NodeId
}
id32! {
    /// A network: hash of the public key that signs its registrations (protocol §1.2).
    NetworkId
}
id32! {
    /// A relay: its X25519 static public key, pinned by its ticket (protocol §1.3).
    RelayId
}

id32! {
    /// An authority: the hash of its public keys (protocol §8.1).
    Fingerprint
}
id32! {
    /// A statement: the hash of its bytes (protocol §8.2).
    StatementHash
}
id32! {
    /// What members hand to each other by its hash: an authority's public keys, or a statement (protocol §8.5).
    BlobHash
}

id32! {
    /// A key that can be revoked: a node's, or a delegate's (protocol §8.5).
    KeyId
}

impl From<NodeId> for KeyId {
    fn from(node: NodeId) -> Self {
        Self(node.0)
    }
}

impl From<Fingerprint> for KeyId {
    fn from(fingerprint: Fingerprint) -> Self {
        Self(fingerprint.0)
    }
}

impl From<Fingerprint> for BlobHash {
    fn from(fingerprint: Fingerprint) -> Self {
        Self(fingerprint.0)
    }
}

impl From<StatementHash> for BlobHash {
    fn from(hash: StatementHash) -> Self {
        Self(hash.0)
    }
}

/// A channel of a relay stream: names a pair of peers, the same number at both ends (protocol §3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct ChannelId(#[n(0)] pub u32);

/// A peer's place in the tables of the data threads. Local to a process; reused only after the peer was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerSlot(pub u32);

/// A receiver index: names one key generation of one session in its receiver's tables (protocol §1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverIndex(pub u32);

/// Names the association (the life of one pair of counters) a session belongs to; survives rekeys (protocol §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AssociationId(pub [u8; 8]);

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl<C> minicbor::Encode<C> for MacAddr {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for MacAddr {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        Ok(Self(bytes.try_into().map_err(|_| minicbor::decode::Error::message("not 6 bytes"))?))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn base32_round_trip(bytes: [u8; 32]) {
            let id = NodeId(bytes);
            prop_assert_eq!(NodeId::from_base32(&id.to_base32()), Some(id));
            prop_assert!(id.to_base32().starts_with(&id.short()));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            if let Some(id) = NodeId::from_base32(&text) {
                prop_assert_eq!(id.to_base32(), text.to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn debug_shows_only_the_short_form() {
        assert_eq!(format!("{:?}", NodeId([0; 32])), "NodeId(aaaaaaaaaa)");
    }
}
