//! STUN's two messages, and the datagrams that share a socket with them.

use shadowmesh_proto::wire::packet::PacketKind;
use shadowmesh_proto::wire::relayed::RelayedHeader;
use shadowmesh_proto::wire::stun::{BindingRequest, BindingResponse};

/// Any datagram is a request, a response, or neither.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    let (request, response) = (BindingRequest::parse(bytes), BindingResponse::parse(bytes));
    assert!(request.is_err() || response.is_err(), "one or the other");
    if request.is_ok() || response.is_ok() {
        assert_eq!(PacketKind::of(bytes), None);
        assert!(RelayedHeader::parse(bytes).is_err());
    }
    if let Ok(request) = request {
        assert_eq!(BindingRequest::parse(&request.encode()), Ok(request));
        // Nobody can have more bytes sent somewhere than they spent.
        for mapped in [([192, 0, 2, 1], 1).into(), ([0xfd00, 0, 0, 0, 0, 0, 0, 1], 1).into()] {
            let answer = BindingResponse { transaction: request.transaction, mapped, nonce: Some([1; 8]) };
            assert!(answer.encode().len() <= bytes.len());
        }
    }
    if let Ok(response) = response {
        assert_eq!(BindingResponse::parse(&response.encode()), Ok(response));
    }
}

/// What we write, and the answers of RFC 5769.
pub fn seeds() -> Vec<Vec<u8>> {
    let (transaction, nonce) = ([7; 12], Some([9; 8]));
    let answer = |mapped, nonce| BindingResponse { transaction, mapped, nonce }.encode();
    let mut foreign = vec![
        0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
        0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f,
        0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43, 0x00, 0x08, 0x00,
        0x14,
    ];
    foreign.resize(20 + 0x3c, 0x2b);
    vec![
        BindingRequest { transaction, token: [1; 16] }.encode(),
        answer(([192, 0, 2, 1], 32_853).into(), None),
        answer(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 5).into(), nonce),
        foreign,
    ]
}
