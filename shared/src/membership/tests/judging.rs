//! Certificates before the record, one reason against them at a time.

use super::*;

/// A network with its root (1), an admin (2) and a delegate (3) of that admin.
pub(super) struct Network {
    pub(super) root: Authority,
    pub(super) admin: Authority,
    pub(super) delegate: Authority,
    pub(super) record: Record,
}

pub(super) const NODE: NodeId = NodeId([7; 32]);

pub(super) fn network() -> Network {
    let (root, admin, delegate) = (authority(1), authority(2), authority(3));
    let mut network = Network { record: Record::new(root.fingerprint()), root, admin, delegate };
    let granted = network.admin.fingerprint();
    network.say(1, |document| {
        document.admins.insert(granted, name("second"));
    });
    network
}

impl Network {
    /// The root (1) or the admin (2) changes its document.
    pub(super) fn say(&mut self, who: u64, change: impl FnOnce(&mut Document)) {
        let by = authority(who);
        let mut document = self.record.draft(by.fingerprint(), 1_500);
        change(&mut document);
        let document = Statement::sign(&by, self.root.fingerprint(), document).unwrap();
        assert!(self.record.insert(document));
    }

    pub(super) fn delegation(&self, change: impl FnOnce(&mut Delegation)) -> Statement<Delegation> {
        let mut body = delegation(self.delegate.fingerprint());
        change(&mut body);
        Statement::sign(&self.admin, self.root.fingerprint(), body).unwrap()
    }

    pub(super) fn certificate(
        &self,
        by: &Authority,
        delegation: Option<&Statement<Delegation>>,
        change: impl FnOnce(&mut Certificate),
    ) -> Statement<Certificate> {
        let mut body = certificate(7, delegation.map(Statement::hash));
        change(&mut body);
        Statement::sign(by, self.root.fingerprint(), body).unwrap()
    }

    /// The node of the delegate's invite, at `now`.
    pub(super) fn judge_joined(
        &self,
        change: impl FnOnce(&mut Delegation),
        met: bool,
        now: Seconds,
    ) -> Result<Admission, Refusal> {
        let delegation = self.delegation(change);
        let certificate = self.certificate(&self.delegate, Some(&delegation), |_| ());
        judge(&self.record.view(), NODE, &certificate, Some(&delegation), met, now)
    }
}

#[test]
fn the_whole_chain_makes_a_member() {
    let network = network();
    let admission = network.judge_joined(|_| (), false, 1_500).unwrap();
    let facts = Facts { name: name("node-7"), tags: tags(&["server"]), addresses: addresses(&["10.1.2.7"]) };
    let joined_by = Some(network.delegate.fingerprint());
    assert_eq!(admission, Admission { facts: facts.clone(), until: 5_000, joined_by });
    for by in [&network.root, &network.admin] {
        let certificate = network.certificate(by, None, |_| ());
        let admission = judge(&network.record.view(), NODE, &certificate, None, false, 1_500);
        assert_eq!(admission, Ok(Admission { facts: facts.clone(), until: 5_000, joined_by: None }));
    }
}

#[test]
fn a_certificate_is_one_nodes() {
    let network = network();
    let certificate = network.certificate(&network.root, None, |_| ());
    let refused = judge(&network.record.view(), NodeId([8; 32]), &certificate, None, true, 1_500);
    assert_eq!(refused, Err(Refusal::OtherNode(NODE)));
}

#[test]
fn a_certificate_has_its_time() {
    let network = network();
    let certificate = network.certificate(&network.root, None, |_| ());
    let at = |now| judge(&network.record.view(), NODE, &certificate, None, true, now).map(|_| ());
    assert_eq!(at(0), Err(Refusal::NotYet(1_000)));
    assert_eq!(at(1_000 - CLOCK_SKEW - 1), Err(Refusal::NotYet(1_000)));
    assert_eq!((at(1_000 - CLOCK_SKEW), at(5_000)), (Ok(()), Ok(())));
    assert_eq!(at(5_001), Err(Refusal::Expired(5_000)));
    assert_eq!(at(u64::MAX), Err(Refusal::Expired(5_000)));
}

#[test]
fn a_revoked_key_stays_out_whatever_it_shows() {
    let mut network = network();
    network.say(2, |document| assert!(document.revoke(NODE, 1_400)));
    let revoked = Refusal::Revoked { by: network.admin.fingerprint(), at: 1_400 };
    assert_eq!(network.judge_joined(|_| (), true, 1_500), Err(revoked.clone()));
    // Another certificate of the same key, by the root itself, under another name; and known to the record.
    network.say(1, |document| {
        document.members.insert(NODE, Word::default());
    });
    let again = network.certificate(&network.root, None, |says| (says.name, says.serial) = (name("new"), 9));
    assert_eq!(judge(&network.record.view(), NODE, &again, None, true, 1_500), Err(revoked));
}

#[test]
fn only_admins_and_their_delegates_certify() {
    let network = network();
    let (stranger, view) = (authority(9), network.record.view());
    let refused = |certificate, delegation| judge(&view, NODE, &certificate, delegation, true, 1_500);
    let no_admin = Err(Refusal::NoAdmin(stranger.fingerprint()));

    assert_eq!(refused(network.certificate(&stranger, None, |_| ()), None), no_admin);
    // A delegate is no admin: neither when it leaves its delegation out, nor when it delegates.
    let delegate = network.delegate.fingerprint();
    let certificate = network.certificate(&network.delegate, None, |_| ());
    assert_eq!(refused(certificate, None), Err(Refusal::NoAdmin(delegate)));
    let onwards =
        Statement::sign(&network.delegate, network.root.fingerprint(), delegation(stranger.fingerprint()));
    let onwards = onwards.unwrap();
    let certificate = network.certificate(&stranger, Some(&onwards), |_| ());
    assert_eq!(refused(certificate, Some(&onwards)), Err(Refusal::NoAdmin(delegate)));
    // Somebody else's delegation is of no use, nor is another one than that which the certificate names.
    let delegation = network.delegation(|_| ());
    let certificate = network.certificate(&stranger, Some(&delegation), |_| ());
    assert_eq!(refused(certificate, Some(&delegation)), Err(Refusal::OtherDelegate(stranger.fingerprint())));
    let wider = network.delegation(|limits| limits.tags = tags(&["admin", "server"]));
    let certificate =
        network.certificate(&network.delegate, Some(&delegation), |says| says.tags = tags(&["admin"]));
    for given in [Some(&wider), None] {
        assert_eq!(refused(certificate.clone(), given), Err(Refusal::OtherDelegate(delegate)));
    }
}

#[test]
fn a_delegate_keeps_within_its_delegation() {
    let network = network();
    let delegation = network.delegation(|limits| limits.names = Pattern::new("node-*"));
    let refused = |change: fn(&mut Certificate)| {
        let certificate = network.certificate(&network.delegate, Some(&delegation), change);
        judge(&network.record.view(), NODE, &certificate, Some(&delegation), true, 1_500).map(|_| ())
    };
    let beyond = |what| Err(Refusal::Beyond(what));
    assert_eq!(refused(|_| ()), Ok(()));
    assert_eq!(
        refused(|says| says.name = name("vault")),
        beyond(Beyond::Name(Pattern::new("node-*").unwrap()))
    );
    assert_eq!(
        refused(|says| says.tags = tags(&["admin", "lab"])),
        beyond(Beyond::Tag(Tag::new("admin").unwrap()))
    );
    let outside = *addresses(&["10.1.3.1"]).first().unwrap();
    assert_eq!(
        refused(|says| says.addresses = addresses(&["10.1.2.9", "10.1.3.1"])),
        beyond(Beyond::Address(outside))
    );
    assert_eq!(refused(|says| says.not_after = 9_001), beyond(Beyond::Until(9_000)));
    assert_eq!(refused(|says| says.not_after = 9_000), Ok(()));
    // No blocks: no addresses but those that follow from the key.
    let none = network.delegation(|limits| limits.blocks = Set::default());
    let with = network.certificate(&network.delegate, Some(&none), |_| ());
    let without =
        network.certificate(&network.delegate, Some(&none), |says| says.addresses = Addresses::default());
    let view = network.record.view();
    assert!(matches!(
        judge(&view, NODE, &with, Some(&none), true, 1_500),
        Err(Refusal::Beyond(Beyond::Address(_)))
    ));
    assert!(judge(&view, NODE, &without, Some(&none), true, 1_500).is_ok());
}

#[test]
fn who_is_met_late_needs_the_records_word() {
    let mut network = network();
    let late = Err(Refusal::Late(2_000));
    assert!(network.judge_joined(|_| (), false, 2_000).is_ok());
    assert_eq!(network.judge_joined(|_| (), false, 2_001), late);
    assert!(network.judge_joined(|_| (), true, 2_001).is_ok(), "this member met it in time");
    network.say(1, |document| {
        document.members.insert(NODE, Word::default());
    });
    assert_eq!(network.judge_joined(|_| (), false, 2_001).map(|admission| admission.joined_by), Ok(None));
}

#[test]
fn who_needs_approval_waits_for_it() {
    let mut network = network();
    let needs = |limits: &mut Delegation| limits.needs_approval = true;
    let refused = network.judge_joined(needs, true, 1_500).unwrap_err();
    assert_eq!(refused, Refusal::NeedsApproval);
    assert!(refused.is_mended_by_a_word());
    network.say(2, |document| {
        document.members.insert(NODE, Word::default());
    });
    assert!(network.judge_joined(needs, false, 1_500).is_ok());
}

#[test]
fn a_revoked_invite_lets_nobody_in_but_those_it_did() {
    let mut network = network();
    let delegate = network.delegate.fingerprint();
    network.say(1, |document| assert!(document.revoke(delegate, 1_450)));
    let refused = Err(Refusal::InviteRevoked { by: network.root.fingerprint(), at: 1_450 });
    assert_eq!(network.judge_joined(|_| (), true, 1_500), refused);
    network.say(1, |document| {
        document.members.insert(NODE, Word::default());
    });
    assert!(network.judge_joined(|_| (), true, 1_500).is_ok());
}

#[test]
fn who_a_removed_admin_vouched_for_is_what_the_record_says() {
    let mut network = network();
    let admin = network.admin.fingerprint();
    network.say(1, |document| assert!(document.removed.insert(admin)));
    // With the stolen key: tags and an address that nobody gave it.
    let certificate = network.certificate(&network.admin, None, |says| {
        (says.tags, says.name) = (tags(&["admin", "server"]), name("vault"));
    });
    let removed = Err(Refusal::AdminRemoved(admin));
    let judged = |network: &Network| judge(&network.record.view(), NODE, &certificate, None, true, 1_500);
    assert_eq!(network.judge_joined(|_| (), true, 1_500), removed);
    assert_eq!(judged(&network), removed);
    network.say(1, |document| {
        document.members.insert(NODE, Word::default());
    });
    let bare = Facts { name: name(&NODE.short()), tags: Tags::default(), addresses: Addresses::default() };
    assert_eq!(judged(&network).unwrap().facts, bare, "of a word that says nothing");
    assert_eq!(network.judge_joined(|_| (), true, 1_500).unwrap().facts, bare, "and by its delegate");
    let facts = Facts { name: name("kept"), tags: tags(&["lab"]), addresses: addresses(&["10.1.2.9"]) };
    let word = network.record.view().first_word(facts.clone(), None, 1_500);
    network.say(1, |document| {
        document.members.insert(NODE, word);
    });
    assert_eq!(judged(&network).unwrap().facts, facts);
}

#[test]
fn an_invite_that_was_used_up_lets_nobody_in_and_is_revoked_once() {
    let mut network = network();
    let once = network.delegation(|limits| limits.uses = Some(1));
    let of = |node, network: &Network| {
        network.certificate(&network.delegate, Some(&once), |says| says.node = NodeId([node; 32]))
    };
    let (first, second) = (of(7, &network), of(8, &network));
    let judged = |network: &Network, certificate: &Statement<Certificate>| {
        judge(&network.record.view(), certificate.body().node, certificate, Some(&once), true, 1_700)
            .map(|_| ())
    };
    assert_eq!((judged(&network, &first), judged(&network, &second)), (Ok(()), Ok(())), "no admin saw one");

    let enrolment = network.record.view().enrolment(&first, &once, 1_600, |_| false);
    let Enrolment::Enter(word) = &enrolment else { panic!("{enrolment:?}") };
    let said = (word.name.clone(), word.tags.clone(), word.addresses.clone());
    assert_eq!(said, (Some(name("node-7")), Some(tags(&["server"])), Some(addresses(&["10.1.2.7"]))));
    network.say(2, |document| document.enrol(NODE, &enrolment, 1_600).unwrap());
    assert_eq!(network.record.view().enrolment(&first, &once, 1_700, |_| false), Enrolment::Known);

    // Whoever heard the record, an admin or not, also one that met the node before.
    assert_eq!((judged(&network, &first), judged(&network, &second)), (Ok(()), Err(Refusal::UsedUp)));
    let delegate = network.delegate.fingerprint();
    let enrolment = network.record.view().enrolment(&second, &once, 1_700, |_| false);
    assert_eq!(enrolment, Enrolment::UsedUp { delegate, by: vec![NODE] });
    // However many come, one revocation it is.
    for node in 8..20 {
        let enrolment = network.record.view().enrolment(&of(node, &network), &once, 1_700, |_| false);
        network.say(2, |document| document.enrol(NodeId([node; 32]), &enrolment, 1_700).unwrap());
    }
    assert_eq!(network.record.view().revocations().count(), 1);
    assert_eq!(judged(&network, &first), Ok(()));
    assert!(matches!(judged(&network, &second), Err(Refusal::InviteRevoked { at: 1_700, .. })));
}

#[test]
fn who_comes_to_a_name_that_another_has_gets_a_number_once_an_admin_meets_it() {
    let mut network = network();
    let open = network.delegation(|_| ());
    let of = |node, called: &str, network: &Network| {
        network.certificate(&network.delegate, Some(&open), |says| {
            (says.node, says.name) = (NodeId([node; 32]), name(called));
            says.addresses = Addresses::default();
        })
    };
    for (node, called, expected) in [
        (7, "node-7", "node-7"),
        (8, "node-7", "node-7-2"),
        (9, "node-7-2", "node-7-2-2"),
        (10, "node-7", "node-7-3"),
        (11, &"x".repeat(63), &"x".repeat(63)),
        (12, &"x".repeat(63), &format!("{}-2", "x".repeat(61))),
    ] {
        let certificate = of(node, called, &network);
        let view = network.record.view();
        let before = view.facts(certificate.body()).name;
        let is_free = called == expected;
        let by_id = name(called).with_tail(&NodeId([node; 32]).short());
        assert_eq!(before, if is_free { name(called) } else { by_id }, "while no admin has met it");
        let enrolment = view.enrolment(&certificate, &open, 1_600, |_| false);
        network.say(2, |document| document.enrol(NodeId([node; 32]), &enrolment, 1_600).unwrap());
        assert_eq!(network.record.view().facts(certificate.body()).name, name(expected));
    }
    // What a person called it stays, whoever else is called as its certificate says.
    let certificate = of(13, "node-7", &network);
    let word = Word { name: Some(name("attic")), version: 99, ..Word::default() };
    network.say(1, |document| document.say_of(NodeId([13; 32]), word).unwrap());
    let facts = network.record.view().facts_at_entry(certificate.body(), Some(open.body()), |_| false);
    assert_eq!(facts.name, name("attic"));
}

#[test]
fn of_two_that_took_one_address_the_later_has_the_next_of_the_block() {
    let mut network = network();
    let open = network.delegation(|_| ());
    let of = |node, network: &Network| {
        network.certificate(&network.delegate, Some(&open), |says| says.node = NodeId([node; 32]))
    };
    let (first, second) = (of(7, &network), of(8, &network));
    let enrolled = |network: &Network, certificate: &Statement<Certificate>| {
        let view = network.record.view();
        view.enrolment(certificate, &open, 1_600, |address| view.holder(address.ip()).is_some())
    };
    // Two admins apart enter one each, and their documents meet.
    let [before_first, before_second] = [enrolled(&network, &first), enrolled(&network, &second)];
    let mut apart = Network { record: network.record.clone(), ..self::network() };
    apart.say(1, |document| document.enrol(NODE, &before_first, 1_600).unwrap());
    apart.say(2, |document| document.enrol(NodeId([8; 32]), &before_second, 1_601).unwrap());
    let view = apart.record.view();
    let without: Vec<NodeId> = view.without_address().map(|(node, ..)| node).collect();
    assert_eq!(without, [NodeId([8; 32])]);

    network.say(2, |document| document.enrol(NODE, &before_first, 1_600).unwrap());
    let enrolment = enrolled(&network, &second);
    network.say(2, |document| document.enrol(NodeId([8; 32]), &enrolment, 1_700).unwrap());
    let view = network.record.view();
    let had = |certificate: &Statement<Certificate>| view.facts(certificate.body()).addresses;
    assert_eq!(had(&first), addresses(&["10.1.2.7"]));
    let mut tried = blocks(&[("10.1.2.0", 24)]).first().unwrap().ipv4_attempts(NodeId([8; 32]));
    assert_eq!(had(&second), Addresses::new(tried.next()).unwrap());
    assert_eq!(view.without_address().count(), 0);
}

#[test]
fn of_two_uses_that_two_admins_saw_apart_the_later_goes() {
    let mut network = network();
    let once = network.delegation(|limits| limits.uses = Some(1));
    let before = network.record.view();
    for (admin, node, at) in [(1, 7, 1_601), (2, 8, 1_600)] {
        let certificate =
            network.certificate(&network.delegate, Some(&once), |says| says.node = NodeId([node; 32]));
        let enrolment = before.enrolment(&certificate, &once, at, |_| false);
        network.say(admin, |document| document.enrol(NodeId([node; 32]), &enrolment, at).unwrap());
    }
    assert_eq!(network.record.view().joined_too_many(once.body()), [NODE]);
    network.say(1, |document| assert!(document.revoke(NODE, 1_650)));
    let view = network.record.view();
    assert_eq!(view.joined_too_many(once.body()), []);
    assert_eq!(view.joined_by(network.delegate.fingerprint()).len(), 2, "a use that was revoked was one");
    assert_eq!(view.joined_too_many(&Delegation { uses: None, ..once.body().clone() }), []);
}

#[test]
fn refusals_have_numbers_of_their_own() {
    let by = Fingerprint([0; 32]);
    let all = [
        Refusal::OtherNode(NODE),
        Refusal::Revoked { by, at: 0 },
        Refusal::NotYet(0),
        Refusal::Expired(0),
        Refusal::NoAdmin(by),
        Refusal::OtherDelegate(by),
        Refusal::Beyond(Beyond::Until(0)),
        Refusal::AdminRemoved(by),
        Refusal::InviteRevoked { by, at: 0 },
        Refusal::Late(0),
        Refusal::NeedsApproval,
        Refusal::UsedUp,
    ];
    let codes: Vec<u8> = all.iter().map(Refusal::code).collect();
    assert_eq!(codes, (3..15).collect::<Vec<u8>>());
}
