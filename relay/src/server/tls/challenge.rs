//! Answers to TLS-ALPN-01 (RFC 8737): who asks for `acme-tls/1` and a name is shown a certificate for that name that has the digest of a key authorization, and
//! nothing is said after the handshake.

use super::PROVIDER;
use super::certificate::{CertificateError, config};
use crate::server::port::lock;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The protocol that is asked for (RFC 8737 §6.2).
pub(super) const PROTOCOL: &[u8] = b"acme-tls/1";
/// Length of a digest (RFC 8737 §3: SHA-256).
const DIGEST: usize = 32;

/// What is answered now. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Challenges(Arc<Mutex<HashMap<String, Arc<ServerConfig>>>>);

impl Challenges {
    /// From now on the challenge for `domain` is answered with `digest`, until it is forgotten.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn answer(&self, domain: &str, digest: &[u8]) -> Result<(), CertificateError> {
        let refused = |error: rcgen::Error| CertificateError::Damaged(error.to_string());
        if digest.len() != DIGEST {
            return Err(CertificateError::Damaged("a digest of another length".to_owned()));
        }
        let mut params = CertificateParams::new([domain.to_owned()]).map_err(refused)?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate().map_err(refused)?;
        let made = params.self_signed(&key).map_err(refused)?;
        let unusable = |error: rustls::Error| CertificateError::Key(error.to_string());
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = PROVIDER.key_provider.load_private_key(key).map_err(unusable)?;
        let config = config(CertifiedKey::new(vec![made.der().clone()], key), PROTOCOL)?;
        lock(&self.0).insert(domain.to_ascii_lowercase(), Arc::new(config));
        Ok(())
    }

    /// None of them is answered any more.
    pub fn forget(&self) {
        lock(&self.0).clear();
    }

    /// How a handshake that asks for `domain` is answered.
    pub(super) fn config(&self, domain: Option<&str>) -> Option<Arc<ServerConfig>> {
        lock(&self.0).get(&domain?.to_ascii_lowercase()).map(Arc::clone)
    }
}
