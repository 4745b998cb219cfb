//! The secrets of its network that a node holds: one, or during a rotation two (protocol §8.8).
//!
//! # Life
//!
//! A node begins with the secret that it joined by. An admin draws another and names it in the record, which spreads like the rest of it;
//! whoever reads a name there whose secret it does not hold asks those that do. From then on it holds two, registers under both and takes
//! handshakes under both, until the grace that the record gives is over and it had [`HAND_ON`] to hand on the new one.
//!
//! # Invariants
//!
//! - At least one, at most two, whatever is heard.
//! - Taken from a peer is only what the record names: a secret is known by the id that derives from it, so no peer can make one up, nor
//!   bring one back that was replaced. A higher generation alone says nothing: of two admins that rotate at once both draw the same one,
//!   and of two that did so apart the one that counts may have the lower.
//! - Nothing is given up before what takes its place is here.

use super::Seconds;
use super::document::SecretName;
use crate::crypto::keys::{NetworkKeys, NetworkSecret};
use crate::ids::NetworkId;
use std::cmp::Reverse;
use std::time::{Duration, Instant};

/// How long the secret before is good beside a new one: a machine that is off for a holiday, or a week-end and a broken disk.
pub const GRACE: Duration = Duration::from_secs(7 * 86_400);
/// So long a node keeps the secret before in any case, for members that it is connected with by that to ask for the new one: it takes
/// them a few round trips, and a node that is registered anew a few seconds more. All that a grace that ends at once is.
pub const HAND_ON: Duration = Duration::from_secs(60);
/// Most secrets that a node holds.
pub const MAX_SECRETS: usize = 2;

/// What a node holds.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// The one before first.
    held: Vec<Held>,
    /// Since when there are two.
    both_since: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Held {
    secret: NetworkSecret,
    keys: NetworkKeys,
}

impl Held {
    fn new(secret: NetworkSecret) -> Self {
        Self { keys: secret.derive(), secret }
    }

    const fn id(&self) -> NetworkId {
        self.keys.id()
    }
}

impl Secrets {
    /// As they were stored, the one before first.
    pub fn new(held: impl IntoIterator<Item = NetworkSecret>) -> Self {
        Self { held: held.into_iter().take(MAX_SECRETS).map(Held::new).collect(), both_since: None }
    }

    /// All of them, to be stored; the one before first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &NetworkSecret> + '_ {
        self.held.iter().map(|held| &held.secret)
    }

    /// What they are called at relays.
    pub fn ids(&self) -> impl Iterator<Item = NetworkId> + '_ {
        self.held.iter().map(Held::id)
    }

    /// Whether it is one of them.
    pub fn holds(&self, id: NetworkId) -> bool {
        self.ids().any(|held| held == id)
    }

    /// The one of that name.
    pub fn secret(&self, id: NetworkId) -> Option<&NetworkSecret> {
        self.held.iter().find(|held| held.id() == id).map(|held| &held.secret)
    }

    /// The keys of all, of the one in force first: the one that the record names; where that is not here the newest that came before it;
    /// where it names none the one before, which others have.
    pub fn keys(&self, named: Option<SecretName>) -> impl Iterator<Item = &NetworkKeys> + '_ {
        let mut held: Vec<&Held> = self.held.iter().collect();
        if let Some(named) = named {
            held.sort_by_key(|held| {
                let generation = held.keys.generation();
                let is_later = generation >= named.generation;
                (held.id() != named.network, is_later, Reverse(generation))
            });
        }
        held.into_iter().map(|held| &held.keys)
    }

    /// The secret in force.
    pub fn in_force(&self, named: Option<SecretName>) -> Option<&NetworkSecret> {
        self.secret(self.id_in_force(named)?)
    }

    /// What that one is called at relays.
    pub fn id_in_force(&self, named: Option<SecretName>) -> Option<NetworkId> {
        self.keys(named).next().map(NetworkKeys::id)
    }

    /// Which one the record names that is not here.
    pub(super) fn missing(&self, named: Option<SecretName>) -> Option<NetworkId> {
        named.map(|named| named.network).filter(|id| !self.held.is_empty() && !self.holds(*id))
    }

    /// A peer says that this is the one that the record names. Whether it is, and was taken.
    pub(super) fn take(&mut self, secret: NetworkSecret, named: Option<SecretName>, now: Instant) -> bool {
        let taken = Held::new(secret);
        let is_wanted = named.is_some_and(|named| {
            self.missing(Some(named)) == Some(taken.id()) && named.generation == taken.keys.generation()
        });
        if is_wanted {
            // Beside it goes on what most others have: the newest that is older. What one drew that lost is among none of those.
            let generation = taken.keys.generation();
            let older = self.held.iter().rposition(|held| held.keys.generation() < generation);
            let kept = older.or_else(|| self.held.len().checked_sub(1));
            let kept = kept.map(|at| self.held.swap_remove(at));
            self.held = kept.into_iter().chain([taken]).collect();
            self.both_since = Some(now);
        }
        is_wanted
    }

    /// The same with `next`, which the record is to name, beside the one in force.
    #[must_use]
    pub fn with_next(&self, named: Option<SecretName>, next: NetworkSecret, now: Instant) -> Self {
        let kept = self.in_force(named).cloned();
        Self { both_since: Some(now), ..Self::new(kept.into_iter().chain([next])) }
    }

    /// Whether two are in use, and the record names the newer.
    pub fn rotates(&self, named: Option<SecretName>) -> bool {
        matches!(self.held.as_slice(), [_, last] if named.is_some_and(|named| named.network == last.id()))
    }

    /// Whether members that are connected by the one before may still have to ask for the new one: another that is drawn now would take
    /// the place of the one by which they ask.
    pub fn hands_on(&self, named: Option<SecretName>, now: Instant) -> bool {
        self.rotates(named) && self.both_since.is_none_or(|since| since + HAND_ON > now)
    }

    /// Gives up the one before when its time is over; whether it did.
    pub(super) fn retire(&mut self, named: Option<SecretName>, now: Instant, unix: Seconds) -> bool {
        let Some(named) = named.filter(|_| self.rotates(named)) else { return false };
        let since = *self.both_since.get_or_insert(now);
        let is_over = unix >= named.until && since + HAND_ON <= now;
        if is_over {
            self.held.remove(0);
            self.both_since = None;
        }
        is_over
    }

    /// When that is; `clock` are both clocks at one moment.
    pub(super) fn retires_at(&self, named: Option<SecretName>, clock: (Instant, Seconds)) -> Option<Instant> {
        let until = named.filter(|_| self.rotates(named))?.until;
        // An Instant has an end; whoever keeps the clocks says anew what they are long before.
        let left = Duration::from_secs(until.saturating_sub(clock.1).min(366 * 86_400));
        let handed_on = self.both_since.map(|since| since + HAND_ON);
        handed_on.into_iter().chain([clock.0 + left]).max()
    }
}

/// How a node stands to the secret that the record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretState {
    /// It is the only one here.
    Settled,
    /// It is here, and the one before is good until then.
    Rotating {
        /// Seconds since 1970.
        until: Seconds,
    },
    /// It is not here; the one before is good until then.
    Missing {
        /// Seconds since 1970.
        until: Seconds,
    },
    /// It is not here, and the grace is over: members that were not reached by now take no handshake of this node.
    Late {
        /// Since when, seconds since 1970.
        since: Seconds,
    },
}

impl Secrets {
    /// At this time.
    pub fn state(&self, named: Option<SecretName>, unix: Seconds) -> SecretState {
        match named {
            Some(SecretName { until, .. }) if self.missing(named).is_some() && until <= unix => {
                SecretState::Late { since: until }
            }
            Some(SecretName { until, .. }) if self.missing(named).is_some() => SecretState::Missing { until },
            Some(SecretName { until, .. }) if self.rotates(named) => SecretState::Rotating { until },
            Some(_) | None => SecretState::Settled,
        }
    }
}
