//! Copies of data packets that wires lost, and which of the packets nobody had to send again.
//!
//! A packet is known by its receiver index and counter, which it keeps whatever path it takes and however often it is sent, whole or
//! in pieces. Who had it to send to whom is said by the key ([`super::ledger::Ledger::name_key`]). What arrived once is no loss,
//! whatever became of its other copies.
//!
//! A path is not repaired for single losses (protocol §7.6): a packet of which a wire lost the only copy may be missing. So may one that
//! went into a hole when that was about to end, or was turned away where the next was let in: nobody can have noticed. Everything else has to come out in the end: what a router turned
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
    name: PacketName,
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

/// The book.
#[derive(Debug, Default)]
pub(super) struct Losses {
    lost: BTreeMap<PacketName, Vec<Lost>>,
    parts: BTreeMap<PacketName, Parts>,
    arrived: HashSet<PacketName>,
    turned_away: BTreeMap<(SocketAddr, SocketAddr), Vec<(Instant, PacketName)>>,
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

    /// A router turned a copy away on its way from one address to another.
    pub(super) fn on_turned_away(&mut self, now: Instant, way: (SocketAddr, SocketAddr), datagram: &[u8]) {
        self.on_lost(datagram, Cause::TurnedAway);
        if let Some(piece) = Piece::of(datagram) {
            self.turned_away.entry(way).or_default().push((now, piece.name));
        }
    }

    /// A datagram came through where others may have been turned away: by a firewall that forgot what it knew, say, and whose host said
    /// something since. Silence that was shorter than `noticed` is none.
    pub(super) fn on_let_in(&mut self, now: Instant, way: (SocketAddr, SocketAddr), noticed: Duration) {
        let turned_away = self.turned_away.remove(&way).unwrap_or_default();
        for (_, name) in turned_away.into_iter().filter(|(at, _)| now < *at + noticed) {
            let lost = self.lost.get_mut(&name).into_iter().flatten();
            lost.filter(|one| one.cause == Cause::TurnedAway).for_each(|one| one.cause = Cause::Unnoticed);
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
        if piece.is_last && piece.part.start == 0 {
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
            let is_excused = |one: &Lost| matches!(one.cause, Cause::Chance | Cause::Unnoticed);
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
