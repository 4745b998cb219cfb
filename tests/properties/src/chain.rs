//! A chain that is good, and what somebody on the way does to it: what is accepted still is what was signed.

use crate::authorities::{
    ADMIN, DELEGATE, ELSEWHERE, NODE, ROOT, STRANGER, certificate, delegation, fingerprint, grants, key_of,
    signed,
};
use crate::script::{Script, any_scripts};
use shadowmesh_proto::ids::Fingerprint;
use shadowmesh_proto::membership::{
    Body, Certificate, Delegation, Document, Record, Statement, StatementError, Unverified, judge,
};

/// Everything that was ever signed, on any side.
struct Said {
    certificates: Vec<Statement<Certificate>>,
    delegations: Vec<Statement<Delegation>>,
    documents: Vec<Statement<Document>>,
}

fn said() -> Said {
    let delegations = [(ADMIN, ROOT), (STRANGER, ROOT), (ADMIN, ELSEWHERE)];
    let delegations: Vec<_> =
        delegations.iter().filter_map(|(by, root)| signed(*by, *root, &delegation())).collect();
    let by_invite = certificate(delegations.first().map(Statement::hash));
    let wide = Certificate { not_after: 90_000, ..by_invite.clone() };
    let certificates = [
        signed(DELEGATE, ROOT, &by_invite),
        signed(ROOT, ROOT, &certificate(None)),
        signed(STRANGER, ROOT, &certificate(None)),
        signed(DELEGATE, ROOT, &wide),
        signed(ROOT, ELSEWHERE, &certificate(None)),
        signed(ELSEWHERE, ELSEWHERE, &certificate(None)),
    ];
    let documents = [signed(ROOT, ROOT, &grants()), signed(STRANGER, ROOT, &grants())];
    Said {
        certificates: certificates.into_iter().flatten().collect(),
        delegations,
        documents: documents.into_iter().flatten().collect(),
    }
}

impl Said {
    fn all(&self) -> Vec<&[u8]> {
        let documents = self.documents.iter().map(Statement::bytes);
        let delegations = self.delegations.iter().map(Statement::bytes);
        documents.chain(delegations).chain(self.certificates.iter().map(Statement::bytes)).collect()
    }
}

/// A script: which of document, delegation and certificate come, in what state.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    SAID.with(|said| holds(&mut Script::new(bytes), said));
}

thread_local! {
    /// Signed once.
    static SAID: Said = said();
}

fn holds(script: &mut Script<'_>, said: &Said) {
    let document = came(script, said, &said.documents);
    let delegation = came(script, said, &said.delegations);
    let certificate = came(script, said, &said.certificates);
    let Some(certificate) = certificate else { return };
    let mut record = Record::new(fingerprint(ROOT));
    if let Some(document) = document {
        record.insert(document);
    }
    let now = *script.pick(&[1_500, 999, 5_000, 5_001, 2_001]);
    let met = script.flag();
    let judged = judge(&record.view(), NODE, &certificate, delegation.as_ref(), met, now);
    if judged.is_ok() {
        // The whole chain, or a certificate by the root itself; and in its time.
        let is_by_root = certificate.issuer() == fingerprint(ROOT) && certificate.body().delegation.is_none();
        let is_granted = record.view().standing().is_admin(fingerprint(ADMIN));
        let is_by_invite = is_granted
            && certificate.issuer() == fingerprint(DELEGATE)
            && certificate.body().not_after == 5_000;
        assert!(is_by_root || is_by_invite, "{certificate:?}");
        assert!((400..=5_000).contains(&now));
    }
}

/// One of `originals`, as it was or not; if it still is accepted it is one of them to the last byte.
fn came<T: Body + Clone + PartialEq + 'static>(
    script: &mut Script<'_>,
    said: &Said,
    originals: &[Statement<T>],
) -> Option<Statement<T>> {
    let original = script.pick(originals);
    let mut bytes = original.bytes().to_vec();
    if !script.byte().is_multiple_of(4) {
        script.damage(&mut bytes, &said.all());
    }
    let (is_whole, root) = (bytes == original.bytes(), fingerprint(ROOT));
    let read = match Unverified::<T>::decode(root, &bytes) {
        Ok(read) => read,
        Err(error) => {
            let is_elsewhere = error == StatementError::OtherRoot(fingerprint(ELSEWHERE));
            assert!(!is_whole || is_elsewhere, "what was signed is read: {error}");
            return None;
        }
    };
    let issuer: Fingerprint = read.issuer();
    let verified = key_of(issuer).map(|key| read.verify(key));
    assert!(!is_whole || matches!(verified, Some(Ok(_))), "what was signed verifies");
    let accepted = verified?.ok()?;
    assert!(originals.iter().any(|original| original.bytes() == accepted.bytes()), "nobody signed that");
    assert!(originals.contains(&accepted));
    Some(accepted)
}

/// The good chain as it is, each part of it changed at its ends, and anything.
pub fn seeds() -> Vec<Vec<u8>> {
    let whole = vec![0, 0, 0, 0, 0, 0, 0, 0];
    let mut seeds = vec![whole, vec![0, 0, 0, 0, 1, 0], vec![0, 0, 0, 0, 3, 0, 0], vec![1, 0, 2, 0, 2, 0]];
    for op in 0..8 {
        seeds.push(vec![0, 0, 0, 0, 0, 1, 0, 0, 30, op, 0, 1, 2, 3, 4, 5, 6, 7]);
        seeds.push(vec![0, 0, 0, 1, 0, 0, 9, op, 1, 1, 2, 3, 4, 5, 6, 7]);
    }
    seeds.extend(any_scripts(1, 8, 40));
    seeds
}
