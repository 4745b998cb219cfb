//! What a host knows of the members of its network, as a file: lines of `word value…`, each statement as it was signed.
//!
//! No statement in it is believed for standing here: whoever reads it verifies it again
//! ([`Trust::restore`](shadowmesh_proto::membership::Trust::restore)). Two kinds of lines are this node's own memory.

use super::network::decode_key;
use data_encoding::BASE64URL_NOPAD;
use shadowmesh_proto::ids::{Fingerprint, KeyId, NodeId, StatementHash};
use shadowmesh_proto::membership::{AuthorityKey, Bygone, Name, Own};
use shadowmesh_proto::ticket::Delegated;
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// The file, read but not verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberState {
    /// Keys of admins, their documents, open invites; in an order in which they can be verified.
    pub blobs: Vec<Vec<u8>>,
    /// What documents shut out that were replaced, and who had said so. Believed as it stands: of a document there is nothing left.
    pub bygones: Vec<(Fingerprint, Bygone)>,
    /// Nodes that were met while they might join.
    pub met: Vec<NodeId>,
    /// What this node shows.
    pub own: Option<StoredOwn>,
    /// How it becomes a member: **a secret**.
    pub joining: Option<Joins>,
}

/// This node's certificate, and what it stands on where a delegate signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOwn {
    /// The certificate.
    pub certificate: Vec<u8>,
    /// The public keys of an admin who signed it, which the record may not name any more.
    pub issuer: Option<Vec<u8>>,
    /// The delegation, and the delegate's public keys.
    pub chain: Option<(Vec<u8>, Vec<u8>)>,
}

/// An invite that waits for somebody to hand out its delegation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joins {
    /// From the invite.
    pub delegated: Delegated,
    /// The name wished for.
    pub name: Name,
    /// Of the certificate to be made.
    pub serial: u64,
}

impl StoredOwn {
    /// Of `own`, whose issuer has this key, if that is here.
    pub fn new(own: &Own, issuer: Option<&AuthorityKey>) -> Self {
        let chain = own.chain.as_ref();
        Self {
            certificate: own.certificate.bytes().to_vec(),
            issuer: issuer.map(|key| key.as_bytes().to_vec()),
            chain: chain.map(|(delegation, key)| (delegation.bytes().to_vec(), key.as_bytes().to_vec())),
        }
    }
}

impl MemberState {
    /// The text of the file.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        // Room for all of it from the start: what a buffer leaves behind when it grows is not wiped.
        let size: usize = self.blobs.iter().map(|blob| blob.len() * 4 / 3 + 16).sum();
        let mut text = Zeroizing::new(String::with_capacity(size + self.met.len() * 64 + (64 << 10)));
        text.push_str("# What this host knows of the members of its network.\n");
        let mut line = |word: &str, bytes: &[u8]| {
            text.push_str(word);
            text.push(' ');
            BASE64URL_NOPAD.encode_append(bytes, &mut text);
            text.push('\n');
        };
        self.blobs.iter().for_each(|blob| line("blob", blob));
        if let Some(own) = &self.own {
            line("certificate", &own.certificate);
            if let Some(issuer) = &own.issuer {
                line("issuer", issuer);
            }
            if let Some((delegation, delegate)) = &own.chain {
                line("delegation", delegation);
                line("delegate", delegate);
            }
        }
        for (issuer, bygone) in &self.bygones {
            let _ = match bygone {
                Bygone::Revoked(key, at) => writeln!(text, "revoked {issuer} {key} {at}"),
                Bygone::Removed(admin) => writeln!(text, "removed {issuer} {admin}"),
            };
        }
        for node in &self.met {
            // Writing to a String does not fail.
            let _ = writeln!(text, "met {node}");
        }
        if let Some(Joins { delegated, name, serial }) = &self.joining {
            let seed = Zeroizing::new(BASE64URL_NOPAD.encode(delegated.seed.as_slice()));
            let _ = writeln!(
                text,
                "joining {} {} {serial} {name} {}",
                delegated.root, delegated.delegation, *seed
            );
        }
        text
    }

    /// Reads the text of the file; the error says what is wrong with it, without quoting it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut state = Self::default();
        for (at, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            state.take(line).ok_or_else(|| format!("line {} does not read", at + 1))?;
        }
        Ok(state)
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ')?;
        let bytes = || BASE64URL_NOPAD.decode(rest.as_bytes()).ok();
        match word {
            "blob" => self.blobs.push(bytes()?),
            "met" => self.met.push(NodeId::from_base32(rest)?),
            "revoked" => {
                let mut fields = rest.split(' ');
                let issuer = Fingerprint::from_base32(fields.next()?)?;
                let key = KeyId::from_base32(fields.next()?)?;
                self.bygones.push((issuer, Bygone::Revoked(key, fields.next()?.parse().ok()?)));
            }
            "removed" => {
                let (issuer, admin) = rest.split_once(' ')?;
                let admin = Bygone::Removed(Fingerprint::from_base32(admin)?);
                self.bygones.push((Fingerprint::from_base32(issuer)?, admin));
            }
            "certificate" => {
                self.own = Some(StoredOwn { certificate: bytes()?, issuer: None, chain: None });
            }
            "issuer" => self.own.as_mut()?.issuer = Some(bytes()?),
            "delegation" => self.own.as_mut()?.chain = Some((bytes()?, Vec::new())),
            "delegate" => self.own.as_mut()?.chain.as_mut()?.1 = bytes()?,
            "joining" => {
                let mut fields = rest.split(' ');
                let root = Fingerprint::from_base32(fields.next()?)?;
                let delegation = StatementHash::from_base32(fields.next()?)?;
                let serial = fields.next()?.parse().ok()?;
                let name = Name::new(fields.next()?)?;
                let seed = decode_key(fields.next()?)?;
                self.joining = Some(Joins { delegated: Delegated { root, seed, delegation }, name, serial });
            }
            // A later version's.
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn states() -> impl Strategy<Value = MemberState> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        let joins =
            any::<([u8; 32], [u8; 32], [u8; 32], u64)>().prop_map(|(root, seed, hash, serial)| Joins {
                delegated: Delegated {
                    root: Fingerprint(root),
                    seed: Zeroizing::new(seed),
                    delegation: StatementHash(hash),
                },
                name: Name::new("lap-top.1").expect("a name"),
                serial,
            });
        let own = (bytes(), proptest::option::of(bytes()), proptest::option::of((bytes(), bytes())))
            .prop_map(|(certificate, issuer, chain)| StoredOwn { certificate, issuer, chain });
        let bygone = any::<([u8; 32], [u8; 32], Option<u64>)>().prop_map(|(issuer, whom, at)| {
            let bygone = match at {
                Some(at) => Bygone::Revoked(KeyId(whom), at),
                None => Bygone::Removed(Fingerprint(whom)),
            };
            (Fingerprint(issuer), bygone)
        });
        (
            proptest::collection::vec(bytes(), 0..5),
            proptest::collection::vec(bygone, 0..5),
            proptest::collection::vec(any::<[u8; 32]>(), 0..5),
            proptest::option::of(own),
            proptest::option::of(joins),
        )
            .prop_map(|(blobs, bygones, met, own, joining)| MemberState {
                blobs,
                bygones,
                met: met.into_iter().map(NodeId).collect(),
                own,
                joining,
            })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(state in states()) {
            prop_assert_eq!(MemberState::parse(&state.to_text()), Ok(state));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "((blob|met|certificate|issuer|delegate|revoked|removed|joining) )?(\\PC|\n){0,200}") {
            let _ = MemberState::parse(&text);
        }
    }

    #[test]
    fn a_line_that_does_not_read_is_named_and_not_quoted() {
        for text in [
            "# x\nblob ???",
            "\nrevoked a b 1",
            "\nremoved a",
            "\nissuer AAAA",
            "\nmet b",
            "\njoining a b c d e",
            "\ndelegate AAAA",
            "\nnonsense",
        ] {
            assert_eq!(MemberState::parse(text), Err("line 2 does not read".to_owned()), "{text}");
        }
        assert_eq!(MemberState::parse("later what a later version adds"), Ok(MemberState::default()));
    }
}
