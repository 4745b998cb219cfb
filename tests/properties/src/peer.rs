//! Bodies of a peer session, those about membership among them: within bounds, and written back as the same.

use shadowmesh_proto::ids::{BlobHash, Fingerprint, MacAddr, NetworkId, StatementHash};
use shadowmesh_proto::membership::{Listed, MAX_ADMINS, MAX_SECRETS, Member, Message, PART_LEN, Part, Want};
use shadowmesh_proto::path::select::{PathKind, Wanted};
use shadowmesh_proto::traverse::candidate::{Candidate, CandidateKind, MAX_CANDIDATES, MAX_TCP_CANDIDATES};
use shadowmesh_proto::wire::control::{
    Cidr4, Cidr6, Claim, Control, Hello, MAX_ACK_PATHS, MAX_NAME, PathAck,
};

/// Any bytes are a body, one of a later version, or none.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    let read = Control::decode(bytes);
    if let Ok(message) = Message::decode(bytes) {
        assert_eq!(read, Ok(Some(Control::Membership(message.clone()))), "two readings");
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
    let Ok(Some(body)) = read else { return };
    is_within_bounds(&body);
    let written = body.encode();
    assert_eq!(Control::decode(&written), Ok(Some(body)), "{written:02x?}");
    for cut in 0..written.len().min(64) {
        let cut = written.get(..cut).unwrap_or_default();
        assert!(!matches!(Control::decode(cut), Ok(Some(_))), "half a body is none: {cut:02x?}");
    }
}

fn is_within_bounds(body: &Control) {
    match body {
        Control::Hello(hello) => {
            let is_plain = |byte: u8| byte.is_ascii_graphic();
            assert!((1..=MAX_NAME).contains(&hello.name.len()) && hello.name.bytes().all(is_plain));
            assert!(hello.ipv4.is_none_or(|cidr| cidr.prefix() <= 32));
            assert!(hello.ipv6.is_none_or(|cidr| cidr.prefix() <= 128));
            assert_eq!(hello.mac.0[0] & 1, 0, "a group's address");
        }
        Control::Ack { paths, .. } | Control::Resume { paths, .. } => assert!(paths.len() <= MAX_ACK_PATHS),
        Control::Candidates { list, tcp, .. } => {
            assert!(list.len() <= MAX_CANDIDATES && tcp.len() <= MAX_TCP_CANDIDATES);
        }
        Control::Membership(Message::Member(member)) => {
            assert!(member.documents.len() <= MAX_ADMINS && member.secrets.len() <= MAX_SECRETS);
        }
        Control::Membership(Message::Part(part)) => assert!(part.bytes.len() <= PART_LEN),
        Control::Membership(
            Message::MemberAck { .. } | Message::Want(_) | Message::AskSecret { .. } | Message::Secret(_),
        )
        | Control::Ping { .. }
        | Control::Pong { .. }
        | Control::HelloAck { .. }
        | Control::RekeyInit { .. }
        | Control::RekeyResponse { .. }
        | Control::Bye { .. }
        | Control::Echo { .. }
        | Control::EchoReply { .. }
        | Control::CandidatesAck { .. }
        | Control::ResumeAck { .. }
        | Control::Use { .. }
        | Control::UseAck { .. }
        | Control::Rest { .. }
        | Control::RestAnswer { .. }
        | Control::TcpTry => {}
    }
}

/// One of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let paths = vec![PathAck { path: 1, highest: 900, bitmap: [u64::MAX, 1, 0, 7] }; MAX_ACK_PATHS];
    let at = |address: &str, kind| address.parse().map(|address| Candidate::new(kind, address));
    let list = [at("192.0.2.1:9", CandidateKind::Host), at("[2001:db8::1]:9", CandidateKind::PortMapped)];
    let list: Vec<Candidate> = list.into_iter().flatten().collect();
    let hello = Hello {
        name: "node-7".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        ipv4: Cidr4::new([10, 1, 2, 7].into(), 16),
        ipv6: Cidr6::new([0xfd; 16].into(), 64),
        claim: Claim::ByHand,
        mtu: 1_400,
        revision: 3,
    };
    let listed = Listed { issuer: Fingerprint([1; 32]), version: 7, hash: StatementHash([2; 32]) };
    let member = Member {
        revision: 1,
        standing: 1,
        certificate: Some(StatementHash([3; 32])),
        offer: Some(StatementHash([4; 32])),
        documents: vec![listed],
        secrets: vec![NetworkId([5; 32])],
    };
    let part = Part { hash: BlobHash([6; 32]), total: 9, number: 0, bytes: vec![7; 9] };
    let secret = shadowmesh_proto::crypto::keys::NetworkSecret::from_bytes([8; 32].into(), 2);
    [
        Control::Ping { id: 1, path: 2, padding: vec![0; 40] },
        Control::Pong { id: 1, path: 255, padding: vec![] },
        Control::Hello(hello),
        Control::HelloAck { revision: 3 },
        Control::Ack { paths: paths.clone(), floor: 8 },
        Control::RekeyInit { packet: vec![0xc8, 1, 0, 0] },
        Control::RekeyResponse { packet: vec![0xc9, 1, 0, 0] },
        Control::Bye { reason: 1 },
        Control::Echo { id: 9 },
        Control::EchoReply { id: 9 },
        Control::Candidates { revision: 1, list: list.clone(), tcp: list },
        Control::CandidatesAck { revision: 1 },
        Control::Resume { number: 1, kind: PathKind::RelayUdp, paths, floor: 1 },
        Control::ResumeAck { number: 1 },
        Control::Use { number: 1, wanted: Wanted::Direct },
        Control::UseAck { number: 1 },
        Control::TcpTry,
        Control::Rest { number: u64::MAX },
        Control::RestAnswer { number: 1, is_over: true },
        Control::Membership(Message::Member(member)),
        Control::Membership(Message::MemberAck { revision: 1 }),
        Control::Membership(Message::Want(Want { hash: BlobHash([6; 32]), first: 0, missing: u32::MAX })),
        Control::Membership(Message::Part(part)),
        Control::Membership(Message::AskSecret { network: NetworkId([5; 32]) }),
        Control::Membership(Message::Secret((&secret).into())),
    ]
    .iter()
    .map(Control::encode)
    .collect()
}
