//! Secrets do not stay in memory that was given back (issue: keys are zeroized).
//!
//! An allocator that looks at every block before it is freed or moved: none may hold the network secret, nor the text of the invite
//! that carries it. (The keys of ciphers and exchanges lie in memory of `aws-lc`, which wipes it itself.)

use shadowmesh_proto::crypto::keys::{NetworkSecret, NodeSecret};
use shadowmesh_proto::ids::RelayId;
use shadowmesh_proto::rng::{Rng as _, SeededRng};
use shadowmesh_proto::ticket::{Invite, RelayTicket};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Bytes of a secret that are looked for: more than chance would bring.
const NEEDLE: usize = 16;

struct Looking;

static FOUND: AtomicUsize = AtomicUsize::new(0);
/// Two needles, as numbers; 0 is none.
static NEEDLES: [[AtomicU64; 2]; 2] =
    [[AtomicU64::new(0), AtomicU64::new(0)], [AtomicU64::new(0), AtomicU64::new(0)]];

fn look(block: &[u8]) {
    for needle in &NEEDLES {
        let wanted = [needle[0].load(Relaxed), needle[1].load(Relaxed)];
        if wanted == [0, 0] {
            continue;
        }
        let is_here = block.windows(NEEDLE).any(|window| {
            let (first, second) = window.split_at(NEEDLE / 2);
            first == wanted[0].to_ne_bytes() && second == wanted[1].to_ne_bytes()
        });
        FOUND.fetch_add(usize::from(is_here), Relaxed);
    }
}

fn look_for(place: usize, needle: &[u8]) {
    for (half, number) in needle[..NEEDLE].chunks(NEEDLE / 2).zip(&NEEDLES[place]) {
        number.store(u64::from_ne_bytes(half.try_into().expect("eight bytes")), Relaxed);
    }
}

// SAFETY: everything is passed to the system's allocator as it came; looking allocates nothing.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Zeroed, so that looking at it later reads nothing that was never written.
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the block was given out by `alloc` with this layout, so all of it is initialised and ours.
        look(unsafe { std::slice::from_raw_parts(pointer, layout.size()) });
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Looking = Looking;

#[test]
fn neither_the_network_secret_nor_its_invite_stays_in_freed_memory() {
    let mut rng = SeededRng::new(77);
    let network = NetworkSecret::generate(&mut rng);
    let relay = RelayTicket {
        key: RelayId(NodeSecret::generate(&mut rng).public().0),
        addresses: vec!["relay.example:8443".into(), "192.0.2.1:443".into()],
        expires: None,
    };
    let make = || Invite {
        secret: network.to_bytes(),
        generation: 0,
        network_name: "home".into(),
        relays: vec![relay.clone(); 4],
        expires: Some(u64::MAX),
        name: Some("printer".into()),
        delegated: None,
    };
    // From the middle of the text, where the secret is.
    let text = make().to_text();
    let secret = network.to_bytes();
    let mut middle = [0; NEEDLE];
    middle.copy_from_slice(&text.as_bytes()[12..12 + NEEDLE]);

    // The looking works: an ordinary copy is found.
    look_for(0, secret.as_slice());
    drop(std::hint::black_box(secret.to_vec()));
    assert!(FOUND.swap(0, Relaxed) > 0, "the allocator sees what is freed");

    look_for(1, &middle);
    for _ in 0..3 {
        let invite = Invite::parse(&text, 0).expect("an invite");
        let again = NetworkSecret::from_bytes(invite.secret.clone(), invite.generation);
        let keys = std::hint::black_box(again.derive());
        let written = std::hint::black_box(make().to_text());
        assert_eq!(*written, *text);
        drop((invite, again, keys, written, rng.bytes::<8>()));
    }
    assert_eq!(FOUND.load(Relaxed), 0, "freed blocks that held a secret");
}
