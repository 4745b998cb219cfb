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

/// A station that flaps is held where it is for this long: ten times the second in which it is noticed, so that a
/// loop that is not found otherwise leaves the LAN nine parts of ten. Doubled each time it flaps again ...
pub const HOLD: Duration = Duration::from_secs(10);
/// ... up to this, and from the start again after as long without.
pub const HOLD_MAX: Duration = Duration::from_secs(160);

/// Frames for a station that nobody has heard of are flooded for this long: whoever lives answers within the three
/// seconds in which a kernel asks for a neighbour (RFC 4861 §10, three times a second apart).
pub const UNKNOWN_FOR: Duration = Duration::from_secs(3);
/// When nothing was sent to it for this long, that begins again: the pause of somebody who tries another time.
pub const UNKNOWN_QUIET: Duration = Duration::from_secs(60);
/// Stations of which that is remembered, in each of two generations. Beyond it some are flooded for longer, within
/// the budget.
pub const UNKNOWN_STATIONS: usize = 1_024;

/// The same question (who has this address?) of the same asker is passed on this often: RFC 1122 §2.3.2.1 and RFC 4861
/// §10 allow a host one a second, and its timer and our queue may bring two a little closer together.
pub const QUESTION_EVERY: Duration = Duration::from_millis(800);
/// Questions remembered for that, in each of two generations.
pub const QUESTIONS: usize = 1_024;

/// Groups that are kept for one peer: a LAN of hosts with a dozen each has fewer that differ. One with more gets every
/// group.
pub const GROUPS_PER_PEER: usize = 256;
/// Groups that are kept in all: at about 40 bytes each a third of a megabyte, which only a network that has them pays.
pub const GROUPS: usize = 8_192;

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
    /// See [`HOLD`].
    pub hold: Duration,
    /// See [`HOLD_MAX`].
    pub hold_max: Duration,
    /// See [`UNKNOWN_FOR`].
    pub unknown_for: Duration,
    /// See [`UNKNOWN_QUIET`].
    pub unknown_quiet: Duration,
    /// See [`UNKNOWN_STATIONS`].
    pub unknown_stations: usize,
    /// See [`QUESTION_EVERY`].
    pub question_every: Duration,
    /// See [`QUESTIONS`].
    pub questions: usize,
    /// See [`GROUPS_PER_PEER`].
    pub groups_per_peer: usize,
    /// See [`GROUPS`].
    pub groups: usize,
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
            hold: HOLD,
            hold_max: HOLD_MAX,
            unknown_for: UNKNOWN_FOR,
            unknown_quiet: UNKNOWN_QUIET,
            unknown_stations: UNKNOWN_STATIONS,
            question_every: QUESTION_EVERY,
            questions: QUESTIONS,
            groups_per_peer: GROUPS_PER_PEER,
            groups: GROUPS,
            reports_per_second: REPORTS_PER_SECOND,
            report_burst: REPORT_BURST,
            reported_stations: REPORTED_STATIONS,
        }
    }
}
