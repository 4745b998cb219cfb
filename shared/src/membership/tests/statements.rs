//! Statements as bytes: what is read is what was written, and nothing else is read.

use super::*;
use crate::wire::codec;

/// CBOR around bodies that our own code would not write.
pub(super) fn forged(by: &Authority, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut e = minicbor::Encoder::new(&mut bytes);
    e.array(3).unwrap().bytes(body).unwrap().bytes(by.fingerprint().as_bytes()).unwrap();
    e.bytes(by.sign(body).as_slice()).unwrap();
    bytes
}

pub(super) fn body_of<T: Body>(statement: &Statement<T>) -> Vec<u8> {
    let mut d = minicbor::Decoder::new(statement.bytes());
    d.array().unwrap();
    d.bytes().unwrap().to_vec()
}

#[test]
fn each_kind_comes_back_and_verifies() {
    let (root, delegate) = (authority(1), authority(2));
    let network = root.fingerprint();
    let delegation = Statement::sign(&root, network, delegation(delegate.fingerprint())).unwrap();
    let certificate = Statement::sign(&delegate, network, certificate(7, Some(delegation.hash()))).unwrap();
    let document = Statement::sign(&root, network, Document { version: 1, ..Document::default() }).unwrap();

    let read = Unverified::decode(network, delegation.bytes()).unwrap().verify(root.public());
    assert_eq!(read, Ok(delegation));
    let read = Unverified::decode(network, certificate.bytes()).unwrap().verify(delegate.public());
    assert_eq!(read, Ok(certificate));
    let read = Unverified::decode(network, document.bytes()).unwrap().verify(root.public());
    assert_eq!(read, Ok(document));
}

#[test]
fn three_faults_are_three_errors() {
    let (root, other) = (authority(1), authority(2));
    let statement = Statement::sign(&root, root.fingerprint(), certificate(7, None)).unwrap();
    let read = |root, bytes: &[u8]| Unverified::<Certificate>::decode(root, bytes);

    assert_eq!(
        read(other.fingerprint(), statement.bytes()),
        Err(StatementError::OtherRoot(root.fingerprint())),
    );
    assert_eq!(read(root.fingerprint(), &statement.bytes()[1..]), Err(StatementError::Malformed));
    let unverified = read(root.fingerprint(), statement.bytes()).unwrap();
    assert_eq!(unverified.clone().verify(other.public()), Err(StatementError::Signature(Half::Ed25519)));
    for (from_end, half) in [(1, Half::MlDsa65), (SIGNATURE_LEN, Half::Ed25519)] {
        let mut bytes = statement.bytes().to_vec();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        let unverified = read(root.fingerprint(), &bytes).unwrap();
        assert_eq!(unverified.verify(root.public()), Err(StatementError::Signature(half)));
    }
}

#[test]
fn an_issuer_that_another_put_there_is_noticed() {
    let (root, other) = (authority(1), authority(2));
    let statement = Statement::sign(&other, root.fingerprint(), certificate(7, None)).unwrap();
    let at =
        statement.bytes().windows(32).position(|window| window == other.fingerprint().as_bytes()).unwrap();
    let mut bytes = statement.bytes().to_vec();
    bytes[at..at + 32].copy_from_slice(root.fingerprint().as_bytes());
    let unverified = Unverified::<Certificate>::decode(root.fingerprint(), &bytes).unwrap();
    // Neither as whom it names, nor as whom it is.
    assert!(unverified.clone().verify(root.public()).is_err());
    assert!(unverified.verify(other.public()).is_err());
}

#[test]
fn a_signed_body_of_one_kind_is_none_of_another() {
    let root = authority(1);
    let certificate = Statement::sign(&root, root.fingerprint(), certificate(7, None)).unwrap();
    let mut body = body_of(&certificate);
    assert_eq!(body[1], Certificate::KIND);
    body[1] = Delegation::KIND;
    let read = Unverified::<Certificate>::decode(root.fingerprint(), &forged(&root, &body));
    assert_eq!(read, Err(StatementError::Malformed));
    let read = Unverified::<Delegation>::decode(root.fingerprint(), certificate.bytes());
    assert_eq!(read, Err(StatementError::Malformed));
}

/// Bodies that a lenient reader would take for the same, all properly signed.
#[test]
fn a_body_has_one_form() {
    let root = authority(1);
    let statement = Statement::sign(&root, root.fingerprint(), certificate(7, None)).unwrap();
    let good = body_of(&statement);
    let read = |body: &[u8]| Unverified::<Certificate>::decode(root.fingerprint(), &forged(&root, body));
    assert!(read(&good).is_ok());

    let (kind, serial) = (good[1], good.len() - 1);
    assert_eq!((kind, good[serial]), (Certificate::KIND, 1));
    let long_kind = [&[good[0], 0x18, kind], &good[2..]].concat();
    let long_serial = [&good[..serial], &[0x18, 1]].concat();
    let trailing = [&good[..], &[0]].concat();
    let one_field_more = [&[good[0] + 1], &good[1..], &[0]].concat();
    let indefinite = [&[0x9f], &good[1..], &[0xff]].concat();
    for body in [long_kind, long_serial, trailing, one_field_more, indefinite] {
        assert_eq!(read(&body), Err(StatementError::Malformed), "{body:02x?}");
    }
    let trailing = [statement.bytes(), &[0]].concat();
    let read = Unverified::<Certificate>::decode(root.fingerprint(), &trailing);
    assert_eq!(read, Err(StatementError::Malformed));
}

#[test]
fn sets_have_an_order_and_bounds() {
    let names = |list: &[&str]| codec::encode(&list.to_vec());
    assert!(codec::decode::<Tags>(&names(&["a", "b"])).is_ok());
    for list in [&["b", "a"][..], &["a", "a"], &["a", "*"], &["a"; 17]] {
        assert!(codec::decode::<Tags>(&names(list)).is_err(), "{list:?}");
    }
    let many: Vec<String> = (0..17).map(|n| format!("t{n:02}")).collect();
    assert!(codec::decode::<Tags>(&codec::encode(&many[..16].to_vec())).is_ok());
    assert!(codec::decode::<Tags>(&codec::encode(&many)).is_err());
    // A head that announces more than memory has.
    assert!(codec::decode::<Tags>(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
}

#[test]
fn what_nobody_would_read_is_not_signed() {
    let root = authority(1);
    let sign = |document| Statement::sign(&root, root.fingerprint(), document).map(|_| ());
    assert_eq!(sign(Document::default()), Err(SignError::Unsound), "versions begin at 1");
    let rules = |len| Document {
        version: 1,
        rules: Some(Versioned { version: 1, value: "#".repeat(len) }),
        ..Document::default()
    };
    assert_eq!(sign(rules(MAX_RULES)), Ok(()));
    assert_eq!(sign(rules(MAX_RULES + 1)), Err(SignError::Unsound));
    let backwards = Certificate { not_after: 1_000, ..certificate(1, None) };
    assert_eq!(Statement::sign(&root, root.fingerprint(), backwards), Err(SignError::Unsound));
    let none = Delegation { uses: Some(0), ..delegation(root.fingerprint()) };
    assert_eq!(Statement::sign(&root, root.fingerprint(), none), Err(SignError::Unsound));

    let mut large = Document { version: 1, ..Document::default() };
    let word = Word {
        tags: Some(Tags::new((0..16).map(|n| Tag::new(&format!("{n:063}")).unwrap())).unwrap()),
        ..Word::default()
    };
    for node in 0..300_u16 {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&node.to_be_bytes());
        large.members.insert(NodeId(key), word.clone());
    }
    assert!(matches!(sign(large), Err(SignError::TooLarge(bytes)) if bytes > Document::MAX));
}

/// What the module page of `document` says it costs.
#[test]
fn five_hundred_members() {
    let root = authority(1);
    let mut document = Document { version: 1_000, written: 1_800_000_000, ..Document::default() };
    let key = |n: u16| {
        let mut key = [0xaa; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        key
    };
    for n in 0..500 {
        let word = Word {
            delegate: Some(Fingerprint(key(n))),
            name: Some(name(&format!("machine-{n}"))),
            tags: Some(tags(&["server"])),
            since: 1_800_000_000,
            version: 1_000,
            ..Word::default()
        };
        assert!(document.members.insert(NodeId(key(n)), word));
    }
    for n in 0..50 {
        assert!(document.revoked.insert(KeyId(key(n)), 1_800_000_000));
    }
    let bytes = Statement::sign(&root, root.fingerprint(), document).unwrap().bytes().len();
    assert!((50_000..60_000).contains(&bytes), "{bytes}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn documents_come_back(document in documents()) {
        let root = authority(1);
        let statement = Statement::sign(&root, root.fingerprint(), document).unwrap();
        let read = Unverified::decode(root.fingerprint(), statement.bytes()).unwrap();
        prop_assert_eq!(read.verify(root.public()), Ok(statement));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let root = authority(1).fingerprint();
        let _ = (
            Unverified::<Certificate>::decode(root, &bytes),
            Unverified::<Delegation>::decode(root, &bytes),
            Unverified::<Document>::decode(root, &bytes),
        );
    }

    /// Bytes near to a body, properly signed: whatever is read has exactly these bytes.
    #[test]
    fn what_is_read_of_a_changed_body_is_what_it_says(
        document in documents(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let root = authority(1);
        let mut body = body_of(&Statement::sign(&root, root.fingerprint(), document).unwrap());
        for (at, value) in changes {
            let at = at.index(body.len());
            body[at] = value;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        if let Ok(read) = Unverified::<Document>::decode(root.fingerprint(), &forged(&root, &body)) {
            let again = Statement::sign(&root, root.fingerprint(), read.claims().clone()).unwrap();
            prop_assert_eq!(body_of(&again), body);
        }
    }
}
