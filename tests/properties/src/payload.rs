//! What the two sides of a handshake say of themselves: within bounds, fit for a terminal, written back as the same.

use shadowmesh_proto::crypto::aead::CipherSet;
use shadowmesh_proto::handshake::payload::{KNOWS_REST, MAX_NAME, MAX_PAYLOAD, MAX_PROGRAM, Payload};
use shadowmesh_proto::ids::AssociationId;
use shadowmesh_proto::version::{NONE, UNSAID, Versions};

/// Any bytes are a payload or none.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    let Ok(payload) = Payload::decode(bytes) else { return };
    assert!(bytes.len() <= MAX_PAYLOAD);
    assert!(payload.name.len() <= MAX_NAME && payload.program.len() <= MAX_PROGRAM);
    assert!(![&payload.name, &payload.program].iter().any(|text| text.contains(char::is_control)));
    let written = payload.encode().expect("what was read is within bounds");
    assert!(written.len() <= 128, "as the module page says");
    assert_eq!(Payload::decode(&written).as_ref(), Ok(&payload));
    for cut in 0..written.len() {
        assert!(Payload::decode(written.get(..cut).unwrap_or_default()).is_err());
    }
}

/// The smallest, the largest, and one of a later version.
pub fn seeds() -> Vec<Vec<u8>> {
    let payload = |name: &str, program: &str, features: u32, newest: u8, version: u8| Payload {
        ciphers: CipherSet::ALL,
        mtu: 1_400,
        name: name.to_owned(),
        association: AssociationId([1; 8]),
        program: program.to_owned(),
        features,
        versions: Versions::new(1, newest).unwrap_or(Versions::FIRST),
        version,
    };
    let all = [
        payload("", "", 0, 1, UNSAID),
        payload("node-7", "0.1.0", KNOWS_REST, 1, UNSAID),
        payload("node-7", "0.1.0", KNOWS_REST, 2, 2),
        payload("node-7", "0.1.0", 0, u8::MAX, NONE),
        payload(&"n".repeat(MAX_NAME), &"p".repeat(MAX_PROGRAM), u32::MAX, u8::MAX, u8::MAX),
    ];
    let mut seeds: Vec<Vec<u8>> = all.iter().filter_map(|payload| payload.encode().ok()).collect();
    let mut later = seeds.get(2).cloned().unwrap_or_default();
    if let Some(head) = later.first_mut() {
        *head += 1;
    }
    later.extend([0x82, 1, 2]);
    seeds.push(later);
    seeds
}
