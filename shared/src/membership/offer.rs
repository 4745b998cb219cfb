//! Whether a certificate that an admin made for this node takes the place of the node's own (protocol §8.4).

use super::Seconds;
use super::certificate::Certificate;
use super::judge::{CLOCK_SKEW, Refusal, judge};
use super::record::View;
use super::statement::Statement;
use crate::ids::{Fingerprint, NodeId};

/// Why it does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum OfferError {
    /// Nobody would admit this node by it.
    #[error("it makes no member: {0}")]
    NoMember(#[from] Refusal),
    /// The record knows this node, so it is a member by it; but nothing is said of it by who is no admin any more.
    #[error("{} is no admin any more", .0.short())]
    AdminRemoved(Fingerprint),
    /// This node showed one as new, or newer: others have seen that.
    #[error("it is no newer than the node's own")]
    Replayed,
    /// This node would be a member for less long.
    #[error("it ends at {0} (seconds since 1970), before the node's own")]
    Shorter(Seconds),
}

/// Whether `node`, which shows `own`, shows `offer` from `now` on.
///
/// # Errors
/// The first reason against it.
pub(super) fn judge_offer(
    view: &View,
    node: NodeId,
    own: Option<&Certificate>,
    offer: &Statement<Certificate>,
    now: Seconds,
) -> Result<(), OfferError> {
    judge(view, node, offer, None, false, now)?;
    if !view.standing().is_admin(offer.issuer()) {
        return Err(OfferError::AdminRemoved(offer.issuer()));
    }
    // One that was made by a clock that was ahead is good for nothing yet, and any other is better.
    let Some(own) = own.filter(|own| own.not_before <= now.saturating_add(CLOCK_SKEW)) else {
        return Ok(());
    };
    let offer = offer.body();
    let age = |certificate: &Certificate| (certificate.not_before, certificate.serial);
    if age(offer) <= age(own) {
        return Err(OfferError::Replayed);
    }
    if offer.not_after < own.not_after {
        return Err(OfferError::Shorter(offer.not_after));
    }
    Ok(())
}
