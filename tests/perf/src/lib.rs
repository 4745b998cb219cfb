//! What ShadowMesh's speed is measured with and against.
//!
//! - [`bare`] is the superframe idea without a protocol: what the kernel hands over in one piece is cut, sealed and sent by one call, and put
//!   together again at the other end. It has no handshake, no replay window, no acknowledgements, no paths and one peer, so it says what is left
//!   on a machine once all of those are free. `bare` (the program) joins two namespaces with it; `scripts/bench` runs it beside the rest.
//! - [`flood`] finds the highest rate at which datagrams of one size *arrive*, which a sender at a fixed rate does not.
//! - [`hot_path`] is the way of a bulk transfer through the product in memory, for counting and for benchmarks.
//! - [`tap`] and [`datagrams`] are the two system interfaces that they need.
//!
//! Nothing here is part of the product, and nothing of the product is used by [`bare`]: a mistake of the one is none of the other.

pub mod bare;
pub mod datagrams;
pub mod flood;
pub mod hot_path;
pub mod tap;
