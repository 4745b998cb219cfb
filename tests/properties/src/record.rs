//! The record: a join of what was heard, in any order and any number of times, within its bounds.

use crate::authorities::{COUNT, ROOT, fingerprint, name, signed};
use crate::script::{Script, any_scripts};
use shadowmesh_proto::ids::{KeyId, NodeId, StatementHash};
use shadowmesh_proto::membership::{
    Bygone, Document, MAX_ADMINS, MAX_WRITERS, Record, Statement, Versioned, Word,
};

/// A script: what is said by whom, and who hears it in which of three records.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut said = Vec::new();
    while !script.is_over() && said.len() < 12 {
        let (by, document, who) = (script.below(COUNT), document(&mut script), script.byte());
        said.extend(signed(by, ROOT, &document).map(|document| (document, who)));
    }
    let heard =
        |bit: u8| record(said.iter().filter(|(_, who)| who & 1 << bit != 0).map(|(document, _)| document));
    let (a, b, c) = (heard(0), heard(1), heard(2));

    assert_eq!(join(&a, &b), join(&b, &a), "commutative");
    assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)), "associative");
    assert_eq!(join(&a, &a), a, "idempotent");
    assert_eq!(join(&a, &Record::new(fingerprint(ROOT))), a, "of nothing");
    // Whoever hears it all hears the same, whichever way round.
    let all = join(&join(&a, &b), &c);
    let reached = || said.iter().filter(|(_, who)| who & 7 != 0).map(|(document, _)| document);
    assert_eq!(record(reached()), all);
    assert_eq!(record(reached().rev()), all);
    for document in reached() {
        assert!(!all.clone().insert(document.clone()), "no news");
    }
    is_sound(&all);
}

fn join(one: &Record, other: &Record) -> Record {
    let mut joined = one.clone();
    joined.merge(other);
    joined
}

fn record<'a>(said: impl Iterator<Item = &'a Statement<Document>>) -> Record {
    let mut record = Record::new(fingerprint(ROOT));
    for document in said {
        let before = record.clone();
        let is_news = record.insert(document.clone());
        assert_eq!(is_news, record != before);
    }
    record
}

fn is_sound(record: &Record) {
    assert!(record.documents().count() <= MAX_WRITERS);
    let view = record.view();
    assert!(view.standing().ranked().len() <= MAX_ADMINS);
    assert!(view.standing().admins().count() > 0, "somebody always stands");
    // What is stored beside the newest documents brings everything back.
    let mut again = Record::new(fingerprint(ROOT));
    for document in record.documents() {
        again.insert(document.clone());
    }
    let (bygones, kept): (Vec<_>, _) = (record.bygones().collect(), again.bygones().count());
    assert_eq!((kept, again == *record), (0, bygones.is_empty()));
    for number in 0..COUNT {
        let issuer = fingerprint(number);
        let draft = record.draft(issuer, 7);
        let newest = record.document(issuer).map_or(0, |newest| newest.body().version);
        assert_eq!(draft.version, newest.saturating_add(1));
        // What an authority shut out stays shut out by whatever it says next.
        for (who, bygone) in bygones.iter().filter(|(who, _)| *who == issuer) {
            assert_eq!(*who, issuer);
            match bygone {
                Bygone::Revoked(key, at) => assert!(draft.revoked.get(key).is_some_and(|said| said <= at)),
                Bygone::Removed(admin) => assert!(draft.removed.contains(admin)),
            }
        }
    }
    for document in record.documents().filter(|document| view.standing().is_admin(document.issuer())) {
        assert!(
            document.body().revoked.keys().all(|key| view.revocation(*key).is_some()),
            "no revocation is lost"
        );
        assert!(document.body().members.keys().all(|node| view.knows(*node)));
        assert!(document.body().rules.is_none() || view.rules().is_some());
    }
    for (address, holder) in view.addresses() {
        assert_eq!(view.holder(address), Some(holder));
        assert!(view.revocation(holder).is_none());
    }
}

/// Few keys and few versions, so that much collides.
fn document(script: &mut Script<'_>) -> Document {
    let mut document = Document { version: 1 + u64::from(script.byte() % 4), ..Document::default() };
    let choices = script.byte();
    let who = |script: &mut Script<'_>| fingerprint(script.below(COUNT));
    let chosen = |bit: u8| choices & 1 << bit != 0;
    if chosen(0) {
        document.admins.insert(who(script), name("one"));
        document.admins.insert(who(script), name("two"));
    }
    if chosen(1) {
        document.removed.insert(who(script));
    }
    if chosen(2) {
        document.revoked.insert(KeyId([script.byte() % 3; 32]), u64::from(script.byte() % 4));
    }
    if chosen(3) {
        document.revoked.insert(KeyId::from(who(script)), u64::from(script.byte() % 4));
    }
    if chosen(4) {
        let word = Word {
            delegate: script.flag().then(|| who(script)),
            name: script.flag().then(|| name("same")),
            addresses: script.flag().then(|| crate::authorities::addresses(&["10.0.0.9"])),
            since: u64::from(script.byte() % 4),
            version: u64::from(script.byte() % 3),
            ..Word::default()
        };
        document.members.insert(NodeId([script.byte() % 3; 32]), word);
    }
    if chosen(5) {
        let value = (*script.pick(&["# one", "# two"])).to_owned();
        document.rules = Some(Versioned { version: u64::from(script.byte() % 3), value });
    }
    if chosen(6) {
        document.invites.insert(StatementHash([script.byte() % 3; 32]));
    }
    if chosen(7) {
        document.version = u64::MAX;
    }
    document
}

/// Somebody grants, removes, revokes; and anything.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        vec![],
        vec![0, 0, 1, 1, 2, 7, 1, 0, 2, 0, 1, 2, 1, 0, 1, 4],
        vec![0, 0, 4, 1, 1, 1, 0, 0, 4, 2, 2, 2, 0, 1, 0, 4],
        vec![0, 0x80, 0xff, 1, 2, 3, 1, 1, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 7],
    ];
    seeds.extend(any_scripts(3, 12, 90));
    seeds
}
