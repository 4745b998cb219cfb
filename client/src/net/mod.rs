//! The machine's own network, as far as a tunnel has to know it.

pub mod cidr;
#[cfg(test)]
pub(crate) mod namespace;
pub(crate) mod netlink;

pub use cidr::{Cidr, CidrError};
pub use netlink::Netlink;
