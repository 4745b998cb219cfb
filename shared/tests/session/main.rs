//! The two halves of a session against each other: what a network may do to packets between them, in virtual time.

#![expect(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test stops at the first surprise")]

mod fixtures;
mod rekey;
mod resend;
mod rotation;

mod threads;
mod transport;
