//! Copies of data packets that wires lost, and which of the packets nobody had to send again.
//!
//! A packet is known by its receiver index and counter, which it keeps whatever path it takes and however often it is sent, whole or
//! in pieces. Who had it to send to whom is said by the key ([`super::ledger::Ledger::name_key`]). What arrived once is no loss,
//! whatever became of its other copies.
//!
//! A path is not repaired for single losses (protocol §7.2): a packet of which a wire lost the only copy may be missing. So may one that
//! went into a hole when that was about to end, or its sender about to stand still, or was turned away where the next was let in: nobody can have noticed. Everything else has to come out in the end: what a router turned
//! away, what was larger than its way, what went into a hole before.

use shadowmesh_proto::session::fragment::FragmentHeader;
use shadowmesh_proto::session::fragment::LIFE;
use shadowmesh_proto::wire::header::{HEADER_LEN, Header, PacketType};
use shadowmesh_proto::wire::relayed::{RELAYED, RELAYED_HEADER_LEN};
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The name of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PacketName {
    /// The receiver's index.
    pub(super) key: u32,
    pub(super) counter: u64,
}

/// A packet, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) name: PacketName,
    /// Which part of the ciphertext.
    part: Range<usize>,
    is_last: bool,
}

impl Piece {
    /// What a datagram, or a packet of a stream, has of a data packet.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let packet = match packet.first() {
            Some(&RELAYED) => packet.get(RELAYED_HEADER_LEN..)?,
            _ => packet,
        };
        let len = packet.len().checked_sub(HEADER_LEN)?;
        let (header, start, is_last) = match FragmentHeader::parse(packet) {
            Ok(piece) => (piece.packet, usize::from(piece.offset), !piece.has_more),
            Err(_) => (Header::parse(packet).ok()?, 0, true),
        };
        let name = PacketName { key: header.receiver.0, counter: header.counter };
        (header.kind == PacketType::Data).then_some(Self { name, part: start..start + len, is_last })
    }

    /// Whether it is the first piece of its packet, or all of it.
    pub(super) const fn is_first(&self) -> bool {
        self.part.start == 0
    }

    /// Whether it is all of its packet.
    pub(super) const fn is_whole(&self) -> bool {
        self.is_first() && self.is_last
    }
}

/// Why a copy was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A wire loses some.
    Chance,
    /// A wire damaged it: it came, and may have taken the place of what was good.
    Damaged,
    /// The relay did so with what came by its stream: nobody asks for it again, for streams lose nothing.
    Mood,
    /// The relay's queue for a client that does not take so much let it go for what came later.
    Displaced,
    /// Nobody is there any more, or not yet again.
    Ended,
    /// It went nowhere for a time that ended before anybody can have noticed.
    Unnoticed,
    /// It went into a hole.
    Hole,
    /// No router knows it, or it is filtered.
    TurnedAway,
    /// It was larger than its way.
    TooLarge,
    /// A stopped process had no room for more.
    NoRoom,
    /// The relay is down, or knows nothing of it.
    Relay,
}

#[derive(Debug)]
struct Lost {
    part: Range<usize>,
    cause: Cause,
}

/// Parts of a packet that came.
#[derive(Debug)]
struct Parts {
    since: Instant,
    parts: Vec<Range<usize>>,
    len: Option<usize>,
}

impl Parts {
    fn is_whole(&mut self) -> bool {
        self.parts.sort_unstable_by_key(|part| part.start);
        let covered =
            self.parts.iter().fold(0, |end, part| if part.start <= end { end.max(part.end) } else { end });
        self.len.is_some_and(|len| covered >= len)
    }
}

/// Packets, and when their sender notices.
type Noticed = Vec<(Instant, PacketName)>;

/// The book.
#[derive(Debug, Default)]
pub(super) struct Losses {
    lost: BTreeMap<PacketName, Vec<Lost>>,
    parts: BTreeMap<PacketName, Parts>,
    arrived: HashSet<PacketName>,
    /// What nodes sent into holes, and when each notices.
    in_holes: BTreeMap<usize, Noticed>,
    turned_away: BTreeMap<(SocketAddr, SocketAddr), Vec<(Instant, PacketName)>>,
    /// What the relay passed on, from whom to whom, to an address where nobody was any more.
    unmapped: BTreeMap<((usize, usize), SocketAddr), Noticed>,
    swallowed: u64,
    /// Pieces that were damaged so that they are another packet's.
    pub(super) spoilt: u64,
}

impl Losses {
    /// A copy in a datagram is lost.
    pub(super) fn on_lost(&mut self, datagram: &[u8], cause: Cause) {
        if let Some(Piece { name, part, .. }) = Piece::of(datagram) {
            self.swallowed += u64::from(matches!(cause, Cause::Hole | Cause::Unnoticed));
            tracing::debug!(counter = name.counter, key = name.key, ?part, ?cause, "a copy is lost");
            self.lost.entry(name).or_default().push(Lost { part, cause });
        }
    }

    /// A copy went into a hole, as its sender notices at `noticed`.
    pub(super) fn on_hole(&mut self, now: Instant, sender: usize, noticed: Instant, datagram: &[u8]) {
        self.on_lost(datagram, Cause::Hole);
        if let Some(piece) = Piece::of(datagram) {
            let recent = self.in_holes.entry(sender).or_default();
            recent.retain(|(noticed, _)| *noticed > now);
            recent.push((noticed, piece.name));
        }
    }

    /// Packets of which a wire or a bad relay lost a copy: whether or not another arrived.
    pub(super) fn touched(&self) -> impl Iterator<Item = PacketName> {
        let may_be = |cause| {
            matches!(
                cause,
                Cause::Chance | Cause::Damaged | Cause::Mood | Cause::Displaced | Cause::Unnoticed
            )
        };
        let lost = self.lost.iter().filter(move |(_, copies)| copies.iter().any(|one| may_be(one.cause)));
        lost.map(|(name, _)| *name)
    }

    /// A node stands still: what it has not noticed yet it does not notice any more, for the hole may be gone when it goes on.
    pub(super) fn on_stopped(&mut self, now: Instant, node: usize) {
        let recent = self.in_holes.remove(&node).unwrap_or_default();
        for (_, name) in recent.into_iter().filter(|(noticed, _)| *noticed > now) {
            self.forgive(name, Cause::Hole);
        }
    }

    /// What was lost like this cannot have been noticed.
    fn forgive(&mut self, name: PacketName, cause: Cause) {
        let lost = self.lost.get_mut(&name).into_iter().flatten();
        lost.filter(|one| one.cause == cause).for_each(|one| one.cause = Cause::Unnoticed);
    }

    /// A router turned a copy away on its way from one address to another.
    pub(super) fn on_turned_away(&mut self, now: Instant, way: (SocketAddr, SocketAddr), datagram: &[u8]) {
        self.on_lost(datagram, Cause::TurnedAway);
        if let Some(piece) = Piece::of(datagram) {
            self.turned_away.entry(way).or_default().push((now, piece.name));
        }
    }

    /// The relay passed on a copy, from one node to another, to an address where a router knows nobody any more, as its sender notices at
    /// `noticed`.
    pub(super) fn on_unmapped(
        &mut self,
        noticed: Instant,
        way: Option<(usize, usize)>,
        to: SocketAddr,
        datagram: &[u8],
    ) {
        self.on_lost(datagram, Cause::TurnedAway);
        if let (Some(piece), Some(way)) = (Piece::of(datagram), way) {
            self.unmapped.entry((way, to)).or_default().push((noticed, piece.name));
        }
    }

    /// Something that the relay passed on came from one node to another: what did not before nobody can have noticed by now, if its receiver is
    /// known there again. (Of one that is at another address the relay has told its peers.)
    pub(super) fn on_mapped(&mut self, now: Instant, way: (usize, usize), to: SocketAddr) {
        for (noticed, name) in self.unmapped.remove(&(way, to)).unwrap_or_default() {
            if now < noticed {
                self.forgive(name, Cause::TurnedAway);
            }
        }
    }

    /// A datagram came through where others may have been turned away: by a firewall that forgot what it knew, say, and whose host said
    /// something since. Silence that was shorter than `noticed` is none.
    pub(super) fn on_let_in(&mut self, now: Instant, way: (SocketAddr, SocketAddr), noticed: Duration) {
        let turned_away = self.turned_away.remove(&way).unwrap_or_default();
        for (_, name) in turned_away.into_iter().filter(|(at, _)| now < *at + noticed) {
            self.forgive(name, Cause::TurnedAway);
        }
    }

    /// A copy is damaged on its way. What pretends to be a piece of another packet now may spoil that one, too.
    pub(super) fn on_damaged(&mut self, datagram: &[u8], damaged: &[u8]) {
        self.on_lost(datagram, Cause::Damaged);
        let names = [datagram, damaged].map(|bytes| Piece::of(bytes).map(|piece| piece.name));
        self.spoilt += u64::from(names[0] != names[1]);
    }

    /// A piece, or all of it, came out where it should.
    pub(super) fn on_arrived(&mut self, now: Instant, piece: &Piece) {
        if piece.is_whole() {
            self.arrived.insert(piece.name);
            return;
        }
        let fresh = || Parts { since: now, parts: vec![], len: None };
        let parts = self.parts.entry(piece.name).or_insert_with(fresh);
        if now.saturating_duration_since(parts.since) > LIFE {
            *parts = fresh();
        }
        parts.parts.push(piece.part.clone());
        parts.len = parts.len.or_else(|| piece.is_last.then_some(piece.part.end));
        if parts.is_whole() {
            self.parts.remove(&piece.name);
            self.arrived.insert(piece.name);
        }
    }

    /// Whether it came out of a session where it should, or would have.
    pub(super) fn has_arrived(&self, name: &PacketName) -> bool {
        self.arrived.contains(name)
    }

    /// Copies that went into holes.
    pub(super) const fn swallowed(&self) -> u64 {
        self.swallowed
    }

    /// Packets that did not arrive, and whether that is nobody's fault: of each part one copy was lost, by chance or unnoticed. What was
    /// sent again had to arrive, where wires lose nothing by chance (`is_exact`).
    pub(super) fn missing(&self, is_exact: bool) -> impl Iterator<Item = (PacketName, bool)> {
        let is_damaged = |lost: &[Lost]| lost.iter().any(|one| one.cause == Cause::Damaged);
        let missing =
            self.lost.iter().filter(move |(name, lost)| !self.arrived.contains(name) || is_damaged(lost));
        missing.map(move |(name, lost)| {
            let is_single = lost.iter().enumerate().all(|(at, one)| {
                lost.iter()
                    .take(at)
                    .all(|other| other.part.end <= one.part.start || one.part.end <= other.part.start)
            });
            let is_excused = |one: &Lost| match one.cause {
                Cause::Chance | Cause::Unnoticed => true,
                // Where wires lose nothing it is sent again.
                Cause::Displaced => !is_exact,
                Cause::Damaged
                | Cause::Mood
                | Cause::Ended
                | Cause::Hole
                | Cause::TurnedAway
                | Cause::TooLarge
                | Cause::NoRoom
                | Cause::Relay => false,
            };
            let is_spoilt = lost.iter().any(|one| matches!(one.cause, Cause::Mood | Cause::Damaged));
            (*name, is_spoilt || (lost.iter().all(is_excused) && (is_single || !is_exact)))
        })
    }

    /// What became of the copies of a packet, for people.
    pub(super) fn story(&self, name: PacketName) -> String {
        let causes: Vec<_> = self.lost.get(&name).into_iter().flatten().map(|lost| lost.cause).collect();
        format!("packet {} of {:08x}: {causes:?}", name.counter, name.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadowmesh_proto::ids::ReceiverIndex;
    use shadowmesh_proto::session::fragment::pieces;

    fn packet(counter: u64) -> Vec<u8> {
        let header = Header { kind: PacketType::Data, receiver: ReceiverIndex(7), counter };
        let mut packet = header.to_bytes().to_vec();
        packet.resize(1400, 0);
        packet
    }

    fn excused(losses: &Losses) -> Vec<bool> {
        losses.missing(true).map(|(_, is_excused)| is_excused).collect()
    }

    #[test]
    fn what_arrived_by_another_copy_is_no_loss_and_what_was_sent_again_is_nobodys_excuse() {
        let now = Instant::now();
        let mut losses = Losses::default();
        losses.on_lost(&packet(1), Cause::Unnoticed);
        assert_eq!(excused(&losses), [true]);
        losses.on_lost(&packet(1), Cause::Unnoticed);
        assert_eq!(excused(&losses), [false]);
        losses.on_arrived(now, &Piece::of(&packet(1)).unwrap());
        losses.on_arrived(now, &Piece::of(&packet(2)).unwrap());
        losses.on_lost(&packet(2), Cause::TurnedAway);
        assert!(excused(&losses).is_empty());
        losses.on_lost(&packet(3), Cause::TurnedAway);
        assert_eq!(excused(&losses), [false]);
    }

    #[test]
    fn who_stands_still_does_not_notice_what_just_went_into_a_hole() {
        let now = Instant::now();
        let mut losses = Losses::default();
        let noticed = Duration::from_millis(500);
        losses.on_hole(now, 0, now + noticed, &packet(1));
        losses.on_hole(now, 1, now + noticed, &packet(2));
        losses.on_stopped(now + noticed, 0);
        losses.on_stopped(now + noticed / 2, 1);
        assert_eq!(excused(&losses), [false, true]);
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 1], port))
    }

    #[test]
    fn what_went_to_a_forgotten_address_is_excused_where_the_next_comes_before_anybody_noticed() {
        let now = Instant::now();
        let noticed = now + Duration::from_millis(500);
        for (comes, is_excused) in [(noticed - Duration::from_millis(1), true), (noticed, false)] {
            let mut losses = Losses::default();
            let (there, elsewhere) = (address(1), address(2));
            losses.on_unmapped(noticed, Some((0, 1)), there, &packet(1));
            losses.on_mapped(comes, (1, 0), there);
            losses.on_mapped(comes, (0, 1), elsewhere);
            assert_eq!(excused(&losses), [false]);
            losses.on_mapped(comes, (0, 1), there);
            assert_eq!(excused(&losses), [is_excused]);
        }
    }

    #[test]
    fn pieces_arrive_when_all_of_them_did_in_time() {
        let now = Instant::now();
        let mut losses = Losses::default();
        let cut = |counter| -> Vec<Vec<u8>> {
            let packet = packet(counter);
            pieces(&packet, Some(600)).unwrap().map(|(head, text)| [&head[..], text].concat()).collect()
        };
        for counter in [1, 2] {
            let [first, second, third] = cut(counter).try_into().unwrap();
            losses.on_lost(&second, Cause::Chance);
            losses.on_arrived(now, &Piece::of(&third).unwrap());
            losses.on_arrived(now, &Piece::of(&first).unwrap());
            assert_eq!(excused(&losses), [true]);
            let late = if counter == 1 { Duration::ZERO } else { LIFE + Duration::from_millis(1) };
            losses.on_arrived(now + late, &Piece::of(&second).unwrap());
            assert_eq!(excused(&losses).len(), usize::from(counter == 2));
        }
    }
}
