//! The authorities of the network that all of this happens in, and what they signed. Each statement is signed once.

use shadowmesh_proto::ids::{Fingerprint, NodeId, StatementHash};
use shadowmesh_proto::membership::{
    Address, Addresses, Authority, AuthorityKey, Block, Body, Certificate, Delegation, Document, Name,
    Pattern, Statement, Tag, Tags,
};
use shadowmesh_proto::rng::SeededRng;
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// How many there are.
pub const COUNT: usize = 6;
/// Whose network it is.
pub const ROOT: usize = 0;
/// Granted by the root.
pub const ADMIN: usize = 1;
/// Granted by the admin, where anybody is.
pub const SECOND: usize = 2;
/// Whom the admin lets certify.
pub const DELEGATE: usize = 3;
/// Nobody knows it.
pub const STRANGER: usize = 4;
/// The root of another network.
pub const ELSEWHERE: usize = 5;

/// Authority `number`, of which there are [`COUNT`].
///
/// # Panics
/// Where there is none.
pub fn authority(number: usize) -> &'static Authority {
    static ALL: OnceLock<Vec<Authority>> = OnceLock::new();
    let make =
        || (0..COUNT as u64).map(|seed| Authority::generate(&mut SeededRng::new(1_000 + seed))).collect();
    ALL.get_or_init(make).get(number).expect("one of them")
}

/// What it is called.
pub fn fingerprint(number: usize) -> Fingerprint {
    authority(number).fingerprint()
}

/// The public keys of whoever is called so.
pub fn key_of(fingerprint: Fingerprint) -> Option<&'static AuthorityKey> {
    (0..COUNT).map(|number| authority(number).public()).find(|key| key.fingerprint() == fingerprint)
}

/// By whom, in which network, of what kind, with what body.
type Said = (usize, usize, u8, Vec<u8>);

/// Most statements of all kinds that are kept.
const KEPT: usize = 4_096;

/// What `by` says in the network of `root`; nothing where it would not be read. What was signed before is not signed again.
pub fn signed<T: Body + Clone + 'static>(by: usize, root: usize, body: &T) -> Option<Statement<T>> {
    thread_local! {
        static SIGNED: RefCell<BTreeMap<Said, Box<dyn Any>>> = const { RefCell::new(BTreeMap::new()) };
    }
    let bytes = minicbor::to_vec(body).expect("a Vec takes everything");
    let key = (by, root, T::KIND, bytes);
    SIGNED.with_borrow_mut(|signed| {
        if let Some(known) = signed.get(&key).and_then(|known| known.downcast_ref::<Statement<T>>()) {
            return Some(known.clone());
        }
        let statement = Statement::sign(authority(by), fingerprint(root), body.clone()).ok()?;
        if signed.len() >= KEPT {
            signed.clear();
        }
        signed.insert(key, Box::new(statement.clone()));
        Some(statement)
    })
}

/// The node that is judged.
pub const NODE: NodeId = NodeId([7; 32]);
/// Another one.
pub const OTHER: NodeId = NodeId([8; 32]);

/// A name that is one.
///
/// # Panics
/// Where it is none.
pub fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// Tags that are some.
///
/// # Panics
/// Where they are none.
pub fn tags(list: &[&str]) -> Tags {
    Tags::new(list.iter().map(|tag| Tag::new(tag).expect("a tag"))).expect("few")
}

/// Addresses that are some.
///
/// # Panics
/// Where they are none.
pub fn addresses(list: &[&str]) -> Addresses {
    let one = |ip: &&str| ip.parse().ok().and_then(Address::new).expect("an address");
    Addresses::new(list.iter().map(one)).expect("few")
}

/// An invite of the admin's: joins until 2,000, members until 9,000.
///
/// # Panics
/// Never.
pub fn delegation() -> Delegation {
    let mut limits = Delegation {
        delegate: fingerprint(DELEGATE),
        joins_until: 2_000,
        members_until: 9_000,
        uses: None,
        needs_approval: false,
        names: Pattern::new("node-*"),
        tags: tags(&["lab", "server"]),
        blocks: shadowmesh_proto::membership::Set::default(),
    };
    let block = Block::new([10, 1, 2, 0].into(), 24).expect("a block");
    assert!(limits.blocks.insert(block));
    limits
}

/// A certificate of [`NODE`] within [`delegation`]: good from 1,000 to 5,000.
pub fn certificate(delegation: Option<StatementHash>) -> Certificate {
    Certificate {
        node: NODE,
        name: name("node-7"),
        addresses: addresses(&["10.1.2.7"]),
        tags: tags(&["server"]),
        not_before: 1_000,
        not_after: 5_000,
        delegation,
        serial: 1,
    }
}

/// The root makes the admin one.
pub fn grants() -> Document {
    let mut document = Document { version: 1, written: 900, ..Document::default() };
    document.admins.insert(fingerprint(ADMIN), name("admin"));
    document
}
