//! A certificate that the relay gets by itself and renews: ACME (RFC 8555), proven by TLS-ALPN-01 (RFC 8737) on the port that it serves anyway.
//!
//! Life of the [`Keeper`]: it presents what it has from before, for whichever names that is, or a certificate that it makes for itself, so that clients (which look at none)
//! connect from the first moment on; it orders one when that is due, and presents it; and so on, for ever. What fails is said, with the time of the next try, and changes nothing.
//!
//! - [`http`]: requests to the authority, over TLS with the public roots, or the operator's.
//! - [`order`]: one order, from the account to the chain.
//! - [`kept`]: account, key and chain in the state directory, one file, so that a backup has them.
//!
//! # When
//!
//! Once two thirds of a certificate's time are over, which is 30 days before the end of one of 90, and two before that of one of six. An authority counts failures (Let's
//! Encrypt: five an hour for a name), so tries that fail are ten minutes apart at first, twice that after each, six hours at most; and longer where it says so (Retry-After). A
//! reload (SIGHUP) tries at once: for who has just mended something. A restart does not, and keeps to what the try before it came to.
//!
//! After a certificate there is a pause as well, of a third of its time, and of a day at most: one that is due at once, for the clock here is ahead or the authority's behind,
//! is ordered once a day and not again and again. Such a one takes no better one's place. When it is due the calendar says; pauses are kept by a clock that nobody sets.

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
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// Let's Encrypt, whose certificates everybody trusts.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// An order, with all of its waiting for the authority to look.
const ORDER_WITHIN: Duration = Duration::from_secs(300);
/// Between tries that fail, at first and at most.
const PAUSE: Duration = Duration::from_secs(600);
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3_600);
/// After a certificate, at most.
const PAUSE_ISSUED_MAX: Duration = Duration::from_secs(86_400);
/// Characters that are said of what an authority says.
const SAID: usize = 400;
/// What an authority calls an account that it does not know (RFC 8555 §6.7).
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
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
    /// It wants proof of what nobody asked for.
    #[error("the authority wants proof of {0}, which was not ordered")]
    Unasked(String),
    /// It issues what is to be renewed at once, and what is presented is good for longer; how long to wait.
    #[error(
        "the authority issued a certificate that would have to be renewed at once, and the one before is presented on; check the clock of this machine"
    )]
    Due(Duration),
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

impl AcmeError {
    fn is_unknown_account(&self) -> bool {
        let Self::Authority(instant_acme::Error::Api(problem)) = self else { return false };
        problem.r#type.as_deref() == Some(NO_ACCOUNT)
    }
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

/// Whether this can be where an authority's directory is.
pub fn is_directory(text: &str) -> bool {
    text.parse::<hyper::Uri>()
        .is_ok_and(|url| url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty()))
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

/// When an order is made.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    /// By the calendar, for the certificate that there is; nothing where there is none for these names: at once.
    due: Option<SystemTime>,
    /// After the last try.
    not_before: Instant,
}

impl Schedule {
    /// How long there is none.
    fn wait(&self, calendar: SystemTime, now: Instant) -> Duration {
        let due = self.due.and_then(|due| due.duration_since(calendar).ok()).unwrap_or_default();
        due.max(self.not_before.saturating_duration_since(now))
    }
}

/// See the module page.
#[derive(Debug)]
pub struct Keeper {
    config: Config,
    state: StateDir,
    kept: Kept,
    front: Front,
    schedule: Schedule,
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
        let kept = match Kept::read(&state) {
            Err(AcmeError::Store(error @ StoreError::Acme(_))) => {
                tracing::warn!("{error}");
                Kept::default()
            }
            read => read?,
        };
        let kept = kept.for_config(&config);
        let issued = kept.certificate().unwrap_or_else(|error| {
            tracing::warn!(
                "the certificate in the state directory is of no use, another is ordered: {error}"
            );
            None
        });
        let due = issued.as_ref().filter(|_| kept.is_for(&config)).map(renew_at);
        let put_off = kept.put_off(SystemTime::now());
        if due.is_none() && !put_off.is_zero() {
            let minutes = put_off.as_secs().div_ceil(60);
            tracing::info!(
                "a certificate is ordered in {minutes} min, for the last try was not long ago, or at a reload"
            );
        }
        let schedule = Schedule { due, not_before: Instant::now() + put_off };
        let presented = match issued {
            Some(certificate) => certificate,
            None => Certificate::self_made(&config.domains)?,
        };
        Ok(Self { config, state, kept, front: Front::new(presented), schedule, put_off: None })
    }

    /// What presents it, and answers the authority.
    pub fn front(&self) -> Front {
        self.front.clone()
    }

    /// Keeps it good for ever; tries at once when `hurry` says so.
    pub async fn run(mut self, hurry: &Notify) {
        let mut failures = 0;
        loop {
            let wait = self.schedule.wait(SystemTime::now(), Instant::now());
            if !wait.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(wait.min(LOOK)) => {}
                    () = hurry.notified() => self.schedule.not_before = Instant::now(),
                }
                continue;
            }
            let renewed = tokio::time::timeout(ORDER_WITHIN, self.renew()).await;
            self.front.challenges().forget();
            let pause = match renewed.unwrap_or(Err(AcmeError::Late)) {
                Ok(pause) => {
                    failures = 0;
                    let expires = crate::server::tls::files::Date(self.front.presented().not_after());
                    tracing::info!(%expires, domains = %self.config.domains.join(", "), "a certificate was issued, and is presented from now on");
                    pause
                }
                Err(error) => {
                    failures += 1;
                    let pause = pause(failures, self.put_off.take(), SystemRng.next_u64());
                    tracing::warn!(
                        "no certificate for {}: {}; the next try is in {} min, or at a reload",
                        self.config.domains.join(", "),
                        plain(&error.to_string()),
                        pause.as_secs().div_ceil(60)
                    );
                    pause
                }
            };
            self.put_off_by(pause);
        }
    }

    /// The next try is not before that, also after a restart.
    fn put_off_by(&mut self, pause: Duration) {
        self.schedule.not_before = Instant::now() + pause;
        self.kept.set_not_before(SystemTime::now() + pause);
        if let Err(error) = self.kept.write(&self.state) {
            tracing::warn!("a restart will not know when the authority is to be asked next: {error}");
        }
    }

    /// Gets another certificate and presents it; how long it is to be the last.
    async fn renew(&mut self) -> Result<Duration, AcmeError> {
        let https = http::Https::new(self.config.roots.as_deref())?;
        let renewed = self.renew_by(https.clone()).await;
        self.put_off = match &renewed {
            Err(AcmeError::Due(pause)) => Some(*pause),
            Ok(_) | Err(_) => https.put_off(),
        };
        renewed
    }

    async fn renew_by(&mut self, https: http::Https) -> Result<Duration, AcmeError> {
        let issued = match self.order(https.clone()).await {
            Err(error) if error.is_unknown_account() => {
                tracing::warn!("the authority does not know the account any more: another one is made");
                self.kept.set_account(None);
                self.order(https).await?
            }
            ordered => ordered?,
        };
        let certificate = Certificate::from_pem(issued.chain.as_bytes(), issued.key.as_bytes())?;
        let (due, pause) = (renew_at(&certificate), pause_after(&certificate));
        let presented = self.front.presented();
        let is_better = self.kept.is_for(&self.config)
            && !presented.is_self_made()
            && presented.not_after() >= certificate.not_after();
        if due <= SystemTime::now() && is_better {
            return Err(AcmeError::Due(pause));
        }
        self.kept.take(&self.config, issued);
        self.kept.write(&self.state)?;
        self.schedule.due = Some(due);
        self.front.present(certificate);
        Ok(pause)
    }

    async fn order(&mut self, https: http::Https) -> Result<order::Issued, AcmeError> {
        let account = order::account(&self.config, &mut self.kept, https).await?;
        // Before anything is ordered: an account is not to be made anew each time.
        self.kept.write(&self.state)?;
        order::order(&account, &self.config.domains, self.front.challenges()).await
    }
}

/// When two thirds of its own time are over. What is behind it in the chain another order may not change.
fn renew_at(certificate: &Certificate) -> SystemTime {
    certificate.own_time().1 - third(certificate)
}

/// How long no other one is ordered after it.
fn pause_after(certificate: &Certificate) -> Duration {
    third(certificate).clamp(PAUSE, PAUSE_ISSUED_MAX)
}

fn third(certificate: &Certificate) -> Duration {
    let (begins, ends) = certificate.own_time();
    ends.duration_since(begins).unwrap_or_default() / 3
}

/// What somebody else wrote, for a line of the log.
fn plain(text: &str) -> String {
    let shown = |character: char| if character.is_ascii_graphic() { character } else { ' ' };
    let mut plain: String = text.chars().take(SAID).map(shown).collect();
    if text.chars().nth(SAID).is_some() {
        plain.push_str("...");
    }
    plain
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
