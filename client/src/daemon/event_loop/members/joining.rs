//! What people are told while this host joins by an invite.
//!
//! Life: a host with an invite waits for a member that can let it in ([`Joining::begin`]). Where that takes longer than meeting somebody who is
//! there does, it is said once, and `status` and `members` say it until the host joined or cannot ([`Joining::end`]). What it is called when it
//! is in follows from the record, which may say it later than the host joins.

use super::super::EventLoop;
use crate::daemon::report::EXPIRED;
use shadowmesh_proto::membership::{Facts, Name};
use std::time::{Duration, Instant};

/// Members that are there are met within a second or two, also through a relay that is far away.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is waited for, and what does not help.
const WAITS: &str = "this host waits to join: a member of the network lets it in as soon as one is connected, which hosts that are only \
                     joining cannot do";

/// The same where it was a member before.
const JOINS_ANEW: &str = "this host's certificate has expired: by its invite a member of the network gives it another as soon as one is \
                          connected";

/// Why it is called otherwise than it wished.
const NAME_TAKEN: &str =
    "the name that it came with is another member's: an admin's host gives it one as soon as the two meet";

/// How long this host has been joining.
#[derive(Debug, Default)]
pub(super) enum Joining {
    /// It is not.
    #[default]
    No,
    /// People are told at that time that it still is.
    Until(Instant),
    /// They were.
    Told,
}

impl Joining {
    pub(super) fn begin(now: Instant) -> Self {
        Self::Until(now + PATIENCE)
    }

    /// It joined, or cannot.
    pub(super) fn end(&mut self) {
        *self = Self::No;
    }

    /// When people are to be told.
    pub(super) const fn told_at(&self) -> Option<Instant> {
        if let Self::Until(at) = self { Some(*at) } else { None }
    }

    /// Why it takes so long, once that is worth a word.
    pub(super) fn why(&self) -> Option<&'static str> {
        matches!(self, Self::Told).then_some(WAITS)
    }
}

impl EventLoop {
    /// What is waited for, or to be done, where this host's certificate has expired.
    pub(in super::super) fn why_expired(&self) -> &'static str {
        if self.members.joins.is_some() { JOINS_ANEW } else { EXPIRED }
    }

    /// That this host is a member now, and what it is called.
    pub(super) fn say_joined(&mut self) {
        if let Some(Facts { name, .. }) = self.own_facts() {
            self.news(format!("this host is a member of the network now, as {name}"));
            self.name_said(name);
        }
    }

    /// That this host is called otherwise since people were told.
    pub(super) fn say_renamed(&mut self) {
        let Some(Facts { name, .. }) = self.own_facts() else { return };
        if self.members.named.as_ref().is_some_and(|named| *named != name) {
            self.news(format!("this host is called {name} in the network now"));
            self.name_said(name);
        }
    }

    /// Who came with somebody else's name is told why it has another, which lasts until the record has one for it.
    fn name_said(&mut self, name: Name) {
        let view = self.endpoint.trust().map(|trust| (trust.node(), trust.view()));
        let is_taken_up =
            view.and_then(|(node, view)| view.word(node)).is_some_and(|word| word.name.is_some());
        if name.as_str() != self.settings.name.as_str() && !is_taken_up {
            self.news(NAME_TAKEN.to_owned());
        }
        self.members.named = Some(name);
    }

    /// Says that this host still waits, when it is time to.
    pub(in super::super) fn say_joining(&mut self, now: Instant) {
        if self.members.joining.told_at().is_some_and(|at| at <= now) {
            self.members.joining = Joining::Told;
            self.news(WAITS.to_owned());
        }
    }
}
