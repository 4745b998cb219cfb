//! One order (RFC 8555 §7.4), and the account that it is made by.

use super::http::Https;
use super::kept::Kept;
use super::{AcmeError, Config};
use crate::server::tls::certificate::chain_in;
use crate::server::tls::challenge::Challenges;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::time::Duration;
use zeroize::Zeroizing;

/// How an authority is asked whether it has come to a decision.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));
/// Names of which it is said what the authority does not like.
const SAID_NAMES: usize = 3;
/// Characters of a line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// What an order ends with.
pub(super) struct Issued {
    /// The certificate and its chain, PEM.
    pub(super) chain: String,
    /// Its key, PEM: **a secret**.
    pub(super) key: Zeroizing<String>,
}

/// The account that is kept, or a new one, which is then kept.
pub(super) async fn account(config: &Config, kept: &mut Kept, https: Https) -> Result<Account, AcmeError> {
    let builder = Account::builder_with_http(Box::new(https.clone()));
    if let Some(text) = kept.account() {
        match serde_json::from_str::<AccountCredentials>(text) {
            Ok(credentials) => return Ok(builder.from_credentials(credentials).await?),
            Err(error) => tracing::warn!(
                "the ACME account in the state directory is of no use, another is made: {error}"
            ),
        }
    }
    let contact = config.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    // Whoever gives a domain was told that it means that (`--help`).
    let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder.create(&wanted, config.directory.clone(), None).await?;
    let text = serde_json::to_string(&credentials).map_err(instant_acme::Error::Json)?;
    kept.set_account(Some(Zeroizing::new(text)));
    Ok(account)
}

/// Orders a certificate for `domains`, proves that they lead here, and fetches it.
pub(super) async fn order(
    account: &Account,
    domains: &[String],
    challenges: &Challenges,
) -> Result<Issued, AcmeError> {
    let identifiers: Vec<Identifier> = domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    if order.state().authorizations.len() > domains.len() {
        return Err(AcmeError::Unasked("more names than it was asked for".to_owned()));
    }
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let domain = authorization.identifier().to_string();
        if !domains.iter().any(|asked| asked.eq_ignore_ascii_case(&domain)) {
            return Err(AcmeError::Unasked(domain));
        }
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
        let mut challenge = challenge.ok_or_else(|| AcmeError::NotOffered(domain.clone()))?;
        challenges.answer(&domain, challenge.key_authorization().digest().as_ref())?;
        challenge.set_ready().await?;
    }
    if order.poll_ready(&POLLING).await? != OrderStatus::Ready {
        return Err(AcmeError::Refused(why(&mut order).await));
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(domains)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    order.finalize_csr(request.der()).await?;
    let chain = chain_in(order.poll_certificate(&POLLING).await?.as_bytes())?;
    // Anew: an authority may write what it likes around the certificates, and this is kept.
    let chain = chain.iter().map(|certificate| pem("CERTIFICATE", certificate).to_string()).collect();
    Ok(Issued { chain, key: pem("PRIVATE KEY", &Zeroizing::new(key.serialize_der())) })
}

/// What the authority says of the names that it did not find.
async fn why(order: &mut Order) -> String {
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        let domain = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let problems = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        found.extend(problems.map(|problem| format!("{domain} is this relay ({problem})")));
        if found.len() >= SAID_NAMES {
            break;
        }
    }
    if found.is_empty() { "the domains are this relay".to_owned() } else { found.join(", ") }
}

/// The text of something in DER.
pub(super) fn pem(kind: &str, der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(data_encoding::BASE64.encode(der));
    let lines = text.len().div_ceil(PEM_LINE);
    // At once as long as it becomes: what it leaves behind when it grows is not wiped.
    let mut pem = Zeroizing::new(String::with_capacity(text.len() + lines + 2 * (kind.len() + 20)));
    pem.push_str(&format!("-----BEGIN {kind}-----\n"));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {kind}-----\n"));
    pem
}
