//! A certificate that the relay gets by itself and renews: ACME (RFC 8555), proven by TLS-ALPN-01 (RFC 8737) on the port that it serves anyway.
//!
//! Life of the [`Keeper`]: it presents what it has from before, or a certificate that it makes for itself, so that clients (which look at none) connect from the first moment
//! on; it orders one when that is due, and presents it; and so on, for ever. What fails is said, with the time of the next try, and changes nothing.
//!
//! - [`http`]: requests to the authority, over TLS with the public roots, or the operator's.
//! - [`order`]: one order, from the account to the chain.
//! - [`kept`]: account, key and chain in the state directory, one file, so that a backup has them.
//!
//! # When
//!
//! Once two thirds of a certificate's time are over, which is 30 days before the end of one of 90, and two before that of one of six. An authority counts failures (Let's
//! Encrypt: five an hour for a name), so tries that fail are ten minutes apart at first, twice that after each, six hours at most; and longer where it says so (Retry-After). A
//! reload (SIGHUP) tries at once: for who has just mended something.

mod http;
mod kept;
mod order;

use crate::random::SystemRng;
use crate::server::tls::Front;
use crate::server::tls::certificate::{Certificate, CertificateError};
use crate::store::{StateDir, StoreError};
use kept::Kept;
use shadowmesh_proto::rng::Rng as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// Let's Encrypt, whose certificates everybody trusts.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// An order, with all of its waiting for the authority to look.
const ORDER_WITHIN: Duration = Duration::from_secs(300);
/// Between tries that fail, at first and at most.
const PAUSE: Duration = Duration::from_secs(600);
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Between two looks at the clock: it may be set.
const LOOK: Duration = Duration::from_secs(600);

/// Why there is no certificate; a sentence, or the end of one.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority's, or on the way to it.
    #[error("{0}")]
    Authority(#[from] instant_acme::Error),
    /// It did not come to a decision in time.
    #[error("the authority did not come to an end within {} minutes", ORDER_WITHIN.as_secs() / 60)]
    Late,
    /// It does not do TLS-ALPN-01.
    #[error("the authority does not offer tls-alpn-01 for {0}")]
    NotOffered(String),
    /// It looked, and did not find what it wanted.
    #[error(
        "the authority could not see that {0}; it comes to port 443 of each domain's addresses, which must lead here"
    )]
    Refused(String),
    /// What it sent, or what was to be sent.
    #[error("the certificate is of no use: {0}")]
    Certificate(#[from] CertificateError),
    /// A request could not be made.
    #[error("the request could not be made: {0}")]
    Request(#[from] rcgen::Error),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The authority of the authority.
    #[error("cannot use {path}, given with --acme-ca: {cause}", path = path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
}

/// What the operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The authority's directory, an `https` URL.
    pub directory: String,
    /// The names to be certified, at least one.
    pub domains: Vec<String>,
    /// Whom the authority may write to.
    pub email: Option<String>,
    /// Roots, in PEM, that the authority's own certificate leads to, where they are not public.
    pub roots: Option<PathBuf>,
}

/// Whether this is a name that a certificate can be had for.
pub fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(is_label)
        && text.parse::<std::net::IpAddr>().is_err()
}

/// See the module page.
#[derive(Debug)]
pub struct Keeper {
    config: Config,
    state: StateDir,
    kept: Kept,
    front: Front,
    /// Of what is presented; nothing for what the relay made for itself.
    due: Option<SystemTime>,
    /// How long the authority wants not to be asked, by the last try.
    put_off: Option<Duration>,
}

impl Keeper {
    /// Presents what is kept in `state`, or one that it makes.
    ///
    /// # Errors
    /// `Store` when the state cannot be read, `Roots` when the operator's cannot be used, `Certificate` when none can be made.
    pub fn new(config: Config, state: StateDir) -> Result<Self, AcmeError> {
        // A mistake in them is seen at the start and not in the night.
        http::Https::new(config.roots.as_deref())?;
        let kept = Kept::read(&state)?.for_config(&config);
        let issued = kept.certificate().unwrap_or_else(|error| {
            tracing::warn!(
                "the certificate in the state directory is of no use, another is ordered: {error}"
            );
            None
        });
        let due = issued.as_ref().map(renew_at);
        let presented = match issued {
            Some(certificate) => certificate,
            None => Certificate::self_made(&config.domains)?,
        };
        Ok(Self { config, state, kept, front: Front::new(presented), due, put_off: None })
    }

    /// What presents it, and answers the authority.
    pub fn front(&self) -> Front {
        self.front.clone()
    }

    /// Keeps it good for ever; tries at once when `hurry` says so.
    pub async fn run(mut self, hurry: &Notify) {
        let mut failures = 0;
        let mut not_before = SystemTime::now();
        loop {
            let now = SystemTime::now();
            let wait = self.wait(now).max(not_before.duration_since(now).unwrap_or_default());
            if !wait.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(wait.min(LOOK)) => {}
                    () = hurry.notified() => not_before = now,
                }
                continue;
            }
            match tokio::time::timeout(ORDER_WITHIN, self.renew()).await.unwrap_or(Err(AcmeError::Late)) {
                Ok(()) => {
                    failures = 0;
                    let expires = crate::server::tls::files::Date(self.front.presented().not_after());
                    tracing::info!(%expires, domains = %self.config.domains.join(", "), "a certificate was issued, and is presented from now on");
                }
                Err(error) => {
                    failures += 1;
                    let pause = pause(failures, self.put_off.take(), SystemRng.next_u64());
                    not_before = SystemTime::now() + pause;
                    tracing::warn!(
                        "no certificate for {}: {error}; the next try is in {} min, or at a reload",
                        self.config.domains.join(", "),
                        pause.as_secs().div_ceil(60)
                    );
                }
            }
            self.front.challenges().forget();
        }
    }

    fn wait(&self, now: SystemTime) -> Duration {
        self.due.and_then(|due| due.duration_since(now).ok()).unwrap_or_default()
    }

    async fn renew(&mut self) -> Result<(), AcmeError> {
        let https = http::Https::new(self.config.roots.as_deref())?;
        let renewed = self.renew_by(https.clone()).await;
        self.put_off = https.put_off();
        renewed
    }

    async fn renew_by(&mut self, https: http::Https) -> Result<(), AcmeError> {
        let account = order::account(&self.config, &mut self.kept, https).await?;
        // Before anything is ordered: an account is not to be made anew each time.
        self.kept.write(&self.state)?;
        let issued = order::order(&account, &self.config.domains, self.front.challenges()).await?;
        let certificate = Certificate::from_pem(issued.chain.as_bytes(), issued.key.as_bytes())?;
        self.kept.take(&self.config, issued);
        self.kept.write(&self.state)?;
        self.due = Some(renew_at(&certificate));
        self.front.present(certificate);
        Ok(())
    }
}

/// When two thirds of its time are over.
fn renew_at(certificate: &Certificate) -> SystemTime {
    let (begins, ends) = (certificate.not_before(), certificate.not_after());
    ends - ends.duration_since(begins).unwrap_or_default() / 3
}

/// After so many failures in a row, and no less than the authority wants; up to a tenth more, as `chance` has it.
fn pause(failures: u32, put_off: Option<Duration>, chance: u64) -> Duration {
    let doubled = PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(PAUSE_MAX);
    let doubled = doubled.max(put_off.unwrap_or_default());
    doubled
        + doubled
            .mul_f64(0.1 * f64::from(u32::try_from(chance >> 32).unwrap_or_default()) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
