//! The view of `status --watch`: lines for a terminal of any size, none wider or more than it has.
//!
//! A row for each peer with how its round trip and its throughput were lately, and below it the changes of path.

use super::history::{Change, History};
use super::paint::Paint;
use super::table::{ago, by_name, in_words, no_peers, per_cent, way};
use crate::cli::output::{self, clean};
use crate::control::status::{Peer, PeerState, Relay, Status};
use std::time::Duration;

/// Columns of the row of a peer, the spaces between them included, without what was lately.
const FIXED: usize = 12 + 1 + 13 + 1 + 8 + 1 + 6 + 1 + 8 + 1 + 8;
/// Less than that of what was lately tells nothing.
const SPARK_MIN: usize = 5;
/// Steps of a bar.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What is to be seen.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) status: &'a Status,
    pub(super) history: &'a History,
    /// The time after the first look.
    pub(super) now: Duration,
    /// Why this is not how things are now.
    pub(super) trouble: Option<&'a str>,
    /// Columns and rows of the terminal.
    pub(super) size: (usize, usize),
    /// The first peer to be shown.
    pub(super) first: usize,
    pub(super) paint: Paint,
}

impl Scene<'_> {
    /// The lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let (columns, rows) = self.size;
        let status = self.status;
        let title =
            format!("{} in network {}", clean(&status.node.name, 30), clean(&status.network.name, 30));
        let mut lines = vec![self.paint.bold(&crop(&title, columns))];
        lines.push(match self.trouble {
            Some(trouble) => self.paint.bad(&crop(&output::one_line(trouble), columns)),
            None => crop(&relays(&status.relays), columns),
        });
        lines.push(String::new());
        let body = rows.saturating_sub(lines.len() + 1);
        let changes = self.changes((body / 3).max(2));
        let room = body.saturating_sub(changes.len());
        lines.push(self.paint.bold(&self.head()));
        lines.extend(self.peers(room));
        let filled = rows.saturating_sub(changes.len());
        if !changes.is_empty() && lines.len() < filled {
            lines.resize(filled, String::new());
        }
        lines.extend(changes);
        lines.truncate(rows);
        lines
    }

    /// How many peers can be passed over.
    pub(super) fn most_passed(&self) -> usize {
        self.status.peers.len().saturating_sub(1)
    }

    /// Columns for what was lately, of each of the two; none where there is no room.
    fn spark(&self) -> Option<usize> {
        let each = (self.size.0.checked_sub(FIXED + 2)? / 2).min(60);
        (each >= SPARK_MIN).then_some(each)
    }

    fn head(&self) -> String {
        let rtt = self.spark().map(|width| format!(" {:<width$}", "")).unwrap_or_default();
        let all = format!(
            "{:<12} {:<13} {:>8}{rtt} {:>6} {:>8} {:>8}",
            "PEER", "PATH", "RTT", "LOSS", "OUT b/s", "IN b/s"
        );
        crop(&all, self.size.0)
    }

    fn peers(&self, room: usize) -> Vec<String> {
        let peers = by_name(&self.status.peers);
        if peers.is_empty() {
            return vec![crop(no_peers(self.status), self.size.0)];
        }
        let first = self.first.min(self.most_passed());
        let mut lines: Vec<String> = peers.iter().skip(first).take(room).map(|peer| self.row(peer)).collect();
        let below = peers.len().saturating_sub(first + lines.len());
        if (below > 0 || first > 0) && !lines.is_empty() {
            lines.pop();
            let hidden = peers.len() - lines.len();
            lines.push(self.paint.dim(&crop(&format!("{hidden} more: the arrows go there"), self.size.0)));
        }
        lines
    }

    fn row(&self, peer: &Peer) -> String {
        let path = peer.path.as_ref().filter(|_| peer.state == PeerState::Connected);
        let rtt = path.and_then(|path| path.rtt_ms).map_or_else(|| "-".to_owned(), output::ms);
        let loss = path.and_then(|path| path.loss_pct).map_or_else(|| "-".to_owned(), per_cent);
        let series = self.history.peer(&peer.id);
        let rate = series.and_then(super::history::Series::rate);
        let (sent, received) = rate.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |(sent, received)| (short(sent), short(received)),
        );
        let (mut rtts, mut rates) = (String::new(), String::new());
        if let Some((width, series)) = self.spark().zip(series) {
            rtts = format!(" {}", bars(series.rtt_ms.iter().copied(), width));
            rates = format!(
                " {}",
                bars(series.rates.iter().map(|rate| rate.map(|(out, back)| out + back)), width)
            );
        }
        let row = |paint: Paint| {
            format!(
                "{:<12} {} {rtt:>8}{rtts} {loss:>6} {sent:>8} {received:>8}{rates}",
                clean(&peer.name, 12),
                way(peer, paint, 13)
            )
        };
        // Where a line has to be cut nothing else must be in it.
        if self.size.0 < FIXED { crop(&row(Paint::NONE), self.size.0) } else { row(self.paint) }
    }

    fn changes(&self, room: usize) -> Vec<String> {
        let changes = self.history.changes();
        if changes.len() == 0 || room < 2 {
            return vec![];
        }
        let head = self.paint.bold(&crop("CHANGES OF PATH", self.size.0));
        let story = |change: &Change| {
            let unseen =
                if change.unseen > 0 { format!(" ({} more before)", change.unseen) } else { String::new() };
            let line = format!(
                "{:>11}  {} {} to {}{unseen}: {}",
                ago(change.age_s(self.now)),
                clean(&change.peer, 20),
                in_words(change.from),
                in_words(change.to),
                change.story
            );
            crop(&line, self.size.0)
        };
        std::iter::once(head).chain(changes.take(room - 1).map(story)).collect()
    }
}

fn relays(relays: &[Relay]) -> String {
    let one = |relay: &Relay| {
        let rtt = relay.rtt_ms.map(|ms| format!(", {}", output::ms(ms))).unwrap_or_default();
        format!("relay {} {}{rtt}", clean(&relay.url, 45), relay.state)
    };
    relays.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// What fits.
fn crop(text: &str, columns: usize) -> String {
    if columns == 0 { String::new() } else { clean(text, columns) }
}

/// The last `width` samples, the newest on the right, against the largest of them; a space where there is none.
fn bars(samples: impl DoubleEndedIterator<Item = Option<f64>>, width: usize) -> String {
    let mut last: Vec<Option<f64>> = samples.rev().take(width).collect();
    let most = last.iter().flatten().copied().fold(0.0, f64::max);
    last.resize(width, None);
    let bar = |sample: Option<f64>| {
        let Some(sample) = sample else { return ' ' };
        let step = BARS.iter().take_while(|_| most > 0.0);
        // The bar whose share of the whole height the sample reaches.
        let reached = step.enumerate().filter(|(at, _)| share(*at) < sample / most).last();
        reached.map_or(BARS[0], |(_, bar)| *bar)
    };
    last.into_iter().rev().map(bar).collect()
}

/// Where the bar of that number begins.
#[expect(clippy::cast_precision_loss, reason = "small whole numbers")]
fn share(at: usize) -> f64 {
    at as f64 / BARS.len() as f64
}

/// A number in at most four characters.
fn short(mut rest: f64) -> String {
    let units = ["", "k", "M", "G", "T", "P"];
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while rest >= 999.5 && unit + 1 < units.len() {
        rest /= 1_000.0;
        unit += 1;
    }
    let name = units.get(unit).unwrap_or(&"P");
    if rest < 9.95 && unit > 0 { format!("{rest:.1}{name}") } else { format!("{rest:.0}{name}") }
}

#[cfg(test)]
mod tests {
    use super::super::paint::plain;
    use super::*;
    use crate::control::status::tests::full;

    fn history(status: &mut Status, looks: u64) -> History {
        let mut history = History::default();
        for second in 0..looks {
            status.peers[0].tx_bytes += 125 * (second + 1);
            history.look(Duration::from_secs(second), status);
        }
        history
    }

    fn scene<'a>(status: &'a Status, history: &'a History, size: (usize, usize)) -> Scene<'a> {
        Scene {
            status,
            history,
            now: Duration::from_secs(60),
            trouble: None,
            size,
            first: 0,
            paint: Paint::NONE,
        }
    }

    #[test]
    fn it_shows_each_peer_lately_and_the_changes_below() {
        let mut status = full();
        let history = history(&mut status, 40);
        let lines = scene(&status, &history, (100, 12)).lines();
        let text = lines.join("\n");
        assert_eq!(lines.len(), 12, "{text}");
        assert!(lines[0].starts_with("a in network home"), "{text}");
        assert!(lines[1].starts_with("relay ws://relay.example:8443/v1 connected, 12 ms"), "{text}");
        assert!(lines[4].starts_with("b            relay, stream    48 ms ████"), "{text}");
        assert!(lines[4].contains("0.5 %      40k        0 ▅"), "{text}");
        assert!(lines[4].ends_with('█'), "{text}");
        assert!(lines[5].contains("offline"), "{text}");
        assert_eq!(lines[10], "CHANGES OF PATH", "{text}");
        assert!(
            lines[11].contains(" ago  b ") && lines[11].contains(": lost 0, silent 4.0 ms, sent again 1;"),
            "{text}"
        );
    }

    #[test]
    fn no_line_is_wider_and_there_are_no_more_than_the_terminal_has() {
        let mut status = full();
        for copy in 0..30 {
            let mut peer = status.peers[0].clone();
            (peer.id, peer.name) = (format!("{copy:052}"), "n\x1b[2J".repeat(20));
            status.peers.push(peer);
        }
        let history = history(&mut status, 400);
        for columns in 0..150 {
            for rows in [0, 1, 3, 5, 8, 24, 60] {
                for trouble in [None, Some("the daemon does not answer\n".repeat(9))] {
                    for first in [0, 7, usize::MAX] {
                        let scene = Scene {
                            trouble: trouble.as_deref(),
                            first,
                            paint: Paint::SOME,
                            ..scene(&status, &history, (columns, rows))
                        };
                        let lines = scene.lines();
                        assert!(lines.len() <= rows);
                        for line in lines {
                            let plain = plain(&line);
                            assert!(plain.chars().count() <= columns, "{columns} columns: {plain}");
                            assert!(!plain.contains('\x1b'));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn where_not_all_have_room_one_goes_down() {
        let mut status = full();
        for copy in 0..20 {
            let mut peer = status.peers[1].clone();
            (peer.id, peer.name) = (format!("{copy:052}"), format!("p{copy:02}"));
            status.peers.push(peer);
        }
        let history = History::default();
        let mut scene = scene(&status, &history, (80, 10));
        let text = scene.lines().join("\n");
        assert!(
            text.contains("\nb ") && text.contains("17 more: the arrows") && !text.contains("p05"),
            "{text}"
        );
        scene.first = 7;
        let text = scene.lines().join("\n");
        assert!(text.contains("\np05 ") && !text.contains("\nb "), "{text}");
        scene.first = usize::MAX;
        assert!(scene.lines().join("\n").contains("more"));
    }

    #[test]
    fn bars_reach_from_nothing_to_the_largest() {
        let samples = [None, Some(0.0), Some(1.0), Some(4.0), Some(8.0)];
        assert_eq!(bars(samples.into_iter(), 6), "  ▁▁▄█");
        assert_eq!(bars(samples.into_iter(), 2), "▄█");
        assert_eq!(bars([Some(0.0)].into_iter(), 1), "▁");
    }

    #[test]
    fn numbers_stay_short() {
        for (number, text) in
            [(0.0, "0"), (999.4, "999"), (999.6, "1.0k"), (12_345.0, "12k"), (9.99e6, "10M"), (1e18, "1000P")]
        {
            assert_eq!(short(number), text);
        }
    }
}
