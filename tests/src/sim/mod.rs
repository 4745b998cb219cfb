//! The simulated internet: many nodes and a relay in virtual time, from a seed.
//!
//! What runs is real: the endpoints and sessions of the protocol crate, both halves of the daemon's data plane with its switch and
//! its control side (in lockstep instead of in threads), the relay's core and queues. What is simulated is what lies between and
//! around them: streams with latency, jitter, stalls and breaks; sites with NATs of every kind that forget and change; wires for
//! datagrams that lose, repeat, reorder and damage, and are narrow, or dark in one direction; direct TCP, both sides opening at
//! once; processes that freeze, die, roam and come back, and whose clocks jump; a relay that restarts, drops, repeats, delays,
//! damages, replays and lies; users with wishes. A seed decides all of it ([`Weather`] says how bad it gets), and the same seed
//! does the same again.
//!
//! # What must hold
//!
//! Always, whatever the relay does: a frame comes out at most once, undamaged, at the node and from the peer it names; a
//! replayed packet opens nothing and moves nothing; `connected` is shown by one who sends for at most as long as protocol §7.2 says
//! while nothing of full size arrives from it, or nothing comes back (3 s; longer where a round trip is over 400 ms, and by what lines
//! vary); nobody wakes without end; tables stay bounded; nothing is traced as ERROR.
//!
//! In [`Weather::Calm`] and [`Weather::Moves`]: every frame comes out, but for those of its direction that a documented bound dropped
//! and counted before they were sealed (while there was no key for the peer yet, or, where keys are short, no other), and those of which a hole took the only copy so near to its end that nobody can have noticed.
//! In [`Weather::Lossy`]: but for those as well of which wires lost copies by chance, and those that a full ring counted as lost. Rekeys
//! alone cost none, busy or idle. Nobody knows of what was sealed for an initiator that forgot the session before it was confirmed (protocol
//! §4.7): that is nobody's loss anywhere. When it is calm they come out in order as well, over all moves.
//!
//! When it is over: everybody registers, every pair connects within the bound, data flows both ways, and of several
//! members that began with one address all but one have another. After calm and moves, with a little traffic, every pair finds
//! the best path that its routers allow within two rounds, and then data stays there.
//!
//! # Reading a failure
//!
//! A failed seed prints the breach and the last lines before it. `SIM_SEED=n cargo nextest run -p shadowmesh-tests --test sim
//! one_seed --no-capture` runs it with the whole trace; `SIM_CASES=n` runs more or fewer than the usual thousand. With
//! `SIM_TRACES=directory` the whole trace of each seed and row that failed is written there.

mod case;
mod copies;
mod dice;
mod judge;
mod ledger;
mod line;
mod losses;
mod net;
mod node;
mod relay;
mod table;
mod tcp;
mod trace;
mod world;

pub use case::Weather;
pub use judge::{Report, Verdict, run, run_many};
pub use table::{ROWS, Row, run_row};
pub use world::Breach;
