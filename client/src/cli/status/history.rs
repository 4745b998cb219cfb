//! What `status --watch` remembers: the round trips and the throughput of each peer, and each change of path.
//!
//! Fed with one status each second. A peer that is gone is forgotten, what it changed is not. A daemon that began anew counts from
//! nothing: then there is no throughput to tell until the next look.

use crate::control::status::{PathKind, Peer, PeerState, Status};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Samples of a peer.
const SAMPLES: usize = 300;
/// Changes of path.
const CHANGES: usize = 200;

/// Everything.
#[derive(Debug, Default)]
pub(super) struct History {
    peers: BTreeMap<String, Series>,
    changes: VecDeque<Change>,
    looked: Option<Duration>,
}

/// Of one peer, the newest last.
#[derive(Debug, Default)]
pub(super) struct Series {
    /// Round trips, milliseconds; `None` while no data passed.
    pub(super) rtt_ms: VecDeque<Option<f64>>,
    /// Bits sent and received per second.
    pub(super) rates: VecDeque<Option<(f64, f64)>>,
    sent: u64,
    received: u64,
    switches: Option<u64>,
}

impl Series {
    /// Bits sent and received per second, at last.
    pub(super) fn rate(&self) -> Option<(f64, f64)> {
        self.rates.back().copied().flatten()
    }
}

/// A change of path.
#[derive(Debug)]
pub(super) struct Change {
    /// When, seconds after the first look; before it where that is negative.
    when: i64,
    /// The peer's name.
    pub(super) peer: String,
    /// The path before.
    pub(super) from: PathKind,
    /// The path after.
    pub(super) to: PathKind,
    /// What it cost, and why it was.
    pub(super) story: String,
    /// Changes between this one and the one before that nobody saw.
    pub(super) unseen: u64,
}

impl Change {
    /// Seconds from it to `now`, a time after the first look.
    pub(super) fn age_s(&self, now: Duration) -> u64 {
        u64::try_from(seconds(now) - self.when).unwrap_or_default()
    }
}

impl History {
    /// `status` is how things are `now`, a time after the first look.
    pub(super) fn look(&mut self, now: Duration, status: &Status) {
        let since = self.looked.replace(now).map(|before| now.saturating_sub(before));
        self.peers.retain(|id, _| status.peers.iter().any(|peer| peer.id == *id));
        let mut news = Vec::new();
        for peer in &status.peers {
            let series = self.peers.entry(peer.id.clone()).or_default();
            news.extend(series.change(now, peer));
            series.sample(since, peer);
        }
        news.sort_by_key(|change| change.when);
        self.changes.extend(news);
        let surplus = self.changes.len().saturating_sub(CHANGES);
        self.changes.drain(..surplus);
    }

    /// What is known of a peer, by its id.
    pub(super) fn peer(&self, id: &str) -> Option<&Series> {
        self.peers.get(id)
    }

    /// Changes of path, the newest first.
    pub(super) fn changes(&self) -> impl ExactSizeIterator<Item = &Change> {
        self.changes.iter().rev()
    }
}

impl Series {
    fn sample(&mut self, since: Option<Duration>, peer: &Peer) {
        let is_through = peer.state == PeerState::Connected;
        push(&mut self.rtt_ms, peer.path.as_ref().filter(|_| is_through).and_then(|path| path.rtt_ms));
        let is_first = self.rates.is_empty();
        let sent = peer.tx_bytes.checked_sub(self.sent);
        let received = peer.rx_bytes.checked_sub(self.received);
        let rate = match (since.map(|since| since.as_secs_f64()), sent, received) {
            (Some(since), Some(sent), Some(received)) if !is_first && since > 0.0 => {
                Some((bits(sent) / since, bits(received) / since))
            }
            _ => None,
        };
        push(&mut self.rates, rate);
        (self.sent, self.received) = (peer.tx_bytes, peer.rx_bytes);
    }

    fn change(&mut self, now: Duration, peer: &Peer) -> Option<Change> {
        let before = self.switches.replace(peer.switches);
        let count = before.map_or(1, |before| peer.switches.checked_sub(before).unwrap_or(1));
        let switch = peer.last_switch.as_ref().filter(|_| count > 0)?;
        // The cost first: a narrow terminal cuts the end.
        let mut story = format!("lost {}", switch.lost);
        if let Some(gap) = switch.gap_ms {
            story += &format!(", silent {}", crate::cli::output::ms(gap));
        }
        story += &format!(", sent again {}; {}", switch.resent, switch.reason);
        Some(Change {
            when: seconds(now).saturating_sub(i64::try_from(switch.age_s).unwrap_or(i64::MAX)),
            peer: peer.name.clone(),
            from: switch.from,
            to: switch.to,
            story,
            unseen: if before.is_some() { count - 1 } else { 0 },
        })
    }
}

fn push<T>(series: &mut VecDeque<T>, sample: T) {
    if series.len() >= SAMPLES {
        series.pop_front();
    }
    series.push_back(sample);
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn bits(bytes: u64) -> f64 {
    bytes as f64 * 8.0
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::tests::full;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn throughput_is_what_came_between_two_looks() {
        let (mut history, mut status) = (History::default(), full());
        let id = status.peers[0].id.clone();
        let rate = |history: &History| history.peer(&id).unwrap().rate();
        history.look(at(0), &status);
        assert_eq!(rate(&history), None, "what was sent before says nothing");
        status.peers[0].tx_bytes += 1_000;
        status.peers[0].rx_bytes += 500;
        history.look(at(2), &status);
        assert_eq!(rate(&history), Some((4_000.0, 2_000.0)));
        // A daemon that began anew.
        (status.peers[0].tx_bytes, status.peers[0].rx_bytes) = (10, 20);
        history.look(at(3), &status);
        assert_eq!(rate(&history), None);
        history.look(at(4), &status);
        assert_eq!(rate(&history), Some((0.0, 0.0)));
    }

    #[test]
    fn a_round_trip_of_a_path_that_is_not_proven_is_none() {
        let (mut history, mut status) = (History::default(), full());
        history.look(at(0), &status);
        status.peers[0].state = PeerState::Connecting;
        history.look(at(1), &status);
        assert_eq!(history.peer(&status.peers[0].id).unwrap().rtt_ms, [Some(48.25), None]);
    }

    #[test]
    fn each_change_is_told_once_and_those_that_nobody_saw_are_counted() {
        let (mut history, mut status) = (History::default(), full());
        status.peers[0].switches = 3;
        status.peers[0].last_switch.as_mut().unwrap().age_s = 100;
        let ages =
            |history: &History, now| history.changes().map(|change| change.age_s(now)).collect::<Vec<_>>();
        for second in 0..5 {
            history.look(at(second), &status);
        }
        assert_eq!(ages(&history, at(5)), [105], "what was before is told too");
        status.peers[0].switches = 6;
        status.peers[0].last_switch.as_mut().unwrap().age_s = 1;
        history.look(at(6), &status);
        assert_eq!(ages(&history, at(6)), [1, 106]);
        assert_eq!(history.changes().map(|change| change.unseen).collect::<Vec<_>>(), [2, 0]);
        // A peer that is gone leaves what it changed.
        status.peers.clear();
        history.look(at(7), &status);
        assert_eq!((history.changes().len(), history.peers.len()), (2, 0));
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let (mut history, mut status) = (History::default(), full());
        for second in 0..2_000 {
            status.peers[0].switches += 1;
            history.look(at(second), &status);
        }
        let series = history.peer(&status.peers[0].id).unwrap();
        assert_eq!(
            (series.rtt_ms.len(), series.rates.len(), history.changes().len()),
            (SAMPLES, SAMPLES, CHANGES)
        );
    }
}
