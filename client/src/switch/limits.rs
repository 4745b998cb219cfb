//! How much the switch remembers and for how long, with the reason for each number.

use std::time::Duration;

/// A station that was not heard for this long is unknown again: the default of IEEE 802.1D §7.9.2 and of the
/// Linux bridge.
pub const STATION_AGE: Duration = Duration::from_secs(300);

/// A station that keeps talking is reported to the forwarding table this often. A tenth of [`STATION_AGE`],
/// so nine reports may be lost before a busy station is forgotten; one message in 30 s costs nothing.
pub const REPORT_AFTER: Duration = Duration::from_secs(30);

/// Stations behind one peer: a bridged LAN of a thousand machines. More is a flood of made-up addresses
/// (macof), which then pushes out that peer's own older entries and nobody else's.
pub const STATIONS_PER_PEER: usize = 1_024;

/// Stations in all. At about 100 bytes each under 2 MB, which only a network that has them pays.
pub const STATIONS: usize = 16_384;

/// Moves of one station within a second beyond which it is said to flap. Roaming and failover move a station
/// once or twice; a loop, or two machines with one address, moves it with every frame.
pub const MOVES_PER_SECOND: u32 = 4;

/// Reports of stations that one peer may cause per second in the long run, and at once. The burst is a whole
/// LAN appearing; the rate carries the refreshes of [`STATIONS_PER_PEER`] (34/s) three times. It bounds the
/// messages between the two threads when a peer makes addresses up; frames beyond it are delivered and not
/// learned from.
pub const REPORTS_PER_SECOND: u32 = 100;
/// See [`REPORTS_PER_SECOND`].
pub const REPORT_BURST: u32 = 1_024;

/// Stations in one of the two generations of what was already reported. Beyond it some are reported early.
pub const REPORTED_STATIONS: usize = 8_192;

/// The numbers above as one value, so that tests can use small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`STATION_AGE`].
    pub station_age: Duration,
    /// See [`REPORT_AFTER`].
    pub report_after: Duration,
    /// See [`STATIONS_PER_PEER`].
    pub stations_per_peer: usize,
    /// See [`STATIONS`].
    pub stations: usize,
    /// See [`MOVES_PER_SECOND`].
    pub moves_per_second: u32,
    /// See [`REPORTS_PER_SECOND`].
    pub reports_per_second: u32,
    /// See [`REPORT_BURST`].
    pub report_burst: u32,
    /// See [`REPORTED_STATIONS`].
    pub reported_stations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            station_age: STATION_AGE,
            report_after: REPORT_AFTER,
            stations_per_peer: STATIONS_PER_PEER,
            stations: STATIONS,
            moves_per_second: MOVES_PER_SECOND,
            reports_per_second: REPORTS_PER_SECOND,
            report_burst: REPORT_BURST,
            reported_stations: REPORTED_STATIONS,
        }
    }
}
