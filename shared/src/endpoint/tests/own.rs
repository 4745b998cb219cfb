//! What people change about a node while it runs.

use super::*;
use crate::crypto::aead::Cipher;

#[test]
fn another_name_is_heard_by_who_is_connected() {
    let mut world = World::new(60);
    world.run(Duration::from_secs(2));
    let now = world.now;
    world.nodes[0].endpoint.set_name(now, "attic".into());
    world.run(Duration::from_secs(1));
    assert_eq!(world.status(1).hello.unwrap().name, "attic");
    let revision = world.nodes[0].endpoint.hello().revision;
    world.nodes[0].endpoint.set_name(now, "attic".into());
    assert_eq!(world.nodes[0].endpoint.hello().revision, revision, "that is no news");
    assert!(world.is_connected());
}

#[test]
fn another_cipher_and_another_interval_hold_for_the_sessions_that_begin() {
    let mut world = World::new(61);
    world.run(Duration::from_secs(2));
    let before = world.status(0).session.unwrap().cipher;
    let other = match before {
        Cipher::Aes256Gcm => Cipher::ChaCha20Poly1305,
        Cipher::ChaCha20Poly1305 => Cipher::Aes256Gcm,
    };
    world.nodes[0].endpoint.set_ciphers(CipherSet::only(other));
    world.nodes[0].endpoint.set_rekey_interval(Duration::from_secs(2));
    // One that there is goes on with its cipher, also when either side asks for new keys.
    let other_way = 1 - world.lower();
    for at in [world.lower(), other_way] {
        world.run(Duration::from_secs(5));
        let (now, slot) = (world.now, world.status(at).slot);
        world.nodes[at].endpoint.handle_key_used_up(now, slot);
        world.run(Duration::from_secs(5));
    }
    let session = world.status(0).session.unwrap();
    assert_eq!((session.cipher, session.rekeys), (before, 2));
    world.restart(1);
    world.run(Duration::from_secs(20));
    let session = world.status(0).session.unwrap();
    assert_eq!(session.cipher, other);
    assert!(session.rekeys >= 4, "{} rekeys", session.rekeys);
}
