//! What is wrong with one direction of the line, parsed from `key=value` pairs with commas between:
//!
//! | key | example | means |
//! |---|---|---|
//! | `delay` | `20ms` | every frame takes this long |
//! | `jitter` | `5ms` | and up to this much longer, evenly spread, without overtaking |
//! | `loss` | `1%` | chance that a frame is gone |
//! | `burst` | `0.1%x8` | chance that this and the next seven are gone |
//! | `duplicate` | `1%` | chance that a second copy follows |
//! | `reorder` | `1%` | chance that later frames overtake this one, by `reorder-by` (default 5ms) |
//! | `rate` | `50mbit` | bandwidth; what would wait longer than `queue` (default 100ms) is gone |
//! | `mtu` | `1280` | larger frames are gone, silently (14 bytes of Ethernet header not counted) |
//! | `nth` | `50`, `udp:50` | every 50th frame (of that protocol) is gone |
//! | `only` | `udp` | whatever is wrong is wrong for these frames only: `udp`, `peer-udp` (of no relay), `relay-udp`, `tcp`, `transport` (UDP and TCP: not ARP, of which two seconds without an answer are an interruption) or `other` |
//! | `block` | | nothing passes |
//!
//! The empty text is a perfect line.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::line::Class;

/// The faults of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Added to every frame.
    pub delay: Duration,
    /// At most this much more.
    pub jitter: Duration,
    /// Chance of single loss, 0 to 1.
    pub loss: f64,
    /// Chance that a burst begins, and how many frames it takes.
    pub burst: (f64, u32),
    /// Chance of a second copy.
    pub duplicate: f64,
    /// Chance of being overtaken.
    pub reorder: f64,
    /// How long an overtaken frame is held.
    pub reorder_by: Duration,
    /// Bits a second; `None` is without limit.
    pub rate: Option<u64>,
    /// The longest that a frame may wait for the rate.
    pub queue: Duration,
    /// Bytes of the largest frame that passes, without its Ethernet header.
    pub mtu: Option<usize>,
    /// Every `n`th frame of the class (or of all) is dropped.
    pub nth: Option<(Option<Class>, u64)>,
    /// Frames of other classes pass as on a perfect line.
    pub only: Option<Class>,
    /// Nothing passes.
    pub block: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: (0.0, 0),
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(5),
            rate: None,
            queue: Duration::from_millis(100),
            mtu: None,
            nth: None,
            only: None,
            block: false,
        }
    }
}

/// A pair that was not understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Misunderstood(String);

impl fmt::Display for Misunderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is nothing a line can have; write for example delay=20ms,jitter=5ms,loss=1%", self.0)
    }
}

impl std::error::Error for Misunderstood {}

impl FromStr for Settings {
    type Err = Misunderstood;

    fn from_str(text: &str) -> Result<Self, Misunderstood> {
        let mut settings = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            settings.set(key, value).ok_or_else(|| Misunderstood(pair.to_owned()))?;
        }
        Ok(settings)
    }
}

impl Settings {
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "delay" => self.delay = duration(value)?,
            "jitter" => self.jitter = duration(value)?,
            "loss" => self.loss = chance(value)?,
            "burst" => {
                let (begins, frames) = value.split_once('x')?;
                self.burst = (chance(begins)?, frames.parse().ok()?);
            }
            "duplicate" => self.duplicate = chance(value)?,
            "reorder" => self.reorder = chance(value)?,
            "reorder-by" => self.reorder_by = duration(value)?,
            "rate" => self.rate = Some(rate(value)?),
            "queue" => self.queue = duration(value)?,
            "mtu" => self.mtu = Some(value.parse().ok()?),
            "nth" => {
                let (of, n) = value.split_once(':').map_or((None, value), |(class, n)| (Some(class), n));
                let of = of.map(str::parse).transpose().ok()?;
                self.nth = Some((of, n.parse().ok().filter(|n| *n > 0)?));
            }
            "only" => self.only = Some(value.parse().ok()?),
            "block" if value.is_empty() => self.block = true,
            _ => return None,
        }
        Some(())
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

fn chance(text: &str) -> Option<f64> {
    let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

fn rate(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let factor = match unit {
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        _ => return None,
    };
    let bits = number * factor;
    (bits >= 1.0).then_some(bits as u64)
}

fn split_unit(text: &str) -> Option<(f64, &str)> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        let settings: Settings =
            "delay=20ms, jitter=500us,loss=1.5%,burst=0.1%x8,rate=50mbit,mtu=1280,nth=udp:50,only=tcp"
                .parse()
                .unwrap();
        assert_eq!(settings.delay, Duration::from_millis(20));
        assert_eq!(settings.jitter, Duration::from_micros(500));
        assert!((settings.loss - 0.015).abs() < 1e-12);
        assert_eq!(settings.burst.1, 8);
        assert_eq!(settings.rate, Some(50_000_000));
        assert_eq!(settings.mtu, Some(1280));
        assert_eq!(settings.nth, Some((Some(Class::Udp), 50)));
        assert_eq!(settings.only, Some(Class::Tcp));
        assert_eq!("".parse(), Ok(Settings::default()));
        assert!("block".parse::<Settings>().unwrap().block);
    }

    #[test]
    fn the_rest_is_refused_by_name() {
        for text in [
            "dely=20ms",
            "delay=20",
            "delay=-1ms",
            "loss=101%",
            "loss=1",
            "rate=0mbit",
            "nth=0",
            "nth=arp:2",
            "block=1",
            "burst=5%",
            "mtu=",
        ] {
            assert_eq!(text.parse::<Settings>(), Err(Misunderstood(text.to_owned())));
        }
    }
}
