//! The numbers of liveness, and the rule of suspicion (protocol §7.2).

use std::time::Duration;

/// Suspicion falls no sooner than this after data went out unconfirmed. Below it, the delayed acks of a busy receiver
/// (see [`ACK_ALLOWANCE`]) would look like silence.
pub const SUSPECT_FLOOR: Duration = Duration::from_millis(150);
/// ...and no sooner than this many round trips.
pub const SUSPECT_RTTS: u32 = 3;
/// What an acknowledgement may take beyond the round trip: the receiver's own delay (20 ms, [`crate::session::limits::ACK_DELAY`]) and
/// the scheduling of two busy machines.
pub const ACK_ALLOWANCE: Duration = Duration::from_millis(100);
/// This many PINGs, evenly spread, ask before suspicion falls whether the data or its acknowledgement is all that was lost (the tail
/// loss probe of RFC 9002 §6.2): at 5 % loss each way, data that comes one packet at a time raises a doubt once in a thousand packets.
pub const TAIL_PINGS: u32 = 2;
/// So many on a path that loses more than a tenth, which is given twice the time: at a fifth each way all of them are lost once in two
/// hundred times.
pub const TAIL_PINGS_IN_LOSS: u32 = 5;
/// A path under suspicion that answers nothing for this long is dead: the bound that `connected` keeps in `status`.
pub const DEAD_AFTER: Duration = Duration::from_secs(3);
/// A PING that was not answered is repeated this often, so that several fit before suspicion and a lost one means nothing: at 5 %
/// loss each way four in a row are lost once in ten thousand times. On a long way they are further apart: see [`repeat_after`].
pub const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// ... and this often while data shows that much is lost ([`super::loss::TOO_MUCH`]): at a fifth each way four in a row are lost once in
/// sixty times, and the path is asked twice a second; the dozen that fit then, once in two hundred thousand.
const LOSING_INTERVAL: Duration = Duration::from_millis(75);
/// This many are under way at most: fewer than are kept ([`super::challenge::MAX_PENDING`]), or no answer would find its question.
const UNDER_WAY: u32 = 4;
/// Suspicion falls no sooner than this after a PING that nobody answered, nor its repetitions.
pub const UNANSWERED: Duration = Duration::from_millis(900);
/// ... and the path dies this long after that PING, less a round trip: the one that was answered before, [`BUSY_PING`] ago, left
/// a round trip earlier, and nothing is known of what was large since. So it is within 3 s of the moment when the largest stopped.
pub const UNANSWERED_DEAD: Duration = Duration::from_millis(2_500);
/// A path whose data nobody acknowledged for this long, and for four round trips, is dead however well PINGs are answered ...
pub const UNACKNOWLEDGED_DEAD: Duration = Duration::from_secs(2);
/// ... if data went out this often, counted at most ten times a second, ...
pub const UNACKNOWLEDGED_REPORTS: u32 = 10;
/// ... and PINGs were answered meanwhile for this long. On a path of up to 400 ms that is within 3 s: what passed before is acknowledged
/// for a round trip (and the acknowledgement's own delay) longer, then the first answer takes [`BUSY_PING`] and a round trip at most.
pub const UNACKNOWLEDGED_ANSWERED: Duration = Duration::from_millis(1_250);
/// While data flows, a PING of full size leaves this long after the last answer: it measures the round trip, and shows what
/// acknowledgements of small packets do not.
pub const BUSY_PING: Duration = Duration::from_millis(500);
/// Heartbeat of an idle, proven path unless the relay says otherwise: below the 30 s after which the meanest NATs forget a
/// UDP mapping, and rare enough for a battery.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// What the relay may make of the heartbeat (protocol §3.5).
pub const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// See [`HEARTBEAT_MIN`]. This is for the stream to the relay ...
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(60);
/// ... and this for paths to peers: what keeps a mapping open has to come before the meanest NATs forget it, whatever a relay says.
pub const PATH_HEARTBEAT_MAX: Duration = Duration::from_secs(25);
/// A round trip that is longer counts as one of this length: who holds up answers longer and longer could otherwise put off the doubt of a
/// path for as long as he likes. Two hops by geostationary satellites take 1.2 s.
pub const RTT_MOST: Duration = Duration::from_secs(2);
/// See [`questioned_again`].
const QUESTIONED_AGAIN: Duration = Duration::from_millis(40);
/// A PING that proves a path makes a packet of this size, bytes: the IPv6 minimum MTU, which every path must carry.
pub const FULL_SIZE: usize = 1280;

/// What liveness reckons with of a round trip.
pub fn reckoned(rtt: Option<Duration>) -> Option<Duration> {
    rtt.map(|rtt| rtt.min(RTT_MOST))
}

/// How long after a PING that was not answered the next one leaves.
pub fn repeat_after(rtt: Option<Duration>) -> Duration {
    PROBE_INTERVAL.max(reckoned(rtt).unwrap_or_default() / UNDER_WAY)
}

/// The same on a path that loses much of its data, and has shown by that that it is there.
pub fn repeat_in_loss(rtt: Option<Duration>) -> Duration {
    LOSING_INTERVAL.max(reckoned(rtt).unwrap_or_default() / UNDER_WAY)
}

/// A PING is repeated so soon while something says that the path may be gone: three are answered before that is believed, for one may be
/// lost. Nobody makes a node send more than that.
pub fn questioned_again(rtt: Option<Duration>) -> Duration {
    QUESTIONED_AGAIN.max(reckoned(rtt).unwrap_or_default() / UNDER_WAY)
}

/// How long a path may take to answer when something says that it may be gone: half a round trip more than it takes, and no less than
/// two busy machines need.
pub fn questioned_after(rtt: Option<Duration>) -> Duration {
    reckoned(rtt).map_or(Duration::from_secs(1), |rtt| rtt + (rtt / 2).max(2 * ACK_ALLOWANCE))
}

/// How long data may stay unconfirmed before its path is suspect.
pub fn suspicion_after(rtt: Option<Duration>) -> Duration {
    let by_rtt = reckoned(rtt).map_or(Duration::from_secs(1), |rtt| rtt * SUSPECT_RTTS);
    by_rtt.max(SUSPECT_FLOOR) + ACK_ALLOWANCE
}

/// How long PINGs may stay unanswered before their path is suspect.
pub fn unanswered_after(rtt: Option<Duration>) -> Duration {
    UNANSWERED.max(suspicion_after(rtt))
}

/// How long after a PING that nobody answered its path is dead: long enough for the PING that suspicion sends, and one more.
pub fn dead_after(rtt: Option<Duration>) -> Duration {
    let round = reckoned(rtt).unwrap_or_default();
    let answer_takes = round + repeat_after(rtt);
    UNANSWERED_DEAD.saturating_sub(round).max(unanswered_after(rtt) + answer_takes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_waits_for_three_round_trips_and_never_less_than_the_floor() {
        let ms = Duration::from_millis;
        assert_eq!(suspicion_after(Some(ms(1))), ms(250));
        assert_eq!(suspicion_after(Some(ms(200))), ms(700));
        assert_eq!(suspicion_after(None), ms(1100));
        assert_eq!(suspicion_after(Some(Duration::MAX)), suspicion_after(Some(RTT_MOST)));
    }

    #[test]
    fn a_path_of_up_to_400_ms_is_dead_3_s_after_the_last_ping_that_was_answered() {
        let ms = Duration::from_millis;
        for round in (0..=400).step_by(10) {
            assert!(ms(round) + BUSY_PING + dead_after(Some(ms(round))) <= ms(3000), "{round} ms");
            assert!(dead_after(Some(ms(round))) >= unanswered_after(Some(ms(round))) + ms(round) + ms(250));
        }
        assert_eq!(dead_after(Some(Duration::MAX)), ms(6_100 + 2_000 + 500));
    }
}
