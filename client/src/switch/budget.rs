//! How much is flooded to each peer, and how much each may flood to us.
//!
//! One bucket for a peer, whatever it is filled with. What a LAN cannot do without (ARP, DHCP, neighbour discovery,
//! reports of group membership) may use all of it; multicast and frames for unknown stations only what is above a
//! quarter, so that a video stream leaves the others their share: while it takes all it gets, the bucket stands at a
//! quarter, and a broadcast finds room.
//!
//! The receiving side allows the same in the long run and a larger burst: frames that waited on the sender's side for
//! a path come all at once. Leaving and coming back begins nothing anew: else a member would do that to flood.

use super::protection::{BitRate, FloodBudget};
use super::rate::Meter;
use shadowmesh_proto::ids::PeerSlot;
use std::time::{Duration, Instant};

/// Why a frame goes to more than one peer. They are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// It is for everyone.
    Broadcast,
    /// It is for a group whose members are on every link, or says who is in which group.
    LinkLocal,
    /// It is for another group.
    Multicast,
    /// It is for one station, and where that is is not known.
    Unknown,
}

impl Reach {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Broadcast, Self::LinkLocal, Self::Multicast, Self::Unknown];

    /// What programs call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::LinkLocal => "link_local",
            Self::Multicast => "multicast",
            Self::Unknown => "unknown",
        }
    }

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether a LAN cannot do without it.
    const fn is_essential(self) -> bool {
        match self {
            Self::Broadcast | Self::LinkLocal => true,
            Self::Multicast | Self::Unknown => false,
        }
    }
}

/// What the bucket of a sender holds, in time: a second of it, the burst of a network that wakes up.
const SEND_BURST: Duration = Duration::from_secs(1);
/// What the bucket of a receiver holds: that, and what waited for a path on the other side (a minute, in the ring), were all of it
/// of the kind that may use three quarters.
const RECEIVE_BURST: Duration = Duration::from_secs(82);
/// ... and no less than this many bytes: a few frames of the largest MTU, at the smallest rate.
const BURST_MIN: u64 = 48 * 1024;

/// On which side of the tunnel it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// It spares the peer.
    Sending,
    /// It spares this node.
    Receiving,
}

/// See the module page.
#[derive(Debug)]
pub(super) struct Budget {
    burst: Duration,
    meters: Vec<Option<Meter>>,
}

impl Budget {
    /// Nothing was spent.
    pub(super) const fn new(side: Side) -> Self {
        let burst = match side {
            Side::Sending => SEND_BURST,
            Side::Receiving => RECEIVE_BURST,
        };
        Self { burst, meters: Vec::new() }
    }

    /// Whether a frame of `len` bytes may pass, to or from the peer.
    pub(super) fn admit(
        &mut self,
        budget: FloodBudget,
        slot: PeerSlot,
        reach: Reach,
        len: usize,
        now: Instant,
    ) -> bool {
        let FloodBudget::Rate(rate) = budget else { return true };
        let Ok(at) = usize::try_from(slot.0) else { return false };
        if at >= self.meters.len() {
            self.meters.resize(at + 1, None);
        }
        let Some(meter) = self.meters.get_mut(at) else { return false };
        let whole = self.burst.max(time_of(BURST_MIN, rate));
        let depth = if reach.is_essential() { whole } else { whole - whole / 4 };
        meter.get_or_insert(Meter::new(now)).take(now, time_of(len as u64, rate), depth)
    }
}

/// How long so many bytes take at a rate.
const fn time_of(bytes: u64, rate: BitRate) -> Duration {
    // A frame has less than 2^17 bytes, and 2^17 × 8 × 10^9 is below 2^51.
    Duration::from_nanos(bytes * 8 * 1_000_000_000 / rate.bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: PeerSlot = PeerSlot(3);
    const B: PeerSlot = PeerSlot(0);
    const DEFAULT: FloodBudget = FloodBudget::Rate(match BitRate::new(1_000_000) {
        Some(rate) => rate,
        None => BitRate::MIN,
    });

    /// Bytes that pass, of frames of a kind that are offered as fast as they are taken.
    fn passed(budget: &mut Budget, reach: Reach, slot: PeerSlot, now: Instant) -> usize {
        (0..2_000).filter(|_| budget.admit(DEFAULT, slot, reach, 1_000, now)).count() * 1_000
    }

    #[test]
    fn a_peer_gets_a_second_at_once_and_then_the_rate() {
        let (mut budget, begin) = (Budget::new(Side::Sending), Instant::now());
        assert_eq!(passed(&mut budget, Reach::Broadcast, A, begin), 125_000);
        assert_eq!(passed(&mut budget, Reach::Broadcast, A, begin), 0);
        assert_eq!(passed(&mut budget, Reach::Broadcast, B, begin), 125_000, "each has its own");
        let later = begin + Duration::from_millis(400);
        assert_eq!(passed(&mut budget, Reach::Broadcast, A, later), 50_000);
    }

    #[test]
    fn a_stream_of_multicast_leaves_broadcast_its_share() {
        let (mut budget, begin) = (Budget::new(Side::Sending), Instant::now());
        let (mut streamed, mut asked) = (0, 0);
        for ms in 0..10_000u64 {
            let now = begin + Duration::from_millis(ms);
            // 40 Mbit/s of one, and 20 ARP requests a second of the other.
            streamed += (0..5).filter(|_| budget.admit(DEFAULT, A, Reach::Multicast, 1_000, now)).count();
            asked += usize::from(ms % 50 == 0 && budget.admit(DEFAULT, A, Reach::Broadcast, 60, now));
        }
        assert_eq!(asked, 200, "every one of them");
        assert!((1_200..1_350).contains(&streamed), "{streamed} kB in 10 s");
    }

    #[test]
    fn what_waited_for_a_path_fits_the_receiver() {
        let (mut sender, mut receiver) = (Budget::new(Side::Sending), Budget::new(Side::Receiving));
        let begin = Instant::now();
        let mut waited = 0;
        for ms in 0..60_000u64 {
            let now = begin + Duration::from_millis(ms);
            waited += usize::from(sender.admit(DEFAULT, A, Reach::Unknown, 1_000, now));
        }
        let arrived = begin + Duration::from_secs(60);
        let taken =
            (0..waited).filter(|_| receiver.admit(DEFAULT, A, Reach::Unknown, 1_000, arrived)).count();
        assert_eq!(taken, waited);
    }

    #[test]
    fn the_largest_frame_passes_at_the_smallest_rate_and_without_a_budget_everything() {
        let now = Instant::now();
        let least = FloodBudget::Rate(BitRate::MIN);
        assert!(Budget::new(Side::Sending).admit(least, A, Reach::Unknown, 9_018, now));
        let mut budget = Budget::new(Side::Receiving);
        assert!((0..100_000).all(|_| budget.admit(FloodBudget::Unlimited, A, Reach::Unknown, 65_000, now)));
    }

    proptest! {
        /// Never more than the burst and the rate, whatever the mixture.
        #[test]
        fn a_budget_keeps_its_promise(steps in proptest::collection::vec((0usize..4, 60usize..9_000, 0u64..40), 1..400)) {
            let (mut budget, begin) = (Budget::new(Side::Sending), Instant::now());
            let (mut now, mut bytes) = (begin, 0);
            for (reach, len, wait) in steps {
                now += Duration::from_millis(wait);
                if budget.admit(DEFAULT, A, Reach::ALL[reach], len, now) {
                    bytes += len;
                }
                let allowed = 125_000.0 * (1.0 + (now - begin).as_secs_f64());
                prop_assert!(bytes as f64 <= allowed + 1.0, "{bytes} of {allowed}");
            }
        }
    }
}
