//! The fate of each frame of one direction: when its copies come out, if at all.
//!
//! Pure: the time of arrival is an argument, chance comes from a seed. The order of judgement is that of a real line: what
//! is blocked, too large or chosen by a rule never leaves; chance takes its share; what is left waits for the rate, then
//! travels. Frames come out in the order they went in, except those that were chosen to be overtaken.

use std::str::FromStr;
use std::time::Duration;

use super::settings::Settings;
use crate::oracle::frame::scramble;

/// The UDP ports of a relay in the lab.
const RELAY_PORTS: [u16; 3] = [443, 8443, 8444];

/// What a frame carries, as far as rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// UDP and TCP, and not what finds neighbours (ARP, ND): that meets no loss that is farther off. Only rules name it.
    Transport,
    /// UDP in IPv4 or IPv6: both of the next. Only rules name it.
    Udp,
    /// UDP of neither port of a relay.
    PeerUdp,
    /// UDP from or to a port of a relay.
    RelayUdp,
    /// TCP in IPv4 or IPv6.
    Tcp,
    /// Everything else.
    Other,
}

impl FromStr for Class {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "transport" => Ok(Self::Transport),
            "udp" => Ok(Self::Udp),
            "peer-udp" => Ok(Self::PeerUdp),
            "relay-udp" => Ok(Self::RelayUdp),
            "tcp" => Ok(Self::Tcp),
            "other" => Ok(Self::Other),
            _ => Err(()),
        }
    }
}

impl Class {
    /// Reads an Ethernet frame, tagged or not.
    #[must_use]
    pub fn of(frame: &[u8]) -> Self {
        let at = if frame.get(12..14) == Some(&[0x81, 0x00]) { 16 } else { 12 };
        let ip = frame.get(at + 2..).unwrap_or_default();
        let (protocol, header) = match frame.get(at..at + 2) {
            Some([0x08, 0x00]) => (ip.get(9), ip.first().map_or(0, |first| 4 * usize::from(first & 15))),
            Some([0x86, 0xdd]) => (ip.get(6), 40),
            _ => (None, 0),
        };
        match (protocol, ip.get(header..header + 4)) {
            (Some(17), Some([a, b, c, d])) => {
                let ports = [[*a, *b], [*c, *d]].map(u16::from_be_bytes);
                if ports.iter().any(|port| RELAY_PORTS.contains(port)) {
                    Self::RelayUdp
                } else {
                    Self::PeerUdp
                }
            }
            (Some(17), _) => Self::PeerUdp,
            (Some(6), _) => Self::Tcp,
            (_, _) => Self::Other,
        }
    }

    /// Whether a rule for this class is about a frame of `other`.
    fn covers(self, other: Self) -> bool {
        let is_udp = matches!(other, Self::PeerUdp | Self::RelayUdp);
        match self {
            Self::Transport => is_udp || other == Self::Tcp,
            Self::Udp => is_udp,
            Self::PeerUdp | Self::RelayUdp | Self::Tcp | Self::Other => self == other,
        }
    }
}

/// When the copies of a frame come out; both `None` when it is lost.
pub type Fate = [Option<Duration>; 2];

/// What a line did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    /// Frames that came in.
    pub offered: u64,
    /// Lost by chance, singly or in a burst.
    pub lost: u64,
    /// Lost to a rule: blocked, too large, or the nth.
    pub dropped: u64,
    /// Lost because the queue in front of the rate was full.
    pub overflowed: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Held back to be overtaken.
    pub reordered: u64,
}

/// One direction.
#[derive(Debug)]
pub struct Line {
    settings: Settings,
    chance: u64,
    counted: u64,
    burst_left: u32,
    busy_until: Duration,
    /// Of the frames that the faults are about, and of the others: these do not wait behind those.
    last_out: [Duration; 2],
    done: Done,
}

impl Line {
    /// A line with these faults; the seed decides every chance on it.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            chance: scramble(seed),
            counted: 0,
            burst_left: 0,
            busy_until: Duration::ZERO,
            last_out: [Duration::ZERO; 2],
            done: Done::default(),
        }
    }

    /// Changes what is wrong; frames under way keep their fate.
    pub fn change(&mut self, settings: Settings) {
        self.settings = settings;
        self.burst_left = 0;
    }

    /// What it did so far.
    #[must_use]
    pub const fn done(&self) -> Done {
        self.done
    }

    /// Decides about a frame of `length` bytes with its Ethernet header, that came in at `now`.
    pub fn offer(&mut self, now: Duration, length: usize, class: Class) -> Fate {
        self.done.offered += 1;
        if self.settings.only.is_some_and(|only| !only.covers(class)) {
            return [Some(self.in_order(1, now)), None];
        }
        if self.is_ruled_out(length, class) {
            self.done.dropped += 1;
            return [None; 2];
        }
        if self.is_lost() {
            self.done.lost += 1;
            return [None; 2];
        }
        let Some(sent) = self.wait_for_rate(now, length) else {
            self.done.overflowed += 1;
            return [None; 2];
        };
        let out = sent + self.settings.delay + self.settings.jitter.mul_f64(self.draw());
        let out = if self.happens(self.settings.reorder) {
            self.done.reordered += 1;
            out + self.settings.reorder_by
        } else {
            self.in_order(0, out)
        };
        let again = self.happens(self.settings.duplicate);
        self.done.duplicated += u64::from(again);
        [Some(out), again.then_some(out)]
    }

    fn is_ruled_out(&mut self, length: usize, class: Class) -> bool {
        let is_nth = self.settings.nth.is_some_and(|(of, n)| {
            let counts = of.is_none_or(|of| of.covers(class));
            self.counted += u64::from(counts);
            counts && self.counted.is_multiple_of(n)
        });
        self.settings.block || is_nth || self.settings.mtu.is_some_and(|mtu| length > mtu + 14)
    }

    fn is_lost(&mut self) -> bool {
        if self.burst_left > 0 {
            self.burst_left -= 1;
            return true;
        }
        let (begins, frames) = self.settings.burst;
        if frames > 0 && self.happens(begins) {
            self.burst_left = frames - 1;
            return true;
        }
        self.happens(self.settings.loss)
    }

    fn wait_for_rate(&mut self, now: Duration, length: usize) -> Option<Duration> {
        let Some(rate) = self.settings.rate else { return Some(now) };
        let begins = self.busy_until.max(now);
        if begins - now > self.settings.queue {
            return None;
        }
        self.busy_until = begins + Duration::from_secs_f64(length as f64 * 8.0 / rate as f64);
        Some(self.busy_until)
    }

    fn in_order(&mut self, queue: usize, out: Duration) -> Duration {
        let last = &mut self.last_out[queue];
        *last = out.max(*last);
        *last
    }

    fn happens(&mut self, chance: f64) -> bool {
        // Nothing is drawn for what cannot happen, so that one fault's luck does not depend on another's presence.
        chance > 0.0 && self.draw() < chance
    }

    fn draw(&mut self) -> f64 {
        self.chance = scramble(self.chance);
        (self.chance >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(settings: &str) -> Line {
        Line::new(settings.parse().unwrap(), 1)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn fates(settings: &str, frames: u64) -> (Line, Vec<Fate>) {
        let mut line = line(settings);
        let fates = (0..frames).map(|n| line.offer(ms(n), 1000, Class::PeerUdp)).collect();
        (line, fates)
    }

    #[test]
    fn a_perfect_line_does_nothing() {
        let (line, fates) = fates("", 1000);
        assert!(fates.iter().zip(0..).all(|(fate, n)| *fate == [Some(ms(n)), None]));
        assert_eq!(line.done(), Done { offered: 1000, ..Done::default() });
    }

    #[test]
    fn delay_is_exact_and_jitter_bounded_and_in_order() {
        assert!(fates("delay=20ms", 50).1.iter().zip(0..).all(|(fate, n)| fate[0] == Some(ms(n + 20))));
        let (_, jittered) = fates("delay=20ms,jitter=10ms", 1000);
        let out: Vec<_> = jittered.iter().map(|fate| fate[0].unwrap()).collect();
        assert!(out.iter().zip(0..).all(|(out, n)| (ms(n + 20)..=ms(n + 30)).contains(out)));
        assert!(out.is_sorted());
        assert!(out.windows(2).any(|pair| pair[1] - pair[0] != ms(1)));
    }

    #[test]
    fn chances_are_met_and_repeat_with_the_seed() {
        let (line, first) = fates("loss=10%,duplicate=5%", 20_000);
        assert!((1800..2200).contains(&line.done().lost), "{:?}", line.done());
        assert!((750..1050).contains(&line.done().duplicated), "{:?}", line.done());
        assert_eq!(first, fates("loss=10%,duplicate=5%", 20_000).1);
        assert_ne!(first, {
            let mut other = Line::new("loss=10%,duplicate=5%".parse().unwrap(), 2);
            (0..20_000).map(|n| other.offer(ms(n), 1000, Class::PeerUdp)).collect::<Vec<_>>()
        });
    }

    #[test]
    fn a_burst_takes_neighbours() {
        let (line, fates) = fates("burst=1%x8", 20_000);
        let lost: Vec<_> = fates.iter().map(|fate| fate[0].is_none()).collect();
        let runs: Vec<_> = lost.chunk_by(|a, b| a == b).filter(|run| run[0]).map(<[bool]>::len).collect();
        assert!(runs.iter().all(|run| run % 8 == 0 || *run == *runs.last().unwrap()), "{runs:?}");
        assert!(line.done().lost > 800);
    }

    #[test]
    fn what_is_not_delayed_does_not_wait_behind_what_is() {
        let mut line = line("delay=100ms,only=peer-udp");
        let ms = Duration::from_millis;
        assert_eq!(line.offer(ms(0), 100, Class::PeerUdp), [Some(ms(100)), None]);
        assert_eq!(line.offer(ms(1), 100, Class::Tcp), [Some(ms(1)), None]);
        assert_eq!(line.offer(ms(2), 100, Class::PeerUdp), [Some(ms(102)), None]);
    }

    #[test]
    fn only_the_chosen_are_overtaken() {
        let (line, fates) = fates("reorder=10%,reorder-by=5ms", 1000);
        let out: Vec<_> = fates.iter().map(|fate| fate[0].unwrap()).collect();
        let overtaken =
            (0..out.len()).filter(|n| out.iter().skip(n + 1).any(|later| *later < out[*n])).count() as u64;
        assert!(line.done().reordered > 50);
        // The last few have nobody left to overtake them.
        assert!(line.done().reordered - overtaken < 5, "{overtaken} of {}", line.done().reordered);
    }

    #[test]
    fn the_rate_spreads_frames_and_a_full_queue_drops() {
        let mut slow = line("rate=8mbit,queue=10ms");
        let out: Vec<_> = (0..30).map(|_| slow.offer(ms(0), 1000, Class::PeerUdp)[0]).collect();
        assert_eq!(out[0], Some(ms(1)));
        assert_eq!(out[9], Some(ms(10)));
        assert_eq!(out.iter().flatten().count(), 11);
        assert_eq!(slow.done().overflowed, 19);
        assert_eq!(slow.offer(ms(1000), 1000, Class::PeerUdp)[0], Some(ms(1001)));
    }

    #[test]
    fn rules_hit_what_they_name() {
        let mut narrow = line("mtu=1280");
        assert!(narrow.offer(ms(0), 1294, Class::PeerUdp)[0].is_some());
        assert!(narrow.offer(ms(0), 1295, Class::PeerUdp)[0].is_none());
        let mut third = line("nth=udp:3");
        let gone: Vec<_> = (0..9).map(|n| third.offer(ms(n), 100, Class::PeerUdp)[0].is_none()).collect();
        assert_eq!(gone, [false, false, true, false, false, true, false, false, true]);
        assert!((0..9).all(|n| third.offer(ms(n), 100, Class::Tcp)[0].is_some()));
        let mut peers = line("block,only=peer-udp");
        assert!(peers.offer(ms(0), 100, Class::PeerUdp)[0].is_none());
        assert!(peers.offer(ms(0), 100, Class::RelayUdp)[0].is_some());
        let mut only = line("block,only=udp");
        assert!(only.offer(ms(0), 100, Class::RelayUdp)[0].is_none());
        assert!(only.offer(ms(0), 100, Class::PeerUdp)[0].is_none());
        assert!(only.offer(ms(0), 100, Class::Tcp)[0].is_some());
        let mut transport = line("block,only=transport");
        assert!(transport.offer(ms(0), 100, Class::PeerUdp)[0].is_none());
        assert!(transport.offer(ms(0), 100, Class::Tcp)[0].is_none());
        assert!(transport.offer(ms(0), 100, Class::Other)[0].is_some());
        only.change(Settings::default());
        assert!(only.offer(ms(1), 100, Class::PeerUdp)[0].is_some());
    }

    #[test]
    fn a_frame_is_read_for_its_class_and_garbage_is_other() {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14] = 0x45;
        frame[23] = 17;
        assert_eq!(Class::of(&frame), Class::PeerUdp);
        for at in [34, 36] {
            frame[at..at + 2].copy_from_slice(&8443_u16.to_be_bytes());
            assert_eq!(Class::of(&frame), Class::RelayUdp);
            frame[at..at + 2].fill(0);
        }
        frame[23] = 6;
        assert_eq!(Class::of(&frame), Class::Tcp);
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[20] = 17;
        assert_eq!(Class::of(&frame), Class::PeerUdp);
        for length in 0..24 {
            assert_eq!(Class::of(&vec![0x81; length]), Class::Other);
        }
    }
}
