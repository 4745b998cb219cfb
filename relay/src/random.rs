//! The operating system's randomness, for the protocol crate, which has none of its own.

use rustix::rand::{GetRandomFlags, getrandom};
use shadowmesh_proto::rng::Rng;

/// Asks the kernel each time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn fill(&mut self, out: &mut [u8]) {
        let mut rest = out;
        while !rest.is_empty() {
            match getrandom(&mut *rest, GetRandomFlags::empty()) {
                Ok(count) => rest = rest.split_at_mut(count.min(rest.len())).1,
                Err(rustix::io::Errno::INTR) => {}
                // getrandom(2) fails only on kernels without it: a key made of anything else would be worse than no relay.
                Err(errno) => {
                    tracing::error!("the system gives no randomness ({errno}): stopping");
                    std::process::abort();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let (a, b): ([u8; 32], [u8; 32]) = (SystemRng.bytes(), SystemRng.bytes());
        assert_ne!(a, b);
    }
}
