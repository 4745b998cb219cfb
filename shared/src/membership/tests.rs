//! What the tests of this module share: a network with its root, and statements of every kind.

mod exchanging;
mod judging;
mod records;
mod refused;
mod statements;

use super::*;
use crate::ids::{Fingerprint, KeyId, NetworkId, NodeId, StatementHash};
use crate::rng::SeededRng;
use proptest::prelude::*;

/// The authority that `seed` names.
pub(super) fn authority(seed: u64) -> Authority {
    Authority::generate(&mut SeededRng::new(seed))
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn tags(list: &[&str]) -> Tags {
    Tags::new(list.iter().map(|tag| Tag::new(tag).unwrap())).unwrap()
}

pub(super) fn addresses(list: &[&str]) -> Addresses {
    Addresses::new(list.iter().map(|ip| Address::new(ip.parse().unwrap()).unwrap())).unwrap()
}

pub(super) fn blocks(list: &[(&str, u8)]) -> Set<Block, MAX_BLOCKS> {
    Set::new(list.iter().map(|(base, prefix)| Block::new(base.parse().unwrap(), *prefix).unwrap())).unwrap()
}

/// An open invite: joins until 2,000, members until 9,000.
pub(super) fn delegation(delegate: Fingerprint) -> Delegation {
    Delegation {
        delegate,
        joins_until: 2_000,
        members_until: 9_000,
        uses: None,
        needs_approval: false,
        names: None,
        tags: tags(&["lab", "server"]),
        blocks: blocks(&[("10.1.2.0", 24)]),
    }
}

/// What a joining node says of itself: good from 1,000 to 5,000.
pub(super) fn certificate(node: u8, delegation: Option<StatementHash>) -> Certificate {
    Certificate {
        node: NodeId([node; 32]),
        name: name(&format!("node-{node}")),
        addresses: addresses(&["10.1.2.7"]),
        tags: tags(&["server"]),
        not_before: 1_000,
        not_after: 5_000,
        delegation,
        serial: 1,
    }
}

/// Documents of any content that one admin may write.
pub(super) fn documents() -> impl Strategy<Value = Document> {
    let key = || any::<[u8; 32]>();
    let word = (any::<Option<[u8; 32]>>(), any::<Option<bool>>(), any::<(u64, u64)>()).prop_map(
        |(delegate, named, (since, version))| Word {
            delegate: delegate.map(Fingerprint),
            name: named.map(|named| name(if named { "a" } else { "b.c" })),
            tags: named.map(|_| tags(&["x", "y"])),
            addresses: named.map(|_| addresses(&["10.0.0.9", "fd00::9"])),
            since,
            version,
        },
    );
    (
        any::<(u64, u64, Option<u32>, Option<u64>)>(),
        prop::collection::btree_map(key(), Just(()), 0..4),
        prop::collection::btree_set(key(), 0..4),
        prop::collection::btree_map(key(), any::<u64>(), 0..6),
        prop::collection::btree_map(key(), word, 0..4),
        prop::collection::btree_set(key(), 0..4),
    )
        .prop_map(|((version, written, secret, rules), admins, removed, revoked, members, invites)| {
            let mut document = Document {
                version: version.max(1),
                written,
                rules: rules.map(|version| Versioned { version, value: "allow any -> any".into() }),
                secret: secret.map(|generation| Versioned {
                    version: 1,
                    value: SecretName { generation, network: NetworkId([1; 32]), until: 7 },
                }),
                removed: Set::new(removed.into_iter().map(Fingerprint)).unwrap(),
                invites: Set::new(invites.into_iter().map(StatementHash)).unwrap(),
                ..Document::default()
            };
            for (key, ()) in admins {
                document.admins.insert(Fingerprint(key), name("admin"));
            }
            for (key, at) in revoked {
                document.revoked.insert(KeyId(key), at);
            }
            for (node, word) in members {
                document.members.insert(NodeId(node), word);
            }
            document
        })
}
