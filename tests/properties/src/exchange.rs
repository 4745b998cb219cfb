//! One session's talk about membership, with a peer that says whatever it likes: it is admitted by a certificate that makes it a member
//! and by nothing else, and what it can cause is bounded.

use crate::authorities::{
    ADMIN, DELEGATE, ELSEWHERE, NODE, OTHER, ROOT, STRANGER, authority, certificate, delegation, fingerprint,
    grants, signed, tags,
};
use crate::script::{Script, any_scripts};
use shadowmesh_proto::ids::{BlobHash, NetworkId, NodeId, StatementHash};
use shadowmesh_proto::membership::{
    ADMITTED, CLOCK_SKEW, Certificate, Clock, Document, Exchange, Gate, Listed, Member, Message, Own,
    PART_LEN, Part, Statement, Trust, Verdict, WINDOW, Want,
};
use std::time::{Duration, Instant};

/// This node.
const HERE: NodeId = NodeId([1; 32]);
/// Most messages that one message may cause: an answer to a WANT, and a few words.
const MOST: usize = WINDOW + 6;

/// What the peer can show.
struct Shelf {
    /// Makes [`NODE`] a member, in its time.
    good: Vec<Statement<Certificate>>,
    certificates: Vec<Statement<Certificate>>,
    /// Good for this node, in place of its own.
    offers: Vec<Statement<Certificate>>,
    documents: Vec<Statement<Document>>,
    blobs: Vec<(BlobHash, Vec<u8>)>,
}

impl Shelf {
    fn new() -> Self {
        let invite = signed(ADMIN, ROOT, &delegation());
        let by_invite = certificate(invite.as_ref().map(Statement::hash));
        let own = Certificate { node: HERE, ..certificate(None) };
        let good = [
            signed(DELEGATE, ROOT, &by_invite),
            signed(ADMIN, ROOT, &certificate(None)),
            signed(ROOT, ROOT, &Certificate { not_before: 4_000, ..certificate(None) }),
        ];
        let bad = [
            signed(DELEGATE, ROOT, &Certificate { tags: tags(&["admin"]), ..by_invite.clone() }),
            signed(DELEGATE, ROOT, &Certificate { not_after: 9_001, ..by_invite.clone() }),
            signed(DELEGATE, ROOT, &certificate(None)),
            signed(STRANGER, ROOT, &certificate(None)),
            signed(STRANGER, ROOT, &by_invite),
            signed(ROOT, ROOT, &Certificate { node: OTHER, ..certificate(None) }),
            signed(ROOT, ROOT, &Certificate { not_after: 1_400, ..certificate(None) }),
            signed(ELSEWHERE, ELSEWHERE, &certificate(None)),
            signed(STRANGER, ROOT, &Certificate { serial: 9, ..own.clone() }),
            signed(ROOT, ROOT, &Certificate { not_before: 900, serial: 9, ..own.clone() }),
            signed(ROOT, ROOT, &Certificate { not_after: 4_000, serial: 9, ..own.clone() }),
        ];
        let offers = [signed(ROOT, ROOT, &Certificate { serial: 2, not_after: 7_000, ..own })];
        let mut news = grants();
        (news.version, news.written) = (2, 1_000);
        let documents = [signed(ROOT, ROOT, &news), signed(STRANGER, ROOT, &Document { version: 9, ..news })];
        let flat = |list: Vec<Option<Statement<Certificate>>>| list.into_iter().flatten().collect::<Vec<_>>();
        let (good, offers, documents) =
            (flat(good.into()), flat(offers.into()), documents.into_iter().flatten().collect::<Vec<_>>());
        let certificates: Vec<_> =
            good.iter().cloned().chain(flat(bad.into())).chain(offers.iter().cloned()).collect();
        let blob = |said: &Statement<Certificate>| (said.hash().into(), said.bytes().to_vec());
        let keys = [ROOT, ADMIN, DELEGATE, STRANGER]
            .map(|number| (fingerprint(number).into(), authority(number).public().as_bytes().to_vec()));
        let blobs = certificates.iter().map(blob).chain(keys);
        let blobs = blobs.chain(documents.iter().map(|said| (said.hash().into(), said.bytes().to_vec())));
        let blobs =
            blobs.chain(invite.iter().map(|said| (said.hash().into(), said.bytes().to_vec()))).collect();
        Self { good, certificates, offers, documents, blobs }
    }

    fn blob(&self, hash: BlobHash) -> Option<&[u8]> {
        self.blobs.iter().find(|(known, _)| *known == hash).map(|(_, bytes)| bytes.as_slice())
    }
}

/// A script: what the peer does, one thing after the other.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    SHELF.with(|shelf| talk(&mut Script::new(bytes), shelf));
}

thread_local! {
    /// Signed once.
    static SHELF: Shelf = Shelf::new();
}

fn talk(script: &mut Script<'_>, shelf: &Shelf) {
    let mut trust = Trust::new(fingerprint(ROOT), HERE);
    assert!(trust.keep_key(authority(ROOT).public().clone()));
    let document = signed(ROOT, ROOT, &grants()).expect("a document");
    assert!(trust.hear(document));
    let own = signed(ROOT, ROOT, &Certificate { node: HERE, ..certificate(None) }).expect("a certificate");
    trust.show(Own { certificate: own.clone(), chain: None });

    let begun = Instant::now();
    let mut clock = Clock { now: begun, unix: 1_500 };
    let mut session =
        Session { exchange: Exchange::begin(clock, &mut trust, NODE), wanted: None, revision: 0 };
    session.holds(shelf, &trust, &own, &clock);
    for _ in 0..200 {
        if script.is_over() || session.exchange.is_over() {
            break;
        }
        match session.next(script, shelf) {
            Act::Say(message) => session.exchange.handle_message(clock, &mut trust, message),
            Act::Wait(span) => {
                clock.now += span;
                clock.unix = 1_500 + (clock.now - begun).as_secs();
                if session.exchange.poll_timeout().is_some_and(|deadline| deadline.is_due(clock.now)) {
                    session.exchange.handle_timeout(clock, &mut trust);
                }
            }
        }
        session.holds(shelf, &trust, &own, &clock);
    }
}

enum Act {
    Say(Message),
    Wait(Duration),
}

struct Session {
    exchange: Exchange,
    /// What this node asked for last.
    wanted: Option<Want>,
    revision: u32,
}

impl Session {
    fn next(&mut self, script: &mut Script<'_>, shelf: &Shelf) -> Act {
        match script.byte() % 8 {
            0 | 1 => {
                self.revision = self.revision.wrapping_add(u32::from(script.byte() % 3));
                Act::Say(Message::Member(member(script, shelf, self.revision)))
            }
            2..=4 => match self.wanted.and_then(|want| part(script, shelf, want)) {
                Some(part) => Act::Say(Message::Part(part)),
                None => Act::Wait(Duration::from_millis(20)),
            },
            5 => {
                let revision = u32::from(script.byte());
                Act::Say(Message::MemberAck { revision })
            }
            6 => {
                let length = script.below(120);
                match Message::decode(script.take(length)) {
                    Ok(message) => Act::Say(message),
                    Err(_) => {
                        let (hash, _) = script.pick(&shelf.blobs);
                        Act::Say(Message::Want(Want {
                            hash: *hash,
                            first: script.number(),
                            missing: u32::MAX,
                        }))
                    }
                }
            }
            _ => Act::Wait(Duration::from_millis(1 << script.below(22))),
        }
    }

    /// Whatever was said: what must be so afterwards.
    fn holds(&mut self, shelf: &Shelf, trust: &Trust, own: &Statement<Certificate>, clock: &Clock) {
        let mut count = 0;
        while let Some(message) = self.exchange.poll_message() {
            count += 1;
            assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message), "others can read it");
            match message {
                Message::Want(want) => self.wanted = Some(want),
                Message::Secret(_) => panic!("there is none to hand on"),
                Message::Member(_)
                | Message::MemberAck { .. }
                | Message::Part(_)
                | Message::AskSecret { .. } => {}
            }
        }
        assert!(count <= MOST, "{count} messages for one");
        while self.exchange.poll_event().is_some() {}
        let chain = self.exchange.chain();
        if let Verdict::Admitted(admission) = self.exchange.verdict() {
            let certificate = chain.map(|(certificate, _)| certificate).expect("it is admitted by one");
            assert!(shelf.good.contains(certificate), "{certificate:?}");
            let says = certificate.body();
            assert!(says.not_before <= clock.unix + CLOCK_SKEW, "its time has not come");
            // A part of a second passes before the deadline does.
            assert!(clock.unix <= says.not_after + 1, "its time is over");
            assert_eq!(admission.until, 5_000);
        } else {
            assert_eq!(self.exchange.gate(), Gate::Shut);
        }
        let shown = trust.own().map(|own| &own.certificate).expect("it has one");
        assert!(shown == own || shelf.offers.contains(shown), "{shown:?}");
        for document in trust.record().documents() {
            assert_eq!(document.issuer(), fingerprint(ROOT), "nobody asked for that");
        }
    }
}

fn member(script: &mut Script<'_>, shelf: &Shelf, revision: u32) -> Member {
    let choices = script.byte();
    let chosen = |bit: u8| choices & 1 << bit != 0;
    let certificate = if chosen(0) { Some(script.pick(&shelf.certificates).hash()) } else { None };
    let offer = if chosen(1) { Some(script.pick(&shelf.certificates).hash()) } else { None };
    let mut documents = Vec::new();
    if chosen(2) {
        let document = script.pick(&shelf.documents);
        let (issuer, version, hash) = (document.issuer(), document.body().version, document.hash());
        documents.push(Listed { issuer, version, hash });
    }
    if chosen(3) {
        let (hash, _) = script.pick(&shelf.blobs);
        documents.push(Listed {
            issuer: fingerprint(script.below(4)),
            version: u64::from(script.byte()),
            hash: StatementHash(hash.0),
        });
    }
    let secrets = if chosen(4) { vec![NetworkId([3; 32])] } else { Vec::new() };
    let standing = if chosen(5) { ADMITTED } else { script.byte() };
    Member { revision, standing, certificate, offer, documents, secrets }
}

/// An answer to `want`: what was asked for, or something like it.
fn part(script: &mut Script<'_>, shelf: &Shelf, want: Want) -> Option<Part> {
    let how = script.byte();
    let blob = shelf
        .blob(want.hash)
        .filter(|_| how % 8 != 7)
        .or_else(|| Some(script.pick(&shelf.blobs).1.as_slice()))?;
    let count = blob.len().div_ceil(PART_LEN);
    // Without saying so: the parts one after the other.
    let number = if how % 8 == 6 { script.below(count + 1) } else { script_place(how, count) };
    let bytes = blob.chunks(PART_LEN).nth(number).unwrap_or_default().to_vec();
    let total = if how % 8 == 5 { u32::from(script.number()) } else { u32::try_from(blob.len()).ok()? };
    let mut part = Part { hash: want.hash, total, number: u16::try_from(number).ok()?, bytes };
    if how % 8 == 4 {
        script.damage(&mut part.bytes, &[]);
        part.bytes.truncate(PART_LEN);
    }
    Some(part)
}

/// The high bits of `how` count the parts.
fn script_place(how: u8, count: usize) -> usize {
    usize::from(how >> 3).checked_rem(count).unwrap_or_default()
}

/// The peer joins in good order by either certificate, says that it admits this node, waits; and anything.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for certificate in 0..15 {
        // MEMBER that shows it; then whatever is asked for, whole.
        let mut script = vec![0, 1, 0b10_0011, certificate, 14];
        for _ in 0..7 {
            script.extend((0..6).flat_map(|number: u8| [2, number << 3]));
        }
        script.extend([0, 1, 0b10_0101, certificate, 0]);
        script.extend((0..6).flat_map(|number: u8| [2, number << 3]));
        script.extend([7, 21, 7, 21]);
        seeds.push(script);
    }
    seeds.extend(any_scripts(4, 8, 160));
    seeds
}
