//! Direct TCP connections of a simulated world: SYNs on their way, and streams that run.
//!
//! A SYN passes a router as a datagram does ([`super::net`]). Two that cross make one connection, as one that reaches a listener does;
//! the end that was opened for a peer is told so, the other has to find out who came.

use super::ledger::Life;
use super::line::Line;
use super::net::{Narrow, Place};
use shadowmesh_proto::transmit::TcpLink;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) node: usize,
    /// The process that has it.
    pub(super) life: Life,
    pub(super) link: TcpLink,
    /// What this end says.
    pub(super) out: Line<Vec<u8>>,
    /// When this end learns that the other is gone.
    pub(super) closes: Option<Instant>,
    /// It was told that it is there, and not that it is gone.
    pub(super) is_open: bool,
}

/// Every connection.
#[derive(Debug)]
pub(super) struct Connections {
    opened: u64,
    narrow: Narrow,
    pub(super) all: BTreeMap<u64, [End; 2]>,
}

/// Who opens a connection to whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) node: usize,
    pub(super) life: Life,
    /// How it looks to the other.
    pub(super) seen: SocketAddr,
}

impl Default for Connections {
    fn default() -> Self {
        Self { opened: 0, narrow: Narrow::NOT, all: BTreeMap::new() }
    }
}

impl Connections {
    /// See [`Line::narrow`]; all of them, and those that come.
    pub(super) fn narrow(&mut self, narrow: Narrow) {
        self.narrow = narrow;
        let ends = self.all.values_mut().flatten();
        ends.for_each(|end| end.out.narrow(narrow.from(Place::Node(end.node))));
    }

    /// Makes a connection, which takes so many bytes a second; its number, unless there is one between the two addresses.
    pub(super) fn open(
        &mut self,
        now: Instant,
        ends: [Caller; 2],
        latency: Duration,
        jitter: Duration,
        rate: Option<u32>,
    ) -> Option<u64> {
        let [a, b] = ends;
        let is_there = |pair: &[End; 2]| {
            let between = |x: Caller, y: Caller| {
                pair[0].node == x.node && pair[0].link.remote == y.seen && pair[1].link.remote == x.seen
            };
            between(a, b) || between(b, a)
        };
        if self.all.values().any(is_there) {
            return None;
        }
        self.opened += 1;
        let number = self.opened;
        let narrow = self.narrow;
        let end = |own: Caller, other: Caller| {
            let mut out = Line::new(now, latency, jitter).with_rate(rate);
            out.narrow(narrow.from(Place::Node(own.node)));
            End {
                node: own.node,
                life: own.life,
                link: TcpLink { number, remote: other.seen },
                out,
                closes: None,
                is_open: false,
            }
        };
        self.all.insert(number, [end(a, b), end(b, a)]);
        Some(number)
    }

    /// The end of a connection that a node has, and the other.
    pub(super) fn ends(&mut self, number: u64, node: usize) -> Option<(&mut End, &mut End)> {
        let [a, b] = self.all.get_mut(&number)?;
        if a.node == node { Some((a, b)) } else { Some((b, a)) }
    }

    /// A node ends its side: at once, or when what it said has arrived.
    pub(super) fn end(&mut self, now: Instant, number: u64, node: usize, at_once: bool, latency: Duration) {
        let Some((own, other)) = self.ends(number, node) else { return };
        own.is_open = false;
        let arrives = if at_once { now + latency } else { own.out.last_arrival().max(now + latency) };
        other.closes = Some(other.closes.map_or(arrives, |at| at.min(arrives)));
    }

    /// Those in which a node still is.
    pub(super) fn of(&self, node: usize) -> Vec<u64> {
        let is_of = |pair: &[End; 2]| pair.iter().any(|end| end.node == node && end.is_open);
        self.all.iter().filter(|(_, pair)| is_of(pair)).map(|(number, _)| *number).collect()
    }

    /// When something next arrives at an end that is open, whose node reads not before `reads` says.
    pub(super) fn next_arrival(&self, reads: impl Fn(usize) -> Option<Instant>) -> Option<Instant> {
        let of_pair = |[a, b]: &[End; 2]| {
            let due = |own: &End, other: &End| {
                if !own.is_open {
                    return None;
                }
                let due = own.closes.into_iter().chain(other.out.next_arrival()).min()?;
                Some(due.max(reads(own.node)?))
            };
            due(a, b).into_iter().chain(due(b, a)).min()
        };
        self.all.values().filter_map(of_pair).min()
    }

    /// Forgets connections that nobody has any more. One whose end was not told yet that it is there stays.
    pub(super) fn sweep(&mut self) {
        self.all.retain(|_, [a, b]| a.is_open || b.is_open || a.closes.is_none() && b.closes.is_none());
    }
}
