//! Whether a certificate makes its owner a member (protocol §8.3).
//!
//! ```text
//!  root ─grants, in documents─> admin ─delegation─> delegate ─certificate─> node
//!                               admin ─────────────────────── certificate─> node
//! ```
//!
//! What is judged was verified: a [`Statement`] is signed by whom it names. Here the question is whether that one may say such a thing,
//! at a given time. The answer follows from the record, the statements, the time and one bit of memory (whether this member met the
//! node in time), so it can be asked again whenever one of them changes.

use super::Seconds;
use super::certificate::Certificate;
use super::delegation::{Beyond, Delegation};
use super::record::{Facts, View};
use super::statement::Statement;
use crate::ids::{Fingerprint, NodeId, StatementHash};

/// How far a clock may be behind that of whoever made a certificate: machines that join have just been set up.
pub const CLOCK_SKEW: Seconds = 600;

/// A node is a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// What is true of it.
    pub facts: Facts,
    /// Until then; to be judged again afterwards.
    pub until: Seconds,
    /// By whose invite it is a member, where the record does not know it: meeting it is to be remembered, and an admin enters it.
    pub joined_by: Option<Fingerprint>,
}

/// Why a node is not a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The certificate is another node's.
    #[error("the certificate is for the node {}", .0.short())]
    OtherNode(NodeId),
    /// The node's key was shut out.
    #[error("the node was revoked by the admin {} at {at} (seconds since 1970)", .by.short())]
    Revoked {
        /// Who did.
        by: Fingerprint,
        /// When.
        at: Seconds,
    },
    /// It is not good yet.
    #[error("the certificate is good from {0} (seconds since 1970): is a clock wrong?")]
    NotYet(Seconds),
    /// It is not good any more.
    #[error("the certificate expired at {0} (seconds since 1970)")]
    Expired(Seconds),
    /// Nobody ever made its issuer, or that of its delegation, an admin, as far as is known here.
    #[error("{} is no admin of this network", .0.short())]
    NoAdmin(Fingerprint),
    /// The delegation is not the one that it names, or lets somebody else certify.
    #[error("the certificate's issuer {} is not the delegate of its invite", .0.short())]
    OtherDelegate(Fingerprint),
    /// The delegate does not have that right.
    #[error("the certificate goes beyond its invite: {0}")]
    Beyond(#[from] Beyond),
    /// Who vouched for it is no admin any more.
    #[error("{} is no admin any more, and no other vouches for this node", .0.short())]
    AdminRemoved(Fingerprint),
    /// The invite was revoked.
    #[error("the invite was revoked by the admin {} at {at} (seconds since 1970)", .by.short())]
    InviteRevoked {
        /// Who did.
        by: Fingerprint,
        /// When.
        at: Seconds,
    },
    /// It was not seen before the invite ended.
    #[error("the invite ended at {0} (seconds since 1970), before anybody here met this node")]
    Late(Seconds),
    /// An admin has to say yes.
    #[error("the node waits for an admin's approval")]
    NeedsApproval,
    /// By the record, others used the invite as often as it may be.
    #[error("the invite was used up by others")]
    UsedUp,
}

impl Refusal {
    /// Its number in MEMBER (protocol §8.5). 0 and 1 say *pending* and *admitted* there.
    pub const fn code(&self) -> u8 {
        match self {
            Self::OtherNode(_) => 3,
            Self::Revoked { .. } => 4,
            Self::NotYet(_) => 5,
            Self::Expired(_) => 6,
            Self::NoAdmin(_) => 7,
            Self::OtherDelegate(_) => 8,
            Self::Beyond(_) => 9,
            Self::AdminRemoved(_) => 10,
            Self::InviteRevoked { .. } => 11,
            Self::Late(_) => 12,
            Self::NeedsApproval => 13,
            Self::UsedUp => 14,
        }
    }

    /// Whether an admin mends it by having a word on the node, without anything changing at the node.
    pub const fn is_mended_by_a_word(&self) -> bool {
        match self {
            Self::AdminRemoved(_)
            | Self::InviteRevoked { .. }
            | Self::Late(_)
            | Self::NeedsApproval
            | Self::UsedUp => true,
            Self::OtherNode(_)
            | Self::Revoked { .. }
            | Self::NotYet(_)
            | Self::Expired(_)
            | Self::NoAdmin(_)
            | Self::OtherDelegate(_)
            | Self::Beyond(_) => false,
        }
    }
}

/// Whether `node` is a member by `certificate` at `now`. `met`: this member met it while it might join.
///
/// `delegation` is the one that the certificate names, if it names one.
///
/// # Errors
/// The first reason against it.
pub fn judge(
    view: &View,
    node: NodeId,
    certificate: &Statement<Certificate>,
    delegation: Option<&Statement<Delegation>>,
    met: bool,
    now: Seconds,
) -> Result<Admission, Refusal> {
    let says = certificate.body();
    if says.node != node {
        return Err(Refusal::OtherNode(says.node));
    }
    // A key is shut out, not a certificate: whatever else it shows, and under whatever name.
    refuse_revoked(view, node)?;
    if says.not_before > now.saturating_add(CLOCK_SKEW) {
        return Err(Refusal::NotYet(says.not_before));
    }
    if says.not_after < now {
        return Err(Refusal::Expired(says.not_after));
    }
    let knows = view.knows(node);
    let (voucher, joined_by) = match says.delegation {
        None => (certificate.issuer(), None),
        Some(hash) => {
            let delegation = of_delegate(certificate.issuer(), hash, delegation)?;
            (delegation.issuer(), Some(delegation.body()))
        }
    };
    may_speak(view, voucher, knows)?;
    if let Some(delegation) = joined_by {
        delegation.permits(says)?;
        if !knows {
            may_join(view, delegation, met, now)?;
        }
    }
    let joined_by = joined_by.map(|delegation| delegation.delegate).filter(|_| !knows);
    Ok(Admission { facts: view.facts_vouched_by(voucher, says), until: says.not_after, joined_by })
}

/// Whether the key of `node` was shut out: to be asked before anything of its certificate is here.
///
/// # Errors
/// [`Refusal::Revoked`].
pub(super) fn refuse_revoked(view: &View, node: NodeId) -> Result<(), Refusal> {
    match view.revocation(node) {
        Some(revocation) => Err(Refusal::Revoked { by: revocation.by, at: revocation.at }),
        None => Ok(()),
    }
}

/// Whether `issuer` makes members. Who was an admin once does where the record `knows` the node: its certificate was good when another
/// admin, or that one while it was heard, took it up. What such a certificate says besides is asked of the record alone
/// ([`View::facts_vouched_by`]).
fn may_speak(view: &View, issuer: Fingerprint, knows: bool) -> Result<(), Refusal> {
    let standing = view.standing();
    if standing.is_admin(issuer) {
        Ok(())
    } else if !standing.was_removed(issuer) {
        Err(Refusal::NoAdmin(issuer))
    } else if knows {
        Ok(())
    } else {
        Err(Refusal::AdminRemoved(issuer))
    }
}

/// The delegation, if it is the one of that hash and for that delegate.
fn of_delegate(
    issuer: Fingerprint,
    hash: StatementHash,
    delegation: Option<&Statement<Delegation>>,
) -> Result<&Statement<Delegation>, Refusal> {
    delegation
        .filter(|delegation| delegation.hash() == hash && delegation.body().delegate == issuer)
        .ok_or(Refusal::OtherDelegate(issuer))
}

/// Whether a node that the record does not know may come in by this invite.
fn may_join(view: &View, delegation: &Delegation, met: bool, now: Seconds) -> Result<(), Refusal> {
    if let Some(revocation) = view.revocation(delegation.delegate) {
        return Err(Refusal::InviteRevoked { by: revocation.by, at: revocation.at });
    }
    // Whoever keeps away from admins is bound as well: the record comes by others.
    if delegation.uses.is_some_and(|uses| view.joined_by(delegation.delegate).len() >= uses as usize) {
        return Err(Refusal::UsedUp);
    }
    if delegation.needs_approval {
        return Err(Refusal::NeedsApproval);
    }
    // A certificate made late and dated back looks like one made in time, so its own dates are not asked.
    if now > delegation.joins_until && !met {
        return Err(Refusal::Late(delegation.joins_until));
    }
    Ok(())
}
