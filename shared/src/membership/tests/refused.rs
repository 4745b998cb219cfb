//! What an enemy tries with each thing that makes or is a member's right, and by what name it is refused: one table.
//!
//! That nothing is missing is checked in both directions: of every thing every attack has a case, and every error of these enums,
//! listed by a match that the compiler holds to be complete, is the answer to one.

use super::judging::{NODE, network};
use super::statements::forged;
use super::*;
use crate::ids::RelayId;
use crate::membership::offer::{OfferError, judge_offer};
use crate::ticket::{Invite, RelayTicket, TicketError};
use crate::wire::codec;
use std::collections::BTreeSet;
use std::sync::LazyLock;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Attack {
    /// Not signed by whom it names, or by who has no right to it.
    Forged,
    /// Of another time.
    Expired,
    /// For more than was given.
    Widened,
    /// It was good once, or for another.
    Replayed,
    /// Its end is missing.
    Truncated,
}

const ATTACKS: [Attack; 5] =
    [Attack::Forged, Attack::Expired, Attack::Widened, Attack::Replayed, Attack::Truncated];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// By an admin.
    Certificate,
    /// By an invite's delegate.
    Delegated,
    /// An admin's document.
    Document,
    /// The line that people paste, and what a node makes of it.
    Invite,
}

const THINGS: [Thing; 4] = [Thing::Certificate, Thing::Delegated, Thing::Document, Thing::Invite];

/// By what name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Statement(StatementError),
    Refusal(Refusal),
    Offer(OfferError),
    Join(JoinError),
    Ticket(TicketError),
    /// A document that says nothing which counts: the record is what it was.
    NoNews,
    /// A document that is kept, and counts for nothing.
    NotCounted,
}

impl Named {
    /// A number for each error, from 0 without gaps. Complete by the compiler's word: a new error has no arm, then no case.
    const fn number(&self) -> usize {
        match self {
            Self::Statement(StatementError::Malformed) => 0,
            Self::Statement(StatementError::OtherRoot(_)) => 1,
            Self::Statement(StatementError::Signature(Half::Ed25519)) => 2,
            Self::Statement(StatementError::Signature(Half::MlDsa65)) => 3,
            Self::Refusal(Refusal::OtherNode(_)) => 4,
            Self::Refusal(Refusal::Revoked { .. }) => 5,
            Self::Refusal(Refusal::NotYet(_)) => 6,
            Self::Refusal(Refusal::Expired(_)) => 7,
            Self::Refusal(Refusal::NoAdmin(_)) => 8,
            Self::Refusal(Refusal::OtherDelegate(_)) => 9,
            Self::Refusal(Refusal::Beyond(Beyond::Name(_))) => 10,
            Self::Refusal(Refusal::Beyond(Beyond::Tag(_))) => 11,
            Self::Refusal(Refusal::Beyond(Beyond::Address(_))) => 12,
            Self::Refusal(Refusal::Beyond(Beyond::Until(_))) => 13,
            Self::Refusal(Refusal::AdminRemoved(_)) => 14,
            Self::Refusal(Refusal::InviteRevoked { .. }) => 15,
            Self::Refusal(Refusal::Late(_)) => 16,
            Self::Refusal(Refusal::NeedsApproval) => 17,
            Self::Refusal(Refusal::UsedUp) => 18,
            Self::Offer(OfferError::NoMember(_)) => 19,
            Self::Offer(OfferError::AdminRemoved(_)) => 20,
            Self::Offer(OfferError::Replayed) => 21,
            Self::Offer(OfferError::Shorter(_)) => 22,
            Self::Join(JoinError::OtherDelegation) => 23,
            Self::Join(JoinError::Ended(_)) => 24,
            Self::Join(JoinError::Sign(SignError::Unsound)) => 25,
            Self::Ticket(TicketError::NotATicket) => 26,
            Self::Ticket(TicketError::RelayNotInvite) => 27,
            Self::Ticket(TicketError::InviteNotRelay) => 28,
            Self::Ticket(TicketError::Damaged) => 29,
            Self::Ticket(TicketError::Expired) => 30,
            Self::NoNews => 31,
            Self::NotCounted => Self::LAST,
            // The largest certificate is smaller than what is read (`certificate`).
            Self::Join(JoinError::Sign(SignError::TooLarge(_))) => usize::MAX,
        }
    }

    const LAST: usize = 32;
}

struct Case {
    attack: Attack,
    thing: Thing,
    what: &'static str,
    /// What came of it; nothing where it was let pass.
    came: Option<Named>,
    expected: Named,
}

/// Takes a case: what was tried, what came of it, what should.
type Add<'a> = &'a mut dyn FnMut(Attack, &'static str, Option<Named>, Named);

/// Of [`network`]: made once, for every length that something is cut to.
static ROOT: LazyLock<Fingerprint> = LazyLock::new(|| authority(1).fingerprint());

/// Reads and verifies, as a peer does.
fn read<T: Body + Clone>(bytes: &[u8], by: &Authority) -> Option<Named> {
    let read = Unverified::<T>::decode(*ROOT, bytes);
    read.and_then(|read| read.verify(by.public())).err().map(Named::Statement)
}

/// The bytes with one changed, so far from the end.
fn changed(bytes: &[u8], from_end: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
    bytes
}

/// Whatever its length, cut off it is refused by this one name.
fn cut<T: Body + Clone>(bytes: &[u8], by: &Authority) -> Option<Named> {
    let all: Vec<_> = (0..bytes.len()).map(|end| read::<T>(&bytes[..end], by)).collect();
    assert!(all.iter().all(|named| named == &all[0]), "{all:?}");
    all[0].clone()
}

fn certificates(add: Add<'_>) {
    let network = network();
    let (root, stranger, view) = (network.root.fingerprint(), authority(9), network.record.view());
    let by_admin = network.certificate(&network.admin, None, |_| ());
    let judged = |certificate: &Statement<Certificate>, node, now| {
        judge(&view, node, certificate, None, true, now).err().map(Named::Refusal)
    };
    let refusal = Named::Refusal;
    let signature = |half| Named::Statement(StatementError::Signature(half));

    let bytes = by_admin.bytes();
    let forged_half = |from_end| read::<Certificate>(&changed(bytes, from_end), &network.admin);
    add(Attack::Forged, "its classical half", forged_half(SIGNATURE_LEN), signature(Half::Ed25519));
    add(Attack::Forged, "its post-quantum half", forged_half(1), signature(Half::MlDsa65));
    let by_stranger = network.certificate(&stranger, None, |_| ());
    add(
        Attack::Forged,
        "by a stranger",
        judged(&by_stranger, NODE, 1_500),
        refusal(Refusal::NoAdmin(stranger.fingerprint())),
    );
    let renamed =
        bytes.windows(32).position(|window| window == network.admin.fingerprint().as_bytes()).unwrap();
    let mut under_a_name = by_stranger.bytes().to_vec();
    under_a_name[renamed..renamed + 32].copy_from_slice(network.admin.fingerprint().as_bytes());
    let came = read::<Certificate>(&under_a_name, &network.admin);
    add(Attack::Forged, "by a stranger in an admin's name", came, signature(Half::Ed25519));

    add(Attack::Expired, "before its time", judged(&by_admin, NODE, 399), refusal(Refusal::NotYet(1_000)));
    add(Attack::Expired, "after its time", judged(&by_admin, NODE, 5_001), refusal(Refusal::Expired(5_000)));

    let mut longer = bytes.to_vec();
    let until = longer.windows(3).position(|window| window == [0x19, 0x13, 0x88]).unwrap();
    longer[until + 1] = 0x7f;
    add(
        Attack::Widened,
        "its end put off",
        read::<Certificate>(&longer, &network.admin),
        signature(Half::Ed25519),
    );
    let alone = network.certificate(&network.delegate, None, |_| ());
    let delegate = network.delegate.fingerprint();
    add(
        Attack::Widened,
        "by a delegate that says nothing of its delegation",
        judged(&alone, NODE, 1_500),
        refusal(Refusal::NoAdmin(delegate)),
    );

    add(
        Attack::Replayed,
        "by another node",
        judged(&by_admin, NodeId([8; 32]), 1_500),
        refusal(Refusal::OtherNode(NODE)),
    );
    let elsewhere = Statement::sign(&network.admin, stranger.fingerprint(), certificate(7, None)).unwrap();
    let other_root = Named::Statement(StatementError::OtherRoot(stranger.fingerprint()));
    add(
        Attack::Replayed,
        "of another network",
        read::<Certificate>(elsewhere.bytes(), &network.admin),
        other_root,
    );

    let own = Certificate { serial: 4, ..certificate(7, None) };
    let offered = |by: &Authority, view: &View, offer: Certificate| {
        let offer = Statement::sign(by, root, offer).unwrap();
        judge_offer(view, NODE, Some(&own), &offer, 1_500).err().map(Named::Offer)
    };
    let offer = |change: fn(&mut Certificate)| {
        let mut offer = Certificate { serial: 5, ..own.clone() };
        change(&mut offer);
        offered(&network.admin, &view, offer)
    };
    assert_eq!(offer(|_| ()), None, "a newer one is taken");
    add(
        Attack::Replayed,
        "an older one, offered again",
        offer(|says| (says.not_before, says.serial) = (900, 9)),
        Named::Offer(OfferError::Replayed),
    );
    add(
        Attack::Replayed,
        "its serial used again, for more",
        offer(|says| (says.serial, says.tags) = (4, tags(&["admin"]))),
        Named::Offer(OfferError::Replayed),
    );
    add(
        Attack::Replayed,
        "another node's, offered",
        offer(|says| says.node = NodeId([8; 32])),
        Named::Offer(OfferError::NoMember(Refusal::OtherNode(NodeId([8; 32])))),
    );
    add(
        Attack::Replayed,
        "one that would end before",
        offer(|says| says.not_after = 4_999),
        Named::Offer(OfferError::Shorter(4_999)),
    );

    let mut removing = self::network();
    let admin = removing.admin.fingerprint();
    removing.say(1, |document| assert!(document.removed.insert(admin)));
    let came = judge(&removing.record.view(), NODE, &by_admin, None, true, 1_500).err().map(Named::Refusal);
    add(Attack::Replayed, "by an admin that was removed", came, refusal(Refusal::AdminRemoved(admin)));
    removing.say(1, |document| assert!(document.members.insert(NODE, Word::default())));
    let came = offered(&removing.admin, &removing.record.view(), Certificate { serial: 9, ..own.clone() });
    add(
        Attack::Replayed,
        "offered by an admin that was removed",
        came,
        Named::Offer(OfferError::AdminRemoved(admin)),
    );
    removing.say(1, |document| assert!(document.revoke(NODE, 1_450)));
    let again = removing.certificate(&removing.root, None, |says| says.serial = 99);
    let came = judge(&removing.record.view(), NODE, &again, None, true, 1_500).err().map(Named::Refusal);
    add(
        Attack::Replayed,
        "any other of a key that was revoked",
        came,
        refusal(Refusal::Revoked { by: root, at: 1_450 }),
    );

    add(
        Attack::Truncated,
        "anywhere",
        cut::<Certificate>(bytes, &network.admin),
        Named::Statement(StatementError::Malformed),
    );
}

fn delegated(add: Add<'_>) {
    let mut network = network();
    let (stranger, delegate, view) = (authority(9), network.delegate.fingerprint(), network.record.view());
    let refusal = Named::Refusal;
    let given = network.delegation(|limits| limits.names = Pattern::new("node-*"));
    let judged =
        |view: &View, certificate: &Statement<Certificate>, given: &Statement<Delegation>, met, now| {
            judge(view, certificate.body().node, certificate, Some(given), met, now).err().map(Named::Refusal)
        };
    let good = network.certificate(&network.delegate, Some(&given), |_| ());
    assert_eq!(judged(&view, &good, &given, false, 1_500), None, "the chain is good");

    let by_stranger = network.certificate(&stranger, Some(&given), |_| ());
    add(
        Attack::Forged,
        "by who is not the delegate",
        judged(&view, &by_stranger, &given, true, 1_500),
        refusal(Refusal::OtherDelegate(stranger.fingerprint())),
    );
    let onwards =
        Statement::sign(&network.delegate, network.root.fingerprint(), delegation(stranger.fingerprint()))
            .unwrap();
    let by_onwards = network.certificate(&stranger, Some(&onwards), |_| ());
    add(
        Attack::Forged,
        "by whom a delegate delegates to",
        judged(&view, &by_onwards, &onwards, true, 1_500),
        refusal(Refusal::NoAdmin(delegate)),
    );
    let came = read::<Delegation>(&changed(given.bytes(), 1), &network.admin);
    add(Attack::Forged, "its delegation", came, Named::Statement(StatementError::Signature(Half::MlDsa65)));

    add(
        Attack::Expired,
        "after the invite ended",
        judged(&view, &good, &given, false, 2_001),
        refusal(Refusal::Late(2_000)),
    );
    let dated_back = network.certificate(&network.delegate, Some(&given), |says| says.not_before = 1);
    add(
        Attack::Expired,
        "after the invite ended, and dated back",
        judged(&view, &dated_back, &given, false, 2_001),
        refusal(Refusal::Late(2_000)),
    );
    add(
        Attack::Expired,
        "after its own time",
        judged(&view, &good, &given, true, 5_001),
        refusal(Refusal::Expired(5_000)),
    );

    let widened = |change: fn(&mut Certificate)| {
        let certificate = network.certificate(&network.delegate, Some(&given), change);
        judged(&view, &certificate, &given, true, 1_500)
    };
    let beyond = |what| refusal(Refusal::Beyond(what));
    let outside = *addresses(&["10.1.3.1"]).first().unwrap();
    add(
        Attack::Widened,
        "longer than the invite makes members",
        widened(|says| says.not_after = 9_001),
        beyond(Beyond::Until(9_000)),
    );
    add(
        Attack::Widened,
        "a name outside of the pattern",
        widened(|says| says.name = name("vault")),
        beyond(Beyond::Name(Pattern::new("node-*").unwrap())),
    );
    add(
        Attack::Widened,
        "a tag that is not given",
        widened(|says| says.tags = tags(&["admin"])),
        beyond(Beyond::Tag(Tag::new("admin").unwrap())),
    );
    add(
        Attack::Widened,
        "an address outside of the blocks",
        widened(|says| says.addresses = addresses(&["10.1.3.1"])),
        beyond(Beyond::Address(outside)),
    );
    let came =
        network.judge_joined(|limits| limits.needs_approval = true, true, 1_500).err().map(Named::Refusal);
    add(Attack::Widened, "without the approval that it needs", came, refusal(Refusal::NeedsApproval));
    let wider = network.delegation(|limits| limits.tags = tags(&["admin", "server"]));
    add(
        Attack::Widened,
        "beside a wider delegation than it names",
        judged(&view, &good, &wider, true, 1_500),
        refusal(Refusal::OtherDelegate(delegate)),
    );

    let once = network.delegation(|limits| limits.uses = Some(1));
    let [first, second] = [7, 8].map(|node| {
        network.certificate(&network.delegate, Some(&once), |says| says.node = NodeId([node; 32]))
    });
    let enrolment = view.enrolment(&first, &once, 1_600, |_| false);
    network.say(2, |document| document.enrol(NODE, &enrolment, 1_600).unwrap());
    // The serials of both are the same: of two nodes that says nothing.
    assert_eq!(first.body().serial, second.body().serial);
    add(
        Attack::Replayed,
        "the invite, by one node more",
        judged(&network.record.view(), &second, &once, true, 1_700),
        refusal(Refusal::UsedUp),
    );
    network.say(2, |document| assert!(document.revoke(delegate, 1_650)));
    let by = network.admin.fingerprint();
    add(
        Attack::Replayed,
        "an invite that was revoked",
        judged(&network.record.view(), &second, &once, true, 1_700),
        refusal(Refusal::InviteRevoked { by, at: 1_650 }),
    );

    let malformed = Named::Statement(StatementError::Malformed);
    add(
        Attack::Truncated,
        "its delegation, anywhere",
        cut::<Delegation>(given.bytes(), &network.admin),
        malformed.clone(),
    );
    add(
        Attack::Truncated,
        "itself, anywhere",
        cut::<Certificate>(good.bytes(), &network.delegate),
        malformed,
    );
}

fn documents(add: Add<'_>) {
    let network = network();
    let root = network.root.fingerprint();
    let newer = Document { version: 3, ..network.record.draft(root, 1_600) };
    let said = Statement::sign(&network.root, root, newer.clone()).unwrap();
    let signature = |half| Named::Statement(StatementError::Signature(half));
    let forge = |from_end| read::<Document>(&changed(said.bytes(), from_end), &network.root);
    add(Attack::Forged, "its classical half", forge(SIGNATURE_LEN), signature(Half::Ed25519));
    add(Attack::Forged, "its post-quantum half", forge(1), signature(Half::MlDsa65));
    let heard = |record: &Record, said: Statement<Document>| {
        let (mut record, before) = (record.clone(), record.view());
        let is_news = record.insert(said);
        match (is_news, record.view() == before) {
            (false, true) => Some(Named::NoNews),
            (true, true) => Some(Named::NotCounted),
            (_, false) => None,
        }
    };
    let mut shuts_out = Document { version: 1, ..Document::default() };
    shuts_out.revoke(NODE, 1_400);
    shuts_out.members.insert(NodeId([6; 32]), Word::default());
    let by = |by: &Authority| Statement::sign(by, root, shuts_out.clone()).unwrap();
    assert_eq!(heard(&network.record, by(&network.admin)), None, "an admin's counts");
    add(Attack::Forged, "by a stranger", heard(&network.record, by(&authority(9))), Named::NotCounted);
    add(Attack::Forged, "by a delegate", heard(&network.record, by(&network.delegate)), Named::NotCounted);

    let mut removed = self::network();
    let admin = removed.admin.fingerprint();
    removed.say(1, |document| assert!(document.removed.insert(admin)));
    add(
        Attack::Expired,
        "by an admin that was removed",
        heard(&removed.record, by(&removed.admin)),
        Named::NotCounted,
    );

    // Signed as it should be, and longer than may be read.
    let too_much = |change: fn(&mut Document)| {
        let mut document = newer.clone();
        change(&mut document);
        let body = codec::encode(&(Document::KIND, root, document));
        read::<Document>(&forged(&network.root, &body), &network.root)
    };
    assert_eq!(too_much(|_| ()), None, "it would be read");
    let malformed = Named::Statement(StatementError::Malformed);
    let rules = too_much(|document| {
        document.rules = Some(Versioned { version: 1, value: "#".repeat(MAX_RULES + 1) })
    });
    add(Attack::Widened, "more rules than there may be", rules, malformed.clone());
    add(Attack::Widened, "version 0", too_much(|document| document.version = 0), malformed.clone());
    let no_relays = too_much(|document| document.relays = Some(Versioned { version: 1, value: vec![] }));
    add(Attack::Widened, "a network without relays", no_relays, malformed.clone());

    let mut ahead = network.record.clone();
    assert!(ahead.insert(said.clone()));
    let older = Document {
        version: 2,
        rules: Some(Versioned { version: 9, value: "# old".into() }),
        ..newer.clone()
    };
    let older = Statement::sign(&network.root, root, older).unwrap();
    add(Attack::Replayed, "an older version", heard(&ahead, older), Named::NoNews);
    add(Attack::Replayed, "the same once more", heard(&ahead, said.clone()), Named::NoNews);
    let elsewhere = Statement::sign(&network.root, admin, newer).unwrap();
    add(
        Attack::Replayed,
        "of another network",
        read::<Document>(elsewhere.bytes(), &network.root),
        Named::Statement(StatementError::OtherRoot(admin)),
    );

    add(Attack::Truncated, "anywhere", cut::<Document>(said.bytes(), &network.root), malformed);
}

fn invites(add: Add<'_>) {
    let (root, mut rng) = (authority(1), SeededRng::new(3));
    let (ticket, given) =
        invite(&root, root.fingerprint(), delegation(root.fingerprint()), &mut rng).unwrap();
    let unverified =
        |said: &Statement<Delegation>| Unverified::decode(root.fingerprint(), said.bytes()).unwrap();
    let joined = |ticket: &crate::ticket::Delegated, given: &Statement<Delegation>, now| {
        let joining = Joining::new(ticket, name("laptop"), 5);
        joining.certify(root.fingerprint(), NODE, unverified(given), now, |_| false).err().map(Named::Join)
    };
    assert_eq!(joined(&ticket, &given, 1_500), None, "the invite is good");
    let relay =
        RelayTicket { key: RelayId([7; 32]), addresses: vec!["192.0.2.1:8443".into()], expires: None };
    let line = Invite {
        secret: [9; 32].into(),
        generation: 0,
        network_name: "home".into(),
        relays: vec![relay.clone()],
        expires: Some(2_000),
        name: None,
        delegated: Some(ticket.clone()),
    };
    let line = line.to_text();
    let parsed = |line: &str, now| Invite::parse(line, now).err().map(Named::Ticket);
    assert_eq!(parsed(&line, 1_999), None);

    let mut changed: Vec<char> = line.chars().collect();
    changed[40] = if changed[40] == 'A' { 'B' } else { 'A' };
    let changed: String = changed.into_iter().collect();
    add(Attack::Forged, "a character changed", parsed(&changed, 1_500), Named::Ticket(TicketError::Damaged));
    add(
        Attack::Forged,
        "a relay's ticket in its place",
        parsed(&relay.to_text(), 1_500),
        Named::Ticket(TicketError::RelayNotInvite),
    );
    let came = RelayTicket::parse(&line, 1_500).err().map(Named::Ticket);
    add(Attack::Forged, "in place of a relay's ticket", came, Named::Ticket(TicketError::InviteNotRelay));
    let other_seed = crate::ticket::Delegated { seed: authority(8).seed(), ..ticket.clone() };
    add(
        Attack::Forged,
        "another delegate's seed",
        joined(&other_seed, &given, 1_500),
        Named::Join(JoinError::OtherDelegation),
    );

    add(Attack::Expired, "the line", parsed(&line, 2_000), Named::Ticket(TicketError::Expired));
    add(
        Attack::Expired,
        "the delegation",
        joined(&ticket, &given, 2_001),
        Named::Join(JoinError::Ended(2_000)),
    );
    let (over, given_over) = invite(
        &root,
        root.fingerprint(),
        Delegation { members_until: 1_400, ..given.body().clone() },
        &mut rng,
    )
    .unwrap();
    add(
        Attack::Expired,
        "what it makes members until",
        joined(&over, &given_over, 1_500),
        Named::Join(JoinError::Sign(SignError::Unsound)),
    );

    let wider = Delegation { tags: tags(&["admin"]), ..given.body().clone() };
    let wider = Statement::sign(&root, root.fingerprint(), wider).unwrap();
    add(
        Attack::Widened,
        "a wider delegation handed out in its place",
        joined(&ticket, &wider, 1_500),
        Named::Join(JoinError::OtherDelegation),
    );
    let (_, another) = invite(&root, root.fingerprint(), given.body().clone(), &mut rng).unwrap();
    add(
        Attack::Replayed,
        "the delegation of another invite",
        joined(&ticket, &another, 1_500),
        Named::Join(JoinError::OtherDelegation),
    );

    let cuts: Vec<_> = (0..line.len()).map(|end| parsed(&line[..end], 1_500)).collect();
    assert!(cuts.iter().skip(4).all(|named| *named == Some(Named::Ticket(TicketError::Damaged))), "{cuts:?}");
    add(Attack::Truncated, "within its first word", cuts[3].clone(), Named::Ticket(TicketError::NotATicket));
    add(Attack::Truncated, "behind it", cuts[line.len() - 1].clone(), Named::Ticket(TicketError::Damaged));
}

fn table() -> Vec<Case> {
    let all: [(Thing, fn(Add<'_>)); 4] = [
        (Thing::Certificate, certificates),
        (Thing::Delegated, delegated),
        (Thing::Document, documents),
        (Thing::Invite, invites),
    ];
    let mut table = Vec::new();
    for (thing, cases) in all {
        cases(&mut |attack, what, came, expected| table.push(Case { attack, thing, what, came, expected }));
    }
    table
}

#[test]
fn each_attack_is_refused_by_its_name() {
    let table = table();
    for Case { attack, thing, what, came, expected } in &table {
        assert_eq!(came.as_ref(), Some(expected), "{thing:?}, {attack:?}: {what}");
    }
    // Of every thing every attack was tried.
    for (thing, attack) in THINGS.iter().flat_map(|thing| ATTACKS.map(|attack| (thing, attack))) {
        assert!(
            table.iter().any(|case| (case.thing, case.attack) == (*thing, attack)),
            "{thing:?}, {attack:?}"
        );
    }
    // Every name is the answer to something.
    let seen: BTreeSet<usize> = table.iter().map(|case| case.expected.number()).collect();
    assert_eq!(seen, (0..=Named::LAST).collect());
}
