//! HKDF-SHA-256 (RFC 5869) and the labelled SHA-256 of protocol §1.5, with outputs of exactly 32 bytes.
//!
//! One output block is all the protocol ever asks for, so expand is a single HMAC: `T(1) = HMAC(PRK, info ‖ 0x01)`. That
//! leaves nothing that can fail, which the general interface of a library cannot promise.

use aws_lc_rs::{digest, hmac};
use zeroize::Zeroizing;

/// A 32-byte secret that is wiped when dropped.
pub type Secret32 = Zeroizing<[u8; 32]>;

/// HKDF-SHA-256 of `input` under `salt`; the parts of `info` are concatenated.
pub fn hkdf(salt: &[u8], input: &[u8], info: &[&[u8]]) -> Secret32 {
    let extracted = mac(salt, &[input]);
    let mut expand = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, extracted.as_slice()));
    for part in info {
        expand.update(part);
    }
    expand.update(&[1]);
    secret(expand.sign().as_ref())
}

/// HMAC-SHA-256 of the concatenated `parts` under `key`.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> Secret32 {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    secret(context.sign().as_ref())
}

/// SHA-256 of the concatenated `parts`.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    *secret(context.finish().as_ref())
}

fn secret(block: &[u8]) -> Secret32 {
    let mut out = Zeroizing::new([0; 32]);
    // SHA-256 blocks are 32 bytes: both lengths are fixed by the algorithms named above.
    out.copy_from_slice(block);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[test]
    fn hkdf_agrees_with_rfc_5869_test_case_1() {
        let salt: Vec<u8> = (0x00..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let (head, tail) = info.split_at(4);
        let output = hkdf(&salt, &[0x0b; 22], &[head, tail]);
        // The first 32 of the 42 bytes of OKM.
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(HEXLOWER.encode(output.as_slice()), expected);
    }

    #[test]
    fn sha256_agrees_with_fips_180() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(HEXLOWER.encode(&sha256(&[b"a", b"bc"])), expected);
    }
}
