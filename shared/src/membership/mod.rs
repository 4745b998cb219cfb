//! Membership: who may send frames in a network (protocol §8).

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
mod record;
mod set;
mod standing;
mod statement;
#[cfg(test)]
mod tests;
mod trust;

pub use authority::{Authority, AuthorityKey, Half, PUBLIC_LEN, SIGNATURE_LEN};
pub use block::{Address, Block};
pub use certificate::{Addresses, Certificate, MAX_ADDRESSES, MAX_TAGS, Tags};
pub use delegation::{Beyond, Delegation, MAX_BLOCKS};
pub use document::{
    Document, MAX_ADMINS, MAX_GRANTS, MAX_INVITES, MAX_MEMBERS, MAX_REVOKED, MAX_RULES, SecretName,
    Versioned, Word,
};
pub use enrol::Enrolment;
pub use exchange::{Clock, Event, Exchange, Gate, REFUSED_FOR, Reason, Verdict};
pub use join::{JoinError, Joining, invite};
pub use judge::{Admission, CLOCK_SKEW, Refusal, judge};
pub use message::{ADMITTED, Listed, Member, Message, PART_LEN, PENDING, Part, WINDOW, Want};
pub use name::{Name, Pattern, Tag};
pub use record::{Facts, Full, MAX_WRITERS, Record, Revocation, View};
pub use set::{Map, Set};
pub use standing::Standing;
pub use statement::{Body, SignError, Statement, StatementError, Unverified};
pub use trust::{Own, Trust};

/// A time, in seconds since 1970.
pub type Seconds = u64;
