//! The ShadowMesh relay: introduces peers and forwards their encrypted packets until they have a direct link.
//!
//! It is a matchmaker, not a middleman: it never holds a key that opens traffic, and what it says about peers is a hint.
//!
//! - [`core`] decides: who is here, who meets whom, what is dropped. No I/O.
//! - [`server`] does: sockets, one task per connection, UDP, shutdown.
//! - [`store`] keeps what outlives a restart; [`config`] what an operator may change.
//! - [`acme`] gets a certificate, where the operator wants one that everybody trusts.
//! - [`admin`] answers `status`; [`metrics`] counts; [`public`] finds the address for the ticket.
//! - [`cli`] is what people type.

// One call of the kernel (`server::socket`), and nothing else.
#![deny(unsafe_code)]

pub mod acme;
pub mod admin;
pub mod cli;
pub mod config;
pub mod core;
pub mod metrics;
pub mod public;
pub mod random;
pub mod server;
pub mod store;
