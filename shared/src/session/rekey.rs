//! When a key is replaced, by whom, and how long the old one is good for (protocol §4.8). Pure: times in, times out.
//!
//! With the default interval of 120 s, counted from when a key was installed:
//!
//! ```text
//!    0            120          132                        180            replacement + 180 s
//!    |-------------|------------|--------------------------|                       |
//!    installed     lower key    the other begins, should   seals nothing           the receiver's old key
//!                  begins       the first have failed      more                    opens nothing more
//! ```
//!
//! Between *begins* and *seals nothing more* both keys work, the handshake is repeated each second, and frames keep flowing
//! under the old key: that overlap is why a rekey loses nothing, busy or idle. It is a minute whatever the interval
//! ([`OVERLAP`]): were it half of an interval cut to 2 s, a relay away for a second would leave a session without a key, and
//! the packets in its ring with nobody to open them. For 120 s that is the one and a half times of protocol §4.8.
//!
//! A receiver keeps an old key 180 s beyond its replacement, again whatever the interval: packets sealed under it may wait
//! in the sender's ring while the path is gone.

use crate::ids::NodeId;
use crate::session::limits::{MIN_ROTATION, REKEY_RETRANSMIT, RETIRED_KEY_LIFE, ROTATION};
use crate::time::Deadline;
use std::time::{Duration, Instant};

/// How long a key goes on sealing after it should have been replaced, while the rekey is tried.
pub const OVERLAP: Duration = Duration::from_secs(60);

/// Which of the two ends begins first and wins a collision (protocol §4.2, §4.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The node with the lower key: begins at the interval.
    Lower,
    /// The other: begins a tenth later, should the first have failed to.
    Higher,
}

impl Role {
    /// The role of node `own` towards `peer`.
    pub fn of(own: &NodeId, peer: &NodeId) -> Self {
        if own < peer { Self::Lower } else { Self::Higher }
    }
}

/// The times of one session's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RekeyPolicy {
    interval: Duration,
    role: Role,
}

impl RekeyPolicy {
    /// Replaces keys every `interval`, brought into 2–120 s (protocol §3.5).
    pub fn new(interval: Duration, role: Role) -> Self {
        Self { interval: interval.clamp(MIN_ROTATION, ROTATION), role }
    }

    /// The same with the interval that a relay proposed, which can only shorten (protocol §3.5).
    #[must_use]
    pub fn with_hint(self, hint: Duration) -> Self {
        Self::new(self.interval.min(hint), self.role)
    }

    /// The interval in force.
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Which end this is.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// When this end begins to replace a key installed at `installed`. A key that asks for it
    /// ([`crate::session::SealKey::wants_rekey`]) is replaced at once instead, by either end.
    pub fn begin(&self, installed: Instant) -> Deadline {
        match self.role {
            Role::Lower => {
                Deadline::new(installed + self.interval, "rekey: the key has reached its interval")
            }
            Role::Higher => {
                let later = self.interval + self.interval / 10;
                Deadline::new(
                    installed + later,
                    "rekey: the other end should have replaced the key and has not",
                )
            }
        }
    }

    /// From when on a key installed at `installed` seals nothing.
    pub fn stop_sealing_at(&self, installed: Instant) -> Instant {
        installed + self.interval + OVERLAP
    }

    /// When to repeat a rekey message sent at `sent` and not answered.
    pub fn retransmit(sent: Instant) -> Deadline {
        Deadline::new(sent + REKEY_RETRANSMIT, "rekey: no answer yet, repeat the message")
    }

    /// From when on a receive key replaced at `replaced` opens nothing.
    pub fn retire_at(replaced: Instant) -> Instant {
        replaced + RETIRED_KEY_LIFE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
    fn epoch() -> Instant {
        Instant::now()
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn times_of_the_protocol_at_the_default_interval() {
        let installed = epoch();
        let lower = RekeyPolicy::new(ROTATION, Role::Lower);
        let higher = RekeyPolicy::new(ROTATION, Role::Higher);
        assert_eq!(lower.begin(installed).at, installed + seconds(120));
        assert_eq!(higher.begin(installed).at, installed + seconds(132));
        assert_eq!(
            lower.stop_sealing_at(installed),
            installed + seconds(180),
            "one and a half times the interval"
        );
        assert_eq!(RekeyPolicy::retire_at(installed), installed + seconds(180));
        assert_eq!(RekeyPolicy::retransmit(installed).at, installed + seconds(1));
    }

    proptest! {
        /// Whatever is asked for, there is time between the end that begins last and the end of the key to repeat the
        /// handshake a few times; and the receiver's key outlives what was sealed under it before the replacement.
        #[test]
        fn there_is_always_time_to_repeat(milliseconds: u32, hint: Option<u32>) {
            let installed = epoch();
            let hint = hint.map(|hint| Duration::from_millis(hint.into()));
            let policy = |role| {
                let policy = RekeyPolicy::new(Duration::from_millis(milliseconds.into()), role);
                hint.map_or(policy, |hint| policy.with_hint(hint))
            };
            let (lower, higher) = (policy(Role::Lower), policy(Role::Higher));
            prop_assert!((MIN_ROTATION..=ROTATION).contains(&lower.interval()));
            prop_assert!(lower.begin(installed).at < higher.begin(installed).at);
            prop_assert!(higher.begin(installed).at + 10 * REKEY_RETRANSMIT <= lower.stop_sealing_at(installed));
            prop_assert_eq!(lower.stop_sealing_at(installed), higher.stop_sealing_at(installed));
        }

        #[test]
        fn a_hint_only_shortens(milliseconds: u32, hint: u32) {
            let policy = RekeyPolicy::new(Duration::from_millis(milliseconds.into()), Role::Lower);
            let hinted = policy.with_hint(Duration::from_millis(hint.into()));
            prop_assert!(hinted.interval() <= policy.interval());
            prop_assert!(hinted.interval() >= MIN_ROTATION);
        }
    }

    #[test]
    fn the_ends_of_a_session_have_different_roles() {
        let (low, high) = (NodeId([1; 32]), NodeId([2; 32]));
        assert_eq!((Role::of(&low, &high), Role::of(&high, &low)), (Role::Lower, Role::Higher));
    }
}
