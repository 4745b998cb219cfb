//! A certificate with its chain and key, ready to be presented, and until when it is good.

use super::validity::not_after;
use super::{HTTP, PROVIDER};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Most certificates of a chain that are taken: public ones have three or four, and all of them go to every stranger.
const MAX_CHAIN: usize = 10;

/// Why a certificate cannot be presented; a clause that says what is wrong with which of the two.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No PEM, or none of the right kind.
    #[error("the certificate file has no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// More than [`MAX_CHAIN`].
    #[error("the certificate file has more than {MAX_CHAIN} certificates; give the relay's own and its chain alone")]
    LongChain,
    /// PEM, but not of a certificate that can be read.
    #[error("the certificate file is damaged: {0}")]
    Damaged(String),
    /// No PEM, or none of the right kind.
    #[error("the key file has no private key in PEM form (-----BEGIN PRIVATE KEY-----, not encrypted)")]
    NoKey,
    /// A key that nobody here can sign with.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// The key is another's.
    #[error("the key does not belong to the certificate")]
    Mismatch,
}

/// See the module page.
#[derive(Debug)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    /// The end of its time, of the chain's first to end.
    not_after: SystemTime,
}

impl Certificate {
    /// Of the texts of two PEM files: the relay's certificate and the chain behind it, and its key.
    ///
    /// # Errors
    /// See [`CertificateError`]. One whose time is over is no error.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .take(MAX_CHAIN + 1)
            .collect::<Result<_, _>>()
            .map_err(|error| CertificateError::Damaged(error.to_string()))?;
        if chain.len() > MAX_CHAIN {
            return Err(CertificateError::LongChain);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        Self::new(chain, key)
    }

    /// Of what is in them.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let ends = chain.iter().map(|certificate| not_after(certificate));
        let ends = ends.collect::<Option<Vec<_>>>();
        let ends = ends.ok_or_else(|| CertificateError::Damaged("its validity does not parse".to_owned()))?;
        let not_after = ends.into_iter().min().ok_or(CertificateError::NoCertificate)?;
        let key = PROVIDER.key_provider.load_private_key(key).map_err(|error| CertificateError::Key(error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(CertificateError::Mismatch),
            Err(error) => return Err(CertificateError::Damaged(error.to_string())),
        }
        Ok(Self { config: Arc::new(config(certified, HTTP)?), not_after })
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// The end of its time.
    pub const fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// How long it is good for; nothing when its time is over.
    pub fn good_for(&self, now: SystemTime) -> Option<Duration> {
        self.not_after.duration_since(now).ok().filter(|left| !left.is_zero())
    }
}

/// How connections that name `protocol`, or none, are served with this key.
fn config(certified: CertifiedKey, protocol: &[u8]) -> Result<ServerConfig, CertificateError> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| CertificateError::Key(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![protocol.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
