//! The order of paths, and which of them carries data (protocol §7.6). Pure: facts in, a choice out.

use crate::session::PathSlot;
use crate::session::limits::PATH_SLOTS;
use minicbor::{Decode, Encode};
use std::cmp::Ordering;
use std::time::Duration;

/// Between two paths of one kind a change takes this much ...
const GAIN: Duration = Duration::from_millis(10);
/// ... and that the better one takes at most two thirds of the time (Tailscale changes its home relay by the same rule).
const GAIN_NUM: u32 = 2;
const GAIN_DEN: u32 = 3;
/// A direct path whose round trip is over twice the relay's and this much more loses to it (lab: 200 ms more on the direct path).
const MUCH_WORSE: Duration = Duration::from_millis(50);

/// How a path reaches the peer. Declared best first, so `Ord` is the preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum PathKind {
    /// UDP between the peers.
    #[n(0)]
    DirectUdp,
    /// TCP between the peers.
    #[n(1)]
    DirectTcp,
    /// UDP through the relay.
    #[n(2)]
    RelayUdp,
    /// The relay's WebSocket stream.
    #[n(3)]
    RelayWs,
}

impl PathKind {
    /// Every kind, best first.
    pub const ALL: [Self; PATH_SLOTS] = [Self::DirectUdp, Self::DirectTcp, Self::RelayUdp, Self::RelayWs];

    /// Its number in PING and ACK: a peer has at most one path of a kind that carries data (protocol §6).
    pub const fn slot(self) -> PathSlot {
        match self {
            Self::RelayWs => PathSlot::FIRST,
            Self::RelayUdp => PathSlot::SECOND,
            Self::DirectTcp => PathSlot::THIRD,
            Self::DirectUdp => PathSlot::FOURTH,
        }
    }

    /// The kind with that number.
    pub fn of_slot(slot: PathSlot) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.slot() == slot)
    }

    /// Whether it is a stream: nothing is lost there but with it, no packet is too large, and it outlives what a router forgets of a socket.
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::DirectTcp | Self::RelayWs)
    }

    /// Whether it is between the two peers alone.
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::DirectUdp | Self::DirectTcp)
    }

    /// The word people and programs read (`status --json`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DirectUdp => "direct-udp",
            Self::DirectTcp => "direct-tcp",
            Self::RelayUdp => "relay-udp",
            Self::RelayWs => "relay-ws",
        }
    }
}

impl std::fmt::Display for PathKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which paths a user wants for a peer (`shadowmesh path`). A wish, not an order: when no such path is proven, the others carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum Wanted {
    /// Whichever is best.
    #[default]
    #[n(0)]
    Auto,
    /// Through the relay.
    #[n(1)]
    Relay,
    /// Between the peers alone.
    #[n(2)]
    Direct,
    /// TCP between the peers.
    #[n(3)]
    DirectTcp,
    /// Through the relay by datagram.
    #[n(4)]
    RelayUdp,
    /// Through the relay's stream.
    #[n(5)]
    RelayWs,
}

impl Wanted {
    /// Whether a path of `kind` is what is wanted.
    pub const fn allows(self, kind: PathKind) -> bool {
        match self {
            Self::Auto => true,
            Self::Relay => !kind.is_direct(),
            Self::Direct => kind.is_direct(),
            Self::DirectTcp => matches!(kind, PathKind::DirectTcp),
            Self::RelayUdp => matches!(kind, PathKind::RelayUdp),
            Self::RelayWs => matches!(kind, PathKind::RelayWs),
        }
    }

    /// Whether only a direct path is what is wanted.
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::Direct | Self::DirectTcp)
    }
}

/// How much a path loses, as far as data is concerned ([`super::loss`], [`super::trial`]). Declared best first, so `Ord` is the preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Losing {
    /// Little.
    Little,
    /// Too much; but data is there, and nothing says that it is worse than others of which one knows no better.
    MuchWhereDataIs,
    /// Too much, or more than is known to be little while data's path loses too much.
    Much,
}

/// What the choice needs to know of a path that may carry data now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Its kind.
    pub kind: PathKind,
    /// Its round trip; `None` before it was measured.
    pub rtt: Option<Duration>,
    /// What it takes at least, by all of its latest answers: what it is called slow by.
    pub sustained: Option<Duration>,
    /// Whether it carries data now.
    pub is_current: bool,
    /// How much it loses.
    pub losing: Losing,
}

/// Whether a direct path is so much slower than a relayed one that it should not be used.
pub fn is_much_worse(direct: Duration, relayed: Duration) -> bool {
    direct > relayed.saturating_mul(2).saturating_add(MUCH_WORSE)
}

/// Whether its round trip keeps a direct path that carries no data from carrying it.
pub fn seems_slow(direct: Duration, relayed: Duration) -> bool {
    is_much_worse(direct.saturating_add(GAIN), relayed)
}

/// Which of `choices` is to carry data: the place of the best, `None` when there is none. `relayed` is the round trip over the relay,
/// also while that rests: what is compared with it must not look better for its being asleep.
///
/// Kind, then round trip; but a path that loses much loses to one that does not, a direct path that is much slower than a relayed
/// one loses to it, and among equals the one that is
/// current stays unless another is clearly better. It is the same choice whatever the order of `choices`, up to exact equals.
pub fn choose(choices: &[Choice], relayed: Option<Duration>) -> Option<usize> {
    let is_away = |choice: &Choice| !choice.is_current && choices.iter().any(|other| other.is_current);
    let is_fair = |choice: &Choice| match (choice.kind.is_direct(), choice.sustained, relayed) {
        (true, Some(direct), Some(relayed)) => {
            // Once another path carries the data, a direct one has to be better than what made it lose, by the usual gain.
            let is_slow = if is_away(choice) { seems_slow } else { is_much_worse };
            !is_slow(direct, relayed)
        }
        (_, _, _) => true,
    };
    let prefer = |a: &Choice, b: &Choice| {
        let by_loss = a.losing.cmp(&b.losing);
        by_loss
            .then_with(|| is_fair(b).cmp(&is_fair(a)))
            .then_with(|| a.kind.cmp(&b.kind))
            .then_with(|| by_rtt(a, b))
    };
    let (mut best_at, mut best) = (0, choices.first()?);
    for (at, choice) in choices.iter().enumerate().skip(1) {
        if prefer(choice, best) == Ordering::Less {
            (best_at, best) = (at, choice);
        }
    }
    Some(best_at)
}

/// The order of two paths of one kind.
fn by_rtt(a: &Choice, b: &Choice) -> Ordering {
    let (Some(rtt_a), Some(rtt_b)) = (a.rtt, b.rtt) else {
        return b.is_current.cmp(&a.is_current).then_with(|| a.rtt.is_none().cmp(&b.rtt.is_none()));
    };
    match (a.is_current, b.is_current) {
        (true, false) => {
            if is_clearly_better(rtt_b, rtt_a) {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
        (false, true) => {
            if is_clearly_better(rtt_a, rtt_b) {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        (_, _) => rtt_a.cmp(&rtt_b),
    }
}

fn is_clearly_better(new: Duration, old: Duration) -> bool {
    new.saturating_add(GAIN) <= old && new.saturating_mul(GAIN_DEN) <= old.saturating_mul(GAIN_NUM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use PathKind::{DirectTcp, DirectUdp, RelayUdp, RelayWs};

    fn choice(kind: PathKind, ms: u64, is_current: bool) -> Choice {
        let rtt = Some(Duration::from_millis(ms));
        Choice { kind, rtt, sustained: rtt, is_current, losing: Losing::Little }
    }

    /// The choice where no relay rests.
    fn choose(choices: &[Choice]) -> Option<usize> {
        let relayed = choices.iter().filter(|choice| !choice.kind.is_direct());
        super::choose(choices, relayed.filter_map(|choice| choice.rtt).min())
    }

    fn chosen(choices: &[Choice]) -> PathKind {
        let forwards = choices[choose(choices).unwrap()];
        let reversed: Vec<_> = choices.iter().rev().copied().collect();
        assert_eq!(forwards, reversed[choose(&reversed).unwrap()], "the order decides nothing");
        forwards.kind
    }

    #[test]
    fn the_kind_decides_before_the_round_trip() {
        let all = [
            choice(RelayWs, 10, true),
            choice(RelayUdp, 10, false),
            choice(DirectTcp, 40, false),
            choice(DirectUdp, 45, false),
        ];
        for kinds in 1..=all.len() {
            let best = all[..kinds].iter().map(|choice| choice.kind).min().unwrap();
            assert_eq!(chosen(&all[..kinds]), best);
        }
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn a_direct_path_that_is_much_worse_than_the_relay_loses_and_returns_with_a_margin() {
        let relayed = |is_current| choice(RelayWs, 60, is_current);
        assert_eq!(chosen(&[choice(DirectUdp, 170, true), relayed(false)]), DirectUdp);
        assert_eq!(chosen(&[choice(DirectUdp, 171, true), relayed(false)]), RelayWs);
        assert_eq!(chosen(&[choice(DirectUdp, 165, false), relayed(true)]), RelayWs, "not at once");
        assert_eq!(chosen(&[choice(DirectUdp, 160, false), relayed(true)]), DirectUdp);
        // Nothing to compare with: direct it is.
        let unmeasured =
            Choice { kind: RelayWs, rtt: None, sustained: None, is_current: true, losing: Losing::Little };
        assert_eq!(chosen(&[choice(DirectUdp, 900, false), unmeasured]), DirectUdp);
        assert_eq!(chosen(&[choice(DirectUdp, 900, false)]), DirectUdp, "better than none");
    }

    #[test]
    fn two_slow_direct_paths_do_not_take_turns_when_the_relay_falls_asleep() {
        let relayed = Some(Duration::from_millis(60));
        let direct =
            |is_current: bool| [choice(DirectUdp, 175, !is_current), choice(DirectTcp, 165, is_current)];
        let at = |choices: &[Choice], relayed| choices[super::choose(choices, relayed).unwrap()].kind;
        let awake = |is_current: bool| [&direct(is_current)[..], &[choice(RelayUdp, 60, false)]].concat();
        // The one in use is fair, the other is not, whether or not the relay is among the choices.
        assert_eq!(at(&awake(true), relayed), DirectTcp);
        assert_eq!(at(&direct(true), relayed), DirectTcp);
        // Nor does it win by five milliseconds what it needs ten for.
        assert_eq!(at(&awake(false), relayed), RelayUdp);
        assert_eq!(at(&[choice(DirectUdp, 165, false), choice(DirectTcp, 168, true)], relayed), DirectTcp);
    }

    #[test]
    fn between_equals_the_current_one_stays_unless_the_other_is_clearly_better() {
        let pair = |current, other| {
            let choices = [choice(DirectUdp, current, true), choice(DirectUdp, other, false)];
            choices[choose(&choices).unwrap()].is_current
        };
        assert!(pair(20, 20));
        assert!(pair(20, 11), "nine milliseconds are not enough");
        assert!(!pair(20, 10));
        assert!(pair(60, 45), "fifteen, but not a third");
        assert!(!pair(60, 40));
    }

    #[test]
    fn kinds_have_slots_of_their_own() {
        let slots: std::collections::BTreeSet<_> = PathKind::ALL.iter().map(|kind| kind.slot()).collect();
        assert_eq!(slots.len(), PATH_SLOTS);
    }

    #[test]
    fn direct_is_better_than_relayed_and_datagrams_than_streams() {
        let mut kinds = [PathKind::RelayWs, PathKind::DirectTcp, PathKind::RelayUdp, PathKind::DirectUdp];
        kinds.sort();
        assert_eq!(kinds.map(PathKind::as_str), ["direct-udp", "direct-tcp", "relay-udp", "relay-ws"]);
    }

    #[test]
    fn a_path_that_loses_much_loses_to_any_that_does_not() {
        let losing = |losing, choice| Choice { losing, ..choice };
        let direct = |is_current| choice(DirectUdp, 5, is_current);
        let relayed = |is_current| choice(RelayWs, 60, is_current);
        let here = losing(Losing::MuchWhereDataIs, direct(true));
        assert_eq!(chosen(&[here, relayed(false)]), RelayWs);
        assert_eq!(chosen(&[here]), DirectUdp, "and is better than none");
        assert_eq!(chosen(&[here, losing(Losing::Much, relayed(false))]), DirectUdp);
        // Nor is it left for a better kind that loses as much, unless it is known to be bad itself.
        let away = losing(Losing::Much, direct(false));
        assert_eq!(chosen(&[losing(Losing::MuchWhereDataIs, relayed(true)), away]), RelayWs);
        assert_eq!(chosen(&[losing(Losing::Much, relayed(true)), away]), DirectUdp);
    }
}
