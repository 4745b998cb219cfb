//! The record: what several admins say, in any order.

use super::*;

const ADMINS: u64 = 4;

/// Admin `n`: the root is 0.
fn admin(n: u64) -> Authority {
    authority(100 + n)
}

fn fingerprint(n: u64) -> Fingerprint {
    admin(n).fingerprint()
}

fn say(n: u64, document: Document) -> Statement<Document> {
    Statement::sign(&admin(n), fingerprint(0), document).unwrap()
}

fn record(documents: impl IntoIterator<Item = Statement<Document>>) -> Record {
    let mut record = Record::new(fingerprint(0));
    for document in documents {
        record.insert(document);
    }
    record
}

/// Version 1 of a document that grants and removes.
fn politics(grants: &[u64], removes: &[u64]) -> Document {
    let mut document = Document { version: 1, ..Document::default() };
    for n in grants {
        document.admins.insert(fingerprint(*n), name(&format!("admin-{n}")));
    }
    for n in removes {
        document.removed.insert(fingerprint(*n));
    }
    document
}

/// Which of the admins `0..ADMINS` stand when each said its part of `said`.
fn who_stands(said: &[(u64, &[u64], &[u64])]) -> Vec<u64> {
    let view = record(said.iter().map(|(n, grants, removes)| say(*n, politics(grants, removes)))).view();
    (0..ADMINS).filter(|n| view.standing().is_admin(fingerprint(*n))).collect()
}

/// The admins 1, 2 and 3 by fingerprint, lowest first.
fn by_fingerprint() -> [u64; 3] {
    let mut order = [1, 2, 3];
    order.sort_unstable_by_key(|n| fingerprint(*n));
    order
}

#[test]
fn an_admin_is_who_an_admin_grants_it_to() {
    assert_eq!(who_stands(&[]), [0]);
    assert_eq!(who_stands(&[(0, &[1], &[]), (1, &[2], &[])]), [0, 1, 2]);
    assert_eq!(who_stands(&[(1, &[2], &[])]), [0], "nobody made 1 an admin");
    assert_eq!(who_stands(&[(0, &[1], &[]), (3, &[3], &[])]), [0, 1], "nobody makes himself one");
}

#[test]
fn a_removed_admin_takes_those_with_it_whom_it_made() {
    assert_eq!(who_stands(&[(0, &[1], &[1]), (1, &[2], &[])]), [0]);
    assert_eq!(who_stands(&[(0, &[1, 2], &[1]), (1, &[2], &[])]), [0, 2], "another grants it as well");
}

#[test]
fn the_root_can_be_removed_and_its_remover_takes_its_place() {
    assert_eq!(who_stands(&[(0, &[1, 2], &[]), (1, &[2], &[0])]), [1, 2]);
    assert_eq!(who_stands(&[(0, &[1, 2], &[]), (1, &[], &[0])]), [1], "2 was granted by the root alone");
    assert_eq!(
        who_stands(&[(0, &[1, 2], &[1]), (1, &[2], &[0])]),
        [0, 2],
        "it objects, and is nearer to itself"
    );
}

#[test]
fn of_two_that_remove_each_other_the_nearer_stays_then_the_lower() {
    assert_eq!(who_stands(&[(0, &[1], &[]), (1, &[2], &[2]), (2, &[], &[1])]), [0, 1]);
    let [low, high, _] = by_fingerprint();
    let both = who_stands(&[(0, &[low, high], &[]), (low, &[], &[high]), (high, &[], &[low])]);
    assert_eq!(both, [0, low]);
    // Also round a circle of three.
    let [a, b, c] = by_fingerprint();
    let circle = who_stands(&[(0, &[1, 2, 3], &[]), (a, &[], &[b]), (b, &[], &[c]), (c, &[], &[a])]);
    let mut left = vec![0, c];
    left.sort_unstable();
    assert_eq!(circle, left, "a removes b; c is not removed by who is gone, and removes a");
}

#[test]
fn accomplices_of_a_removed_admin_remove_nobody() {
    // 1 is removed by the root, makes 2 an admin afterwards, and that one removes 3.
    assert_eq!(who_stands(&[(0, &[1, 3], &[1]), (1, &[2], &[]), (2, &[], &[3])]), [0, 3]);
}

#[test]
fn only_who_stands_has_a_say() {
    let mut documents = vec![];
    for n in 0..3 {
        let mut document = politics(if n == 0 { &[1] } else { &[] }, &[]);
        document.revoked.insert(KeyId([n as u8; 32]), 50 + n);
        document.members.insert(NodeId([n as u8; 32]), Word { version: 9, ..Word::default() });
        documents.push(say(n, document));
    }
    let view = record(documents).view();
    assert_eq!(view.revocation(NodeId([1; 32])), Some(Revocation { by: fingerprint(1), at: 51 }));
    assert_eq!(view.revocation(NodeId([2; 32])), None);
    assert!(view.knows(NodeId([1; 32])) && !view.knows(NodeId([2; 32])));
}

#[test]
fn the_highest_version_counts_then_the_lower_fingerprint() {
    let [low, high, _] = by_fingerprint();
    let with = |n: u64, version, text: &str| {
        let rules = Some(Versioned { version, value: text.to_owned() });
        let mut document = Document { rules, ..politics(&[], &[]) };
        let word = Word { name: Some(name(text)), since: 10 - n, version, ..Word::default() };
        document.members.insert(NodeId([7; 32]), word);
        say(n, document)
    };
    let root = say(0, politics(&[low, high], &[]));
    let facts = |view: &View| view.facts(&certificate(7, None)).name.to_string();

    let view = record([root.clone(), with(low, 3, "low"), with(high, 4, "high")]).view();
    assert_eq!((view.rules(), facts(&view).as_str(), view.next_version()), (Some("high"), "high", 5));
    let view = record([root, with(high, 4, "high"), with(low, 4, "low")]).view();
    assert_eq!((view.rules(), facts(&view).as_str()), (Some("low"), "low"));
}

#[test]
fn a_name_or_an_address_is_one_members() {
    let mut document = politics(&[], &[]);
    for (node, since) in [(1, 20), (2, 10), (3, 30)] {
        let word = Word {
            name: Some(name(if node == 3 { "other" } else { "vault" })),
            addresses: Some(addresses(&["10.0.0.5"])),
            since,
            version: 1,
            ..Word::default()
        };
        document.members.insert(NodeId([node; 32]), word);
    }
    let view = record([say(0, document)]).view();
    let of = |node| view.facts(&Certificate { name: name("vault"), ..certificate(node, None) });
    assert_eq!(
        of(2),
        Facts { name: name("vault"), tags: tags(&["server"]), addresses: addresses(&["10.0.0.5"]) }
    );
    for node in [1, 7] {
        assert_eq!(of(node).name, name("vault").with_tail(&NodeId([node; 32]).short()), "who came later");
    }
    assert_eq!((of(1).addresses, of(7).addresses), (Addresses::default(), addresses(&["10.1.2.7"])));
}

#[test]
fn the_next_document_shuts_out_all_that_its_writer_ever_did() {
    // Twice version 1, as after a restored copy: one of the two is the newest.
    let one = |key: u8| {
        let mut document = politics(&[u64::from(key)], &[u64::from(key)]);
        document.revoked.insert(KeyId([key; 32]), 5);
        say(0, document)
    };
    let record = record([one(1), one(2)]);
    for key in [1, 2] {
        assert!(record.view().revocation(NodeId([key; 32])).is_some());
    }
    let draft = record.draft(fingerprint(0), 77);
    assert_eq!((draft.version, draft.written), (2, 77));
    assert_eq!((draft.revoked.len(), draft.removed.len(), draft.admins.len()), (2, 2, 1));
    assert_eq!(record.draft(fingerprint(1), 77), Document { version: 1, written: 77, ..Document::default() });
}

#[test]
fn what_an_admin_said_outlives_it_in_its_removers_document() {
    let mut last = politics(&[3], &[]);
    last.revoked.insert(KeyId([8; 32]), 5);
    last.members.insert(NodeId([7; 32]), Word { name: Some(name("kept")), version: 4, ..Word::default() });
    last.rules = Some(Versioned { version: 2, value: "deny any -> any".into() });
    let mut record = record([say(0, politics(&[1, 2], &[])), say(2, last)]);

    let mut next = record.draft(fingerprint(1), 9);
    let lost = record
        .view()
        .remove_admin(&record.clone(), &mut next, fingerprint(1), fingerprint(2), Legacy::Kept)
        .unwrap();
    assert_eq!(lost, 0);
    record.insert(say(1, next));
    // What it says from now on changes nothing.
    let mut newer = record.draft(fingerprint(2), 10);
    newer.revoked.insert(KeyId([9; 32]), 10);
    record.insert(say(2, newer));

    let view = record.view();
    assert!(view.standing().was_removed(fingerprint(2)) && view.standing().is_admin(fingerprint(3)));
    assert_eq!(view.revocation(NodeId([8; 32])), Some(Revocation { by: fingerprint(1), at: 5 }));
    assert_eq!(view.revocation(NodeId([9; 32])), None);
    assert_eq!(view.facts(&certificate(7, None)).name, name("kept"));
    assert_eq!(view.rules(), Some("deny any -> any"));
}

/// The root grants 1 and 2; 2 said `last`, and 1 removes it.
fn removed(last: Document, own: Document, legacy: Legacy) -> (View, Document, usize) {
    let mut record = record([say(0, politics(&[1, 2], &[])), say(1, own), say(2, last)]);
    let mut next = record.draft(fingerprint(1), 9);
    let lost = record
        .view()
        .remove_admin(&record.clone(), &mut next, fingerprint(1), fingerprint(2), legacy)
        .unwrap();
    record.insert(say(1, next.clone()));
    (record.view(), next, lost)
}

#[test]
fn an_admin_that_says_too_much_to_be_repeated_is_removed_all_the_same() {
    let mut last = politics(&[], &[]);
    for n in 0..MAX_REVOKED as u32 {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        last.revoked.insert(KeyId(key), 5);
    }
    let mut own = politics(&[], &[]);
    own.revoked.insert(KeyId([0xff; 32]), 4);
    let (view, next, lost) = removed(last, own, Legacy::Kept);
    assert!(view.standing().was_removed(fingerprint(2)));
    assert_eq!((lost, next.revoked.len()), (1, MAX_REVOKED), "as much as fits is kept");
    assert!(view.revocation(NodeId([0xff; 32])).is_some(), "what its remover had said first of all");
}

#[test]
fn of_a_stolen_admin_nothing_is_kept() {
    let mut last = politics(&[3], &[]);
    last.revoked.insert(KeyId([8; 32]), 5);
    last.members.insert(NodeId([7; 32]), Word { name: Some(name("evil")), version: 4, ..Word::default() });
    last.rules = Some(Versioned { version: 2, value: "allow any -> any".into() });
    let (view, _, lost) = removed(last.clone(), politics(&[], &[]), Legacy::Dropped);
    assert!(view.standing().was_removed(fingerprint(2)) && !view.standing().is_admin(fingerprint(3)));
    assert!(view.revocation(NodeId([8; 32])).is_none() && !view.knows(NodeId([7; 32])));
    assert_eq!((view.rules(), lost), (None, 0));
    // Whom one that is kept had removed stays so, but not one that stands in spite of it.
    last.removed = Set::new([fingerprint(3)]).unwrap();
    last.admins = Map::default();
    let (view, next, _) = removed(last, politics(&[3], &[]), Legacy::Kept);
    assert!(!view.standing().is_admin(fingerprint(3)) && next.removed.contains(&fingerprint(3)));
}

#[test]
fn versions_of_a_removed_admin_are_not_taken_over() {
    let word = |text: &str, version| Word { name: Some(name(text)), version, ..Word::default() };
    let mut last = politics(&[], &[]);
    last.members.insert(NodeId([7; 32]), word("theirs", u64::MAX));
    last.rules = Some(Versioned { version: u64::MAX, value: "deny any -> any".into() });
    // What the remover said meanwhile had to be above that.
    let mut own = politics(&[], &[]);
    own.members.insert(NodeId([6; 32]), word("own", u64::MAX));
    own.members.insert(NodeId([5; 32]), word("old", 1));
    for legacy in [Legacy::Kept, Legacy::Dropped] {
        let (view, next, _) = removed(last.clone(), own.clone(), legacy);
        assert_eq!(view.next_version(), 2, "{legacy:?}: others said nothing, and their next word counts");
        let versions = |node| next.members.get(&NodeId([node; 32])).map(|word| word.version);
        let theirs = (legacy == Legacy::Kept).then_some(1);
        assert_eq!((versions(7), versions(6), versions(5)), (theirs, Some(1), Some(1)));
        assert_eq!(view.rules().is_some(), legacy == Legacy::Kept);
    }
}

#[test]
fn what_replaced_documents_shut_out_is_recalled() {
    let mut first = politics(&[1], &[1]);
    first.revoked.insert(KeyId([8; 32]), 5);
    first.revoked.insert(KeyId([9; 32]), 5);
    // By a host that was restored from a copy, or by whoever wants it back.
    let mut second = Document { version: 2, ..politics(&[1], &[]) };
    second.revoked.insert(KeyId([9; 32]), 7);
    let second = say(0, second);
    let heard = record([say(0, first), second.clone()]);
    let bygones: Vec<_> = heard.bygones().collect();
    let of = |bygone| (fingerprint(0), bygone);
    let expected = [
        of(Bygone::Revoked(KeyId([8; 32]), 5)),
        of(Bygone::Revoked(KeyId([9; 32]), 5)),
        of(Bygone::Removed(fingerprint(1))),
    ];
    assert_eq!(bygones, expected);
    let mut again = record([second]);
    assert!(!again.view().standing().was_removed(fingerprint(1)), "else it is forgotten");
    bygones.iter().for_each(|(issuer, bygone)| assert!(again.recall(*issuer, *bygone)));
    assert_eq!(again, heard);
    assert!(!again.recall(fingerprint(3), Bygone::Removed(fingerprint(0))), "of nobody");
}

#[test]
fn one_admin_that_grants_much_takes_no_room_from_others() {
    // The root grants 15 admins, of which each grants one, and one of them all that it may: to keys that sort first.
    let first: Vec<u64> = (1..=15).collect();
    let mut by_key: Vec<u64> = (1_000..1_200).collect();
    by_key.sort_unstable_by_key(|n| fingerprint(*n));
    let (low, high) = by_key.split_at(MAX_GRANTS);
    let honest = &high[high.len() - 14..];
    let mut said = vec![say(0, politics(&first, &[])), say(1, politics(low, &[]))];
    said.extend((2..=15).zip(honest).map(|(n, granted)| say(n, politics(&[*granted], &[]))));
    let view = record(said).view();
    for granted in honest {
        assert!(view.standing().is_admin(fingerprint(*granted)));
    }
    assert_eq!(view.standing().ranked().len(), MAX_ADMINS);
}

#[test]
fn writers_are_bounded_and_those_that_matter_find_room() {
    let mut record = record((200..200 + MAX_WRITERS as u64).map(|n| say(n, politics(&[], &[]))));
    assert_eq!(record.documents().count(), MAX_WRITERS);
    assert!(record.insert(say(0, politics(&[1], &[]))));
    assert!(record.insert(say(1, politics(&[], &[]))));
    assert!(record.view().standing().is_admin(fingerprint(1)));
}

#[test]
fn merging_keeps_to_the_bound_as_hearing_does() {
    let of = |range: std::ops::Range<u64>| record(range.map(|n| say(n, politics(&[], &[]))));
    let writers = MAX_WRITERS as u64;
    let (mut full, mut other) = (of(200..200 + writers), of(1_000..1_000 + writers - 2));
    assert!(other.insert(say(0, politics(&[1], &[]))) && other.insert(say(1, politics(&[], &[]))));
    full.merge(&other);
    assert!(full.documents().count() <= MAX_WRITERS, "{} writers", full.documents().count());
    assert!(full.view().standing().is_admin(fingerprint(1)), "those that matter find room");
    assert!(full.document(fingerprint(1)).is_some());
}

/// Documents of the admins, of which some grant and remove each other, with versions that collide.
fn spoken() -> impl Strategy<Value = Vec<Statement<Document>>> {
    let numbers = || prop::collection::vec(0..ADMINS, 0..3);
    let one = (0..ADMINS, 1..4_u64, documents(), numbers(), numbers());
    prop::collection::vec(one, 0..7).prop_map(|said| {
        said.into_iter()
            .map(|(n, version, mut document, grants, removes)| {
                document.version = version;
                for n in grants {
                    document.admins.insert(fingerprint(n), name("granted"));
                }
                for n in removes {
                    document.removed.insert(fingerprint(n));
                }
                say(n, document)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_order_in_which_things_are_heard_does_not_matter(said in spoken(), seed: u64) {
        let mut shuffled = said.clone();
        let mut rng = SeededRng::new(seed);
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, crate::rng::Rng::next_u32(&mut rng) as usize % (at + 1));
        }
        let twice = shuffled.iter().chain(&said).cloned();
        prop_assert_eq!(record(said.clone()), record(shuffled.clone()));
        prop_assert_eq!(record(said.clone()), record(twice));
    }

    #[test]
    fn merging_is_a_join(a in spoken(), b in spoken(), c in spoken()) {
        let (a, b, c) = (record(a), record(b), record(c));
        let join = |x: &Record, y: &Record| { let mut x = x.clone(); x.merge(y); x };
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(join(&a, &a), a);
    }

    #[test]
    fn no_revocation_of_an_admin_is_lost(said in spoken()) {
        let view = record(said.clone()).view();
        for document in said.iter().filter(|document| view.standing().is_admin(document.issuer())) {
            for key in document.body().revoked.keys() {
                prop_assert!(view.revocation(NodeId(key.0)).is_some());
            }
        }
    }

    #[test]
    fn somebody_always_stands(said in spoken()) {
        let view = record(said).view();
        prop_assert!(view.standing().admins().count() > 0);
        prop_assert!(view.standing().admins().all(|(admin, _)| view.standing().ranked().contains(&admin)));
    }
}

/// Whoever holds an invite without a limit makes nodes without end, and an admin takes them up.
#[test]
fn however_many_join_there_is_room_to_shut_them_out() {
    let long = |n: u32| {
        let tag = |at| Tag::new(&format!("{at:0>63}")).unwrap();
        let delegate = Some(Fingerprint([9; 32]));
        let tags = Some(Tags::new((0..16).map(tag)).unwrap());
        let word = Word { delegate, name: Some(name(&format!("{n:0>63}"))), tags, ..Word::default() };
        Enrolment::Enter(Word { since: 1 << 40, version: 1 << 40, ..word })
    };
    let short = Enrolment::Enter(Word { since: 1, version: 1, ..Word::default() });
    for word in [&long as &dyn Fn(u32) -> Enrolment, &|_| short.clone()] {
        let mut document = Document { version: 1, ..Document::default() };
        let node = |n: u32| NodeId(crate::crypto::kdf::sha256(&[&n.to_be_bytes()]));
        let entered = (0..2_000).take_while(|n| document.enrol(node(*n), &word(*n), 1).is_ok()).count();
        assert!((100..MAX_MEMBERS).contains(&entered), "{entered}");
        // By hand some more, and then everything can be said.
        for by_hand in 5_000..5_010 {
            assert_eq!(document.say_of(node(by_hand), Word::default()), Ok(()));
        }
        assert!((0..MAX_REVOKED).all(|n| document.revoke(node(u32::try_from(n).unwrap()), 1 << 40)));
        let signed = Statement::sign(&authority(1), authority(1).fingerprint(), document);
        assert!(signed.is_ok(), "{entered}: {:?}", signed.err());
    }
}

#[test]
fn words_on_who_was_shut_out_go_where_room_is_scarce() {
    let [stolen, open] = [8, 9].map(|n| Fingerprint([n; 32]));
    let word = |delegate| Word { delegate, version: 1, ..Word::default() };
    let node = |n: u32| NodeId(crate::crypto::kdf::sha256(&[&n.to_be_bytes()]));
    let mut document = Document { version: 1, ..Document::default() };
    assert!(document.members.insert(node(2_000), word(Some(open))));
    assert!(document.members.insert(node(2_001), word(None)));
    assert!([2_000, 2_001].iter().all(|n| document.revoke(node(*n), 5)));
    document.drop_shut_out();
    assert_eq!(document.members.len(), 2, "there is room");
    let by = |delegate| Enrolment::Enter(word(Some(delegate)));
    let entered = (0..2_000).take_while(|n| document.enrol(node(*n), &by(stolen), 5).is_ok()).count();
    assert!((0..900).all(|n| document.revoke(node(n), 5)));
    document.drop_shut_out();
    assert_eq!(document.members.len(), entered + 1, "only the one that a person had let in");
    assert!(!document.members.contains_key(&node(2_001)));
    assert_eq!(document.enrol(node(2_002), &by(stolen), 5), Ok(()), "in its place");
    assert!(document.revoke(stolen, 5));
    document.drop_shut_out();
    assert_eq!(document.members.len(), entered - 900 + 2);
    assert!(document.members.contains_key(&node(2_000)), "a use that was revoked was one");
    assert_eq!(document.enrol(node(3_000), &by(open), 6), Ok(()));
}

#[test]
fn who_was_shut_out_keeps_no_name_from_others() {
    let mut document = politics(&[], &[]);
    for (node, since) in [(1, 10), (2, 20)] {
        let word = Word { name: Some(name("anna")), since, version: 1, ..Word::default() };
        document.members.insert(NodeId([node; 32]), word);
    }
    let called = |document: &Document, node| {
        let certificate = Certificate { name: name("anna"), ..certificate(node, None) };
        record([say(0, document.clone())]).view().facts_at_entry(&certificate, None, |_| false).name
    };
    assert_eq!((called(&document, 1), called(&document, 3)), (name("anna"), name("anna-2")));
    document.revoke(NodeId([1; 32]), 30);
    let view = record([say(0, document.clone())]).view();
    assert_eq!(view.named(&name("anna")), Some(NodeId([2; 32])), "who had it second");
    assert_eq!(called(&document, 2), name("anna"));
    document.members.remove(&NodeId([2; 32]));
    assert_eq!(record([say(0, document.clone())]).view().named(&name("anna")), None);
    assert_eq!(called(&document, 3), name("anna"), "who comes with another key");
}

#[test]
fn a_version_that_leaves_no_room_is_no_measure_for_others() {
    let rules = |version| Document {
        rules: Some(Versioned { version, value: "deny any -> any".into() }),
        ..politics(&[], &[])
    };
    for (said, next) in [(1 << 63, (1 << 63) + 1), ((1 << 63) + 1, 1), (u64::MAX, 1)] {
        assert_eq!(record([say(0, rules(said))]).view().next_version(), next, "{said}");
    }
}
