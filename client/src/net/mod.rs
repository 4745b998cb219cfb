//! The machine's own network, as far as a tunnel has to know it.
//!
//! A layer-2 tunnel is a guest. It must not take a subnet that the machine already uses, must notice when the
//! machine's addresses, links or routes change (then a better path may exist), and must never send its own
//! packets into itself.
//!
//! - [`interfaces`]: the other interfaces and their addresses, for candidates and for clashes.
//! - [`routes`]: does the overlay's subnet clash with a route, and by which interface do our own packets
//!   leave?
//! - [`port_mapping`]: a port of the router that leads here.
//! - [`changes`]: a settled stream of changes around us, our own device left out.
//! - [`wake_up`]: whether the machine slept, or this process.
//! - [`cidr`]: an address with its prefix length.
//!
//! All of it asks the kernel over one routing-netlink connection ([`Netlink`]) on the control task. Deciding
//! is kept apart from asking: what was read is plain data, and the rules over it are pure functions.

pub mod changes;
pub mod cidr;
pub mod interfaces;
#[cfg(test)]
pub(crate) mod namespace;
pub(crate) mod netlink;
pub mod port_mapping;
pub mod routes;
pub mod wake_up;

pub use cidr::{Cidr, CidrError};
pub use netlink::Netlink;
