//! Finding direct links: decides what to try, and never opens a socket (protocol §7.4, §7.5).
//!
//! The words are those of ICE (RFC 8445): host, server-reflexive and peer-reflexive candidates, checks, rounds, pacing. Two
//! things differ, and why:
//!
//! - *The check is ours.* A STUN binding proves that some host answers; our check is a PING sealed in the session, so that what
//!   answers is the peer. There is no second brain beside the choice of the path, and no nomination: each side checks for
//!   itself and chooses for its own direction (Firezone left an ICE library for the same reasons).
//! - *A pair is the remote address alone.* All UDP goes through one unconnected socket, bound to the wildcard address, so the
//!   kernel's routing picks the local end; what ICE calls the base is always that socket.
//!
//! # Life
//!
//! Each side tells the other its candidates inside the session ([`candidate`]). That begins a round ([`agent`]): every remote
//! candidate is checked up to five times over some seconds, best first, paced, within a budget. A check that is answered makes
//! a path ([`crate::path`]), which has to be proven at full size before data moves. A round that finds nothing is repeated later,
//! or at once when something about the network changed.
//!
//! [`mapping`] learns from the relay's STUN how this node's socket looks from outside; [`strangers`] bounds what goes to hosts where
//! nobody answered, over all peers.
//!
//! # Bounds
//!
//! At most [`candidate::MAX_CANDIDATES`] addresses and [`agent::ROUND_PACKETS`] packets a round (EasyTier #289), at most
//! [`agent::CHECKS`] packets of under 100 bytes to an address that somebody else named and that never answered: less than what
//! naming it costs. Loopback, multicast, link-local and overlay addresses are never candidates (TunnelCrack, EasyTier #2311).

pub mod agent;
pub mod candidate;
pub mod mapping;
pub mod strangers;
