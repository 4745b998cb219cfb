//! Bytes as a statement: read in one way or not at all, and verified only if an authority signed them.

use crate::authorities::{
    ADMIN, COUNT, DELEGATE, ROOT, authority, certificate, delegation, fingerprint, grants,
};
use shadowmesh_proto::ids::{KeyId, NodeId, StatementHash};
use shadowmesh_proto::membership::{
    Body, Certificate, Delegation, Document, SIGNATURE_LEN, SecretName, Statement, Trust, Unverified,
    Versioned, Word,
};
use std::fmt::Debug;

/// Any bytes are a certificate, a delegation, a document, or none of them; nobody signed them.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    let kinds = [is_read::<Certificate>(bytes), is_read::<Delegation>(bytes), is_read::<Document>(bytes)];
    assert!(kinds.into_iter().filter(|is_it| *is_it).count() <= 1, "one body, two kinds");
    is_not_restored(bytes);
}

/// Whether it is a `T`.
fn is_read<T: Body + Clone + PartialEq + Debug + 'static>(bytes: &[u8]) -> bool {
    let Ok(read) = Unverified::<T>::decode(fingerprint(ROOT), bytes) else { return false };
    assert_eq!(read.bytes(), bytes);
    assert!(read.claims().is_sound());
    for number in 0..COUNT {
        // What this process did not sign it cannot have read: its seeds have no signature.
        assert!(read.clone().verify(authority(number).public()).is_err(), "{read:?}");
    }
    // What is read can be said again, in the same bytes up to who says it.
    let again = Statement::sign(authority(ROOT), fingerprint(ROOT), read.claims().clone())
        .expect("read, so readable");
    let body = bytes.len().checked_sub(BEHIND_BODY).and_then(|end| bytes.get(..end));
    assert_eq!(body, again.bytes().get(..again.bytes().len() - BEHIND_BODY));
    assert!(Unverified::<T>::decode(fingerprint(crate::authorities::ELSEWHERE), bytes).is_err());
    true
}

/// Bytes of a statement behind its body: the issuer and the signature, with their heads.
const BEHIND_BODY: usize = 2 + 32 + 3 + SIGNATURE_LEN;

/// A node that reads back what it stored believes none of it.
fn is_not_restored(bytes: &[u8]) {
    let mut trust = Trust::new(fingerprint(ROOT), NodeId([1; 32]));
    assert!(trust.keep_key(authority(ROOT).public().clone()));
    let before = trust.blobs();
    if let Ok(is_kept) = trust.restore(bytes) {
        let is_key = bytes == authority(ROOT).public().as_bytes();
        assert!(is_key || !is_kept, "nobody signed it");
    }
    assert_eq!(trust.blobs(), before);
    assert_eq!(trust.record().documents().count(), 0);
}

/// Statements of every kind, small and with every field, whose signature is zeros.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut full = grants();
    full.rules = Some(Versioned { version: 2, value: "allow any -> any\n".to_owned() });
    let secret = SecretName { generation: 1, network: shadowmesh_proto::ids::NetworkId([3; 32]), until: 9 };
    full.secret = Some(Versioned { version: 3, value: secret });
    full.relays = Some(Versioned { version: 4, value: vec![crate::ticket::relay()] });
    full.removed.insert(fingerprint(DELEGATE));
    full.revoked.insert(KeyId([9; 32]), 1_234);
    full.members.insert(
        NodeId([7; 32]),
        Word { name: Some(crate::authorities::name("seven")), version: 5, ..Word::default() },
    );
    full.invites.insert(StatementHash([4; 32]));
    let limits = Delegation { uses: Some(3), ..delegation() };
    vec![
        unsigned(&certificate(None), ROOT),
        unsigned(&certificate(Some(StatementHash([5; 32]))), DELEGATE),
        unsigned(&limits, ADMIN),
        unsigned(&Document { version: 1, ..Document::default() }, ROOT),
        unsigned(&full, ROOT),
        authority(ROOT).public().as_bytes().to_vec(),
    ]
}

/// What `by` might have said.
fn unsigned<T: Body + Clone + 'static>(body: &T, by: usize) -> Vec<u8> {
    let mut bytes =
        crate::authorities::signed(by, ROOT, body).map(|said| said.bytes().to_vec()).unwrap_or_default();
    let signature = bytes.len().saturating_sub(SIGNATURE_LEN);
    bytes.truncate(signature);
    bytes.resize(signature + SIGNATURE_LEN, 0);
    bytes
}
