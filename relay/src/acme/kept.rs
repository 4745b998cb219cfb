//! What the state directory keeps of ACME: **secrets**, of the account and of the certificate.

use super::http::PUT_OFF_MAX;
use super::order::Issued;
use super::{AcmeError, Config};
use crate::server::tls::certificate::{Certificate, CertificateError};
use crate::store::StateDir;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};
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
    /// For which names an order was tried last.
    tried: Vec<String>,
    /// Until when there is no other try, seconds since 1970.
    not_before: Option<u64>,
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

    /// Without the account of another authority. A certificate of another, or for other names, stays until there is one that is not.
    pub(super) fn for_config(self, config: &Config) -> Self {
        let tried = config.domains.clone();
        if self.directory != config.directory {
            let directory = config.directory.clone();
            return Self { directory, account: None, domains: Vec::new(), tried, not_before: None, ..self };
        }
        let not_before = self.not_before.filter(|_| self.tried == tried);
        Self { tried, not_before, ..self }
    }

    /// Whether the certificate is of this authority, and for these names.
    pub(super) fn is_for(&self, config: &Config) -> bool {
        self.directory == config.directory && self.domains == config.domains
    }

    /// How long after `now` there is no try, by what the last one came to.
    pub(super) fn put_off(&self, now: SystemTime) -> Duration {
        let not_before = self.not_before.map(Duration::from_secs);
        let not_before = not_before.and_then(|since_1970| SystemTime::UNIX_EPOCH.checked_add(since_1970));
        let wait = not_before.and_then(|not_before| not_before.duration_since(now).ok());
        wait.unwrap_or_default().min(PUT_OFF_MAX)
    }

    pub(super) fn set_not_before(&mut self, not_before: SystemTime) {
        let since_1970 = not_before.duration_since(SystemTime::UNIX_EPOCH);
        // Within what TOML has.
        self.not_before =
            since_1970.ok().map(|passed| passed.as_secs()).filter(|passed| i64::try_from(*passed).is_ok());
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
