//! Copies of data packets, as the simulator sees them leave and come: what the program says of its moves is held against this.
//!
//! A packet that leaves its node a second time was sent again, by whatever path; one that comes to a node a second time came twice.
//! Packets that travel in pieces are counted when their first piece leaves, and not as having come.

use super::ledger::{Identity, Ledger, Life};
use super::losses::{Losses, PacketName, Piece};
use shadowmesh_proto::wire::relay::{Forward, StreamMessage};
use std::collections::{BTreeMap, HashSet};

/// The book.
#[derive(Debug, Default)]
pub(super) struct Copies {
    left: HashSet<PacketName>,
    came: HashSet<PacketName>,
    again: BTreeMap<(Life, Identity), u64>,
    twice: BTreeMap<(Life, Identity), u64>,
}

impl Copies {
    /// A node hands this over, to a socket of any kind.
    pub(super) fn on_left(&mut self, ledger: &Ledger, piece: &Piece) {
        if piece.is_first()
            && !self.left.insert(piece.name)
            && let Some(direction) = ledger.direction(piece.name.key)
        {
            *self.again.entry(direction).or_default() += 1;
        }
    }

    /// This came to the node that it is for.
    pub(super) fn on_came(&mut self, ledger: &Ledger, piece: &Piece) {
        if piece.is_whole()
            && !self.came.insert(piece.name)
            && let Some(direction) = ledger.direction(piece.name.key)
        {
            *self.twice.entry(direction).or_default() += 1;
        }
    }

    /// Packets that came, and that their receiver had no key for, or no use.
    pub(super) fn refused<'a>(&'a self, losses: &'a Losses) -> impl Iterator<Item = &'a PacketName> {
        self.came.iter().filter(|name| !losses.has_arrived(name))
    }

    /// How many packets of a direction left, and came whole, for people.
    pub(super) fn story(&self, ledger: &Ledger, direction: (Life, Identity)) -> String {
        let count = |names: &HashSet<PacketName>| {
            names.iter().filter(|name| ledger.direction(name.key) == Some(direction)).count()
        };
        format!("{} packets left, {} came whole", count(&self.left), count(&self.came))
    }

    /// Packets of a direction that left once more.
    pub(super) fn again(&self, direction: (Life, Identity)) -> u64 {
        self.again.get(&direction).copied().unwrap_or_default()
    }

    /// Packets of a direction that came a second time.
    pub(super) fn twice(&self, direction: (Life, Identity)) -> u64 {
        self.twice.get(&direction).copied().unwrap_or_default()
    }
}

/// Data packets in a message of a stream.
pub(super) fn in_message(message: &[u8]) -> Vec<Piece> {
    let Ok(StreamMessage::Forward(forward)) = StreamMessage::parse(message) else { return vec![] };
    in_forward(&forward)
}

fn in_forward(forward: &Forward<'_>) -> Vec<Piece> {
    forward.packets().filter_map(Piece::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadowmesh_proto::ids::{ChannelId, ReceiverIndex};
    use shadowmesh_proto::session::fragment::pieces;
    use shadowmesh_proto::wire::header::{Header, PacketType};
    use shadowmesh_proto::wire::relay::ForwardBuilder;

    #[test]
    fn a_packet_counts_once_however_it_is_cut_and_each_copy_of_it_once_more() {
        let direction = (Life(0), Identity(1));
        let mut ledger = Ledger::default();
        ledger.name_key(7, direction.0, direction.1);
        let packet = |counter| {
            let mut packet =
                Header { kind: PacketType::Data, receiver: ReceiverIndex(7), counter }.to_bytes().to_vec();
            packet.resize(1400, 0);
            packet
        };
        let mut copies = Copies::default();
        let mut builder = ForwardBuilder::new(ChannelId(0), vec![]);
        assert!([1, 2].into_iter().all(|counter| builder.push(&packet(counter))));
        let message = builder.finish();
        for piece in in_message(&message) {
            copies.on_left(&ledger, &piece);
            copies.on_came(&ledger, &piece);
        }
        assert_eq!((copies.again(direction), copies.twice(direction)), (0, 0));
        let cut = packet(1);
        for (head, text) in pieces(&cut, Some(600)).unwrap() {
            copies.on_left(&ledger, &Piece::of(&[&head[..], text].concat()).unwrap());
        }
        copies.on_came(&ledger, &Piece::of(&packet(2)).unwrap());
        assert_eq!((copies.again(direction), copies.twice(direction)), (1, 1));
    }
}
