//! Superframes through sealing and opening in memory (`shadowmesh_perf::hot_path`), so many as asked for: for callgrind and perf.
//!
//! What one costs is the difference between a run of many and a run of few, divided: what happens at the start is in both.

use clap::{Parser, ValueEnum};
use shadowmesh_perf::hot_path::HotPath;
use shadowmesh_proto::crypto::aead::Cipher;

/// Pushes superframes through the data path without a kernel.
#[derive(Debug, Parser)]
struct Arguments {
    /// How they are sealed.
    cipher: Choice,
    /// How far they go.
    way: Way,
    /// How many.
    count: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Choice {
    Chacha,
    Aes,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    /// Cut and sealed.
    Outward,
    /// And opened, and put together.
    Both,
}

fn main() {
    let arguments = Arguments::parse();
    let mut path = HotPath::new(match arguments.cipher {
        Choice::Chacha => Cipher::ChaCha20Poly1305,
        Choice::Aes => Cipher::Aes256Gcm,
    });
    for _ in 0..arguments.count {
        match arguments.way {
            Way::Outward => path.outward(),
            Way::Both => path.there_and_back(),
        };
    }
}
