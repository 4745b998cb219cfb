//! What proves ShadowMesh, in four tiers that get slower and more real:
//!
//! 1. a pair in virtual time, in the product crates' own tests;
//! 2. the simulated internet, thousands of seeded cases;
//! 3. the namespace lab (`tests/lab`): the real binaries behind real NAT rules, judged by the frame [`oracle`];
//! 4. packages and fresh machines (`scripts/demo`).
//!
//! This library holds the parts with logic worth testing by themselves; `src/bin` holds the programs the lab starts:
//! `oracle` counts frames through two TAPs, `stream` is a TCP connection beside them, `wire` is a bad line between two devices,
//! `natcheck` asks a router what it does, `other-relay` is a relay of another version of the protocol. `manpages` writes the [`manual`] of what we ship. `tests/README.md` tells how to write a scenario.

pub mod manual;
pub mod netns;
pub mod oracle;
pub mod packet_socket;
pub mod sim;
pub mod stream;
pub mod wire;
