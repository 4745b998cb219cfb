//! Two admins that do not agree, and clocks that did not.

use super::*;
use shadowmesh_proto::membership::{MAX_TAGS, Refusal, Tag, judge};
use shadowmesh_proto::rng::SeededRng;

const NOW: Seconds = 1_800_000_000;
const HERE: NodeId = NodeId([3; 32]);

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// The root, an admin that it made, and what a node of the root's knows of both.
struct Office {
    root: Authority,
    second: Authority,
    trust: Trust,
}

impl Office {
    fn new() -> Self {
        let [root, second] = [1, 2].map(|seed| Authority::generate(&mut SeededRng::new(seed)));
        let mut trust = Trust::new(root.fingerprint(), HERE);
        let mut admin = Admin::new(&mut trust, &root, NOW);
        admin.found().expect("founded");
        admin.certify_here(name("a")).expect("certified");
        admin.grant(second.fingerprint(), name("second")).expect("granted");
        Self { root, second, trust }
    }

    fn root(&mut self) -> Admin<'_> {
        Admin::new(&mut self.trust, &self.root, NOW)
    }

    fn second(&mut self) -> Admin<'_> {
        Admin::new(&mut self.trust, &self.second, NOW)
    }

    fn stands(&self) -> (bool, bool) {
        let standing = self.trust.view().standing();
        (standing.is_admin(self.root.fingerprint()), standing.is_admin(self.second.fingerprint()))
    }
}

/// A certificate of node 7 that begins at `from`.
fn certificate(from: Seconds) -> Certificate {
    Certificate {
        node: NodeId([7; 32]),
        name: name("laptop"),
        addresses: Addresses::default(),
        tags: Tags::default(),
        not_before: from,
        not_after: from + LIFE,
        delegation: None,
        serial: 1,
    }
}

#[test]
fn a_root_that_was_removed_objects() {
    let mut office = Office::new();
    let (root, second) = (office.root.fingerprint(), office.second.fingerprint());
    office.second().remove_admin(root, Legacy::Kept).expect("removed");
    assert_eq!(office.stands(), (false, true));
    // Anything else it says counts no more, and is not said.
    let heard = office.trust.record().document(root).map(Statement::hash);
    assert!(matches!(office.root().revoke(NodeId([9; 32])), Err(AdminError::NotAdmin)));
    assert_eq!(office.trust.record().document(root).map(Statement::hash), heard);
    office.root().remove_admin(second, Legacy::Dropped).expect("it has the better rank");
    assert_eq!(office.stands(), (true, false));
    let objection = office.second().remove_admin(root, Legacy::Dropped);
    assert!(matches!(objection, Err(AdminError::NotAdmin)), "the other way round there is none");
    assert_eq!(office.stands(), (true, false));
}

#[test]
fn an_admin_is_removed_whatever_it_has_filled_its_document_with() {
    let mut office = Office::new();
    let second = office.second.fingerprint();
    let tags = Tags::new((0..MAX_TAGS).map(|n| Tag::new(&format!("{n:063}")).expect("a tag"))).expect("few");
    let facts = Facts { name: name("x"), tags, addresses: Addresses::default() };
    let mut fill = |by: &Authority, from: u8| {
        for node in from..from + 140 {
            let mut admin = Admin::new(&mut office.trust, by, NOW);
            admin.approve(NodeId([node; 32]), Some(facts.clone()), None).expect("room");
        }
    };
    let (root_key, second_key) = (office.root.clone(), office.second.clone());
    fill(&root_key, 0);
    fill(&second_key, 110);
    let lost = office.root().remove_admin(second, Legacy::Kept).expect("removed");
    assert_eq!(office.stands(), (true, false));
    assert!(lost > 0);
}

#[test]
fn who_is_no_member_is_not_made_one_by_a_name() {
    let mut office = Office::new();
    let node = NodeId([7; 32]);
    let named = office.root().say_of(node, None, |word| word.name = Some(name("vault")));
    assert!(matches!(named, Err(AdminError::Senseless(_))));
    assert!(!office.trust.view().knows(node));
    let tags = Tags::new([Tag::new("x").expect("a tag")]).expect("one");
    let facts = Facts { name: name("laptop"), tags: tags.clone(), addresses: Addresses::default() };
    office.root().say_of(node, Some(facts), |word| word.name = Some(name("vault"))).expect("a member");
    let word = office.trust.view().word(node).expect("a word");
    assert_eq!((word.name.clone(), word.tags.clone()), (Some(name("vault")), Some(tags)));
}

#[test]
fn the_admins_own_host_is_in_the_record_and_keeps_its_name() {
    let mut office = Office::new();
    office.root().enter_here().expect("entered");
    assert!(office.trust.view().knows(HERE));
    let before = office.trust.changes();
    office.root().enter_here().expect("nothing to do");
    assert_eq!(office.trust.changes(), before);
    let other = Certificate { name: name("a"), ..certificate(NOW) };
    let node = other.node.short();
    assert_eq!(office.trust.view().facts(&other).name, name("a").with_tail(&node));
}

#[test]
fn what_a_clock_that_was_ahead_made_is_mended() {
    let mut office = Office::new();
    let year = LIFE;
    let ahead = certificate(NOW + 3 * year);
    assert!(office.root().is_due(&ahead) && !office.root().is_due(&certificate(NOW)));
    assert!(office.root().is_due(&certificate(NOW - year / 2 - 1)));
    // Of a node that nobody knows nothing is made a member.
    office.root().mend(&ahead).expect("nothing to do");
    assert_eq!(offered(&office), None);
    let facts = Facts { name: name("laptop"), tags: Tags::default(), addresses: Addresses::default() };
    office.root().approve(ahead.node, Some(facts), None).expect("approved");
    office.root().mend(&ahead).expect("mended");
    let made = offered(&office).expect("an offer");
    let judged = judge(office.trust.view(), ahead.node, &made, None, false, NOW);
    assert!(judged.is_ok(), "{judged:?}");
    let signed = Statement::sign(&office.root, office.root.fingerprint(), ahead.clone()).expect("signed");
    let judged = judge(office.trust.view(), ahead.node, &signed, None, false, NOW);
    assert_eq!(judged, Err(Refusal::NotYet(ahead.not_before)));

    // The same of this host's own.
    let own = Certificate { node: HERE, ..ahead };
    let own = Statement::sign(&office.root, office.root.fingerprint(), own).expect("signed");
    office.trust.show(Own { certificate: own, chain: None });
    assert!(office.root().certify_here(name("a")).expect("certified"));
    let own = office.trust.own().expect("a certificate").certificate.clone();
    assert!(judge(office.trust.view(), HERE, &own, None, false, NOW).is_ok());
}

/// What node 7 is offered.
fn offered(office: &Office) -> Option<Statement<Certificate>> {
    office.trust.offer_for(NodeId([7; 32])).cloned()
}

#[test]
fn an_admins_host_has_the_address_that_it_is_given_unless_that_is_anothers() {
    let address = |text: &str| Address::new(text.parse().expect("an address")).expect("a host's");
    let (mine, other) = (address("10.7.3.4"), address("10.7.3.5"));
    let mut office = Office::new();
    office.root().enter_here().expect("entered");
    assert!(office.root().give_here(mine).expect("said"));
    assert_eq!(office.trust.view().holder(mine.ip()), Some(HERE));
    let version = |office: &Office| {
        let document = office.trust.record().document(office.root.fingerprint()).expect("a document");
        document.body().version
    };
    let before = version(&office);
    assert!(office.root().give_here(mine).expect("nothing to say"));
    assert_eq!(version(&office), before);
    // A member has the other by its certificate, and its certificate is renewed with that.
    let shown =
        Certificate { addresses: Addresses::new([other]).expect("few"), ..certificate(NOW - LIFE + 5) };
    let facts = office.trust.view().facts(&shown);
    office.root().approve(shown.node, Some(facts.clone()), None).expect("approved");
    assert!(!office.root().give_here(other).expect("nothing is said"));
    assert_eq!(office.trust.view().holder(other.ip()), Some(shown.node));
    office.root().renew(&shown, facts).expect("renewed");
    let offered = office.trust.offer_for(shown.node).expect("an offer").body().addresses.clone();
    assert_eq!(offered, shown.addresses);
    // Another address in its place.
    assert!(office.root().give_here(address("10.7.3.6")).expect("said"));
    assert_eq!(office.trust.view().holder(mine.ip()), None);
}

#[test]
fn who_lost_its_address_to_another_gets_the_next_of_its_invite() {
    let mut office = Office::new();
    let limits = Limits {
        joins_for: Duration::from_secs(60),
        blocks: Set::new(Block::new([10, 7, 3, 0].into(), 24)).expect("few"),
        ..Limits::default()
    };
    let ticket = office.root().invite(limits, &mut SeededRng::new(5)).expect("invited");
    let delegate = Authority::from_seed(ticket.seed).fingerprint();
    let taken = Address::new([10, 7, 3, 9].into()).expect("a host's");
    for (node, since) in [(7, NOW), (8, NOW + 1)] {
        let word = Word {
            delegate: Some(delegate),
            addresses: Addresses::new([taken]),
            since,
            version: 5,
            ..Word::default()
        };
        let entered = office.root().write(|document, _| {
            assert!(document.members.insert(NodeId([node; 32]), word));
            Ok(())
        });
        entered.expect("entered");
    }
    office.root().settle_addresses().expect("settled");
    let has = |node: u8| {
        let addresses = office.trust.view().addresses();
        addresses.filter(|(_, holder)| *holder == NodeId([node; 32])).map(|(ip, _)| ip).collect::<Vec<_>>()
    };
    assert_eq!(has(7), [taken.ip()]);
    let block = Block::new([10, 7, 3, 0].into(), 24).expect("a block");
    let next = block.ipv4_attempts(NodeId([8; 32])).find(|address| *address != taken).expect("free");
    assert_eq!(has(8), [next.ip()]);
}

#[test]
fn an_invite_that_was_used_up_makes_room_for_another_and_an_open_one_does_not() {
    let mut office = Office::new();
    let once = || Limits { joins_for: Duration::from_secs(60), uses: Some(1), ..Limits::default() };
    let mut rng = SeededRng::new(5);
    let mut tickets = Vec::new();
    let full = loop {
        match office.root().invite(once(), &mut rng) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, AdminError::TooManyInvites), "{full}");
    let delegate = |ticket: Delegated| Authority::from_seed(ticket.seed).fingerprint();
    let used = delegate(tickets.swap_remove(3));
    let word = Word { delegate: Some(used), since: NOW, version: 5, ..Word::default() };
    let enters = office.root().write(|document, _| Ok(document.say_of(NodeId([7; 32]), word)?));
    enters.expect("entered");
    let next = delegate(office.root().invite(once(), &mut rng).expect("room"));
    assert!(matches!(office.root().invite(once(), &mut rng), Err(AdminError::TooManyInvites)));
    let open: Vec<_> = office.trust.invites().map(|invite| invite.body().delegate).collect();
    assert!(open.contains(&next) && !open.contains(&used));
    for ticket in tickets {
        assert!(open.contains(&delegate(ticket)), "nobody used that");
    }
}

#[test]
fn what_waits_for_a_node_is_not_signed_again() {
    let mut office = Office::new();
    let shown = Certificate { not_after: NOW + LIFE / 4, ..certificate(NOW - LIFE) };
    let facts = office.trust.view().facts(&shown);
    let renewed = |office: &mut Office, facts: &Facts| {
        let before = office.trust.changes();
        office.root().renew(&shown, facts.clone()).expect("renewed");
        office.trust.changes() != before
    };
    assert!(renewed(&mut office, &facts));
    assert!(!renewed(&mut office, &facts));
    let named = Facts { name: name("other"), ..facts.clone() };
    assert!(renewed(&mut office, &named), "its name is another");
    office.trust.part(shown.node);
    assert!(renewed(&mut office, &named), "it was gone");
}

/// Somebody made nodes by a stolen invite until there was no room; they and the invite are shut out.
#[test]
fn when_those_of_a_stolen_invite_are_shut_out_others_are_let_in() {
    let mut office = Office::new();
    let stolen = Fingerprint([9; 32]);
    let node = |n: u16| {
        let mut key = [9; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        NodeId(key)
    };
    let root = office.root.fingerprint();
    let mut full = office.trust.record().draft(root, NOW);
    let word = Word { delegate: Some(stolen), since: NOW, version: 1, ..Word::default() };
    for n in 0..1_024 {
        assert!(full.members.insert(node(n), word.clone()));
        assert!(full.revoke(node(n), NOW));
    }
    assert!(office.trust.hear(Statement::sign(&office.root, root, full).expect("signed")));
    let new = NodeId([1; 32]);
    let facts = office.trust.view().facts(&Certificate { node: new, ..certificate(NOW) });
    let full = office.root().approve(new, Some(facts.clone()), None);
    assert!(matches!(full, Err(AdminError::Full(_))), "{full:?}");
    office.root().revoke(stolen).expect("there is room for that");
    office.root().approve(new, Some(facts), None).expect("there is room again");
}

/// How often `by` said something.
fn version(office: &Office, by: &Authority) -> u64 {
    office.trust.record().document(by.fingerprint()).map_or(0, |document| document.body().version)
}

#[test]
fn a_host_that_was_revoked_asks_for_its_address_no_more() {
    let mut office = Office::new();
    let mine = Address::new([10, 7, 3, 4].into()).expect("a host's");
    office.root().enter_here().expect("entered");
    assert!(office.root().give_here(mine).expect("said"));
    office.second().revoke(HERE).expect("revoked");
    let before = version(&office, &office.root);
    assert!(!office.root().give_here(mine).expect("nothing is said"));
    assert_eq!(version(&office, &office.root), before);
}

/// An admin says everything under the highest version that there is.
#[test]
fn what_cannot_be_outdone_is_left_alone_until_who_said_it_is_removed() {
    let mut office = Office::new();
    let (hostile, other) = match office.root.fingerprint() < office.second.fingerprint() {
        true => (office.root.clone(), office.second.clone()),
        false => (office.second.clone(), office.root.clone()),
    };
    let limits = Limits {
        joins_for: Duration::from_secs(60),
        blocks: Set::new(Block::new([10, 7, 3, 0].into(), 24)).expect("few"),
        ..Limits::default()
    };
    let ticket =
        Admin::new(&mut office.trust, &other, NOW).invite(limits, &mut SeededRng::new(5)).expect("invited");
    let delegate = Some(Authority::from_seed(ticket.seed).fingerprint());
    let taken = Address::new([10, 7, 3, 9].into()).expect("a host's");
    let (first, second) = (NodeId([7; 32]), NodeId([8; 32]));
    let said = Admin::new(&mut office.trust, &hostile, NOW).write(|document, _| {
        for (node, since) in [(first, NOW), (second, NOW + 1)] {
            let addresses = Addresses::new([taken]);
            let word = Word { delegate, addresses, since, version: u64::MAX, ..Word::default() };
            assert!(document.members.insert(node, word));
        }
        document.rules = Some(Versioned { version: u64::MAX, value: "deny any -> any".into() });
        Ok(())
    });
    said.expect("said");

    let before = version(&office, &other);
    let mut admin = Admin::new(&mut office.trust, &other, NOW);
    let settled = admin.settle_addresses();
    assert!(settled.is_err(), "{settled:?}");
    let named = admin.say_of(second, None, |word| word.name = Some(name("b")));
    let error = named.expect_err("nobody would follow that").to_string();
    assert!(error.contains("no version is left"), "{error}");
    assert!(admin.set_rules("allow any -> any".into()).is_err());
    assert_eq!(version(&office, &other), before, "nothing is said that does not count");
    // Of everything else there is enough to say, and again.
    for called in ["b", "c"] {
        let node = NodeId([9; 32]);
        let facts = Facts { name: name("x"), tags: Tags::default(), addresses: Addresses::default() };
        let mut admin = Admin::new(&mut office.trust, &other, NOW);
        admin.say_of(node, Some(facts), |word| word.name = Some(name(called))).expect("said");
        let word = office.trust.view().word(node).expect("a word");
        assert_eq!(word.name, Some(name(called)));
    }

    let mut admin = Admin::new(&mut office.trust, &other, NOW);
    admin.remove_admin(hostile.fingerprint(), Legacy::Kept).expect("removed");
    admin.settle_addresses().expect("settled");
    admin.set_rules("allow any -> any".into()).expect("said");
    assert_eq!(office.trust.view().rules(), Some("allow any -> any"));
    assert_ne!(office.trust.view().word(second).expect("a word").addresses, Addresses::new([taken]));
}

#[test]
fn who_was_one_too_many_is_revoked_also_when_the_invite_has_ended() {
    let mut office = Office::new();
    let limits = Limits { joins_for: Duration::from_secs(60), uses: Some(1), ..Limits::default() };
    let ticket = office.root().invite(limits, &mut SeededRng::new(5)).expect("invited");
    let delegate = Some(Authority::from_seed(ticket.seed).fingerprint());
    let enter = |trust: &mut Trust, by: &Authority, node: u8, since| {
        let word = Word { delegate, since, version: 5, ..Word::default() };
        let entered =
            Admin::new(trust, by, since).write(|document, _| Ok(document.say_of(NodeId([node; 32]), word)?));
        entered.expect("entered");
    };
    let (root, second) = (office.root.clone(), office.second.clone());
    enter(&mut office.trust, &root, 7, NOW);
    // The invite ends, and goes from the document with the next thing that is said.
    Admin::new(&mut office.trust, &root, NOW + 100).revoke(NodeId([99; 32])).expect("revoked");
    assert_eq!(office.trust.invites().count(), 0);
    // The host begins anew, from what it stored.
    let mut again = Trust::new(root.fingerprint(), HERE);
    for blob in office.trust.blobs() {
        assert!(again.restore(&blob).expect("sound"));
    }
    office.trust = again;
    // Another admin was apart, and let in another by it.
    enter(&mut office.trust, &second, 8, NOW + 1);
    let later = Admin::new(&mut office.trust, &root, NOW + 100).shut_out_too_many().expect("done");
    assert_eq!(later, [NodeId([8; 32])]);
    assert!(office.trust.view().revocation(NodeId([8; 32])).is_some());
}

#[test]
fn an_admin_that_removes_who_named_it_keeps_its_name() {
    for legacy in [Legacy::Kept, Legacy::Dropped] {
        let mut office = Office::new();
        let (root, second) = (office.root.fingerprint(), office.second.fingerprint());
        office.second().remove_admin(root, legacy).expect("removed");
        let admins: Vec<_> = office.trust.view().standing().admins().collect();
        assert_eq!(admins, [(second, Some(&name("second")))], "{legacy:?}");
    }
}
