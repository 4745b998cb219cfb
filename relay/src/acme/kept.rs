//! What the state directory keeps of ACME: **secrets**, of the account and of the certificate.

use super::order::Issued;
use super::{AcmeError, Config};
use crate::server::tls::certificate::{Certificate, CertificateError};
use crate::store::StateDir;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// See the module page.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// Which authority all of this is of.
    directory: String,
    /// The account there: what the library makes of it.
    account: Option<Zeroizing<String>>,
    /// The names in the certificate.
    domains: Vec<String>,
    /// PEM, with its chain.
    chain: Option<String>,
    /// PEM.
    key: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { directory, domains, .. } = self;
        f.debug_struct("Kept").field("directory", directory).field("domains", domains).finish_non_exhaustive()
    }
}

impl Kept {
    /// What is there; nothing before the first time.
    pub(super) fn read(state: &StateDir) -> Result<Self, AcmeError> {
        Ok(state.read_acme()?.unwrap_or_default())
    }

    pub(super) fn write(&self, state: &StateDir) -> Result<(), AcmeError> {
        Ok(state.write_acme(self)?)
    }

    /// Without what is of another authority, or for other names.
    pub(super) fn for_config(self, config: &Config) -> Self {
        if self.directory != config.directory {
            return Self { directory: config.directory.clone(), ..Self::default() };
        }
        if self.domains != config.domains {
            return Self { domains: Vec::new(), chain: None, key: None, ..self };
        }
        self
    }

    /// The certificate, if there is one.
    pub(super) fn certificate(&self) -> Result<Option<Certificate>, CertificateError> {
        let (Some(chain), Some(key)) = (&self.chain, &self.key) else { return Ok(None) };
        Certificate::from_pem(chain.as_bytes(), key.as_bytes()).map(Some)
    }

    /// The account.
    pub(super) fn account(&self) -> Option<&str> {
        self.account.as_ref().map(|account| account.as_str())
    }

    pub(super) fn set_account(&mut self, account: Option<Zeroizing<String>>) {
        self.account = account;
    }

    pub(super) fn take(&mut self, config: &Config, issued: Issued) {
        self.domains.clone_from(&config.domains);
        (self.chain, self.key) = (Some(issued.chain), Some(issued.key));
    }
}
