//! Membership: who may send frames in a network, and who says so (protocol §8).
//!
//! From the bottom up:
//!
//! - [`Authority`]: a pair of signing keys of which both must verify.
//! - [`Statement`]: something an authority says, in exactly one form: a [`Delegation`], a [`Certificate`], a [`Document`].
//! - [`Record`]: what was heard of all admins, a join; [`View`]: what it amounts to, with [`Standing`] for who is an admin.
//! - [`judge()`]: whether a certificate makes a member, or which [`Refusal`] speaks against it. `offer`: whether one takes the place of a
//!   node's own. `enrol`: what an admin does about it.
//! - [`Trust`]: what a node holds, one for the node. [`Exchange`]: the talk in one session, that asks for what is missing. `turns`: which
//!   session asks for what serves all.
//! - [`Secrets`]: the network's secret, and during a rotation the one before it.
//!
//! Nothing here knows of packets, paths or keys of sessions; both clocks and randomness are arguments.
//!
//! # How it is wired
//!
//! A network without a root has no [`Trust`], and its sessions go on without all of this.
//!
//! - `wire::control`: tags 17 to 22 are a [`Message`], a variant of `Control` around it, encoded as it is.
//! - `peer::member`: an [`Exchange`] begins with each session, also with one that replaces another: that proves who the peer is, not
//!   that it still is a member. Its events are acted on before its messages are sent.
//! - `peer::gate`: the data keys stay in the session until [`Gate::Receive`] and [`Gate::Open`]; no route is told before. A gate that
//!   shuts closes the association, and with the next that opens a new handshake begins: a counter never runs twice.
//! - `endpoint::members`: what one session changed is told to all others, until nothing changes any more. A session that
//!   [is over](Exchange::is_over) ends as by BYE, and that peer is left alone for a minute.
//! - The daemon stores [`Trust::blobs`], [`Trust::met`] and [`Trust::own`] when [`Trust::changes`] grew, keeps the seeds of authorities,
//!   and on an admin's node turns [`Event::Judged`] with `joined_by` into [`View::enrolment`] and a new document.

mod authority;
mod block;
mod certificate;
mod delegation;
mod document;
mod enrol;
mod exchange;
mod fetch;
mod join;
mod judge;
mod message;
mod name;
mod offer;
mod record;
mod secrets;
mod set;
mod standing;
mod statement;
#[cfg(test)]
mod tests;
mod trust;
mod turns;

pub use authority::{Authority, AuthorityKey, Half, PUBLIC_LEN, SIGNATURE_LEN};
pub use block::{Address, Block};
pub use certificate::{Addresses, Certificate, MAX_ADDRESSES, MAX_TAGS, Tags};
pub use delegation::{Beyond, Delegation, MAX_BLOCKS};
pub use document::{
    Document, MAX_ADMINS, MAX_GRANTS, MAX_INVITES, MAX_MEMBERS, MAX_REVOKED, MAX_RULES, SecretName,
    Versioned, Word,
};
pub use enrol::Enrolment;
pub use exchange::{Clock, Event, Exchange, Gate, PENDING_FOR, REFUSED_FOR, Reason, Verdict};
pub use join::{JoinError, Joining, invite};
pub use judge::{Admission, CLOCK_SKEW, Refusal, judge};
pub use message::{ADMITTED, Handed, Listed, Member, Message, PART_LEN, PENDING, Part, WINDOW, Want};
pub use name::{Name, Pattern, Tag};
pub use record::{Bygone, Facts, Full, Legacy, MAX_WRITERS, Record, Revocation, View};
pub use secrets::{GRACE, HAND_ON, MAX_SECRETS, SecretState, Secrets};
pub use set::{Map, Set};
pub use standing::Standing;
pub use statement::{Body, SignError, Statement, StatementError, Unverified};
pub use trust::{Own, ShutOut, Trust};

/// A time, in seconds since 1970.
pub type Seconds = u64;
