//! Transport packets of protocol §5 between a sealing and an opening half: what opens, what does not, and the exact bytes.

use crate::fixtures::{CIPHERS, INDEX, KEY, epoch, frame, pair, path, room, seal_half, seal_key};
use proptest::prelude::*;
use shadowmesh_proto::crypto::aead::Cipher;
use shadowmesh_proto::ids::ReceiverIndex;
use shadowmesh_proto::session::limits::{ACK_DELAY, DATA_WINDOW, MAX_FRAME, RETIRED_KEY_LIFE, RUN_BYTES};
use shadowmesh_proto::session::open::{META_CONTINUES, META_MOVED, META_NEEDS_CHECKSUM};
use shadowmesh_proto::session::{
    ControlOpen, ControlSeal, Fit, OpenError, OpenHalf, OpenKey, RingLimits, SealError, SealKey,
};
use shadowmesh_proto::wire::header::{DATA_OVERHEAD, HEADER_LEN};
use std::time::Duration;

proptest! {
    #[test]
    fn round_trip(cipher in prop::sample::select(CIPHERS.to_vec()), meta in 0u8..4, prefixed: bool,
                  frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2_000), 1..20)) {
        let (mut seal, mut open) = pair(cipher);
        for (counter, frame) in (0..).zip(&frames) {
            let sealed = if prefixed {
                let plaintext = [&[meta], &frame[..]].concat();
                seal.seal_prefixed(epoch(), path(0), &plaintext).unwrap()
            } else {
                seal.seal(epoch(), path(0), meta, frame).unwrap()
            };
            prop_assert_eq!(sealed.counter, counter);
            prop_assert_eq!(sealed.packet.len(), frame.len() + DATA_OVERHEAD);
            let mut out = room(sealed.packet);
            let opened = open.open(epoch(), path(0), sealed.packet, &mut out).unwrap();
            prop_assert_eq!((opened.meta, opened.counter, opened.index), (meta, counter, INDEX));
            prop_assert_eq!(opened.first, counter == 0);
            prop_assert_eq!(&opened.frame[..], &frame[..]);
        }
        prop_assert_eq!(open.opened(), frames.len() as u64);
        prop_assert_eq!(open.drops().total(), 0);
    }

    #[test]
    fn bytes_of_any_kind_are_dropped_without_a_panic(mut packet: Vec<u8>, kind in 0xc0u8..0xc3, counter: u64) {
        let (_, mut open) = pair(Cipher::ChaCha20Poly1305);
        let mut control = ControlOpen::new();
        control.install(OpenKey::new(Cipher::ChaCha20Poly1305, &KEY, INDEX));
        prop_assert!(open.open(epoch(), path(0), &packet, &mut room(&packet)).is_err());
        prop_assert!(control.open(epoch(), &mut packet.clone()).is_err());
        // The same behind a header that is right, so that the cipher sees it.
        let mut framed = vec![kind, 0, 0, 0];
        framed.extend(INDEX.0.to_be_bytes());
        framed.extend(counter.to_be_bytes());
        framed.append(&mut packet);
        prop_assert!(open.open(epoch(), path(0), &framed, &mut room(&framed)).is_err());
        prop_assert!(control.open(epoch(), &mut framed).is_err());
        prop_assert_eq!(open.drops().total(), 2);
        prop_assert_eq!(open.highest(), None, "what does not open moves no window");
    }
}

#[test]
fn every_bit_of_a_packet_is_covered() {
    for cipher in CIPHERS {
        let (mut seal, mut open) = pair(cipher);
        let packet = seal.seal(epoch(), path(0), META_NEEDS_CHECKSUM, &frame(1)).unwrap().packet.to_vec();
        for bit in 0..packet.len() * 8 {
            let mut damaged = packet.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = open.open(epoch(), path(0), &damaged, &mut room(&damaged)).unwrap_err();
            let expected = match bit / 8 {
                0 => OpenError::Malformed,
                1..4 => OpenError::NonZeroReserved,
                4..8 => OpenError::UnknownIndex,
                // No sender counts so far.
                8 if bit % 8 >= 6 => OpenError::Malformed,
                _ => OpenError::Forged,
            };
            assert_eq!(error, expected, "bit {bit}");
        }
        for len in 0..packet.len() {
            let error = open.open(epoch(), path(0), &packet[..len], &mut room(&packet[..len])).unwrap_err();
            let expected = if len < HEADER_LEN + 16 { OpenError::Malformed } else { OpenError::Forged };
            assert_eq!(error, expected, "{len} bytes");
        }
        assert!(open.open(epoch(), path(0), &packet, &mut room(&packet)).is_ok(), "it was good all along");
    }
}

/// A header whose bits all agree with another receiver index still does not open: the index is associated data, not only
/// a way to find the key.
#[test]
fn the_index_itself_is_authenticated() {
    for cipher in CIPHERS {
        let (mut seal, mut open) = pair(cipher);
        let other = ReceiverIndex(INDEX.0 ^ 1);
        open.install(OpenKey::new(cipher, &KEY, other));
        let mut packet = seal.seal(epoch(), path(0), 0, &frame(1)).unwrap().packet.to_vec();
        packet[4..8].copy_from_slice(&other.0.to_be_bytes());
        assert_eq!(open.open(epoch(), path(0), &packet, &mut room(&packet)).unwrap_err(), OpenError::Forged);
    }
}

#[test]
fn data_and_control_do_not_pass_for_each_other() {
    let (mut seal, mut open) = pair(Cipher::ChaCha20Poly1305);
    let mut control_seal = ControlSeal::new();
    let mut control_open = ControlOpen::new();
    control_seal.install(seal_key(Cipher::ChaCha20Poly1305));
    control_open.install(OpenKey::new(Cipher::ChaCha20Poly1305, &KEY, INDEX));

    let mut data = seal.seal(epoch(), path(0), 0, b"frame").unwrap().packet.to_vec();
    let mut control = control_seal.seal(epoch(), b"\0body").unwrap();
    assert_eq!(control_open.open(epoch(), &mut data.clone()).unwrap_err(), OpenError::Malformed);
    assert_eq!(open.open(epoch(), path(0), &control, &mut room(&control)).unwrap_err(), OpenError::Malformed);
    // Nor when the type is rewritten, even under the same key: the type is associated data.
    data[0] = 0xc1;
    control[0] = 0xc0;
    assert_eq!(control_open.open(epoch(), &mut data).unwrap_err(), OpenError::Forged);
    assert_eq!(open.open(epoch(), path(0), &control, &mut room(&control)).unwrap_err(), OpenError::Forged);
}

#[test]
fn a_packet_replayed_a_thousand_times_is_delivered_once() {
    let (mut seal, mut open) = pair(Cipher::ChaCha20Poly1305);
    let packet = seal.seal(epoch(), path(0), 0, &frame(1)).unwrap().packet.to_vec();
    assert!(open.open(epoch(), path(0), &packet, &mut room(&packet)).is_ok());
    for _ in 0..1_000 {
        let now = epoch() + Duration::from_secs(1);
        assert_eq!(open.open(now, path(1), &packet, &mut room(&packet)).unwrap_err(), OpenError::Replayed);
    }
    assert_eq!((open.opened(), open.drops().of(OpenError::Replayed)), (1, 1_000));
    assert_eq!(open.highest_on(path(1)), None, "a replay moves no path");
}

#[test]
fn replays_make_an_acknowledgement_due_by_time_alone() {
    let (mut seal, mut open) = pair(Cipher::ChaCha20Poly1305);
    let packet = seal.seal(epoch(), path(0), 0, &frame(1)).unwrap().packet.to_vec();
    open.open(epoch(), path(0), &packet, &mut room(&packet)).unwrap();
    open.report();
    for _ in 0..1_000 {
        open.open(epoch(), path(0), &packet, &mut room(&packet)).unwrap_err();
    }
    assert_eq!(open.ack_due_at(), Some(epoch() + ACK_DELAY));
    assert!(!open.has_news() && !open.report().is_news());
    assert_eq!(open.ack_due_at(), None);
}

#[test]
fn a_counter_that_came_before_is_answered_only_where_the_packet_opens() {
    let (mut seal, mut open) = pair(Cipher::ChaCha20Poly1305);
    let mut packet = seal.seal(epoch(), path(0), 0, &frame(1)).unwrap().packet.to_vec();
    open.open(epoch(), path(0), &packet, &mut room(&packet)).unwrap();
    open.report();
    *packet.last_mut().unwrap() ^= 1;
    assert_eq!(open.open(epoch(), path(0), &packet, &mut room(&packet)), Err(OpenError::Forged));
    assert_eq!((open.ack_due_at(), open.drops().of(OpenError::Replayed)), (None, 0));
}

#[test]
fn the_window_is_65536_wide() {
    let (mut seal, mut open) = pair(Cipher::ChaCha20Poly1305);
    let packets: Vec<Vec<u8>> =
        (0..DATA_WINDOW + 3).map(|_| seal.seal(epoch(), path(0), 0, b"").unwrap().packet.to_vec()).collect();
    let mut open_one = |counter: usize| {
        open.open(epoch(), path(0), &packets[counter], &mut room(&packets[counter])).map(|o| o.counter)
    };
    assert_eq!(open_one(DATA_WINDOW + 2), Ok(DATA_WINDOW as u64 + 2));
    assert_eq!(open_one(2), Ok(2), "exactly the window below the highest");
    assert_eq!(open_one(1), Err(OpenError::TooOld));
    assert_eq!(open_one(0), Err(OpenError::TooOld));
    assert_eq!(open_one(2), Err(OpenError::Replayed));
    for counter in (3..DATA_WINDOW + 2).rev() {
        assert_eq!(open_one(counter), Ok(counter as u64));
    }
}

#[test]
fn unknown_metadata_is_not_delivered() {
    let (mut seal, mut open) = pair(Cipher::Aes256Gcm);
    for meta in 0..=u8::MAX {
        let packet = seal.seal(epoch(), path(0), meta, &frame(1)).unwrap().packet.to_vec();
        let result = open.open(epoch(), path(0), &packet, &mut room(&packet)).map(|opened| opened.meta);
        let known = meta & !(META_NEEDS_CHECKSUM | META_CONTINUES) == 0;
        assert_eq!(result, if known { Ok(meta) } else { Err(OpenError::Metadata) });
    }
    let end = seal.seal(epoch(), path(0), META_MOVED, &[]).unwrap().packet.to_vec();
    let mut out = room(&end);
    let opened = open.open(epoch(), path(0), &end, &mut out).unwrap();
    assert_eq!((opened.meta, opened.frame.len()), (META_MOVED, 0), "which has no frame");
    assert_eq!(seal.seal_prefixed(epoch(), path(0), &[]).unwrap_err(), SealError::NoMetadata);
}

#[test]
fn what_cannot_be_sealed_uses_no_counter() {
    let mut seal = seal_half(RingLimits::default());
    assert_eq!(seal.seal(epoch(), path(0), 0, b"frame").unwrap_err(), SealError::NoKey);
    assert_eq!(seal.run(epoch(), path(0), 1_500).unwrap_err(), SealError::NoKey);

    seal.install(epoch(), seal_key(Cipher::ChaCha20Poly1305));
    let too_large = vec![0; MAX_FRAME + 1];
    assert_eq!(seal.seal(epoch(), path(0), 0, &too_large).unwrap_err(), SealError::TooLarge);
    let late = epoch() + Duration::from_secs(180);
    assert_eq!(seal.seal(late, path(0), 0, b"frame").unwrap_err(), SealError::Expired);
    assert_eq!(seal.run(late, path(0), 1_500).unwrap_err(), SealError::Expired);
    assert_eq!(seal.next_counter(), 0);
    assert_eq!(seal.stats().ring.held, 0);

    assert_eq!(seal.seal(epoch(), path(0), 0, &too_large[1..]).unwrap().packet.len(), 65_000);
    assert_eq!(seal.seal(late - Duration::from_nanos(1), path(0), 0, b"frame").unwrap().counter, 1);
}

#[test]
fn a_key_asks_to_be_replaced_and_then_stops() {
    let limited = || seal_key(Cipher::Aes256Gcm).with_limit(100);
    let mut seal = seal_half(RingLimits::default());
    seal.install(epoch(), limited());
    for counter in 0..200 {
        assert_eq!(seal.wants_rekey(), counter >= 100);
        assert_eq!(seal.seal(epoch(), path(0), 0, b"frame").unwrap().counter, counter);
    }
    assert_eq!(seal.seal(epoch(), path(0), 0, b"frame").unwrap_err(), SealError::Exhausted);
    seal.install(epoch(), limited());
    assert!(!seal.wants_rekey());
    assert_eq!(seal.seal(epoch(), path(0), 0, b"frame").unwrap().counter, 200, "the counter goes on");

    let mut control = ControlSeal::new();
    control.install(limited());
    for _ in 0..200 {
        control.seal(epoch(), b"body").unwrap();
    }
    assert_eq!(control.seal(epoch(), b"body").unwrap_err(), SealError::Exhausted);
    assert_eq!(control.next_counter(), 200);
}

#[test]
fn the_limits_are_those_of_the_protocol() {
    use shadowmesh_proto::session::limits::{forgery_limit, seal_limit};
    assert_eq!(seal_limit(Cipher::Aes256Gcm), 1 << 26);
    assert_eq!(seal_limit(Cipher::ChaCha20Poly1305), 1 << 60);
    assert_eq!(forgery_limit(Cipher::Aes256Gcm), 1 << 52);
    assert_eq!(forgery_limit(Cipher::ChaCha20Poly1305), 1 << 36);
    // A caller can lower them, for tests, and never raise them.
    let key = seal_key(Cipher::Aes256Gcm).with_limit(u64::MAX);
    assert!(!key.wants_rekey());
}

#[test]
fn a_key_that_saw_too_many_forgeries_is_given_up() {
    let (mut seal, _) = pair(Cipher::ChaCha20Poly1305);
    let mut open = OpenHalf::new();
    open.install(OpenKey::new(Cipher::ChaCha20Poly1305, &KEY, INDEX).with_forgery_limit(10));
    let good = seal.seal(epoch(), path(0), 0, b"frame").unwrap().packet.to_vec();
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    for _ in 0..10 {
        assert_eq!(open.open(epoch(), path(0), &forged, &mut room(&forged)).unwrap_err(), OpenError::Forged);
    }
    assert_eq!(open.open(epoch(), path(0), &good, &mut room(&good)).unwrap_err(), OpenError::WornOut);
}

#[test]
fn a_retired_key_opens_for_180_seconds() {
    let (mut seal, mut open) = pair(Cipher::ChaCha20Poly1305);
    let mut packets = (0..3).map(|_| seal.seal(epoch(), path(0), 0, b"frame").unwrap().packet.to_vec());
    let replaced = epoch() + Duration::from_secs(120);
    open.retire(INDEX, replaced);
    open.retire(INDEX, replaced + Duration::from_secs(60)); // does not prolong it
    let closes = replaced + RETIRED_KEY_LIFE;
    assert_eq!(open.next_expiry(), Some(closes));

    let before = closes - Duration::from_nanos(1);
    open.expire(before, |_| panic!("too early"));
    let mut next = |now| {
        let packet = packets.next().unwrap();
        open.open(now, path(0), &packet, &mut room(&packet)).map(drop)
    };
    assert!(next(before).is_ok());
    assert_eq!(next(closes).unwrap_err(), OpenError::Retired);
    let mut gone = Vec::new();
    open.expire(closes, |index| gone.push(index));
    assert_eq!(gone, [INDEX]);
    let packet = packets.next().unwrap();
    let refused = open.open(closes, path(0), &packet, &mut room(&packet)).unwrap_err();
    assert_eq!(refused, OpenError::UnknownIndex);
}

#[test]
fn the_keys_kept_are_bounded_and_the_proven_one_outlives_failed_rekeys() {
    let mut open = OpenHalf::new();
    let cipher = Cipher::ChaCha20Poly1305;
    let (mut seal, _) = pair(cipher);
    open.install(OpenKey::new(cipher, &KEY, INDEX));
    let mut opens = |open: &mut OpenHalf| {
        let sealed = seal.seal(epoch(), path(0), 0, b"frame").unwrap();
        open.open(epoch(), path(0), sealed.packet, &mut room(sealed.packet)).is_ok()
    };
    assert!(opens(&mut open));
    let mut evicted = Vec::new();
    for attempt in 0..100 {
        // Rekeys that come to nothing: installed, never used.
        evicted.extend(open.install(OpenKey::new(cipher, &[9; 32], ReceiverIndex(attempt))));
        assert!(open.indices().count() <= 8);
        assert!(opens(&mut open));
    }
    assert_eq!(evicted, (0..93).map(ReceiverIndex).collect::<Vec<_>>());
}

#[test]
fn a_run_is_contiguous_equal_and_opens_packet_by_packet() {
    for cipher in CIPHERS {
        let (mut seal, mut open) = pair(cipher);
        let frames: Vec<Vec<u8>> =
            (0..40).map(|at| vec![at as u8; if at == 39 { 200 } else { 1_400 }]).collect();
        let mut run = seal.run(epoch(), path(0), 60_000).unwrap();
        for frame in &frames {
            assert_eq!(run.push(META_CONTINUES, frame), Ok(Fit::Taken));
        }
        assert_eq!(run.push(0, b"a short one came before"), Ok(Fit::Full));
        let run = run.finish();
        assert_eq!((run.first, run.packets, run.segment), (0, 40, 1_400 + DATA_OVERHEAD));
        assert_eq!(run.bytes.len(), 39 * run.segment + 200 + DATA_OVERHEAD);
        for ((counter, frame), packet) in (0..).zip(&frames).zip(run.bytes.chunks(run.segment)) {
            let mut out = room(packet);
            let opened = open.open(epoch(), path(0), packet, &mut out).unwrap();
            assert_eq!((opened.counter, &opened.frame[..]), (counter, &frame[..]));
        }
    }
}

proptest! {
    /// Frames of any sizes, in as many runs as it takes: nothing is lost between runs, and each is what one call can send.
    #[test]
    fn runs_take_everything(sizes in prop::collection::vec(prop_oneof![Just(1_400usize), 0usize..3_000, 30_000usize..64_000], 1..200)) {
        let (mut seal, mut open) = pair(Cipher::ChaCha20Poly1305);
        let mut pending = sizes.iter().enumerate().map(|(at, size)| vec![at as u8; *size]).peekable();
        let mut delivered = Vec::new();
        while let Some(frame) = pending.peek() {
            let mut run = seal.run(epoch(), path(0), frame.len() + DATA_OVERHEAD).unwrap();
            while let Some(frame) = pending.peek() {
                let plaintext = [&[0], &frame[..]].concat();
                match run.push_prefixed(&plaintext).unwrap() {
                    Fit::Taken => { pending.next(); }
                    Fit::Full => break,
                }
            }
            let run = run.finish();
            prop_assert!(run.packets > 0, "a run takes one packet at least");
            prop_assert!(run.packets <= 64 && run.bytes.len() <= RUN_BYTES);
            prop_assert_eq!(run.bytes.chunks(run.segment).count(), run.packets);
            for packet in run.bytes.chunks(run.segment) {
                delivered.push(open.open(epoch(), path(0), packet, &mut room(packet)).unwrap().frame.len());
            }
        }
        prop_assert_eq!(delivered, sizes);
    }
}

#[test]
fn a_run_ends_at_64_packets_and_at_as_many_bytes_as_a_call_takes() {
    let (mut seal, _) = pair(Cipher::ChaCha20Poly1305);
    for (size, expected) in [(60, 64), (990, 64), (991, 63), (1_400, 45), (MAX_FRAME, 1)] {
        let mut run = seal.run(epoch(), path(0), 65_535).unwrap();
        while run.push(0, &vec![0; size]).unwrap() == Fit::Taken {}
        assert_eq!(run.finish().packets, expected, "frames of {size} bytes");
    }
}

/// The bytes on the wire, from an independent implementation (`tests/vectors/transport.py`).
#[test]
fn known_answers() {
    let cases: serde_json::Value = serde_json::from_str(include_str!("../vectors/transport.json")).unwrap();
    let hex = |case: &serde_json::Value, field: &str| {
        data_encoding::HEXLOWER.decode(case[field].as_str().unwrap().as_bytes()).unwrap()
    };
    let cases = cases.as_array().unwrap();
    let mut seen = Vec::new();
    for case in cases {
        let cipher = Cipher::from_bit(case["cipher"].as_u64().unwrap().try_into().unwrap()).unwrap();
        let key: [u8; 32] = hex(case, "key").try_into().unwrap();
        let index = ReceiverIndex(case["receiver"].as_u64().unwrap().try_into().unwrap());
        let counter: u64 = case["counter"].as_str().unwrap().parse().unwrap();
        let (plaintext, packet) = (hex(case, "plaintext"), hex(case, "packet"));
        let name = case["type"].as_str().unwrap();
        seen.push((cipher, name == "data"));

        let later = epoch() + Duration::from_secs(180);
        let seal_key = || SealKey::new(cipher, &key, index, epoch(), later);
        if name == "data" {
            let mut open = OpenHalf::new();
            open.install(OpenKey::new(cipher, &key, index));
            let mut out = room(&packet);
            let opened = open.open(epoch(), path(0), &packet, &mut out).unwrap();
            assert_eq!((opened.counter, opened.meta), (counter, plaintext[0]));
            assert_eq!(&opened.frame[..], &plaintext[1..]);

            // Counters begin at 0 and cannot be set, so sealing is compared where the vector's counter is small.
            if counter < 1_000 {
                let mut seal = seal_half(RingLimits::default());
                seal.install(epoch(), seal_key());
                for _ in 0..counter {
                    seal.seal(epoch(), path(0), 0, b"before").unwrap();
                }
                assert_eq!(seal.seal_prefixed(epoch(), path(0), &plaintext).unwrap().packet, packet);
            }
        } else {
            let mut open = ControlOpen::new();
            open.install(OpenKey::new(cipher, &key, index));
            let mut received = packet.clone();
            let opened = open.open(epoch(), &mut received).unwrap();
            assert_eq!((opened.counter, opened.body), (counter, &plaintext[..]));
            if counter < 1_000 {
                let mut seal = ControlSeal::new();
                seal.install(seal_key());
                for _ in 0..counter {
                    seal.seal(epoch(), b"before").unwrap();
                }
                assert_eq!(seal.seal(epoch(), &plaintext).unwrap(), packet);
            }
        }
    }
    for cipher in CIPHERS {
        assert!(
            seen.contains(&(cipher, true)) && seen.contains(&(cipher, false)),
            "both kinds of {cipher:?}"
        );
    }
}
