//! Smoke.
use shadowmesh_proto::crypto::aead::CipherSet;
use shadowmesh_proto::crypto::keys::*;
use shadowmesh_proto::handshake::link::*;
use shadowmesh_proto::handshake::payload::Payload;
use shadowmesh_proto::handshake::peer::*;
use shadowmesh_proto::ids::*;
use shadowmesh_proto::rng::SeededRng;
#[test]
fn smoke() {
    let mut rng = SeededRng::new(1);
    let a = NodeSecret::generate(&mut rng);
    let b = NodeSecret::generate(&mut rng);
    let n = NetworkSecret::generate(&mut rng).derive();
    let p = Payload {
        ciphers: CipherSet::ALL,
        mtu: 1400,
        name: "a".into(),
        association: AssociationId([1; 8]),
        program: "0.1".into(),
    };
    let (i, init) = Initiator::begin(&a, &n, b.public(), &p, ReceiverIndex(1), &mut rng).unwrap();
    assert_eq!(init.len(), INIT_LEN + p.encode().unwrap().len());
    let r = Responder::read(&b, &n, &init).unwrap();
    assert_eq!(r.remote(), a.public());
    let (resp, c) = r.respond(&p, ReceiverIndex(2), &mut rng).unwrap();
    assert_eq!(resp.len(), RESPONSE_LEN + p.encode().unwrap().len());
    let mut bad = resp.clone();
    bad[100] ^= 1;
    let (i, e) = i.finish(&bad).unwrap_err();
    println!("{e}");
    let d = i.finish(&resp).unwrap();
    assert_eq!(c.keys.send.data, d.keys.recv.data);
    assert_eq!(c.keys.recv.control, d.keys.send.control);
    let (l, m) = LinkInitiator::begin(&a, &RelayId(b.public().0), &mut rng).unwrap();
    let (m2, who, k) = respond(&b, &m, &mut rng).unwrap();
    let k2 = l.finish(&m2).unwrap();
    assert_eq!(who, a.public());
    assert_eq!(k.hash, k2.hash);
    assert_eq!(k.send, k2.recv);
}
