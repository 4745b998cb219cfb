//! Sealed packets in pieces, for paths that do not carry them whole (protocol §5.4).
//!
//! ```text
//!  0       1       2               4               8                               16
//!  +-------+-------+---------------+---------------+-------------------------------+-----------
//!  | 0xc2  | flags |    offset     | receiver index|            counter            | ciphertext from there on
//!  +-------+-------+---------------+---------------+-------------------------------+-----------
//! ```
//!
//! Index and counter are those of the packet. Flags: bit 0 *more follows*, bit 1 *of a CONTROL packet*. What is cut is the
//! ciphertext, so nothing is sealed twice under one counter; what was put together is opened like any packet. A piece proves nothing
//! of itself: somebody who saw an index and guesses a counter can spoil a packet, as somebody on the way can anyway, and makes
//! this node hold a bounded number of bytes for a bounded time.
//!
//! # Invariants
//!
//! - Pieces of one packet are of one size but the last, as UDP GSO wants them.
//! - At most [`PARTIALS`] packets and [`BYTES`] bytes are held, and of one owner a quarter of each; the oldest of whoever holds most is
//!   dropped first, and none is held longer than [`LIFE`]. What is held is what came: a piece costs its own bytes.
//! - What a piece costs does not grow with how many packets became whole before: their places in the order are cleared away once they
//!   are most of it.
//! - Pieces may come in any order and more than once. One that overlaps another in part ends its packet.

use crate::ids::ReceiverIndex;
use crate::wire::codec::WireError;
use crate::wire::header::{HEADER_LEN, Header, PacketType};
use crate::wire::packet::MAX_PACKET;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Packets of which some pieces came.
pub const PARTIALS: usize = 512;
/// Bytes of them.
pub const BYTES: usize = 2 << 20;
/// How long the rest is waited for. Pieces leave together, but a machine that stood still has the second one yet to read (RFC 8200 §4.5 has
/// the same minute). What comes meanwhile takes the place of the oldest.
pub const LIFE: Duration = Duration::from_secs(60);
/// Pieces of one packet: the largest packet on the narrowest path has fewer.
const PIECES: usize = 64;

const MORE: u8 = 1;
const CONTROL: u8 = 2;

/// The clear part of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentHeader {
    /// That of the packet, of kind DATA or CONTROL.
    pub packet: Header,
    /// Where in its ciphertext the piece lies.
    pub offset: u16,
    /// Whether it is not the last.
    pub has_more: bool,
}

impl FragmentHeader {
    /// Reads the header at the front of `fragment`.
    ///
    /// # Errors
    /// `Truncated`, `Kind` for anything but a FRAGMENT, `Value` for unknown flags.
    pub fn parse(fragment: &[u8]) -> Result<Self, WireError> {
        let Some(([kind, flags, o0, o1, r0, r1, r2, r3, counter @ ..], _)) =
            fragment.split_first_chunk::<HEADER_LEN>()
        else {
            return Err(WireError::Truncated);
        };
        if PacketType::from_byte(*kind) != Some(PacketType::Fragment) {
            return Err(WireError::Kind(*kind));
        }
        if flags & !(MORE | CONTROL) != 0 {
            return Err(WireError::Value("fragment flags"));
        }
        let kind = if flags & CONTROL == 0 { PacketType::Data } else { PacketType::Control };
        let receiver = ReceiverIndex(u32::from_be_bytes([*r0, *r1, *r2, *r3]));
        Ok(Self {
            packet: Header { kind, receiver, counter: u64::from_be_bytes(*counter) },
            offset: u16::from_be_bytes([*o0, *o1]),
            has_more: flags & MORE != 0,
        })
    }

    /// The 16 bytes.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = Header { kind: PacketType::Fragment, ..self.packet }.to_bytes();
        let control = if self.packet.kind == PacketType::Control { CONTROL } else { 0 };
        let [o0, o1] = self.offset.to_be_bytes();
        bytes[1] = control | if self.has_more { MORE } else { 0 };
        [bytes[2], bytes[3]] = [o0, o1];
        bytes
    }
}

/// The pieces of `packet`, where it is larger than the way carries (`room`; `None` carries everything). `None` when it goes whole, or
/// cannot be cut.
pub fn pieces(packet: &[u8], room: Option<usize>) -> Option<impl Iterator<Item = ([u8; HEADER_LEN], &[u8])>> {
    split(packet, room.filter(|room| packet.len() > *room)?)
}

/// Cuts `packet`, a DATA or CONTROL packet, into pieces of at most `room` bytes, headers included: each as its header and what
/// follows. `None` when that is not possible: `room` is too small, or `packet` no such packet.
fn split(packet: &[u8], room: usize) -> Option<impl Iterator<Item = ([u8; HEADER_LEN], &[u8])>> {
    let header = Header::parse(packet).ok()?;
    let text = packet.get(HEADER_LEN..)?;
    let most = room.checked_sub(HEADER_LEN).filter(|most| *most > 0)?;
    let pieces = text.len().div_ceil(most).max(1);
    if header.kind == PacketType::Fragment || pieces > PIECES || text.len() > usize::from(u16::MAX) {
        return None;
    }
    let size = text.len().div_ceil(pieces).max(1);
    Some(text.chunks(size).enumerate().map(move |(at, piece)| {
        let has_more = at + 1 < text.len().div_ceil(size);
        let offset = u16::try_from(at * size).unwrap_or(u16::MAX);
        (FragmentHeader { packet: header, offset, has_more }.to_bytes(), piece)
    }))
}

/// What one owner may hold of the whole.
const SHARE: usize = 4;

/// Places in the order whose packets are gone, beside as many as there are packets.
const STALE: usize = 64;

type Name = (PacketType, ReceiverIndex, u64);

/// Puts packets together.
#[derive(Debug, Default)]
pub struct Reassembler {
    partials: HashMap<Name, Partial>,
    /// In the order of their first pieces; what is not among the partials any more is passed over.
    order: VecDeque<Begun>,
    /// First pieces so far.
    begun: u64,
    bytes: usize,
    /// What each owner holds that holds any.
    owners: HashMap<u32, Owner>,
    given_up: u64,
}

/// What an owner holds.
#[derive(Debug, Default)]
struct Owner {
    packets: usize,
    bytes: usize,
    /// As the order of all.
    order: VecDeque<Begun>,
}

/// A first piece. The number tells it from another of the same name: one turn takes many pieces at one time.
#[derive(Debug, Clone, Copy)]
struct Begun {
    at: Instant,
    number: u64,
    name: Name,
}

#[derive(Debug)]
struct Partial {
    header: Header,
    owner: u32,
    /// That of its first piece.
    number: u64,
    /// Where pieces lie in the ciphertext, as they came.
    pieces: Vec<(usize, Vec<u8>)>,
    /// Bytes of them.
    bytes: usize,
    /// Bytes of the ciphertext, once its last piece came.
    total: Option<usize>,
}

impl Reassembler {
    /// Takes a piece of a packet of `owner` in; the packet when it is whole now.
    ///
    /// # Errors
    /// As [`FragmentHeader::parse`]; `Truncated` for an empty piece, `Value` for one that does not fit the others, which ends its
    /// packet.
    pub fn take(&mut self, now: Instant, owner: u32, fragment: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        let header = FragmentHeader::parse(fragment)?;
        let piece =
            fragment.get(HEADER_LEN..).filter(|piece| !piece.is_empty()).ok_or(WireError::Truncated)?;
        self.drop_old(now);
        let name = (header.packet.kind, header.packet.receiver, header.packet.counter);
        let partial = self.partials.entry(name).or_insert_with(|| {
            self.begun += 1;
            let number = self.begun;
            let begun = Begun { at: now, number, name };
            self.order.push_back(begun);
            let holds = self.owners.entry(owner).or_default();
            holds.packets += 1;
            holds.order.push_back(begun);
            Partial { header: header.packet, owner, number, pieces: Vec::new(), bytes: 0, total: None }
        });
        let (before, owner) = (partial.bytes, partial.owner);
        let added = partial.add(usize::from(header.offset), piece, header.has_more);
        let more = partial.bytes - before;
        self.bytes += more;
        self.owners.entry(owner).or_default().bytes += more;
        match added {
            Ok(true) => return Ok(self.remove(&name).map(Partial::into_packet)),
            Ok(false) => {}
            Err(error) => {
                self.remove(&name);
                self.given_up += 1;
                return Err(error);
            }
        }
        while self.is_over(owner, SHARE) {
            self.drop_oldest_of(owner);
        }
        while self.partials.len() > PARTIALS || self.bytes > BYTES {
            // Of whatever there is too much.
            let is_many = self.partials.len() > PARTIALS;
            let held = |holds: &Owner| if is_many { holds.packets } else { holds.bytes };
            let most = self.owners.iter().max_by_key(|(owner, holds)| (held(holds), **owner));
            self.drop_oldest_of(most.map_or(owner, |(most, _)| *most));
        }
        Ok(None)
    }

    /// Packets of which not all pieces came in time, or that were spoiled.
    pub const fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Bytes held.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_over(&self, owner: u32, share: usize) -> bool {
        let is_over = |holds: &Owner| holds.packets > PARTIALS / share || holds.bytes > BYTES / share;
        self.owners.get(&owner).is_some_and(is_over)
    }

    fn remove(&mut self, name: &Name) -> Option<Partial> {
        let partial = self.partials.remove(name)?;
        self.bytes -= partial.bytes;
        let partials = &self.partials;
        if let Some(holds) = self.owners.get_mut(&partial.owner) {
            holds.packets -= 1;
            holds.bytes -= partial.bytes;
            if holds.packets == 0 {
                self.owners.remove(&partial.owner);
            } else {
                compact(&mut holds.order, partials, holds.packets);
            }
        }
        if partials.is_empty() {
            self.order = VecDeque::new();
        } else {
            compact(&mut self.order, partials, partials.len());
        }
        Some(partial)
    }

    fn drop_old(&mut self, now: Instant) {
        while let Some(begun) = self.order.front()
            && (now.saturating_duration_since(begun.at) >= LIFE || held(&self.partials, begun).is_none())
        {
            self.drop_first();
        }
    }

    /// The oldest of `owner` goes; of whomever, should it hold none.
    fn drop_oldest_of(&mut self, owner: u32) {
        while let Some(begun) = self.owners.get_mut(&owner).and_then(|holds| holds.order.pop_front()) {
            if self.give_up(begun) {
                return;
            }
        }
        self.drop_first();
    }

    fn drop_first(&mut self) {
        if let Some(begun) = self.order.pop_front() {
            self.give_up(begun);
        }
    }

    /// Whether it was still there.
    fn give_up(&mut self, begun: Begun) -> bool {
        let is_held = held(&self.partials, &begun).is_some();
        if is_held {
            self.remove(&begun.name);
            self.given_up += 1;
        }
        is_held
    }
}

/// Takes out of an order what is gone, once that is more than half of it: so a place costs no more than two looks, whoever makes how many.
fn compact(order: &mut VecDeque<Begun>, partials: &HashMap<Name, Partial>, held_there: usize) {
    if order.len() > 2 * held_there + STALE {
        order.retain(|begun| held(partials, begun).is_some());
    }
}

/// The packet that began then, if it is neither whole nor given up.
fn held<'a>(partials: &'a HashMap<Name, Partial>, begun: &Begun) -> Option<&'a Partial> {
    partials.get(&begun.name).filter(|partial| partial.number == begun.number)
}

impl Partial {
    /// Whether it is whole now.
    fn add(&mut self, offset: usize, piece: &[u8], has_more: bool) -> Result<bool, WireError> {
        let end = offset + piece.len();
        let ends = |(start, piece): &(usize, Vec<u8>)| start + piece.len();
        if self.pieces.iter().any(|known| known.0 == offset && ends(known) == end) {
            return Ok(false);
        }
        let is_beyond = self.total.is_some_and(|total| end > total || (!has_more && end != total));
        let is_before = !has_more && self.pieces.iter().any(|known| ends(known) > end);
        let overlaps = self.pieces.iter().any(|known| offset < ends(known) && known.0 < end);
        let is_too_large = end > MAX_PACKET - HEADER_LEN;
        if is_beyond || is_before || overlaps || is_too_large || self.pieces.len() >= PIECES {
            return Err(WireError::Value("pieces do not fit"));
        }
        if !has_more {
            self.total = Some(end);
        }
        self.pieces.push((offset, piece.to_vec()));
        self.bytes += piece.len();
        // They do not overlap, and none lies behind the end.
        Ok(self.total == Some(self.bytes))
    }

    /// The packet that the pieces make.
    fn into_packet(mut self) -> Vec<u8> {
        self.pieces.sort_by_key(|(offset, _)| *offset);
        let mut packet = Vec::with_capacity(HEADER_LEN + self.bytes);
        packet.extend_from_slice(&self.header.to_bytes());
        self.pieces.iter().for_each(|(_, piece)| packet.extend_from_slice(piece));
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
    fn epoch() -> Instant {
        Instant::now()
    }

    fn packet(kind: PacketType, counter: u64, len: usize) -> Vec<u8> {
        let header = Header { kind, receiver: ReceiverIndex(7), counter }.to_bytes();
        let text = (0..len).map(|at| (at as u64 + counter) as u8);
        header.into_iter().chain(text).collect()
    }

    fn cut(packet: &[u8], room: usize) -> Vec<Vec<u8>> {
        split(packet, room).unwrap().map(|(header, piece)| [&header[..], piece].concat()).collect()
    }

    proptest! {
        #[test]
        fn what_is_split_comes_together_in_any_order_with_any_piece_twice(
            is_control: bool, counter in 0u64..1000, len in 17usize..4000, room in 100usize..1500, seed: u64,
        ) {
            let kind = if is_control { PacketType::Control } else { PacketType::Data };
            let packet = packet(kind, counter, len);
            let mut pieces = cut(&packet, room);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= room));
            prop_assert!(pieces.windows(2).all(|two| two[0].len() >= two[1].len()), "equal but the last");
            let mut reassembler = Reassembler::default();
            let doubled = pieces[seed as usize % pieces.len()].clone();
            let last = pieces.len();
            let shift = seed as usize % last;
            pieces.rotate_left(shift);
            let is_alone = pieces.len() == 1;
            if !is_alone && pieces.last() != Some(&doubled) {
                pieces.insert(0, doubled);
            }
            let (last, before) = pieces.split_last().unwrap();
            for piece in before {
                prop_assert_eq!(reassembler.take(epoch(), 1, piece), Ok(None));
            }
            prop_assert_eq!(reassembler.take(epoch(), 1, last), Ok(Some(packet)));
            prop_assert_eq!((reassembler.bytes(), reassembler.partials.len(), reassembler.given_up()), (0, 0, 0));
        }

        #[test]
        fn any_bytes_are_taken_or_refused_within_bounds(
            fragments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..200)
        ) {
            let (now, mut reassembler) = (epoch(), Reassembler::default());
            for mut fragment in fragments {
                if let Some(kind) = fragment.first_mut() {
                    *kind = 0xc2;
                }
                let _ = reassembler.take(now, 1, &fragment);
            }
            let held: usize = reassembler.partials.values().map(|partial| partial.bytes).sum();
            prop_assert_eq!(held, reassembler.bytes());
            prop_assert!(reassembler.bytes() <= BYTES && reassembler.partials.len() <= PARTIALS);
        }
    }

    #[test]
    fn the_wire_is_as_the_protocol_says() {
        let packet = packet(PacketType::Control, 0x0102_0304_0506_0708, 40);
        let pieces = cut(&packet, HEADER_LEN + 20);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0][..16], [0xc2, 3, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(pieces[1][..16], [0xc2, 2, 0, 20, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(pieces[1][16..], packet[36..]);
    }

    #[test]
    fn what_is_never_whole_is_dropped_after_a_while_and_in_number() {
        let (mut now, mut reassembler) = (epoch(), Reassembler::default());
        for counter in 0..10_000 {
            let first = &cut(&packet(PacketType::Data, counter, 3000), 1200)[0];
            assert_eq!(reassembler.take(now, 1, first), Ok(None));
            assert!(reassembler.partials.len() <= PARTIALS && reassembler.bytes() <= BYTES);
        }
        assert_eq!(reassembler.partials.len(), PARTIALS / SHARE);
        now += LIFE;
        let whole = packet(PacketType::Data, 20_000, 3000);
        let mut last = None;
        for piece in cut(&whole, 1200) {
            last = reassembler.take(now, 1, &piece).unwrap();
        }
        assert_eq!(last, Some(whole));
        assert_eq!((reassembler.bytes(), reassembler.given_up()), (0, 10_000));
        assert!(reassembler.order.is_empty());
    }

    #[test]
    fn whoever_floods_pushes_out_his_own() {
        let (now, mut reassembler) = (epoch(), Reassembler::default());
        let whole = packet(PacketType::Data, 1, 3000);
        let [first, middle, last] = &cut(&whole, 1200)[..] else { panic!("three pieces") };
        assert_eq!(reassembler.take(now, 1, first), Ok(None));
        let flood = |reassembler: &mut Reassembler, owners: std::ops::Range<u32>| {
            for n in 0..10_000u64 {
                let owner = owners.start + u32::try_from(n).unwrap() % (owners.end - owners.start);
                let header = Header { kind: PacketType::Data, receiver: ReceiverIndex(owner), counter: n };
                // One byte, as if it were the last but one of the largest packet.
                let far = FragmentHeader { packet: header, offset: 60_000, has_more: true }.to_bytes();
                assert_eq!(reassembler.take(now, owner, &[&far[..], &[7]].concat()), Ok(None));
                assert!(reassembler.bytes() < 10_000, "a piece costs what it is: {}", reassembler.bytes());
            }
        };
        flood(&mut reassembler, 2..3);
        assert_eq!(reassembler.take(now, 1, middle), Ok(None));
        // So many that all together have more than there is room for.
        flood(&mut reassembler, 2..50);
        assert_eq!(reassembler.take(now, 1, last), Ok(Some(whole)));
        let header = Header { kind: PacketType::Data, receiver: ReceiverIndex(7), counter: 1 };
        let beyond = FragmentHeader { packet: header, offset: 64_990, has_more: true }.to_bytes();
        assert!(reassembler.take(now, 1, &[&beyond[..], &[7]].concat()).is_err(), "no packet is so large");
    }

    #[test]
    fn packets_that_became_whole_make_no_later_piece_dearer() {
        let (now, mut reassembler) = (epoch(), Reassembler::default());
        let piece = |receiver: u32, counter: u64, offset: u16, has_more: bool| {
            let packet = Header { kind: PacketType::Data, receiver: ReceiverIndex(receiver), counter };
            [&FragmentHeader { packet, offset, has_more }.to_bytes()[..], &[7]].concat()
        };
        // Stays, and is in front of all that follows.
        assert_eq!(reassembler.take(now, 1, &piece(1, 0, 0, true)), Ok(None));
        assert_eq!(reassembler.take(now, 2, &piece(2, 99_999, 0, true)), Ok(None));
        // The same name over and over at one time as well.
        for counter in (0..10_000).chain([5; 10_000]) {
            assert_eq!(reassembler.take(now, 2, &piece(2, counter, 0, true)), Ok(None));
            assert!(reassembler.take(now, 2, &piece(2, counter, 1, false)).unwrap().is_some());
            let (order, partials) = (reassembler.order.len(), reassembler.partials.len());
            assert!(order <= 2 * partials + STALE, "{order} places of {partials} packets");
            for holds in reassembler.owners.values() {
                assert!(holds.order.len() <= 2 * holds.packets + STALE, "{holds:?}");
            }
        }
        assert!(reassembler.take(now, 2, &piece(2, 99_999, 1, false)).unwrap().is_some());
        // What was there all the time is.
        assert!(reassembler.take(now, 1, &piece(1, 0, 1, false)).unwrap().is_some());
        assert_eq!((reassembler.order.len(), reassembler.given_up()), (0, 0));
    }

    #[test]
    fn pieces_that_do_not_fit_end_their_packet() {
        let whole = packet(PacketType::Data, 1, 3000);
        let parts = cut(&whole, 1200);
        let fragment = |offset: u16, len: usize, has_more| {
            let packet = Header { kind: PacketType::Data, receiver: ReceiverIndex(7), counter: 1 };
            [&FragmentHeader { packet, offset, has_more }.to_bytes()[..], &vec![9; len]].concat()
        };
        for spoiler in [fragment(500, 1000, true), fragment(0, 10, false), fragment(0, 0, true)] {
            let (now, mut reassembler) = (epoch(), Reassembler::default());
            assert_eq!(reassembler.take(now, 1, &parts[0]), Ok(None));
            assert!(reassembler.take(now, 1, &spoiler).is_err());
            if spoiler.len() > HEADER_LEN {
                assert_eq!((reassembler.bytes(), reassembler.given_up()), (0, 1));
            }
        }
        // The end is known: nothing lies behind it.
        let (now, mut reassembler) = (epoch(), Reassembler::default());
        assert_eq!(reassembler.take(now, 1, parts.last().unwrap()), Ok(None));
        assert!(reassembler.take(now, 1, &fragment(3000, 5, true)).is_err());
        let mut unknown = parts[0].clone();
        unknown[1] |= 4;
        assert_eq!(reassembler.take(now, 1, &unknown), Err(WireError::Value("fragment flags")));
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        let packet = packet(PacketType::Data, 1, 3000);
        assert!(split(&packet, HEADER_LEN).is_none());
        assert!(split(&packet, HEADER_LEN + 46).is_none(), "more than 64 pieces");
        assert!(split(&packet[..10], 1200).is_none());
        let fragment = &cut(&packet, 1200)[0];
        assert!(split(fragment, 600).is_none(), "no pieces of pieces");
    }
}
