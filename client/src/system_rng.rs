//! The operating system's generator, as the protocol crate takes randomness.

use shadowmesh_proto::rng::Rng;

/// Draws from the operating system (through aws-lc's CTR-DRBG, which is reseeded by it).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn fill(&mut self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("a machine without randomness cannot run a VPN (see `Rng`)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_repeat_itself() {
        let (a, b): ([u8; 32], [u8; 32]) = (SystemRng.bytes(), SystemRng.bytes());
        assert_ne!(a, b);
    }
}
