//! The pairs: which two clients share a channel, and how far each has come.

use crate::core::ConnId;
use crate::core::forward::PairMeter;
use shadowmesh_proto::ids::{ChannelId, NodeId};
use std::collections::HashMap;
use std::sync::Arc;

/// One end of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its connection.
    pub conn: ConnId,
    /// Its key.
    pub node: NodeId,
    /// It said that its session with the other end is confirmed.
    pub confirmed: bool,
}

/// Two clients that were introduced to each other.
#[derive(Debug)]
pub struct Pair {
    ends: [End; 2],
    /// Drawn when both ends said CONFIRMED: names the introduction in everybody's log.
    pub session: Option<[u8; 16]>,
    /// What passed between them.
    pub meter: Arc<PairMeter>,
}

impl Pair {
    /// The ends as (`conn`, the other one); `None` when `conn` is neither.
    pub fn seen_from(&self, conn: ConnId) -> Option<(&End, &End)> {
        let [a, b] = &self.ends;
        if a.conn == conn {
            Some((a, b))
        } else if b.conn == conn {
            Some((b, a))
        } else {
            None
        }
    }

    /// `conn` says CONFIRMED; whether that completes the pair for the first time.
    pub fn confirm(&mut self, conn: ConnId) -> bool {
        for end in &mut self.ends {
            end.confirmed |= end.conn == conn;
        }
        self.session.is_none() && self.ends.iter().all(|end| end.confirmed)
    }
}

/// All pairs by their channel.
#[derive(Debug, Default)]
pub struct Pairs {
    pairs: HashMap<ChannelId, Pair>,
    last: u32,
}

/// How many pairs there are, by what carries their data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PairCounts {
    /// Both ends confirmed, and the channel is in use.
    pub relayed: usize,
    /// Both ends confirmed, and no data came since one said RELEASE.
    pub direct: usize,
    /// Introduced, not both confirmed.
    pub meeting: usize,
}

impl Pairs {
    /// Pairs the two ends and numbers their channel.
    ///
    /// Numbers go up and are not used again until all 2^32 were, so a message for a channel that has just ended cannot reach
    /// another pair.
    pub fn open(&mut self, a: (ConnId, NodeId), b: (ConnId, NodeId)) -> (ChannelId, Arc<PairMeter>) {
        let channel = loop {
            self.last = self.last.wrapping_add(1);
            let channel = ChannelId(self.last);
            if !self.pairs.contains_key(&channel) {
                break channel;
            }
        };
        let end = |(conn, node)| End { conn, node, confirmed: false };
        let meter = Arc::new(PairMeter::default());
        let pair = Pair { ends: [end(a), end(b)], session: None, meter: Arc::clone(&meter) };
        self.pairs.insert(channel, pair);
        (channel, meter)
    }

    /// The pair of `channel`, if `conn` is one of its ends.
    pub fn of(&self, channel: ChannelId, conn: ConnId) -> Option<&Pair> {
        let pair = self.pairs.get(&channel)?;
        pair.seen_from(conn).map(|_| pair)
    }

    /// The pair of `channel`, if `conn` is one of its ends.
    pub fn of_mut(&mut self, channel: ChannelId, conn: ConnId) -> Option<&mut Pair> {
        let pair = self.pairs.get_mut(&channel)?;
        pair.seen_from(conn)?;
        Some(pair)
    }

    /// Ends the pair of `channel`.
    pub fn close(&mut self, channel: ChannelId) -> Option<Pair> {
        self.pairs.remove(&channel)
    }

    /// Counts them.
    pub fn count(&self) -> PairCounts {
        let mut counts = PairCounts::default();
        for pair in self.pairs.values() {
            match (pair.session, pair.meter.is_dormant()) {
                (None, _) => counts.meeting += 1,
                (Some(_), true) => counts.direct += 1,
                (Some(_), false) => counts.relayed += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(number: u8) -> (ConnId, NodeId) {
        (ConnId(u64::from(number)), NodeId([number; 32]))
    }

    #[test]
    fn a_channel_belongs_to_its_two_ends_only() {
        let mut pairs = Pairs::default();
        let (channel, _) = pairs.open(end(1), end(2));
        assert!(pairs.of(channel, ConnId(1)).is_some());
        assert!(pairs.of(channel, ConnId(2)).is_some());
        assert!(pairs.of(channel, ConnId(3)).is_none());
        assert!(pairs.of_mut(channel, ConnId(3)).is_none());
    }

    #[test]
    fn numbers_wrap_around_those_in_use() {
        let mut pairs = Pairs { last: u32::MAX - 1, ..Pairs::default() };
        let numbers: Vec<u32> = (0..3).map(|_| pairs.open(end(1), end(2)).0.0).collect();
        assert_eq!(numbers, [u32::MAX, 0, 1]);
        pairs.last = u32::MAX - 1;
        assert_eq!(pairs.open(end(1), end(2)).0, ChannelId(2));
    }

    #[test]
    fn a_pair_is_complete_once() {
        let mut pairs = Pairs::default();
        let (channel, _) = pairs.open(end(1), end(2));
        let pair = pairs.of_mut(channel, ConnId(1)).unwrap();
        assert!(!pair.confirm(ConnId(1)));
        assert!(!pair.confirm(ConnId(1)));
        assert!(pair.confirm(ConnId(2)));
        pair.session = Some([0; 16]);
        assert!(!pair.confirm(ConnId(2)));
    }
}
