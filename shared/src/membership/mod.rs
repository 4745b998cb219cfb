//! Membership: who may send frames in a network (protocol §8).

mod authority;

pub use authority::{Authority, AuthorityKey, Half, PUBLIC_LEN, SIGNATURE_LEN};
