//! A certificate with its chain and key, ready to be presented, and until when it is good.

use super::validity::validity;
use super::{HTTP, PROVIDER};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureAlgorithm};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Most certificates of a chain that are taken: public ones have three or four, and all of them go to every stranger.
const MAX_CHAIN: usize = 10;
/// And bytes of all of them: clients take messages of 64 KiB at most.
const MAX_CHAIN_BYTES: usize = 60 * 1024;

/// Bytes of an RSA key of 2,048 bits in DER, and some more: one of 3,072 has 1,790, and takes three times as long for each signature.
const RSA_BYTES: usize = 1_400;

/// Why a certificate cannot be presented; a clause that says what is wrong with which of the two.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No PEM, or none of the right kind.
    #[error("the certificate file has no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// More than [`MAX_CHAIN`].
    #[error(
        "the certificate file has more than {MAX_CHAIN} certificates; give the relay's own and its chain alone"
    )]
    LongChain,
    /// More than [`MAX_CHAIN_BYTES`].
    #[error("the certificate and its chain have more than {} KiB, which clients do not take", MAX_CHAIN_BYTES / 1024)]
    Large,
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
    /// Begin and end of its own time.
    own: (SystemTime, SystemTime),
    /// The end of its time, of the chain's first to end.
    not_after: SystemTime,
    is_self_made: bool,
    has_slow_key: bool,
}

impl Certificate {
    /// Of the texts of two PEM files: the relay's certificate and the chain behind it, and its key.
    ///
    /// # Errors
    /// See [`CertificateError`]. One whose time is over is no error.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = chain_in(chain)?;
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
        if chain.iter().map(|certificate| certificate.len()).sum::<usize>() > MAX_CHAIN_BYTES {
            return Err(CertificateError::Large);
        }
        let times = chain.iter().map(|certificate| validity(certificate)).collect::<Option<Vec<_>>>();
        let times =
            times.ok_or_else(|| CertificateError::Damaged("its validity does not parse".to_owned()))?;
        let own = *times.first().ok_or(CertificateError::NoCertificate)?;
        let not_after = times.iter().map(|(_, end)| *end).min().unwrap_or(own.1);
        let is_long = key.secret_der().len() > RSA_BYTES;
        let key = PROVIDER
            .key_provider
            .load_private_key(key)
            .map_err(|error| CertificateError::Key(error.to_string()))?;
        let has_slow_key = is_long && key.algorithm() == SignatureAlgorithm::RSA;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(CertificateError::Mismatch),
            Err(error) => return Err(CertificateError::Damaged(error.to_string())),
        }
        let config = Arc::new(config(certified, HTTP)?);
        Ok(Self { config, own, not_after, is_self_made: false, has_slow_key })
    }

    /// One for these names that nobody else vouches for, for the time until there is another.
    ///
    /// # Errors
    /// What is wrong with the names.
    pub fn self_made(names: &[String]) -> Result<Self, CertificateError> {
        let refused = |error: rcgen::Error| CertificateError::Damaged(error.to_string());
        let key = KeyPair::generate().map_err(refused)?;
        let made =
            CertificateParams::new(names).and_then(|params| params.self_signed(&key)).map_err(refused)?;
        let made = Self::new(vec![made.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
        Ok(Self { is_self_made: true, ..made })
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether it stands in for one that is yet to come.
    pub const fn is_self_made(&self) -> bool {
        self.is_self_made
    }

    /// Whether its key is RSA of more than 2,048 bits, with which a handshake costs the relay ten times what it does with ECDSA or more.
    pub const fn has_slow_key(&self) -> bool {
        self.has_slow_key
    }

    /// Begin and end of its own time, whatever its chain's is.
    pub const fn own_time(&self) -> (SystemTime, SystemTime) {
        self.own
    }

    /// The end of its time, or that of its chain.
    pub const fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// How long it is good for; nothing when its time is over.
    pub fn good_for(&self, now: SystemTime) -> Option<Duration> {
        self.not_after.duration_since(now).ok().filter(|left| !left.is_zero())
    }
}

/// The certificates in a text with PEM, and whatever is between them.
pub(crate) fn chain_in(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text)
        .take(MAX_CHAIN + 1)
        .collect::<Result<_, _>>()
        .map_err(|error| CertificateError::Damaged(error.to_string()))?;
    if chain.len() > MAX_CHAIN { Err(CertificateError::LongChain) } else { Ok(chain) }
}

/// How connections that name `protocol`, or none, are served with this key.
pub(super) fn config(certified: CertifiedKey, protocol: &[u8]) -> Result<ServerConfig, CertificateError> {
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
