//! Who says what, properly signed, of a node; and whether that makes it a member: `judge` against what protocol §8.3 says in one
//! expression.

use crate::authorities::{
    ADMIN, COUNT, DELEGATE, NODE, OTHER, ROOT, SECOND, STRANGER, addresses, certificate, delegation,
    fingerprint, grants, name, signed, tags,
};
use crate::script::{Script, any_scripts};
use shadowmesh_proto::ids::NodeId;
use shadowmesh_proto::membership::{
    Address, CLOCK_SKEW, Certificate, Delegation, Document, Pattern, Record, Seconds, Statement, View, Word,
    judge,
};
use std::num::NonZero;

/// A script: what the admins say, the delegation, the certificate, the hour.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let view = record(&mut script).view();
    let Some(given) =
        signed(*script.pick(&[ADMIN, ROOT, SECOND, STRANGER, DELEGATE]), ROOT, &invite(&mut script))
    else {
        return;
    };
    let (is_by_invite, is_given) = (script.byte() % 4 != 3, script.byte() % 8 != 7);
    let mut says = says(&mut script);
    says.delegation = is_by_invite.then_some(given.hash());
    let by = *script.pick(&[DELEGATE, ROOT, ADMIN, SECOND, STRANGER]);
    let Some(certificate) = signed(by, ROOT, &says) else {
        assert!(says.not_before >= says.not_after, "all else is signed");
        return;
    };
    let delegation = Some(&given).filter(|_| is_given);
    let (node, met) = (*script.pick(&[NODE, OTHER]), script.flag());
    let now = *script.pick(&[1_500, 0, 399, 400, 2_000, 2_001, 5_000, 5_001, 9_000, 9_001]);
    let judged = judge(&view, node, &certificate, delegation, met, now);
    let expected = is_member(&view, node, &certificate, delegation, met, now);
    assert_eq!(judged.is_ok(), expected, "{judged:?}: {certificate:?} by {given:?} at {now}, met: {met}");
    if let Ok(admission) = judged {
        assert_eq!(
            (admission.until, admission.joined_by.is_some()),
            (says.not_after, is_by_invite && !view.knows(node))
        );
    }
}

/// Protocol §8.3, without an order of reasons.
fn is_member(
    view: &View,
    node: NodeId,
    certificate: &Statement<Certificate>,
    delegation: Option<&Statement<Delegation>>,
    met: bool,
    now: Seconds,
) -> bool {
    let (says, knows) = (certificate.body(), view.knows(node));
    let may_speak = |who| view.standing().is_admin(who) || (knows && view.standing().was_removed(who));
    let is_in_time = says.not_before <= now + CLOCK_SKEW && now <= says.not_after;
    let is_vouched_for = match (says.delegation, delegation) {
        (None, _) => may_speak(certificate.issuer()),
        (Some(_), None) => false,
        (Some(hash), Some(delegation)) => {
            let limits = delegation.body();
            let gives = |address: &Address| limits.blocks.iter().any(|block| block.contains(*address));
            let is_within = limits.names.as_ref().is_none_or(|pattern| pattern.matches(&says.name))
                && says.tags.is_subset(&limits.tags)
                && says.addresses.iter().all(gives)
                && says.not_after <= limits.members_until;
            let used = view.members().filter(|(_, word, _)| word.delegate == Some(limits.delegate)).count();
            let may_join = view.revocation(limits.delegate).is_none()
                && limits.uses.is_none_or(|uses| used < uses as usize)
                && !limits.needs_approval
                && (met || now <= limits.joins_until);
            hash == delegation.hash()
                && limits.delegate == certificate.issuer()
                && may_speak(delegation.issuer())
                && is_within
                && (knows || may_join)
        }
    };
    says.node == node && view.revocation(node).is_none() && is_in_time && is_vouched_for
}

/// What the root and two admins say.
fn record(script: &mut Script<'_>) -> Record {
    let mut record = Record::new(fingerprint(ROOT));
    for by in [ROOT, ADMIN, SECOND] {
        let mut document = if by == ROOT { grants() } else { Document { version: 1, ..Document::default() } };
        let choices = script.byte();
        let chosen = |bit: u8| choices & 1 << bit != 0;
        if chosen(0) {
            document.revoke(NODE, 1_400);
        }
        if chosen(1) {
            document.revoke(fingerprint(DELEGATE), 1_450);
        }
        if chosen(2) {
            document.members.insert(NODE, Word { version: 1, ..Word::default() });
        }
        if chosen(3) {
            let word = Word { delegate: Some(fingerprint(DELEGATE)), version: 1, ..Word::default() };
            document.members.insert(OTHER, word);
        }
        if chosen(4) {
            document.removed.insert(fingerprint(if by == ADMIN { ROOT } else { ADMIN }));
        }
        if chosen(5) && by != SECOND {
            document.admins.insert(fingerprint(SECOND), name("second"));
        }
        if chosen(6) {
            continue;
        }
        if let Some(document) = signed(by, ROOT, &document) {
            record.insert(document);
        }
    }
    record
}

fn invite(script: &mut Script<'_>) -> Delegation {
    let mut limits = delegation();
    let choices = script.byte();
    let chosen = |bit: u8| choices & 1 << bit != 0;
    limits.needs_approval = chosen(0);
    if chosen(1) {
        limits.names = Some("*").filter(|_| chosen(2)).and_then(Pattern::new);
    }
    if chosen(3) {
        limits.tags = tags(&[]);
    }
    if chosen(4) {
        limits.blocks = Default::default();
    }
    if chosen(5) {
        limits.delegate = fingerprint(script.below(COUNT));
    }
    limits.uses = NonZero::new(u32::from(script.byte() % 4)).map(NonZero::get);
    limits.joins_until = *script.pick(&[2_000, 0, 9_000]);
    limits.members_until = *script.pick(&[9_000, 5_000, 4_999, 0]);
    limits
}

const TAGS: [&[&str]; 5] = [&["server"], &[], &["admin"], &["lab", "server"], &["lab", "server", "z"]];
const ADDRESSES: [&[&str]; 5] =
    [&["10.1.2.7"], &[], &["10.1.3.7"], &["10.1.2.7", "fd00::1"], &["10.1.1.255"]];

fn says(script: &mut Script<'_>) -> Certificate {
    let mut says = certificate(None);
    says.node = *script.pick(&[NODE, OTHER]);
    let named = script.pick(&["node-7", "vault", "node-"]);
    says.name = name(named);
    let tagged = script.pick(&TAGS);
    says.tags = tags(tagged);
    let addressed = script.pick(&ADDRESSES);
    says.addresses = addresses(addressed);
    says.not_before = *script.pick(&[1_000, 0, 2_100, 5_000, u64::MAX]);
    says.not_after = *script.pick(&[5_000, 9_000, 9_001, 4_999, u64::MAX]);
    says.serial = u64::from(script.byte() % 2);
    says
}

/// Members by every way, and anything.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        vec![0; 20],
        vec![0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        vec![4, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        vec![0b10_0000, 0b1_0000, 0, 2],
        vec![0b1_0100, 0, 0, 0],
    ];
    seeds.extend(any_scripts(2, 12, 24));
    seeds
}
